//! Model TCP endpoints, links that lose, double, delay and damage, and an accountant who judges the TCP
//! translator between them.
//!
//! A seed is a world ([`Plan`]): what stands between a client and a server, how both speak TCP, what their
//! applications do, what the links do to frames, when a box is restarted, and what strangers send meanwhile. The
//! endpoints ([`Endpoint`]) are small and strict: each byte of a stream is known from its place, and what an
//! endpoint writes travels with a note of what it means ([`Ghost`]), so that its peer can tell whether a translated
//! number still means the same. The [`Ledger`] looks at what goes into a box and what comes out of it, and compares
//! with an independent implementation of the table of rules ([`oracle`]). What has to hold has a name:
//! [`Invariant`].
//!
//! Frames are written by hand here and read by etherparse. Nothing is shared with the code that is judged.
//!
//! # What it deliberately does not do
//!
//! * It is no TCP for use: no simultaneous open, no keep-alives, no urgent data beyond the pointer, a congestion
//!   control that is just good enough to fill a pipe (RFC 5681 in outline).
//! * Damage that a 16-bit checksum cannot notice counts as loss: no TCP survives it.
//! * It does not measure time: `conformance/README.md` has figures from real kernels.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Offsets are signed and numbers wrap: casts between them are the arithmetic of RFC 9293 §3.4.
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod endpoint;
mod invariant;
mod middle;
pub mod oracle;
mod sabotage;
mod segment;
mod stack;
mod subject;
mod table;
mod world;

pub use endpoint::{Agreed, Endpoint, Failure, Ghost, Known, State, refusal};
pub use invariant::{Breach, Invariant};
pub use middle::{Middle, News, Side, Straight, Tuple, Wire};
pub use sabotage::Saboteur;
pub use segment::{Dress, Options, Segment, Unreadable, flag};
pub use stack::{App, READ_EVERY, Stack, content};
pub use subject::{Subject, boxes, play, play_before};
pub use table::Table;
pub use world::{
    Card, FlowPlan, Given, Ledger, LinkPlan, Outage, Outcome, Plan, Played, Restart, Service, Tell, Topology,
    World,
};
