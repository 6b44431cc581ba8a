//! What a machine asks for, and sockets that come and go.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use gimlet_machine::{CloseReason, SocketId};
use gimlet_testkit::{Puppet, Report};
use gimlet_udp::WRITE_BACKLOG_MAX;

use super::*;

const ANY: &str = "127.0.0.1:0";

fn puppet(given: usize) -> Driver<Puppet> {
    let sockets = Sockets::bind(std::iter::repeat_n(ANY.parse().unwrap(), given)).unwrap();
    Driver::new(Puppet::new(), sockets, Clock::start()).unwrap()
}

fn given(driver: &Driver<Puppet>) -> SocketAddr {
    driver.sockets().local_addresses().next().unwrap()
}

/// The next report. It comes soon, or the test fails instead of hanging.
fn next(driver: &mut Driver<Puppet>) -> Report {
    for _ in 0..1_000 {
        if let Some(report) = driver.poll_event() {
            return report;
        }
        driver.turn(Some(Duration::from_millis(10))).unwrap();
    }
    panic!("nothing more happens");
}

fn bind(driver: &mut Driver<Puppet>, id: u64, local: SocketAddr) -> Result<SocketAddr, CloseReason> {
    driver.machine_mut().ask(Request::Bind { id: SocketId(id), local });
    match next(driver) {
        Report::Bound(bound, local) if bound == SocketId(id) => Ok(local),
        Report::Closed(closed, why) if closed == SocketId(id) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn close(driver: &mut Driver<Puppet>, id: u64) {
    driver.machine_mut().ask(Request::Close { id: SocketId(id) });
    driver.turn(Some(Duration::ZERO)).unwrap();
}

fn is_free(port: SocketAddr) -> bool {
    Socket::bind(port).is_ok()
}

#[test]
fn a_machine_speaks_through_the_sockets_it_asked_for_until_it_closes_them() {
    let (mut driver, mut friend) = (puppet(1), puppet(1));
    let locals = [1, 2].map(|id| bind(&mut driver, id, ANY.parse().unwrap()).unwrap());
    for local in locals {
        let path = FourTuple::new(local, given(&friend));
        driver.machine_mut().say(path, b"there");
        driver.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(next(&mut friend), Report::Heard(path.flipped(), b"there".to_vec()));
        friend.machine_mut().say(path.flipped(), b"and back");
        friend.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(next(&mut driver), Report::Heard(path, b"and back".to_vec()));
    }
    close(&mut driver, 1);
    assert!(is_free(locals[0]) && !is_free(locals[1]));
    let friend_address = given(&friend);
    driver.machine_mut().say(FourTuple::new(locals[0], friend_address), b"too late");
    driver.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(driver.sockets().counters().no_socket, 1);
    assert_eq!(driver.sockets().len(), 2);
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let mut driver = puppet(1);
    let taken = given(&driver);
    for id in 0..50 {
        let local = if id % 3 == 1 { taken } else { ANY.parse().unwrap() };
        driver.machine_mut().ask(Request::Bind { id: SocketId(id), local });
    }
    for id in 0..50 {
        match next(&mut driver) {
            Report::Bound(bound, local) => {
                assert!(bound == SocketId(id) && id % 3 != 1 && local.port() != 0);
            }
            other => {
                assert_eq!(other, Report::Closed(SocketId(id), CloseReason::AddressUnavailable));
                assert_eq!(id % 3, 1);
            }
        }
    }
}

#[test]
fn closing_twice_or_what_never_was_open_is_harmless() {
    let mut driver = puppet(1);
    let local = bind(&mut driver, 1, ANY.parse().unwrap()).unwrap();
    for id in [9, 1, 1, u64::MAX] {
        close(&mut driver, id);
    }
    assert!(driver.poll_event().is_none() && driver.sockets().len() == 1);
    assert_eq!(bind(&mut driver, 2, local), Ok(local), "the same address may be bound anew");
    close(&mut driver, 1);
    assert!(!is_free(local), "an old name does not close its successor");
}

#[test]
fn a_socket_that_took_the_place_of_another_hears_what_is_its_own() {
    let (mut driver, mut friend) = (puppet(1), puppet(1));
    let before = bind(&mut driver, 1, ANY.parse().unwrap()).unwrap();
    driver.machine_mut().ask(Request::Close { id: SocketId(1) });
    let after = bind(&mut driver, 2, ANY.parse().unwrap()).unwrap();
    let friend_address = given(&friend);
    for (to, text) in [(before, b"one"), (after, b"two")] {
        friend.machine_mut().say(FourTuple::new(friend_address, to), text);
    }
    friend.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(next(&mut driver), Report::Heard(FourTuple::new(after, friend_address), b"two".to_vec()));
}

#[test]
fn the_owner_adds_and_removes_sockets_while_the_machine_runs() {
    let (mut driver, mut friend) = (puppet(1), puppet(1));
    let (first, friend_address) = (given(&driver), given(&friend));
    driver.add_socket(Socket::bind(ANY.parse().unwrap()).unwrap()).unwrap();
    let second = driver.sockets().local_addresses().nth(1).unwrap();
    assert!(driver.remove_socket(first) && is_free(first));
    assert!(!driver.remove_socket(first), "it is gone");
    friend.machine_mut().say(FourTuple::new(friend_address, second), b"hello");
    friend.turn(Some(Duration::ZERO)).unwrap();
    let path = FourTuple::new(second, friend_address);
    assert_eq!(next(&mut driver), Report::Heard(path, b"hello".to_vec()));
    let requested = bind(&mut driver, 1, ANY.parse().unwrap()).unwrap();
    assert!(!driver.remove_socket(requested), "what a machine asked for is its own");
    assert_eq!(driver.sockets().local_addresses().collect::<Vec<_>>(), [second]);
}

/// A connection called 1 and its other end.
fn connected(driver: &mut Driver<Puppet>) -> TcpStream {
    let listener = TcpListener::bind(ANY).unwrap();
    connect(driver, 1, listener.local_addr().unwrap());
    let Report::Connected(SocketId(1), flow) = next(driver) else { panic!("not connected") };
    let (peer, remote) = listener.accept().unwrap();
    assert_eq!((flow.local, flow.remote), (remote, listener.local_addr().unwrap()));
    peer
}

fn connect(driver: &mut Driver<Puppet>, id: u64, remote: SocketAddr) {
    let local = Ipv4Addr::UNSPECIFIED.into();
    driver.machine_mut().ask(Request::Connect { id: SocketId(id), local, remote });
}

fn write(driver: &mut Driver<Puppet>, id: u64, bytes: Vec<u8>) {
    driver.machine_mut().ask(Request::Write { id: SocketId(id), bytes: bytes.into() });
}

#[test]
fn a_connection_carries_bytes_both_ways_until_the_peer_ends_it() {
    let mut driver = puppet(0);
    let mut peer = connected(&mut driver);
    write(&mut driver, 1, b"question".to_vec());
    assert_eq!(next(&mut driver), Report::Written(SocketId(1), 8));
    let mut question = [0; 8];
    peer.read_exact(&mut question).unwrap();
    peer.write_all(b"answer").unwrap();
    assert_eq!(next(&mut driver), Report::Received(SocketId(1), b"answer".to_vec()));
    drop(peer);
    assert_eq!(next(&mut driver), Report::Closed(SocketId(1), CloseReason::Ended));
    assert!(driver.connections().is_empty());
}

#[test]
fn more_than_the_system_takes_at_once_arrives_whole_and_closing_waits_for_it() {
    let mut driver = puppet(0);
    let mut peer = connected(&mut driver);
    let long: Vec<u8> = (0..WRITE_BACKLOG_MAX).map(|n| (n % 251) as u8).collect();
    write(&mut driver, 1, long.clone());
    driver.machine_mut().ask(Request::Close { id: SocketId(1) });
    let reader = thread::spawn(move || {
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).map(|_| heard)
    });
    driver.turn(Some(Duration::ZERO)).unwrap();
    for _ in 0..1_000 {
        if driver.connections().is_empty() {
            break;
        }
        driver.turn(Some(Duration::from_millis(10))).unwrap();
    }
    assert!(reader.join().unwrap().unwrap() == long);
    assert!(driver.connections().is_empty() && driver.poll_event().is_none());
}

#[test]
fn a_machine_that_does_not_limit_itself_loses_the_connection_and_no_more() {
    let mut driver = puppet(0);
    let peer = connected(&mut driver);
    let mut written = 0;
    let why = loop {
        write(&mut driver, 1, vec![0; 1 << 18]);
        driver.turn(Some(Duration::ZERO)).unwrap();
        match driver.poll_event() {
            Some(Report::Written(SocketId(1), len)) => written += len,
            Some(Report::Closed(SocketId(1), why)) => break why,
            None => {}
            Some(other) => panic!("{other:?}"),
        }
        assert!(written < 1 << 28, "the system takes without end");
    };
    assert_eq!((why, driver.connections().counters().backlog_overflows), (CloseReason::Failed, 1));
    assert!(driver.connections().is_empty());
    drop(peer);
}

#[test]
fn a_reset_in_the_middle_of_writes_and_a_port_where_nobody_listens_are_told() {
    let mut driver = puppet(0);
    let mut peer = connected(&mut driver);
    write(&mut driver, 1, vec![1; WRITE_BACKLOG_MAX]);
    assert!(matches!(next(&mut driver), Report::Written(SocketId(1), _)));
    // Dropped with unread bytes, so that the system resets it (RFC 1122 §4.2.2.13).
    peer.read_exact(&mut [0]).unwrap();
    let nobody = peer.local_addr().unwrap();
    drop(peer);
    let end = std::iter::repeat_with(|| next(&mut driver)).find(|told| !matches!(told, Report::Written(..)));
    assert_eq!(end, Some(Report::Closed(SocketId(1), CloseReason::Reset)));
    connect(&mut driver, 2, nobody);
    assert_eq!(next(&mut driver), Report::Closed(SocketId(2), CloseReason::Refused));
    write(&mut driver, 2, b"nowhere".to_vec());
    close(&mut driver, 2);
    assert_eq!((driver.poll_event(), driver.connections().counters().writes_to_nowhere), (None, 1));
}
