//! Drives any Gimlet machine on [mio](https://docs.rs/mio): one thread, one poll loop, no locks.
//!
//! A [`Driver`] owns a machine and its sockets. Each [`Driver::turn`] waits until a datagram, a
//! deadline or a call from another thread is there, hands a batch of datagrams to the machine,
//! drains it once for the whole batch, and sends what it wrote. Between turns the application reads
//! [`Driver::poll_event`] and calls the machine's own verbs; [`Driver::run`] is that loop, written
//! down. Other threads reach the machine through a [`Remote`], as closures that run between two
//! turns.
//!
//! A machine may [ask](gimlet_machine::Request) for further UDP sockets, and for TCP connections. The owner may add and remove sockets between turns, as interfaces come and go.
//!
//! A turn does a bounded amount of work: at most one batch per socket, a few reads per
//! connection, one drain, and [`CALLS_MAX`] calls. What is left over makes the next turn start at once.
//!
//! # What it deliberately does not do
//!
//! * It knows no protocol: everything above the datagram belongs to the machine.
//! * It starts no thread. Run it where you like; one driver per core is the way to use several.
//! * It waits no finer than a millisecond, which is what `epoll_wait` takes. Deadlines may be met that
//!   much late, never early.
//!
//! # Example
//!
//! ```
//! use core::time::Duration;
//! use std::ops::ControlFlow;
//! use gimlet_machine::*;
//! use gimlet_mio::Driver;
//! use gimlet_udp::{Clock, Sockets};
//!
//! /// Fires once.
//! struct Alarm(Option<Instant>);
//!
//! impl Machine for Alarm {
//!     type Path = FourTuple;
//!     type Event = &'static str;
//!     fn handle_input(&mut self, _: Instant, _: Input<'_, FourTuple>) -> Verdict<FourTuple> {
//!         Verdict::NotMine
//!     }
//!     fn handle_timeout(&mut self, now: Instant) {
//!         if self.0.is_some_and(|at| at <= now) {
//!             self.0 = Some(Instant::ZERO);
//!         }
//!     }
//!     fn poll_event(&mut self) -> Option<&'static str> {
//!         self.0.take_if(|at| *at == Instant::ZERO).map(|_| "ring")
//!     }
//!     fn poll_transmit(&mut self, _: Instant, _: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
//!         None
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> {
//!         self.0.map(|at| Deadline { at, why: "alarm" })
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let clock = Clock::start();
//! let alarm = Alarm(Some(clock.now() + Duration::from_millis(5)));
//! let mut driver = Driver::new(alarm, Sockets::new(), clock)?;
//! let heard = driver.run(|_, event| ControlFlow::Break(event))?;
//! assert_eq!(heard, "ring");
//! assert!(driver.now() >= Instant::from_millis(5));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod driver;
mod network;
mod remote;
mod wait;

pub use driver::{Driver, EVENTS_MAX};
pub use remote::{CALLS_MAX, CallError, Remote};
