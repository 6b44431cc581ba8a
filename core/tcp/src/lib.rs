//! The TCP handshake accelerator: a bump in the wire that takes a round trip off the time to first byte of
//! TCP connections between programs that know nothing about it.
//!
//! A client's SYN is answered at once with a SYN-ACK whose initial sequence number S' is ours. While the real
//! handshake is under way the client already sends, and what it sends is delivered when the server has
//! answered with its own initial sequence number Sr. From then on every segment that passes is rewritten in
//! place, so that each side sees the numbers it expects. Nothing is ever acknowledged that the server has not
//! acknowledged.
//!
//! # How it works
//!
//! * **Frames are whole Ethernet frames**, and a [`Leg`] says which [`Side`] they are on and what the driver
//!   knows about them that is not in the bytes.
//! * **One offset per flow.** Bytes from client to server keep their numbers. Bytes from server to client are
//!   numbered from Sr by the server and from S' by the client, so D = S' − Sr is added to every number of the
//!   server's that goes to the client, and subtracted from every one that the client sends back. Timestamps of
//!   the server have an offset likewise.
//! * **Sequence numbers** are [`SeqNumber`]s: they wrap, and so does their order.
//!
//! # What it deliberately does not do
//!
//! * It does not terminate connections (RFC 3135 calls that a split-connection proxy): acknowledgements,
//!   retransmissions and congestion control stay end to end.
//! * It does not change the length of a frame that passes. Options that have to go become no-operations.
//! * It does not repair checksums: an update by difference (RFC 1624) leaves a corrupted segment corrupted.
//! * It does not touch segments whose integrity somebody vouches for: TCP-AO, TCP MD5, the IPv6
//!   authentication header.
//!
//! # Example
//!
//! ```
//! use gimlet_tcp::*;
//!
//! let leg = Leg::new(Side::Client);
//! assert_eq!(leg.across().side, Side::Server);
//! // D = S' − Sr, modulo 2^32.
//! assert_eq!(SeqNumber(0xFFFF_FFF0) - SeqNumber(0x20), 0xFFFF_FFD0);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

#[expect(dead_code, reason = "the translator that keeps flows is not here yet")]
mod flow;
mod leg;
mod rewrite;
mod seq;

pub use flow::key::FlowKey;
pub use flow::slot::{Slot, Slots};
pub use flow::table::{Attached, slots_for};
pub use leg::{Checksum, Leg, Side};
pub use rewrite::{Strip, Translation, Windows};
pub use seq::SeqNumber;
