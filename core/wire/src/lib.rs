//! Bytes in and bytes out: the only crate, beside each protocol's `message.rs`, that counts offsets.
//!
//! [`Reader`] walks a borrowed slice from front to back and answers `None` when it runs short, so a
//! parser is a chain of `?`. [`Writer`] appends to a `Vec` that somebody else owns and can go back to
//! patch a length. [`checksum`] and [`Sum`] compute the Internet checksum (RFC 1071), and
//! [`Sum::replace`] updates one after a rewrite without reading the packet again (RFC 1624).
//!
//! # What it deliberately does not do
//!
//! * It knows no protocol: names, types and limits live in the room of the protocol.
//! * It has no derive macros and no schema. Wire formats here are a dozen lines each, and a reader of
//!   the RFC should find the RFC's order of fields in the code.
//! * A [`Reader`] has no error type. What being short means (a truncated datagram, a lying length, a
//!   stream that has not arrived yet) is for the caller to say.
//!
//! # Example
//!
//! ```
//! use gimlet_wire::{Reader, Writer};
//!
//! let mut out = Vec::new();
//! let mut writer = Writer::new(&mut out);
//! let length = writer.position();
//! writer.u16(0);
//! writer.bytes(b"hello");
//! writer.patch_u16(length, 5);
//!
//! let mut reader = Reader::new(&out);
//! let length = reader.u16().unwrap();
//! assert_eq!(reader.bytes(usize::from(length)), Some(&b"hello"[..]));
//! assert!(reader.is_empty());
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod checksum;
mod reader;
mod writer;

pub use checksum::{Sum, checksum};
pub use reader::Reader;
pub use writer::Writer;
