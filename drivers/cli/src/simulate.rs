//! The same nodes in a simulated network: no sockets, a virtual clock, NATs, and a seed that decides
//! everything.
//!
//! ```text
//!   alice 10.1.0.2 ── NAT 198.51.100.1 ┐
//!                                      ├── public 192.0.2.1
//!   bob   10.2.0.2 ── NAT 203.0.113.1  ┘
//! ```
//!
//! Both peers know the public node's ticket. When both are connected to it, Alice connects to Bob;
//! they exchange messages, she sends a file, they close. [`plan`] says what network it is, [`talker`]
//! is what the peers do, [`run`] plays it, [`campaign`] plays it for many seeds and pairs of NATs.

pub(crate) mod campaign;
mod incoming;
mod outgoing;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod talker;
pub(crate) mod trace;
