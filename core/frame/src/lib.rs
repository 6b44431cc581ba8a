//! Messages on a stream of bytes: each is preceded by its length, four bytes, big endian.
//!
//! A stream delivers bytes in whatever pieces the network made of them. [`Decoder`] takes the
//! pieces as they come and gives the messages back; [`Encoder`] turns messages into pieces worth
//! writing. An empty message is legal and is four zero bytes.
//!
//! # How it works
//!
//! The decoder is handed chunks ([`Decoder::push`]) and asked for messages ([`Decoder::poll`]). A
//! message that lies whole inside one chunk is a slice of that chunk: nothing is copied. One that
//! straddles chunks is copied once, as its bytes arrive. All history lives in the decoder, so there
//! is nothing to lose: whoever awaits a message may give up between any two calls and go on later.
//!
//! A claimed length is only a claim. The decoder's memory follows the bytes that arrived (at most
//! twice their number, plus [`RETAINED_MAX`]), never the claim. A length over the limit cannot be
//! skipped, for the claim says where the next message begins; the decoder then stops for good and
//! says so on every poll.
//!
//! The encoder coalesces: many small messages leave as one chunk, because a QUIC stack pays per
//! write, not per byte. A large payload becomes a chunk of its own, sized exactly, or with
//! [`Encoder::push_owned`] is not copied at all.
//!
//! Neither is a `Machine`: there is no time in framing, no path and nothing to transmit unasked. The
//! decoder is the state graph below together with the bytes it is waiting to complete.
//!
//! ```text
//!            4 bytes, length ≤ limit
//!   ┌────────┐ ──────────────────────► ┌─────────┐
//!   │ Length │                         │ Payload │
//!   └────────┘ ◄────────────────────── └─────────┘
//!        │        length bytes: a message
//!        │ length > limit
//!        ▼
//!   ┌────────────────┐
//!   │ Desynchronised │  terminal: every poll says why, further bytes are counted and dropped
//!   └────────────────┘
//! ```
//!
//! # What it deliberately does not do
//!
//! * It does not look for the next message after an over-long one. There is no marker to find, and
//!   a guess would hand an attacker the choice of where messages begin.
//! * It does not limit how much waits to be read or written. The owner does, by
//!   [`Decoder::buffered`] and [`Encoder::pending`]: it stops reading the stream, or refuses the
//!   application's message, and flow control does the rest (RFC 9000 §4.1).
//! * It does not check or protect contents. The stream below is reliable and authenticated.
//!
//! # Example
//!
//! ```
//! use gimlet_frame::{Decoder, Encoder, MESSAGE_MAX_DEFAULT};
//!
//! let mut encoder = Encoder::new(MESSAGE_MAX_DEFAULT);
//! encoder.push(b"bore")?;
//! encoder.push(b"")?;
//! let wire = encoder.take();
//! assert_eq!(&wire[..], b"\0\0\0\x04bore\0\0\0\0");
//!
//! let mut decoder = Decoder::new(MESSAGE_MAX_DEFAULT);
//! decoder.push(wire.slice(..6));
//! assert_eq!(decoder.poll(), None);
//! decoder.push(wire.slice(6..));
//! assert_eq!(decoder.poll(), Some(Ok("bore".into())));
//! assert_eq!(decoder.poll(), Some(Ok("".into())));
//! assert_eq!(decoder.poll(), None);
//! assert_eq!(decoder.end(), Ok(()));
//! # Ok::<(), gimlet_frame::FrameError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod backlog;
mod decoder;
mod encoder;
mod error;
mod message;
mod state;

pub use bytes::Bytes;
pub use decoder::{Decoder, DecoderCounters, RETAINED_MAX};
pub use encoder::{COALESCED_MAX, Encoder, LARGE_MIN};
pub use error::FrameError;
pub use message::{MESSAGE_MAX_DEFAULT, PREFIX_LEN, prefix};
