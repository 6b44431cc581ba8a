//! Test equipment for machines: the laws, timelines, a shuttle, and coverage marks.
//!
//! * [`Checked`] wraps any machine, is a machine itself, and asserts the laws of
//!   [`gimlet_machine::Machine`] on every call. A test that drives `Checked<M>` tests the laws
//!   whatever else it tests.
//! * [`Script`] writes a machine's life as a timeline: `at` this moment it `hears` that and `says`
//!   this. Anything said and not expected fails the test.
//! * [`Shuttle`] carries datagrams between two machines with a delay and a judge that may drop,
//!   and jumps a virtual clock from one deadline to the next.
//! * [`Barrage`] sends what somebody can send who knows no secret, and asserts that nothing but counters
//!   moves.
//! * [`edges`] prints a state graph, and [`matches_committed`] compares it with the committed one.
//! * [`marked`] runs a test body and fails unless a line marked with [`gimlet_machine::mark!`] was
//!   reached: it ties a branch to the test that exists because of it.
//! * [`Puppet`] does what a test tells it and reports what it sees: a machine for tests of drivers.
//!
//! # What it deliberately does not do
//!
//! It is no network: NATs, loss and topology live in `drivers/sim`. It is a dev-dependency only;
//! nothing here is compiled into a release.
//!
//! # Example
//!
//! ```
//! use gimlet_machine::*;
//! use gimlet_testkit::{Checked, Script};
//!
//! #[derive(Default)]
//! struct Parrot(Option<Vec<u8>>);
//! impl Machine for Parrot {
//!     type Path = u8;
//!     type Event = ();
//!     fn handle_input(&mut self, _: Instant, input: Input<'_, u8>) -> Verdict<u8> {
//!         self.0 = Some(input.bytes.to_vec());
//!         Verdict::Consumed
//!     }
//!     fn handle_timeout(&mut self, _: Instant) {}
//!     fn poll_event(&mut self) -> Option<()> { None }
//!     fn poll_transmit(&mut self, _: Instant, out: &mut Buf<'_>) -> Option<Transmit<u8>> {
//!         out.put(&self.0.take()?);
//!         Some(Transmit::new(0))
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> { None }
//! }
//!
//! Script::new(Checked::new(Parrot::default()))
//!     .at(Instant::from_millis(5)).hears(0, b"hello").says(0, b"hello")
//!     .at(Instant::from_millis(9)).quiet();
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod barrage;
mod checked;
mod graph;
mod marks;
mod puppet;
mod script;
mod shuttle;

pub use barrage::{Barrage, Echo, snapshot};
pub use checked::Checked;
pub use graph::{edges, matches_committed};
pub use marks::{hit, marked};
pub use puppet::{Puppet, Report};
pub use script::Script;
pub use shuttle::{Packet, Shuttle};
