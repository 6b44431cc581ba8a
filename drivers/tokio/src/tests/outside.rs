//! What a machine asks for, and sockets that come and go.

use std::net::{Ipv4Addr, SocketAddr};

use gimlet_machine::{CloseReason, FourTuple, Request, SocketId};
use gimlet_testkit::{Puppet, Report};
use gimlet_udp::{Clock, Socket, Sockets, WRITE_BACKLOG_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::soon;
use crate::{Handle, Plain, Stopped, spawn};

const ANY: &str = "127.0.0.1:0";

type Driver = Handle<Plain<Puppet>>;

fn puppet() -> Driver {
    let sockets = Sockets::bind([ANY.parse().unwrap()]).unwrap();
    spawn(Plain(Puppet::new()), sockets, Clock::start()).unwrap()
}

fn given(driver: &Driver) -> SocketAddr {
    driver.local_addresses()[0]
}

fn ask(driver: &Driver, request: Request) {
    driver.with(|machine, _| machine.0.ask(request)).unwrap();
}

fn say(driver: &Driver, path: FourTuple, text: &[u8]) {
    driver.with(|machine, _| machine.0.say(path, text)).unwrap();
}

async fn next(driver: &Driver) -> Report {
    soon(driver.next_event()).await.unwrap()
}

async fn bind(driver: &Driver, id: u64, local: SocketAddr) -> Result<SocketAddr, CloseReason> {
    ask(driver, Request::Bind { id: SocketId(id), local });
    match next(driver).await {
        Report::Bound(bound, local) if bound == SocketId(id) => Ok(local),
        Report::Closed(closed, why) if closed == SocketId(id) => Err(why),
        other => panic!("{other:?}"),
    }
}

/// Closes `id`, and waits until that is done: requests are carried out in order.
async fn close(driver: &Driver, id: u64) {
    ask(driver, Request::Close { id: SocketId(id) });
    assert_eq!(bind(driver, 1_000, given(driver)).await, Err(CloseReason::AddressUnavailable));
}

fn is_free(port: SocketAddr) -> bool {
    Socket::bind(port).is_ok()
}

#[tokio::test]
async fn a_machine_speaks_through_the_sockets_it_asked_for_until_it_closes_them() {
    let (driver, friend) = (puppet(), puppet());
    let locals = [
        bind(&driver, 1, ANY.parse().unwrap()).await.unwrap(),
        bind(&driver, 2, ANY.parse().unwrap()).await.unwrap(),
    ];
    for local in locals {
        let path = FourTuple::new(local, given(&friend));
        say(&driver, path, b"there");
        assert_eq!(next(&friend).await, Report::Heard(path.flipped(), b"there".to_vec()));
        say(&friend, path.flipped(), b"and back");
        assert_eq!(next(&driver).await, Report::Heard(path, b"and back".to_vec()));
    }
    close(&driver, 1).await;
    assert!(is_free(locals[0]) && !is_free(locals[1]));
    say(&driver, FourTuple::new(locals[0], given(&friend)), b"too late");
    assert_eq!(bind(&driver, 3, locals[1]).await, Err(CloseReason::AddressUnavailable));
    soon(async {
        while driver.sockets_counters().no_socket != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(driver.local_addresses().len(), 1, "the owner's only");
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let driver = puppet();
    let taken = given(&driver);
    for id in 0..50 {
        let local = if id % 3 == 1 { taken } else { ANY.parse().unwrap() };
        ask(&driver, Request::Bind { id: SocketId(id), local });
    }
    for id in 0..50 {
        match next(&driver).await {
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

#[tokio::test]
async fn closing_twice_or_what_never_was_open_is_harmless() {
    let driver = puppet();
    let local = bind(&driver, 1, ANY.parse().unwrap()).await.unwrap();
    for id in [9, 1, 1, u64::MAX] {
        close(&driver, id).await;
    }
    assert_eq!(bind(&driver, 2, local).await, Ok(local), "the same address may be bound anew");
    close(&driver, 1).await;
    assert!(!is_free(local), "an old name does not close its successor");
}

#[tokio::test]
async fn a_socket_that_took_the_place_of_another_hears_what_is_its_own() {
    let (driver, friend) = (puppet(), puppet());
    let before = bind(&driver, 1, ANY.parse().unwrap()).await.unwrap();
    ask(&driver, Request::Close { id: SocketId(1) });
    let after = bind(&driver, 2, ANY.parse().unwrap()).await.unwrap();
    for (to, text) in [(before, b"one"), (after, b"two")] {
        say(&friend, FourTuple::new(given(&friend), to), text);
    }
    assert_eq!(next(&driver).await, Report::Heard(FourTuple::new(after, given(&friend)), b"two".to_vec()));
}

#[tokio::test]
async fn the_owner_adds_and_removes_sockets_while_the_machine_runs() {
    let (driver, friend) = (puppet(), puppet());
    let first = given(&driver);
    soon(driver.add_socket(Socket::bind(ANY.parse().unwrap()).unwrap())).await.unwrap();
    let second = driver.local_addresses()[1];
    assert!(soon(driver.remove_socket(first)).await.unwrap() && is_free(first));
    assert!(!soon(driver.remove_socket(first)).await.unwrap(), "it is gone");
    say(&friend, FourTuple::new(given(&friend), second), b"hello");
    let path = FourTuple::new(second, given(&friend));
    assert_eq!(next(&driver).await, Report::Heard(path, b"hello".to_vec()));
    let requested = bind(&driver, 1, ANY.parse().unwrap()).await.unwrap();
    assert!(!soon(driver.remove_socket(requested)).await.unwrap(), "what a machine asked for is its own");
    assert_eq!(driver.local_addresses(), [second]);
}

#[tokio::test]
async fn a_driver_that_stopped_takes_no_orders_and_drops_those_it_had() {
    let driver = puppet();
    let local = given(&driver);
    let removing = soon(driver.remove_socket(local));
    tokio::pin!(removing);
    assert!(super::poll_once(&mut removing).is_pending());
    driver.abort();
    assert!(matches!(removing.await, Err(Stopped::Closed)));
    let socket = Socket::bind(ANY.parse().unwrap()).unwrap();
    let error = soon(driver.add_socket(socket)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
}

/// A connection called 1 and its other end.
async fn connected(driver: &Driver) -> TcpStream {
    let listener = TcpListener::bind(ANY).await.unwrap();
    connect(driver, 1, listener.local_addr().unwrap());
    let Report::Connected(SocketId(1), flow) = next(driver).await else { panic!("not connected") };
    let (peer, remote) = soon(listener.accept()).await.unwrap();
    assert_eq!((flow.local, flow.remote), (remote, listener.local_addr().unwrap()));
    peer
}

fn connect(driver: &Driver, id: u64, remote: SocketAddr) {
    let local = Ipv4Addr::UNSPECIFIED.into();
    ask(driver, Request::Connect { id: SocketId(id), local, remote });
}

fn write(driver: &Driver, id: u64, bytes: Vec<u8>) {
    ask(driver, Request::Write { id: SocketId(id), bytes: bytes.into() });
}

#[tokio::test]
async fn a_connection_carries_bytes_both_ways_until_the_peer_ends_it() {
    let driver = puppet();
    let mut peer = connected(&driver).await;
    write(&driver, 1, b"question".to_vec());
    assert_eq!(next(&driver).await, Report::Written(SocketId(1), 8));
    let mut question = [0; 8];
    soon(peer.read_exact(&mut question)).await.unwrap();
    soon(peer.write_all(b"answer")).await.unwrap();
    assert_eq!(next(&driver).await, Report::Received(SocketId(1), b"answer".to_vec()));
    drop(peer);
    assert_eq!(next(&driver).await, Report::Closed(SocketId(1), CloseReason::Ended));
}

#[tokio::test]
async fn the_driver_ends_only_when_closed_connections_have_delivered_what_was_written() {
    let driver = puppet();
    let mut peer = connected(&driver).await;
    let long: Vec<u8> = (0..WRITE_BACKLOG_MAX).map(|n| (n % 251) as u8).collect();
    write(&driver, 1, long.clone());
    ask(&driver, Request::Close { id: SocketId(1) });
    assert_eq!(bind(&driver, 2, given(&driver)).await, Err(CloseReason::AddressUnavailable));
    driver.shared().enter_and_ring(|state| state.phase = crate::shared::Phase::Closing);
    let mut heard = Vec::new();
    soon(peer.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == long);
    drop(peer);
    assert!(matches!(soon(driver.stopped()).await, Stopped::Closed));
}

#[tokio::test]
async fn waiting_for_a_peer_that_ended_and_does_not_read_costs_no_turns() {
    let driver = puppet();
    let mut peer = connected(&driver).await;
    let mut sent = 0;
    // Fills what the system takes, and a little more.
    loop {
        write(&driver, 1, vec![0; 1 << 18]);
        sent += 1 << 18;
        let taken = next(&driver).await;
        if taken != Report::Written(SocketId(1), 1 << 18) {
            break;
        }
    }
    soon(peer.shutdown()).await.unwrap();
    while next(&driver).await != Report::Closed(SocketId(1), CloseReason::Ended) {}
    let before = driver.read(|machine| machine.0.drains()).unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let drains = driver.read(|machine| machine.0.drains()).unwrap() - before;
    assert!(drains < 10, "{drains} turns for nothing");
    let mut heard = Vec::new();
    soon(peer.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard.len(), sent);
}

#[tokio::test]
async fn a_machine_that_does_not_limit_itself_loses_the_connection_and_no_more() {
    let driver = puppet();
    let peer = connected(&driver).await;
    let mut written = 0;
    let why = loop {
        write(&driver, 1, vec![0; 1 << 18]);
        tokio::task::yield_now().await;
        // A request whose answer is always due.
        ask(&driver, Request::Bind { id: SocketId(2), local: given(&driver) });
        match next(&driver).await {
            Report::Written(SocketId(1), len) => written += len,
            Report::Closed(SocketId(1), why) => break why,
            Report::Closed(SocketId(2), _) => {}
            other => panic!("{other:?}"),
        }
        assert!(written < 1 << 28, "the system takes without end");
    };
    assert_eq!(why, CloseReason::Failed);
    soon(async {
        while driver.connections_counters().backlog_overflows != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(peer);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_writes_and_a_port_where_nobody_listens_are_told() {
    let driver = puppet();
    let mut peer = connected(&driver).await;
    write(&driver, 1, vec![1; WRITE_BACKLOG_MAX]);
    assert!(matches!(next(&driver).await, Report::Written(SocketId(1), _)));
    // Dropped with unread bytes, so that the system resets it (RFC 1122 §4.2.2.13).
    soon(peer.read_exact(&mut [0])).await.unwrap();
    let nobody = peer.local_addr().unwrap();
    drop(peer);
    let end = loop {
        match next(&driver).await {
            Report::Written(..) => {}
            other => break other,
        }
    };
    assert_eq!(end, Report::Closed(SocketId(1), CloseReason::Reset));
    connect(&driver, 2, nobody);
    assert_eq!(next(&driver).await, Report::Closed(SocketId(2), CloseReason::Refused));
}
