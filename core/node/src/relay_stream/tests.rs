//! One connection by itself, and a node that has one.

use std::sync::Arc;

use gimlet_machine::{Counters, Machine, Session};
use gimlet_testkit::Checked;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::*;
use crate::hostile_tests::config;
use crate::{Event, Node, Progress, TurnServer, TurnTransport};

/// A certificate for relay.example and 127.0.0.1, signed by itself, and its key. Good from 2020 to 2119.
const PEM: &[u8] = include_bytes!("relay.example.pem");
const RELAY: &str = "192.0.2.1:443";

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(PEM).unwrap()
}

fn outside() -> Outside {
    config(3, "198.51.100.7:5000").outside
}

fn trust(name: &str, roots: &[CertificateDer<'static>]) -> TurnTls {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    TurnTls { server_name: name.into(), roots: Arc::new(store) }
}

fn server() -> ServerConnection {
    let key = PrivateKeyDer::from_pem_slice(PEM).unwrap();
    let config = ServerConfig::builder_with_provider(outside().provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key)
        .unwrap();
    ServerConnection::new(Arc::new(config)).unwrap()
}

fn answer_connected(id: SocketId) -> Answer<'static> {
    let local = "198.51.100.7:40000".parse().unwrap();
    Answer::Connected { id, flow: FourTuple::new(local, RELAY.parse().unwrap()) }
}

/// A connection that the driver has just opened.
fn connected(tls: Option<&TurnTls>, outside: &Outside, requests: &mut Requests) -> (RelayStream, SocketId) {
    let mut stream = RelayStream::new(RELAY.parse().unwrap(), tls.map(|tls| Trust::new(tls).unwrap()));
    stream.start(Instant::ZERO);
    assert!(stream.settle(Instant::ZERO, requests));
    let Some(Request::Connect { id, remote, .. }) = requests.poll() else { panic!("a connection is wanted") };
    assert_eq!(remote, RELAY.parse().unwrap());
    stream.on_answer(Instant::ZERO, outside, &answer_connected(id));
    (stream, id)
}

/// Lets both ends talk until neither has anything to say; returns what ours made of it.
fn shake(
    stream: &mut RelayStream,
    id: SocketId,
    outside: &Outside,
    server: &mut ServerConnection,
) -> Vec<u8> {
    let mut heard = Vec::new();
    while let Some(Request::Write { bytes, .. }) = stream.poll_write() {
        server.read_tls(&mut &bytes[..]).unwrap();
        if server.process_new_packets().is_err() {
            break;
        }
        let mut said = Vec::new();
        flush_server(server, &mut said);
        for piece in said.chunks(7) {
            heard.extend(stream.on_answer(at(1), outside, &Answer::Received { id, bytes: piece }));
        }
    }
    heard
}

fn flush_server(server: &mut ServerConnection, out: &mut Vec<u8>) {
    while server.wants_write() {
        server.write_tls(out).unwrap();
    }
}

#[test]
fn what_the_network_does_not_take_is_bounded_and_datagrams_beyond_are_dropped() {
    let outside = outside();
    let (mut stream, id) = connected(None, &outside, &mut Requests::new());
    assert!(stream.is_open(), "TCP alone needs nothing more");
    let taken = (0..10_000).take_while(|_| stream.write_datagrams(&[7; 1_000])).count();
    assert_eq!(taken, RELAY_BACKLOG_MAX / 1_000);
    let Some(Request::Write { bytes, .. }) = stream.poll_write() else { panic!("one write for all") };
    assert_eq!(bytes.len(), taken * 1_000);
    assert!(!stream.write_datagrams(&[7; 1_000]), "the driver has it, the network has not");
    stream.write(b"requests still go");
    assert!(stream.poll_write().is_some());
    stream.on_answer(at(5), &outside, &Answer::Written { id, len: 2_000 });
    assert!(stream.write_datagrams(&[7; 1_000]));
    // A driver that counts wrongly does no harm.
    stream.on_answer(at(5), &outside, &Answer::Written { id, len: usize::MAX });
    assert!(stream.write_datagrams(&[7; 1_000]));
}

