//! The contract of every Gimlet machine: bytes and time go in, actions come out.
//!
//! A [`Machine`] is a plain value. Its owner tells it what happened (`handle_input`,
//! `handle_timeout`, and the machine's own command methods) and then drains it (`poll_event`,
//! `poll_transmit`, `poll_timeout`). Nothing else ever happens: a machine has no socket, clock,
//! thread or source of entropy, and its commands never return bytes to send. There are four kinds
//! of methods on every machine, and their names tell them apart:
//!
//! * **getters** are nouns; they change nothing;
//! * **handlers** (`handle_*`) take what the outside did;
//! * **commands** are verbs; they take `now` and have an error type of their own;
//! * **polls** (`poll_*`) hand out what the machine wants done. Drain them before time moves on.
//!
//! [`pump`] is the one loop that all drivers share.
//!
//! # What it deliberately does not do
//!
//! * It does not read a clock. [`Instant`] is a number of nanoseconds that the driver supplies.
//! * It does not own buffers. Input is lent and may be rewritten in place; output is written into a
//!   [`Buf`] that the driver lends.
//! * It does not define a packet queue. A machine that can say what it wants to send when asked
//!   needs none.
//!
//! # The shape
//!
//! ```text
//!   handle_input ──►┌─────────┐──► poll_event      what the owner learns or must answer
//!   handle_timeout ►│ Machine │──► poll_transmit   one datagram, or a train of equal ones
//!   commands ──────►└─────────┘──► poll_timeout    when to call handle_timeout, and why
//! ```
//!
//! A machine that needs more sockets than it was given asks for them (`poll_request`), and its driver
//! says what became of it (`handle_answer`): see [`Request`]. Both have a default, for the many that ask
//! for nothing.
//!
//! # Example
//!
//! A machine that echoes every datagram once, a second later:
//!
//! ```
//! use core::time::Duration;
//! use gimlet_machine::*;
//!
//! #[derive(Debug, Default)]
//! struct Echo { held: Option<(Instant, u16, Vec<u8>)> }
//!
//! impl Machine for Echo {
//!     type Path = u16;
//!     type Event = ();
//!     fn handle_input(&mut self, now: Instant, input: Input<'_, u16>) -> Verdict<u16> {
//!         self.held = Some((now + Duration::from_secs(1), input.path, input.bytes.to_vec()));
//!         Verdict::Consumed
//!     }
//!     fn handle_timeout(&mut self, _now: Instant) {}
//!     fn poll_event(&mut self) -> Option<()> { None }
//!     fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<u16>> {
//!         let (_, path, bytes) = self.held.take_if(|(due, ..)| *due <= now)?;
//!         out.put(&bytes);
//!         Some(Transmit::new(path))
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> {
//!         self.held.as_ref().map(|(due, ..)| Deadline { at: *due, why: "echo" })
//!     }
//! }
//!
//! let (mut echo, mut storage) = (Echo::default(), Vec::new());
//! let start = Instant::ZERO;
//! echo.handle_input(start, Input::new(7, &mut b"hello".to_vec()));
//! assert_eq!(echo.poll_transmit(start, &mut Buf::new(&mut storage)), None);
//! let due = echo.poll_timeout().unwrap().at;
//! assert_eq!(echo.poll_transmit(due, &mut Buf::new(&mut storage)), Some(Transmit::new(7)));
//! assert_eq!(storage, b"hello");
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod arena;
mod buf;
mod contract;
mod counters;
mod instant;
mod map;
mod outside;
mod path;
mod pump;
mod queue;
mod rng;
mod session;
mod timers;

pub use arena::{Arena, Id};
pub use buf::{Buf, DATAGRAM_MAX};
pub use bytes::Bytes;
pub use contract::{Deadline, Ecn, Input, Machine, Transmit, Verdict};
pub use counters::Counters;
pub use instant::Instant;
pub use map::SeededMap;
pub use outside::{Answer, CloseReason, Request, SocketId};
pub use path::{FourTuple, NotAPeerId, Path, PeerId};
pub use pump::{Io, PUMP_ROUNDS_MAX, pump};
pub use queue::Queue;
pub use rng::Rng;
pub use session::{Direction, Interest, Session};
pub use timers::{Timer, Timers};
