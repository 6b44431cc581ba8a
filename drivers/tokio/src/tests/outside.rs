//! What a machine asks for, and sockets that come and go.

use std::net::SocketAddr;

use gimlet_machine::{CloseReason, FourTuple, Request, SocketId};
use gimlet_testkit::{Puppet, Report};
use gimlet_udp::{Clock, Socket, Sockets};

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
