use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use super::*;

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const NOW: Instant = Instant::from_millis(1_000);
const ID: SocketId = SocketId(7);
const BOTH: Readiness = Readiness { read: true, write: true };

/// What the machine was told.
#[derive(Debug, PartialEq)]
enum Told {
    Connected,
    Written(usize),
    Received(Vec<u8>),
    Closed(CloseReason),
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn serve(connections: &mut Connections, index: usize, told: &mut Vec<Told>) -> Option<Readiness> {
    connections.serve(index, NOW, BOTH, |answer| {
        assert_eq!(answer.id(), ID);
        told.push(match answer {
            Answer::Bound { .. } => panic!("{answer:?}"),
            Answer::Connected { .. } => Told::Connected,
            Answer::Written { len, .. } => Told::Written(len),
            Answer::Received { bytes, .. } => Told::Received(bytes.to_vec()),
            Answer::Closed { why, .. } => Told::Closed(why),
        });
    })
}

/// Serves until `done`; fails instead of hanging.
fn serve_until(
    connections: &mut Connections,
    index: usize,
    mut done: impl FnMut(&[Told], Option<Readiness>) -> bool,
) -> Vec<Told> {
    let mut told = Vec::new();
    for _ in 0..10_000 {
        let left = serve(connections, index, &mut told);
        if done(&told, left) {
            return told;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing more happens after {told:?}");
}

fn connect(connections: &mut Connections, remote: SocketAddr) -> usize {
    let index = connections.connect(NOW, ID, ANY, remote).unwrap();
    let told = serve_until(connections, index, |told, _| !told.is_empty());
    assert_eq!(told, [Told::Connected]);
    index
}

/// Writes until the system takes no more for a while, and more waits. Returns how much was written.
fn fill(connections: &mut Connections, index: usize) -> usize {
    let (mut wrote, mut refused) = (0, 0);
    while refused < 20 {
        let before = connections.slots[index].as_ref().unwrap().backlog();
        if before < WRITE_BACKLOG_MAX / 2 {
            wrote += 1 << 16;
            connections.write(ID, &vec![1; 1 << 16]);
        }
        let mut told = Vec::new();
        serve(connections, index, &mut told).unwrap();
        thread::sleep(Duration::from_millis(1));
        let idle = told.is_empty() && before >= WRITE_BACKLOG_MAX / 2;
        refused = if idle { refused + 1 } else { 0 };
    }
    wrote
}

#[test]
fn bytes_go_both_ways_and_the_peers_end_is_the_last_word() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connect(&mut connections, address);
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(connections.deadline(), None);
    assert_eq!(connections.write(ID, b"question"), Todo::Serve(index));
    assert_eq!(serve_until(&mut connections, index, |told, _| !told.is_empty()), [Told::Written(8)]);
    let mut question = [0; 8];
    peer.read_exact(&mut question).unwrap();
    peer.write_all(b"answer").unwrap();
    let told = serve_until(&mut connections, index, |told, _| !told.is_empty());
    assert_eq!(told, [Told::Received(b"answer".to_vec())]);
    drop(peer);
    let told = serve_until(&mut connections, index, |_, left| left.is_none());
    assert_eq!(told, [Told::Closed(CloseReason::Ended)]);
    assert!(connections.is_empty() && connections.by_id.is_empty() && connections.timers.is_empty());
    assert_eq!(connections.write(ID, b"late"), Todo::Nothing);
    assert_eq!(connections.counters().writes_to_nowhere, 1);
}

#[test]
fn what_was_written_before_the_connection_stands_leaves_when_it_does() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connections.connect(NOW, ID, ANY, address).unwrap();
    connections.write(ID, b"early");
    assert_eq!(connections.close(NOW, ID), Todo::Serve(index));
    assert!(connections.is_leaving());
    let (mut peer, _) = listener.accept().unwrap();
    let told = serve_until(&mut connections, index, |_, _| has_something(&peer));
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!((told, heard.as_slice()), (vec![], &b"early"[..]));
    drop(peer);
    serve_until(&mut connections, index, |_, left| left.is_none());
    assert!(connections.is_empty());
}

/// Whether something has arrived at `peer`.
fn has_something(peer: &TcpStream) -> bool {
    peer.set_nonblocking(true).unwrap();
    let has = peer.peek(&mut [0]).is_ok();
    peer.set_nonblocking(false).unwrap();
    has
}

#[test]
fn closing_delivers_the_backlog_though_the_peer_has_sent_what_nobody_read() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connect(&mut connections, address);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"chatter that is never read").unwrap();
    let long = vec![7; WRITE_BACKLOG_MAX];
    assert_eq!(connections.write(ID, &long), Todo::Serve(index));
    assert_eq!(connections.close(NOW, ID), Todo::Serve(index));
    assert_eq!(connections.close(NOW, ID), Todo::Nothing, "the name is gone");
    let reader = thread::spawn(move || {
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).map(|_| heard)
    });
    let told = serve_until(&mut connections, index, |_, left| left.is_none());
    assert_eq!(told, [], "whoever closed hears no more");
    assert_eq!(reader.join().unwrap().unwrap(), long);
    assert_eq!(connections.counters().bytes_dropped, 0);
}

