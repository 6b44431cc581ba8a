//! Hosts of a real kernel as network namespaces, the cables between them, and the programs that run there.
//!
//! [`available`] says whether a laboratory can be made here, and removes what a killed process left behind. A
//! [`Namespace`] is a host, or a box between hosts; [`cable`] joins two. A [`Process`] is a program that runs
//! somewhere and is read line by line. All of them go away when they are dropped, also while a panic unwinds.
//!
//! [`Duplex`] is a long cable: a machine that delays every frame, and loses, repeats and swaps some of them, as a seed
//! says. In a [`Bump`](gimlet_raw::Bump) it stands between two interfaces of a kernel that has no emulator of its own.
//! [`Tagger`] is a switch port in a VLAN. [`traffic`] is an ordinary client and an ordinary server. [`Chain`] is the bench of the TCP handshake accelerator: a client, two boxes, a line on each side of a third, a
//! server.
//!
//! # What it deliberately does not do
//!
//! * It does not translate addresses. The NATs of the laboratory are `conformance`'s.
//! * It does not limit bandwidth. A line holds back and loses; where a bottleneck is wanted, the kernel has `tbf`.
//! * It does not touch the network that the computer itself is on: every cable joins two of its own namespaces.
//!
//! # Example
//!
//! A line of 25 ms in virtual time:
//!
//! ```
//! use std::time::Duration;
//! use gimlet_lab::Duplex;
//! use gimlet_machine::{Buf, Input, Instant, Machine as _, Rng, Verdict};
//! use gimlet_raw::{Leg, Side};
//! use gimlet_sim::LinkConfig;
//!
//! let mut line = Duplex::new(&Rng::from_u64(7), LinkConfig::with_latency(Duration::from_millis(25)));
//! let (start, mut storage) = (Instant::ZERO, Vec::new());
//! let mut frame = *b"a frame";
//! let verdict = line.handle_input(start, Input::new(Leg::new(Side::Client), &mut frame));
//! assert_eq!(verdict, Verdict::Consumed);
//! let due = line.poll_timeout().unwrap().at;
//! assert_eq!(due, start + Duration::from_millis(25));
//! let transmit = line.poll_transmit(due, &mut Buf::new(&mut storage)).unwrap();
//! assert_eq!((transmit.path.side, &storage[..]), (Side::Server, &b"a frame"[..]));
//! ```
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod chain;
mod duplex;
mod error;
mod namespace;
mod process;
mod tagger;
pub mod traffic;

pub use chain::{CLIENT, Chain, INTERFACES, Place, SERVER};
pub use duplex::Duplex;
pub use error::{LabError, Missing};
pub use namespace::{Namespace, available, cable, name_of};
pub use process::{Process, ProcessError};
pub use tagger::Tagger;
