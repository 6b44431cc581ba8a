//! Drives any Gimlet machine on [tokio](https://docs.rs/tokio): async handles to peers and streams.
//!
//! [`spawn`] puts a machine and its sockets into a task and returns a [`Handle`]. Two primitives carry
//! everything else. [`Handle::with`] calls a verb of the machine; [`Handle::when`] tries a verb until
//! it has an answer, and waits in between for the [`Interest`](gimlet_machine::Interest) that the
//! machine's contract names. For a machine that is a [`Session`](gimlet_machine::Session) the verbs
//! of every day are written down: [`Handle::connect`] and [`Handle::accept`] give a [`Connection`],
//! that opens and accepts a [`Stream`], which sends and receives messages or bytes.
//!
//! The machine lives behind a lock that is held for short, synchronous work. The task waits for
//! datagrams, for the machine's deadline, and for a bell that the first verb rings and further verbs
//! find rung: a thousand small messages cost the task one turn. It calls sockets and wakers without
//! the lock.
//!
//! A machine may [ask](gimlet_machine::Request) for further UDP sockets, and for TCP connections; the task
//! opens, reads and writes them without the lock, and answers. The owner may add and remove sockets while it runs, as interfaces come and go:
//! [`Handle::add_socket`], [`Handle::remove_socket`].
//!
//! # Guarantees
//!
//! * **Cancel-safe.** Every future that does not say otherwise may be dropped at any time: nothing is
//!   lost, doubled or torn.
//! * **Back-pressure.** `send` and `write` wait while the machine takes no more.
//! * **Delivery.** [`Handle::close`] ends the task after everything that was accepted has been
//!   delivered. A dropped [`Stream`] is finished, not torn down.
//! * **No silence.** When the task ends (closed, socket error, panic, runtime gone), everybody who
//!   waits gets a [`Stopped`] that says why.
//!
//! # What it deliberately does not do
//!
//! * It knows no protocol. What a connection is, and how it is made, is the machine's business.
//! * It does not reconnect, retry or time out; a machine does, or the application with
//!   `tokio::time::timeout`, which every cancel-safe future can stand.
//! * It does not keep events for ever: see [`Handle::next_event`].
//! * It runs on Unix only, where tokio can watch a descriptor it does not own.
//!
//! # Example
//!
//! A machine that answers nothing, asked for what it saw:
//!
//! ```
//! use gimlet_machine::*;
//! use gimlet_tokio::{Plain, spawn};
//! use gimlet_udp::{Clock, Sockets};
//!
//! #[derive(Default)]
//! struct Listener(Vec<String>);
//!
//! impl Machine for Listener {
//!     type Path = FourTuple;
//!     type Event = String;
//!     fn handle_input(&mut self, _: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
//!         self.0.push(String::from_utf8_lossy(input.bytes).into_owned());
//!         Verdict::Consumed
//!     }
//!     fn handle_timeout(&mut self, _: Instant) {}
//!     fn poll_event(&mut self) -> Option<String> {
//!         self.0.pop()
//!     }
//!     fn poll_transmit(&mut self, _: Instant, _: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
//!         None
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> {
//!         None
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sockets = Sockets::bind(["127.0.0.1:0".parse()?])?;
//! let handle = spawn(Plain(Listener::default()), sockets, Clock::start())?;
//! let friend = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
//! friend.send_to(b"hello", handle.local_addresses()[0]).await?;
//! assert_eq!(handle.next_event().await?, "hello");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod connection;
mod driven;
mod error;
mod handle;
mod network;
mod order;
mod ready;
mod shared;
mod stream;
mod task;
mod waiters;
mod when;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use driven::{Driven, DrivenSession, Plain, Wake};
pub use error::{Error, Stopped};
pub use handle::{Handle, spawn};
pub use shared::EVENTS_MAX;
pub use stream::{RECEIVE_BATCH_BYTES_MAX, RECEIVE_BATCH_MAX, ReceiveHalf, SendHalf, Stream};
pub use when::When;
