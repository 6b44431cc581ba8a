//! The machines of the tree.

mod handshake;
mod ice;
mod node;
mod quic;
mod stun;
mod tcp;
mod turn;

use std::net::SocketAddr;

use gimlet_conformance::laws::{Side, Subject, flood, judge};
use gimlet_machine::FourTuple;

use crate::heap::live_bytes;

/// How many hostile datagrams a flood has: enough to fill every table of every machine many times over.
const FLOOD: u32 = 20_000;

/// Asserts that `S` keeps the laws and that a flood leaves it within its memory.
fn assert_lawful<S: Subject>() {
    if let Err(verdict) = judge::<S>() {
        panic!("{verdict}");
    }
    let peak = flood::<S>(FLOOD, live_bytes);
    assert!(
        peak <= S::HEAP_MAX,
        "law 8: {peak} bytes after a flood; the written limits add up to {}",
        S::HEAP_MAX
    );
}

/// The socket of a machine at the outer edge.
fn socket(side: Side) -> SocketAddr {
    match side {
        Side::A => SocketAddr::from(([192, 0, 2, 1], 1_000)),
        Side::B => SocketAddr::from(([198, 51, 100, 2], 2_000)),
    }
}

/// A flow from the socket of `side` to the other side, or to one of 255 strangers.
fn flow(side: Side, n: u8) -> FourTuple {
    let stranger = SocketAddr::from(([203, 0, 113, n], 3_000));
    FourTuple::new(socket(side), if n == 0 { socket(side.other()) } else { stranger })
}

/// Where a datagram on `flow` arrives: at the other side, or nowhere.
fn arrives(flow: FourTuple) -> Option<FourTuple> {
    [Side::A, Side::B].iter().any(|side| flow.remote == socket(*side)).then_some(flow.flipped())
}
