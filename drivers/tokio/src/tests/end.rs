//! How it ends.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use gimlet_udp::{Clock, Socket, Sockets};

use super::toy::{Refused, Toy, WINDOW};
use super::{address, joined, soon, toy, waiting};
use crate::{Error, Stopped, spawn};

fn is_free(port: SocketAddr) -> bool {
    Socket::bind(port).is_ok()
}

#[tokio::test]
async fn close_delivers_what_was_accepted_then_frees_the_port() {
    let (ours, theirs, mut stream, mut other) = joined().await;
    for number in 0..WINDOW as u8 {
        soon(stream.send(&[number])).await.unwrap();
    }
    let port = address(&ours);
    let closing = tokio::spawn(async move { ours.close().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!closing.is_finished() && !is_free(port), "messages are still in flight");
    for number in 0..WINDOW as u8 {
        assert_eq!(soon(other.receive()).await.unwrap(), [number][..]);
    }
    soon(closing).await.unwrap().unwrap();
    assert!(is_free(port));
    assert!(matches!(soon(stream.receive()).await, Err(Error::Stopped(Stopped::Closed))));
    drop(theirs);
}

#[tokio::test]
async fn abort_ends_every_wait_and_frees_the_port() {
    let (ours, _theirs, mut stream, _other) = joined().await;
    let receiving = tokio::spawn(async move { stream.receive().await });
    tokio::task::yield_now().await;
    ours.abort();
    assert!(matches!(soon(receiving).await.unwrap(), Err(Error::Stopped(Stopped::Closed))));
    assert!(matches!(soon(ours.stopped()).await, Stopped::Closed));
    assert!(is_free(address(&ours)));
    assert_eq!(waiting(&ours), 0);
    assert_eq!(ours.read(Toy::streams).unwrap(), 1, "the machine can still be read");
}

#[tokio::test]
async fn the_last_handle_takes_the_driver_with_it() {
    let (ours, theirs, stream, _other) = joined().await;
    let (port, machine) = (address(&ours), std::sync::Arc::downgrade(ours.shared()));
    drop(ours);
    assert!(!is_free(port), "the stream still needs the driver");
    drop(stream);
    soon(async {
        while machine.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(is_free(port));
    drop(theirs);
}

#[tokio::test]
async fn a_panic_of_the_machine_is_an_error_for_everybody() {
    let (ours, theirs, _stream, mut other) = joined().await;
    let waiter = theirs.clone();
    let accepting = tokio::spawn(async move { waiter.accept().await.unwrap_err() });
    let receiving = tokio::spawn(async move { other.receive().await.unwrap_err() });
    tokio::task::yield_now().await;
    let victim = address(&theirs);
    ours.with(|machine, _| machine.poison(victim)).unwrap();
    assert!(matches!(soon(accepting).await.unwrap(), Stopped::Panicked));
    assert!(matches!(soon(receiving).await.unwrap(), Error::Stopped(Stopped::Panicked)));
    assert!(matches!(theirs.with(|_, _| ()), Err(Stopped::Panicked)));
    assert!(matches!(soon(theirs.close()).await, Err(Stopped::Panicked)));
    assert!(is_free(victim));
}

#[tokio::test]
async fn a_panic_inside_a_verb_reaches_its_caller_and_stops_the_driver() {
    let ours = toy();
    let waiter = ours.clone();
    let accepting = tokio::spawn(async move { waiter.accept().await.unwrap_err() });
    tokio::task::yield_now().await;
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _ = ours.with(|_, _| panic!("a bug in the application, as the test wants"));
    }));
    assert!(caught.is_err());
    assert!(matches!(soon(accepting).await.unwrap(), Stopped::Panicked));
    assert!(matches!(soon(ours.stopped()).await, Stopped::Panicked));
}

#[test]
fn a_runtime_that_goes_away_is_an_error_not_a_hang() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let ours = {
        let _inside = first.enter();
        let sockets = Sockets::bind(["127.0.0.1:0".parse().unwrap()]).unwrap();
        let local = sockets.local_addresses().next().unwrap();
        spawn(Toy::new(local), sockets, Clock::start()).unwrap()
    };
    first.block_on(tokio::task::yield_now());
    drop(first);
    runtime().block_on(async {
        assert!(matches!(soon(ours.accept()).await, Err(Stopped::RuntimeGone)));
        assert!(matches!(soon(ours.close()).await, Err(Stopped::RuntimeGone)));
        let error = soon(ours.connect("127.0.0.1:9".parse().unwrap())).await.unwrap_err();
        assert!(!matches!(error.session(), Some(Refused::Gone)));
    });
}
