//! Our nodes on tokio, which reach each other through coturn over TCP and over TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use gimlet_conformance::RELAY_CERTIFICATE;
use gimlet_machine::{Direction, Path};
use gimlet_node::{
    Config, Event, Identity, Node, Paths, Progress, StreamFailure, TurnServer, TurnTls, TurnTransport,
};
use gimlet_tokio::Handle;
use gimlet_udp::{Clock, Sockets};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;

use crate::{Coturn, SOON};

const ALICE: [&str; 2] = ["--lt-cred-mech", "--user=alice:her password"];

/// The relay as alice knows it.
fn relay(address: SocketAddr, transport: TurnTransport) -> TurnServer {
    TurnServer { address, transport, username: "alice".into(), password: "her password".into() }
}

fn tls(server_name: &str) -> TurnTransport {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(RELAY_CERTIFICATE).expect("a certificate")).expect("a root");
    TurnTransport::Tls(TurnTls { server_name: server_name.into(), roots: Arc::new(roots) })
}

/// A node on a socket of the loopback interface; with a relay, it shows peers nothing but the relay's address.
fn node(secret: u8, relay: Option<TurnServer>) -> Handle<Node> {
    let sockets = Sockets::bind([SocketAddr::from(([127, 0, 0, 1], 0))]).expect("a socket");
    let clock = Clock::start();
    let mut config = Config::new(
        Identity::from_secret([secret; 32]),
        gimlet_udp::seed().expect("a seed"),
        sockets.local_addresses().collect(),
        clock.origin(),
        clock.unix_time_at_origin(),
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    config.public = secret == 1;
    config.paths = if relay.is_some() { Paths::RelayedOnly } else { Paths::Any };
    config.turn_servers.extend(relay);
    let node = Node::new(clock.now(), config).expect("the configuration is complete");
    gimlet_tokio::spawn(node, sockets, clock).expect("a task")
}

/// A message to a peer and back, through `relay` alone.
async fn meet(relay: TurnServer) {
    let server = relay.address;
    let (public, ours, theirs) = (node(1, None), node(2, Some(relay)), node(3, None));
    let listens = public.local_addresses();
    let ticket = public.read(|node| node.ticket(&listens, u64::MAX)).expect("it runs").expect("an address");
    for end in [&ours, &theirs] {
        end.with(|node, now| node.add_ticket(now, &ticket)).expect("it runs").expect("a fresh ticket");
        end.connect(ticket.peer()).await.expect("the public node is there");
    }
    let name = theirs.read(Node::peer_id).expect("it runs");
    let there = ours.connect(name).await.expect("a link");
    let path = ours.read(|node| node.path(name)).expect("it runs").expect("a path");
    assert!(matches!(path, Path::Relayed { relay, .. } if relay.remote == server), "{path}");
    let mut stream = there.open(Direction::Bidirectional).await.expect("a stream");
    let message: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    stream.send(&message).await.expect("it is sent");
    let mut other = loop {
        let from = theirs.accept().await.expect("it runs");
        if from.peer() == ours.read(Node::peer_id).expect("it runs") {
            break from.accept_stream().await.expect("the stream arrives");
        }
    };
    let got = other.receive().await.expect("the message arrives");
    assert!(got == message);
    other.send(&got).await.expect("it is sent");
    assert!(stream.receive().await.expect("the echo arrives") == message);
    for end in [ours, theirs, public] {
        end.abort();
    }
}

#[tokio::test]
async fn our_nodes_meet_through_coturn_over_tcp() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    timeout(SOON, meet(relay(coturn.address, TurnTransport::Tcp))).await.expect("in time");
}

#[tokio::test]
async fn our_nodes_meet_through_coturn_over_tls() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    timeout(SOON, meet(relay(coturn.secured, tls("127.0.0.1")))).await.expect("in time");
}

#[tokio::test]
async fn a_name_that_is_not_in_coturns_certificate_is_told_as_that() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    let node = node(2, Some(relay(coturn.secured, tls("other.example"))));
    let told = timeout(SOON, async {
        loop {
            let event = node.next_event().await.expect("it runs");
            if let Event::Progress { step: Progress::RelayUnreachable { why, .. }, .. } = event {
                return why;
            }
        }
    });
    assert_eq!(told.await.expect("in time"), StreamFailure::WrongName);
    node.abort();
}
