//! Real sockets on loopback, toy machines behind them.

mod end;
mod machine;
mod outside;
mod session;
mod toy;

use std::future::Future;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gimlet_udp::{Clock, Sockets};

use crate::{Handle, spawn};
use toy::Toy;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fails instead of hanging.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing more happens")
}

/// Polls once: what a `select!` does to the branch that loses.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn toy_at(address: &str) -> Handle<Toy> {
    let sockets = Sockets::bind([address.parse().unwrap()]).unwrap();
    let local = sockets.local_addresses().next().unwrap();
    spawn(Toy::new(local), sockets, Clock::start()).unwrap()
}

fn toy() -> Handle<Toy> {
    toy_at("127.0.0.1:0")
}

fn address(handle: &Handle<Toy>) -> SocketAddr {
    handle.local_addresses()[0]
}

/// How many wait inside `handle`.
fn waiting(handle: &Handle<Toy>) -> usize {
    handle.shared().enter(|state| state.audience.waiters.len())
}

/// Two toys and a stream between them.
async fn joined() -> (Handle<Toy>, Handle<Toy>, crate::Stream<Toy>, crate::Stream<Toy>) {
    let (ours, theirs) = (toy(), toy());
    let connection = soon(ours.connect(address(&theirs))).await.unwrap();
    let mut stream = soon(connection.open(gimlet_machine::Direction::Bidirectional)).await.unwrap();
    soon(stream.send(b"first")).await.unwrap();
    let accepted = soon(theirs.accept()).await.unwrap();
    let mut other = soon(accepted.accept_stream()).await.unwrap();
    assert_eq!(soon(other.receive()).await.unwrap(), "first");
    (ours, theirs, stream, other)
}
