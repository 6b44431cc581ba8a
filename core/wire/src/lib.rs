//! Bytes in and bytes out: the only crate, beside each protocol's `message.rs`, that counts offsets.
//!
//! [`Reader`] walks a borrowed slice from front to back and answers `None` when it runs short, so a
//! parser is a chain of `?`. [`Writer`] appends to a `Vec` that somebody else owns and can go back to
//! patch a length. [`checksum`] and [`Sum`] compute the Internet checksum (RFC 1071), and
//! [`Sum::replace`] updates one after a rewrite without reading the packet again (RFC 1624).
//!
//! Below the sockets a packet is a frame. [`Layout`] says where its parts are and borrows nothing, so that the
//! same layout serves to read a frame and to rewrite it in place. [`TcpView`] is a TCP segment over its own
//! bytes, with its options where they stand; [`IcmpQuote`] is the packet that an ICMP error speaks of. An
//! [`Envelope`] is what is around a segment, and writes frames of our own.
//!
//! # What it deliberately does not do
//!
//! * It knows no protocol above TCP's header: names, types and limits live in the room of the protocol.
//! * It does not reassemble fragments. A [`Layout`] says which part of a packet a frame holds.
//! * It does not judge: a [`TcpView`] with SYN and FIN set is a view like any other. It refuses only what it
//!   cannot read, and says why ([`Malformed`], [`MalformedTcp`], [`MalformedOption`]).
//! * A view does not compute checksums when a field is set. Whoever changes several sums once.
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
//!
//! A frame is written, and one field of it changed where it stands. The checksum follows by difference.
//!
//! ```
//! use gimlet_wire::{Envelope, Layout, Segment, Sum, TcpFlags, TcpOption, TcpOptionList};
//!
//! let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
//! let envelope = Envelope::new(ethernet, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
//! let mut frame = Vec::new();
//! envelope.write(&mut frame, &Segment {
//!     source_port: 40_000,
//!     destination_port: 8080,
//!     seq: 1,
//!     ack: 0,
//!     flags: TcpFlags::SYN,
//!     window: 64_240,
//!     options: TcpOptionList::new().maximum_segment_size(1460).sack_permitted(),
//!     payload: b"",
//! });
//!
//! let layout = Layout::of(&frame)?;
//! let mut segment = layout.tcp_mut(&mut frame)?;
//! let options: Result<Vec<_>, _> = segment.options().collect();
//! assert_eq!(options?[0], (20, TcpOption::MaximumSegmentSize(1460)));
//! let checksum = Sum::from_checksum(segment.checksum()).replace_u32(segment.seq(), 1_000_000).finish();
//! segment.set_seq(1_000_000);
//! segment.set_checksum(checksum);
//! assert!(layout.transport_checksum_holds(&frame));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod checksum;
mod envelope;
mod icmp;
mod layout;
mod reader;
mod tcp;
mod writer;

pub use checksum::{Sum, checksum};
pub use envelope::{Envelope, Segment};
pub use icmp::{ICMP_HEADER, IcmpError, IcmpQuote, QuotedSegment};
pub use layout::{
    ETHERNET_HEADER, EXTENSION_BYTES_MAX, EXTENSIONS_MAX, Fragment, Layout, Malformed, Network,
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TAGS_MAX, Transport,
};
pub use reader::Reader;
pub use tcp::options::{MalformedOption, SackBlocks, TcpOption, TcpOptionList, TcpOptions, WINDOW_SHIFT_MAX};
pub use tcp::{MalformedTcp, TCP_HEADER, TCP_OPTIONS_MAX, TcpFlags, TcpView};
pub use writer::Writer;