#[test]
fn a_lost_connection_is_tried_again_after_waits_that_double_until_it_was_of_use() {
    let (outside, mut requests) = (outside(), Requests::new());
    let (mut stream, mut id) = connected(None, &outside, &mut requests);
    let (mut now, mut waits) = (Instant::ZERO, Vec::new());
    for round in 0..8 {
        if round == 7 {
            stream.on_of_use();
        }
        stream.on_answer(now, &outside, &Answer::Closed { id, why: CloseReason::Reset });
        assert_eq!(stream.poll_failure(), Some(StreamFailure::Connection(CloseReason::Reset)));
        let due = stream.poll_timeout().unwrap().at;
        waits.push(due.since(now).as_secs());
        now = due;
        stream.handle_timeout(now);
        stream.settle(now, &mut requests);
        let Some(Request::Connect { id: next, .. }) = requests.poll() else { panic!("another is wanted") };
        assert_ne!(next, id, "a name is used once");
        id = next;
        stream.on_answer(now, &outside, &answer_connected(id));
        assert!(stream.is_open());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 1]);
}

#[test]
fn a_connection_that_does_not_stand_in_time_is_closed() {
    let mut requests = Requests::new();
    let mut stream = RelayStream::new(RELAY.parse().unwrap(), None);
    stream.start(Instant::ZERO);
    stream.settle(Instant::ZERO, &mut requests);
    let Some(Request::Connect { id, .. }) = requests.poll() else { panic!("a connection is wanted") };
    stream.handle_timeout(Instant::ZERO + RELAY_OPEN_MAX);
    assert_eq!(stream.poll_failure(), Some(StreamFailure::TimedOut));
    stream.settle(Instant::ZERO + RELAY_OPEN_MAX, &mut requests);
    assert_eq!(requests.poll(), Some(Request::Close { id }));
}

#[test]
fn what_is_written_over_tls_arrives_and_what_arrives_is_read() {
    let (outside, mut server) = (outside(), server());
    let (mut stream, id) =
        connected(Some(&trust("relay.example", &[certificate()])), &outside, &mut Requests::new());
    assert!(!stream.is_open(), "TLS comes first");
    shake(&mut stream, id, &outside, &mut server);
    assert!(stream.is_open(), "{:?}", stream.failure);
    let long = vec![7; 100_000];
    assert!(stream.write_datagrams(&long));
    let Some(Request::Write { bytes, .. }) = stream.poll_write() else { panic!("it is written") };
    assert!(bytes.len() > long.len() && !bytes.windows(64).any(|part| part == &long[..64]));
    let (mut rest, mut read) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        server.read_tls(&mut rest).unwrap();
        server.process_new_packets().unwrap();
        let mut piece = vec![0; 1 << 16];
        let length = std::io::Read::read(&mut server.reader(), &mut piece).unwrap_or(0);
        read.extend_from_slice(&piece[..length]);
    }
    assert_eq!(read, long);

    std::io::Write::write_all(&mut server.writer(), b"back").unwrap();
    server.send_close_notify();
    let mut said = Vec::new();
    flush_server(&mut server, &mut said);
    let heard = stream.on_answer(at(9), &outside, &Answer::Received { id, bytes: &said });
    assert_eq!(heard, b"back");
    assert_eq!(stream.poll_failure(), Some(StreamFailure::Connection(CloseReason::Ended)));
}

#[test]
fn a_certificate_that_does_not_fit_is_told_with_the_remedy_and_not_asked_for_again() {
    let mut early = outside();
    early.unix_time_at_origin = Duration::from_secs(1_000_000_000);
    let fits = trust("relay.example", &[certificate()]);
    let rows = [
        (
            trust("other.example", &[certificate()]),
            outside(),
            StreamFailure::WrongName,
            "as its certificate does",
        ),
        (trust("relay.example", &[]), outside(), StreamFailure::UnknownIssuer, "name the authority"),
        (fits, early, StreamFailure::OutOfDate, "set the clock"),
    ];
    for (tls, outside, failure, remedy) in rows {
        let (mut stream, id) = connected(Some(&tls), &outside, &mut Requests::new());
        shake(&mut stream, id, &outside, &mut server());
        assert_eq!(stream.poll_failure(), Some(failure));
        assert!(failure.to_string().contains(remedy), "{failure}");
        assert!(stream.is_idle() && stream.poll_timeout().is_none(), "{failure}");
    }
    assert!(Trust::new(&trust("not a name", &[])).is_none());
}

