//! A whole network in one process: hosts, lines, NATs and faults, from one seed.
//!
//! A [`World`] owns machines, each on a host with its sockets, and plays operating system, network
//! and clock for them. It knows no protocol: anything that is a
//! `Machine<Path = FourTuple>` can live in it, the same value that runs on real sockets elsewhere.
//! Time is a number that jumps from one thing to the next; an hour without traffic costs nothing.
//!
//! ```text
//!   Machine ─ Host ─ uplink ─┐                        ┌─ downlink ─ Host ─ Machine
//!                            ├──────── internet ──────┤
//!   Machine ─ Host ─┐        │                        │
//!                   ├─ NAT ──┘                        └── NAT ── NAT ── Host ─ Machine
//!   Machine ─ Host ─┘                                 carrier's  home
//! ```
//!
//! A packet crosses its sender's uplink, any NATs, and its receiver's downlink. Each [`Link`] loses,
//! queues, delays, doubles and reorders as its [`LinkConfig`] says; each [`Nat`] rewrites and filters
//! as its [`NatConfig`] says, in the words of RFC 4787. Machines that ask for more sockets, or for TCP
//! connections, get them ([`gimlet_machine::Request`]); the segments of a connection are packets like others. Whatever is going to happen is on one agenda,
//! ordered by time and then by who planned first. Whatever is left to chance is drawn from the seed,
//! from a stream of its own for each host, line and NAT: adding one does not change the luck of
//! another. So a failure is a seed, and the seed is the failure: [`World::trace_hash`] is the same
//! every time.
//!
//! Machines are held to the laws of their contract. One whose deadline does not advance, or that
//! never falls silent, makes the world panic with its host's name, the time and the seed.
//!
//! # What it deliberately does not do
//!
//! * It does not fragment. A packet larger than a line's MTU is gone, as for any sender that sets
//!   "don't fragment" (RFC 9000 §14).
//! * It does not send ICMP. Nobody learns why a packet did not arrive, which is what most firewalls
//!   make of the real network. Connections learn it by a reset, or by silence.
//! * It does not count hops: there is no TTL that could make a packet open the near NAT and die before
//!   the far one.
//! * It has no firewall that does not translate ([`Firewall`]). Hosts without a NAT hear everybody.
//! * TCP has no congestion control and no options: connections carry what machines say to relays, and nobody
//!   measures them. A NAT tells them apart by their addresses and looks no deeper.
//! * It does not model a host's processor. Machines take no time.
//!
//! # Example
//!
//! Two hosts, one of them behind a home router, pass a growing datagram back and forth.
//!
//! ```
//! use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Transmit, Verdict};
//! use gimlet_sim::{HostConfig, LinkConfig, NatConfig, NatKind, World};
//! use std::time::Duration;
//!
//! /// Answers every datagram with a longer one, up to a length.
//! #[derive(Default)]
//! struct Echo(Option<(FourTuple, usize)>);
//!
//! impl Machine for Echo {
//!     type Path = FourTuple;
//!     type Event = ();
//!     fn handle_input(&mut self, _now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
//!         self.0 = (input.bytes.len() < 10).then_some((input.path, input.bytes.len() + 1));
//!         Verdict::Consumed
//!     }
//!     fn handle_timeout(&mut self, _now: Instant) {}
//!     fn poll_event(&mut self) -> Option<()> { None }
//!     fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
//!         let (path, length) = self.0.take()?;
//!         out.put(&vec![0; length]);
//!         Some(Transmit::new(path))
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> { None }
//! }
//!
//! let mut world = World::new(7);
//! let dsl = LinkConfig::with_latency(Duration::from_millis(10));
//! let router = NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, 1]).unwrap();
//! let router = world.add_nat(router, dsl);
//! let laptop = HostConfig::new("laptop", ["192.168.0.2:5000".parse().unwrap()]).behind(router);
//! let server = HostConfig::new("server", ["198.51.100.9:9000".parse().unwrap()]);
//! let path = FourTuple::new(laptop.sockets[0], server.sockets[0]);
//! let laptop = world.add_host(laptop, Echo::default());
//! world.add_host(server, Echo::default());
//!
//! world.touch(laptop, |echo, _now| echo.0 = Some((path, 1)));
//! assert!(world.run_to_quiet(Instant::from_millis(60_000)));
//! assert_eq!((world.counts().delivered, world.now()), (10, Instant::from_millis(100)));
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agenda;
mod chance;
mod connections;
mod crypto;
mod fault;
mod host;
mod line;
mod link;
mod nat;
mod net;
mod oracle;
mod packed;
mod packet;
mod sockets;
mod stream;
mod swarm;
#[cfg(test)]
mod toy;
mod trace;
mod world;

pub use chance::{Chance, NotAChance};
pub use connections::ACCEPTED_FIRST;
pub use crypto::seeded_provider;
pub use fault::Fault;
pub use host::{HostConfig, HostId, Seat};
pub use line::{LINE_HELD_MAX, Line, LineCounters};
pub use link::{Carried, Link, LinkConfig, LinkDrop, Rate};
pub use nat::{
    EARLY_INBOUND_LIFETIME, EARLY_MAX, EarlyInbound, Egress, Expiry, Filtering, Firewall, Leg, Mapping,
    NAT_EVENTS_MAX, Nat, NatConfig, NatCounters, NatEvent, NatKind, NotANatKind, PORT_FIRST, PortAllocation,
    Refusal, Side, TablePolicy,
};
pub use net::NatId;
pub use oracle::{Edge, PortSpan, direct_path_possible, punch_possible};
pub use packet::Protocol;
pub use sockets::OPENED_MAX;
pub use trace::{Counts, DropReason, Observer, PacketRecord, Step, TraceHash};
pub use world::{EVENTS_MAX, Happening, MOMENT_MAX, World};
