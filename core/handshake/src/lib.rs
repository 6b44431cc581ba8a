//! Who is on the other end: the hello that opens every connection, and the envelope that older
//! networks wrap their control messages in.
//!
//! # How it works
//!
//! TLS has proved the peer's identity before the first byte here is read; what is left to learn is
//! which software, of which version, in which role. [`Handshake`] is a machine that says our
//! [`Hello`] once and hears the peer's. Both ends then know the same [`Agreed`] version and the
//! capabilities they share; or one [`Refusal`] that names cause and remedy. Its owner lets nothing
//! else through before [`Event::Known`]. Its "datagrams" are the first message each way on a stream
//! that the owner chose; framing is the owner's.
//!
//! A hello is small (at most [`HELLO_MAX`] bytes) and forward compatible: fields are only ever added
//! at the end, unknown trailing bytes, capability bits and roles are carried or ignored, and the
//! version spoken is the newest that both know.
//!
//! [`NetEnvelope`] and [`LegacyHandshake`] are codecs for the two generations of another network's
//! wire, byte for byte: little-endian integers of fixed width, 32-bit variant numbers, 64-bit lengths.
//!
//! ```text
//!   ┌────────────┐  hello, versions overlap   ┌───────┐
//!   │ AwaitHello │ ─────────────────────────► │ Known │   further messages are the owner's
//!   └────────────┘                            └───────┘
//!         │ malformed · no common version · silent too long
//!         ▼
//!   ┌─────────┐
//!   │ Refused │   further messages are counted and dropped
//!   └─────────┘
//! ```
//!
//! # What it deliberately does not do
//!
//! * It does not carry or check an identity. TLS with raw public keys did (RFC 7250, RFC 8446
//!   §4.4.3); a second claim could only contradict it.
//! * It does not trust the agent string, a capability or a role: they are what the peer says of
//!   itself, good for choosing what to ask and for log lines.
//! * It does not resend. The hello travels on a reliable stream (RFC 9000 §2.2).
//! * The envelope codec does not keep an IPv6 address's flow label and scope (RFC 4007): that wire
//!   has no place for them. It does not refuse trailing bytes either, since that network's decoder
//!   does not; it reports how many bytes it read.
//!
//! # Example
//!
//! ```
//! use gimlet_handshake::{Capabilities, Event, Handshake, Hello, Role};
//! use gimlet_machine::{Buf, Input, Instant, Machine};
//!
//! let now = Instant::ZERO;
//! let mut alice = Handshake::new(now, Hello::new(Role::Peer, Capabilities::DATAGRAMS, "alice/1")?);
//! let mut bob = Handshake::new(now, Hello::new(Role::Public, Capabilities::all(), "bob/1")?);
//!
//! let mut hello = Vec::new();
//! bob.poll_transmit(now, &mut Buf::new(&mut hello)).expect("a hello is the first thing said");
//! alice.handle_input(now, Input::new((), &mut hello));
//! let Some(Event::Known(agreed)) = alice.poll_event() else { panic!("bob speaks our version") };
//! assert_eq!((agreed.hello().role(), agreed.hello().agent()), (Role::Public, "bob/1"));
//! assert_eq!(agreed.capabilities(), Capabilities::DATAGRAMS);
//! # Ok::<(), gimlet_handshake::HelloError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod candidate;
mod capabilities;
mod envelope;
mod error;
mod event;
mod fixint;
mod handshake;
mod hello;
mod legacy;
mod state;

pub use candidate::{CandidateType, IceCandidate, TransportProtocol};
pub use capabilities::{Capabilities, Role};
pub use envelope::NetEnvelope;
pub use error::{EnvelopeError, HelloError, Refusal};
pub use event::Event;
pub use handshake::{HELLO_WAIT, Handshake, HandshakeCounters};
pub use hello::{AGENT_MAX, HELLO_MAX, Hello, VERSION, VERSION_OLDEST};
pub use legacy::LegacyHandshake;
pub use state::{Agreed, State};