#[test]
fn what_is_no_tls_is_told_as_that() {
    let outside = outside();
    let (mut stream, id) =
        connected(Some(&trust("relay.example", &[certificate()])), &outside, &mut Requests::new());
    let bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_eq!(stream.on_answer(at(1), &outside, &Answer::Received { id, bytes }), b"");
    assert_eq!(stream.poll_failure(), Some(StreamFailure::Tls));
    assert!(stream.poll_timeout().is_some(), "another try may meet a relay");
}

/// A node whose only relay is spoken to like this, as it is at birth.
fn node(transport: TurnTransport) -> Checked<Node> {
    let mut config = config(3, "198.51.100.7:5000");
    let (username, password) = ("alice".into(), "secret".into());
    config.turn_servers = vec![TurnServer { address: RELAY.parse().unwrap(), transport, username, password }];
    Checked::new(Node::new(Instant::ZERO, config).unwrap())
}

/// Everything the node wants and tells, drained. Nothing may leave over UDP.
fn drain(node: &mut Checked<Node>, now: Instant) -> (Vec<Request>, Vec<Event>) {
    let (mut requests, mut events) = (Vec::new(), Vec::new());
    loop {
        let before = requests.len() + events.len();
        events.extend(core::iter::from_fn(|| node.poll_event()));
        requests.extend(core::iter::from_fn(|| node.poll_request()));
        let mut bytes = Vec::new();
        assert!(node.poll_transmit(now, &mut gimlet_machine::Buf::new(&mut bytes)).is_none());
        if requests.len() + events.len() == before {
            return (requests, events);
        }
    }
}

fn opened(node: &mut Checked<Node>) -> SocketId {
    let (requests, _) = drain(node, Instant::ZERO);
    let [Request::Connect { id, .. }] = requests[..] else { panic!("{requests:?}") };
    node.handle_answer(Instant::ZERO, answer_connected(id));
    id
}

#[test]
fn garbage_from_the_relay_ends_the_connection_and_is_told() {
    let mut node = node(TurnTransport::Tcp);
    let id = opened(&mut node);
    let (requests, _) = drain(&mut node, Instant::ZERO);
    let [Request::Write { id: to, bytes }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(
        (*to, gimlet_stun::Message::parse(bytes).unwrap().method()),
        (id, gimlet_stun::Method::ALLOCATE)
    );
    node.handle_answer(at(1), Answer::Received { id, bytes: b"SSH-2.0-OpenSSH_9.2\r\n" });
    let (requests, events) = drain(&mut node, at(1));
    assert_eq!(requests, [Request::Close { id }]);
    let told = events.iter().any(|event| {
        matches!(
            event,
            Event::Progress {
                step: Progress::RelayFailed { cause: gimlet_turn::Failure::Framing(_), .. },
                ..
            }
        )
    });
    assert!(told, "{events:?}");
    assert_eq!(node.inner().usage().allocations, 0);
    assert_eq!(node.poll_timeout(), None);
}

#[test]
fn a_driver_without_connections_is_told_and_not_asked_again() {
    let mut node = node(TurnTransport::Tcp);
    let (requests, _) = drain(&mut node, Instant::ZERO);
    let refusal = requests[0].refusal(CloseReason::Unsupported).unwrap();
    node.handle_answer(Instant::ZERO, refusal);
    let (requests, events) = drain(&mut node, Instant::ZERO);
    let why = StreamFailure::Connection(CloseReason::Unsupported);
    let step = Progress::RelayUnreachable { server: RELAY.parse().unwrap(), why };
    assert_eq!(requests, []);
    assert_eq!(events, [Event::Progress { peer: node.inner().peer_id(), step }]);
    assert_eq!(node.poll_timeout(), None);
}

#[test]
fn a_node_that_closes_gives_its_connection_back() {
    let mut node = node(TurnTransport::Tcp);
    let id = opened(&mut node);
    drain(&mut node, Instant::ZERO);
    node.command(at(1), |node| node.close_all(at(1)));
    let (requests, _) = drain(&mut node, at(1));
    assert_eq!(requests.last(), Some(&Request::Close { id }), "{requests:?}");
    assert!(node.inner().is_closed());
    assert_eq!(node.inner().counters().total(), 0);
}
