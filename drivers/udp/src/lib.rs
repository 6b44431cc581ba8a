//! Sockets for Gimlet's event loops: UDP with ECN, GSO and GRO, and the TCP connections that machines ask for.
//!
//! A [`Socket`] is a non-blocking UDP socket that knows the exact local address of every datagram
//! it receives, reads and writes ECN marks, takes a train of equal datagrams in one call (generic
//! segmentation offload) and hands out what the kernel coalesced (generic receive offload) as
//! the datagrams that were sent. [`Sockets`] is the set that a machine speaks through: one per
//! local address, chosen by the `local` half of a [`FourTuple`](gimlet_machine::FourTuple). Some are given
//! to it by the owner, others it [asks for](gimlet_machine::Request); both may come and go.
//! [`RecvBatch`] lends received datagrams to a machine in place, [`Outbox`] lends it buffers for
//! what it sends and holds what a full socket did not take. [`Clock`] and [`seed`] are the time and
//! the entropy that no crate under `core/` can reach.
//!
//! [`Connections`] are what a machine reaches where UDP does not get through. Each holds what the system does
//! not take yet, up to [`WRITE_BACKLOG_MAX`], and delivers it before it closes. Like [`Sockets`] they wait for
//! nothing: a driver watches them, and says what is ready.
//!
//! Every driver is these six parts and a way to wait.
//!
//! # What it deliberately does not do
//!
//! * It does not look into a datagram. Protocols live in `core/`.
//! * It does not retry what the network lost. Only a full socket pushes back ([`Blocked`]); any other
//!   refusal loses the datagram, as the network might have, and moves a named counter.
//! * It does not serve IPv4 through an IPv6 socket: each family has its own socket, so an address
//!   has one spelling (RFC 8445 §5.1.1.1 asks agents to leave IPv4-mapped addresses alone).
//! * It does not listen for TCP connections: a machine asks for them, or does without.
//! * It does not fragment. `IP_DONTFRAG` is on, as path MTU discovery needs (RFC 8899 §3).
//!
//! # Example
//!
//! ```
//! use gimlet_machine::{Ecn, FourTuple, Transmit};
//! use gimlet_udp::{RecvBatch, Socket};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut ours = Socket::bind("127.0.0.1:0".parse().unwrap())?;
//! let mut theirs = Socket::bind("127.0.0.1:0".parse().unwrap())?;
//! let path = FourTuple::new(ours.local_address(), theirs.local_address());
//! let train = Transmit { path, ecn: Ecn::Ect0, segment: Some(3) };
//! ours.send(&train, b"onetwothree").expect("an idle socket takes a train");
//!
//! let (mut batch, mut heard) = (RecvBatch::new(), Vec::new());
//! while heard.len() < 4 {
//!     theirs.recv(&mut batch)?;
//!     heard.extend(batch.inputs().map(|input| (input.path, input.ecn, input.bytes.to_vec())));
//! }
//! assert_eq!(heard[1], (path.flipped(), Ecn::Ect0, b"two".to_vec()));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod batch;
mod clock;
mod connection;
mod connections;
mod outbox;
mod reason;
mod socket;
mod sockets;

pub use batch::RecvBatch;
pub use clock::{Clock, seed};
pub use connection::Readiness;
pub use connections::{
    CLOSE_TIMEOUT, CONNECT_TIMEOUT, CONNECTIONS_MAX, Connections, ConnectionsCounters, Todo,
    WRITE_BACKLOG_MAX,
};
pub use outbox::{OUTBOX_BLOCKED_MAX, Outbox};
pub use reason::close_reason;
pub use socket::{
    Blocked, RECV_BUFFER, REQUESTED_RECV_BUFFER, REQUESTED_SEND_BUFFER, SEND_BUFFER, Socket, SocketCounters,
};
pub use sockets::{REQUESTED_SOCKETS_MAX, SOCKETS_MAX, Sockets, SocketsCounters};