#[test]
fn a_peer_that_has_said_everything_still_hears_what_was_written_before() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connect(&mut connections, address);
    let (mut peer, _) = listener.accept().unwrap();
    let wrote = fill(&mut connections, index);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let ended = Told::Closed(CloseReason::Ended);
    serve_until(&mut connections, index, |told, _| told.last() == Some(&ended));
    assert_eq!(connections.write(ID, b"too late"), Todo::Nothing);
    let reader = thread::spawn(move || peer.read_to_end(&mut Vec::new()));
    assert_eq!(serve_until(&mut connections, index, |_, left| left.is_none()), []);
    assert_eq!(reader.join().unwrap().unwrap(), wrote);
}

#[test]
fn a_peer_that_never_reads_costs_a_bounded_backlog() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connect(&mut connections, address);
    let (peer, _) = listener.accept().unwrap();
    let (chunk, mut wrote) = (vec![1; 1 << 16], 0);
    let mut told = Vec::new();
    let end = loop {
        match connections.write(ID, &chunk) {
            Todo::Serve(_) => wrote += chunk.len(),
            end @ (Todo::Forget(..) | Todo::Nothing) => break end,
        }
        serve(&mut connections, index, &mut told).unwrap();
        let held = connections.slots[index].as_ref().unwrap().backlog();
        assert!(held <= WRITE_BACKLOG_MAX);
        assert!(wrote < 1 << 28, "the system takes without end");
    };
    assert_eq!(end, Todo::Forget(index, Some(CloseReason::Failed)));
    let taken: usize = told.iter().map(|told| if let Told::Written(len) = told { *len } else { 0 }).sum();
    let counters = connections.counters();
    assert_eq!(counters.backlog_overflows, 1);
    assert_eq!(counters.bytes_dropped as usize, wrote + chunk.len() - taken);
    assert!(connections.is_empty());
    drop(peer);
}

#[test]
fn a_peer_that_resets_in_the_middle_of_writes_is_a_reset() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connect(&mut connections, address);
    let (peer, _) = listener.accept().unwrap();
    let resets = socket2::Socket::from(peer);
    resets.set_linger(Some(Duration::ZERO)).unwrap();
    connections.write(ID, &vec![1; WRITE_BACKLOG_MAX]);
    let mut told = Vec::new();
    serve(&mut connections, index, &mut told).unwrap();
    drop(resets);
    told.extend(serve_until(&mut connections, index, |_, left| left.is_none()));
    assert_eq!(told.pop(), Some(Told::Closed(CloseReason::Reset)));
    assert!(told.iter().all(|told| matches!(told, Told::Written(_))));
    assert!(connections.is_empty() && connections.timers.is_empty());
}

#[test]
fn nobody_there_is_refused_and_a_foreign_address_is_not_to_be_had() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    drop(listener);
    // Loopback may refuse before the call returns.
    match connections.connect(NOW, ID, ANY, address) {
        Err(why) => assert_eq!(why, CloseReason::Refused),
        Ok(index) => {
            let told = serve_until(&mut connections, index, |_, left| left.is_none());
            assert_eq!(told, [Told::Closed(CloseReason::Refused)]);
        }
    }
    let mut refused = |local: &str| connections.connect(NOW, ID, local.parse().unwrap(), address);
    // 192.0.2.0/24 is documentation space (RFC 5737): never an address of this host.
    assert_eq!(refused("192.0.2.1"), Err(CloseReason::AddressUnavailable));
    assert_eq!(refused("::1"), Err(CloseReason::AddressUnavailable), "the families differ");
    assert!(connections.is_empty());
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_in_time() {
    let mut connections = Connections::new();
    let (listener, address) = listener();
    let index = connections.connect(NOW, ID, ANY, address).unwrap();
    let due = connections.deadline().unwrap().at;
    assert_eq!(due, NOW + CONNECT_TIMEOUT);
    assert_eq!(connections.expire(due - Duration::from_nanos(1)), None);
    let answer = Answer::Closed { id: ID, why: CloseReason::Unreachable };
    assert_eq!(connections.expire(due), Some((index, Some(answer))));
    assert!(connections.is_empty() && connections.deadline().is_none());
    assert_eq!(connections.counters().connect_timed_out, 1);
    drop(listener);
}

#[test]
fn a_closed_connection_whose_peer_does_not_read_is_dropped_in_time() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    let index = connect(&mut connections, address);
    let (peer, _) = listener.accept().unwrap();
    fill(&mut connections, index);
    connections.close(NOW, ID);
    serve(&mut connections, index, &mut Vec::new()).unwrap();
    assert!(connections.is_leaving());
    let due = connections.deadline().unwrap().at;
    assert_eq!((due, connections.expire(due)), (NOW + CLOSE_TIMEOUT, Some((index, None))));
    assert!(connections.is_empty() && connections.counters().bytes_dropped > 0);
    drop(peer);
}

#[test]
fn a_name_is_used_once() {
    let ((listener, address), mut connections) = (listener(), Connections::new());
    connect(&mut connections, address);
    assert_eq!(connections.connect(NOW, ID, ANY, address), Err(CloseReason::Failed));
    assert_eq!(connections.counters().connect_failed, 1);
    drop(listener);
}
