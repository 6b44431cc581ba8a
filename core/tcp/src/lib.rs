//! The TCP handshake accelerator: a bump in the wire that takes a round trip off the time to first byte of
//! TCP connections between programs that know nothing about it.
//!
//! A client's SYN is answered at once with a SYN-ACK whose initial sequence number S' is ours. While the real
//! handshake is under way the client already sends, and what it sends is delivered when the server has
//! answered with its own initial sequence number Sr. From then on every segment that passes is rewritten in
//! place, so that each side sees the numbers it expects. Nothing is ever acknowledged that the server has not
//! acknowledged.
//!
//! # How it works
//!
//! * **Frames are whole Ethernet frames**, and a [`Leg`] says which [`Side`] they are on and what the driver
//!   knows about them that is not in the bytes. What passes is rewritten in place; what is sent beside that comes
//!   from `poll_transmit`, and the driver drains it before the next input.
//! * **One offset per flow.** Bytes from client to server keep their numbers. Bytes from server to client are
//!   numbered from Sr by the server and from S' by the client, so D = S' − Sr is added to every number of the
//!   server's that goes to the client, and subtracted from every one that the client sends back. Timestamps of
//!   the server have an offset likewise.
//! * **Warm destinations only.** The first SYN to a destination passes, and how the server answers is learned as a
//!   [`Profile`]: its segment size, window scale, options. Only what it was seen to do is promised in its
//!   name, and only for [`WARM_FOR`] after it was last seen.
//! * **Early data is held, not acknowledged.** The client keeps its copy until the server has said that it
//!   got one. What is lost here comes again.
//! * **In doubt, frames pass as they are.** What cannot be read, is not allowed, is not known, or is too much, is
//!   as if nobody were here. A [`Bypass`] or a counter says why.
//! * **Roles.** [`Role::Near`], beside the clients, answers SYNs; [`Role::Far`], beside the servers, holds and
//!   translates. They share a [`Secret`], and S' and T' are all that Far needs to hear: a keyed hash of
//!   the flow, which nobody else can make, and ten bits that say what was promised. Together they save a round trip.
//!   [`Role::Single`] does both in one place; [`Role::TfoUpgrade`] puts what the client says first into the
//!   SYN, for servers that speak Fast Open (RFC 7413).
//! * **The table** of established flows is made of [`Slot`]s of 64 bytes that the driver may lend from memory that
//!   survives it: [`Translator::attach`] goes on where another process stopped.
//!
//! # What it deliberately does not do
//!
//! * It does not terminate connections (RFC 3135 calls that a split-connection proxy): acknowledgements,
//!   retransmissions and congestion control stay end to end.
//! * It does not change the length of a frame that passes. Options that have to go become no-operations.
//! * It does not repair checksums: an update by difference (RFC 1624) leaves a corrupted segment corrupted.
//! * It does not touch segments whose integrity somebody vouches for: TCP-AO, TCP MD5, the IPv6
//!   authentication header. Nor Multipath TCP, SYNs with data, and options that it does not know.
//! * It does not send a SYN again before the client has answered: a flood of SYNs would be multiplied. A client
//!   that got no answer sends its SYN again, and that goes on.
//! * It holds nothing of the server's. What overtakes a SYN-ACK is dropped, and comes again.
//! * It does not answer a repeated SYN of a flow that is established: it passes, and the server knows what it is.
//! * It does not translate packets of more than 64 KiB, whose IP headers say nothing of their length: jumbograms
//!   (RFC 2675), and trains from interfaces whose `gso_max_size` was raised. They pass as they are, which ends the
//!   connection; leave that size at its default.
//! * Near and Far see the same addresses. A NAT between them makes every cookie wrong.
//! * It is not "0-RTT TCP", which is what RFC 8803 calls its own explicit proxy. The page beside this crate,
//!   `core/tcp/README.md`, says what changes for applications and when not to use this.
//!
//! # The life of a flow
//!
//! ```text
//!              ┌─client answers──► AwaitServer ──server accepts─┐
//!   HalfOpen ──┤                   (data is held)               ├─► Established ⇄ Lingering (RST)
//!              └─server accepts──► AwaitClient ──client answers─┘        │ FIN
//!        │ gives up        │ the ends agree without us                   ▼
//!        ▼                 ▼                              ClientClosed or ServerClosed
//!     Aborted           Bypass                                           │ FIN
//!                                                                        ▼
//!                                                                    TimeWait
//! ```
//!
//! # Example
//!
//! A client connects to a destination that is known, and has its answer before the server has heard of it.
//!
//! ```
//! use gimlet_machine::{Buf, Input, Instant, Machine, Rng, Verdict};
//! use gimlet_tcp::*;
//! use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};
//!
//! // A frame from 10.0.0.1 to port 80 of 10.0.0.2, or back.
//! let frame = |side, port, flags, seq, ack| {
//!     let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
//!     let (source, destination) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
//!     let there = Envelope::new(ethernet, source, destination);
//!     let (around, ports) = match side {
//!         Side::Client => (there, (port, 80)),
//!         Side::Server => (there.reversed(), (80, port)),
//!     };
//!     let segment = Segment { source_port: ports.0, destination_port: ports.1, seq, ack, flags, window: 65_535,
//!                             options: TcpOptionList::new(), payload: &[] };
//!     let mut frame = Vec::new();
//!     around.write(&mut frame, &segment);
//!     frame
//! };
//! let mut config = Config::new(Role::Single);
//! let servers = Block::new([10, 0, 0, 2].into(), 32).unwrap();
//! config.allowed.push(Allow { servers, ports: 80..=80, idempotent: false });
//! let mut translator = Translator::new(Instant::ZERO, Rng::from_u64(1), config)?;
//! let mut hear = |side, frame: &mut [u8]| {
//!     translator.handle_input(Instant::ZERO, Input::new(Leg::new(side), frame))
//! };
//!
//! // The first connection passes, and the server is learned.
//! let (syn, accepts) = (TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK);
//! hear(Side::Client, &mut frame(Side::Client, 1_000, syn, 7, 0));
//! hear(Side::Server, &mut frame(Side::Server, 1_000, accepts, 9, 8));
//! // The second SYN passes, too, and is answered at the same moment.
//! let verdict = hear(Side::Client, &mut frame(Side::Client, 1_001, syn, 500, 0));
//! assert!(matches!(verdict, Verdict::Pass { path, .. } if path.side == Side::Server));
//! let mut out = Vec::new();
//! let sent = translator.poll_transmit(Instant::ZERO, &mut Buf::new(&mut out)).unwrap();
//! assert_eq!(sent.path, Leg::new(Side::Client));
//! let answer = Layout::of(&out)?.tcp(&out)?;
//! assert_eq!((answer.flags(), answer.ack()), (accepts, 501));
//! assert_eq!(translator.half_open(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod config;
mod cookie;
mod counters;
mod destination;
mod error;
mod event;
mod flow;
mod handshake;
mod hold;
mod leg;
mod policy;
mod rewrite;
mod seq;
mod state;
mod timer;
mod translator;

pub use config::{
    Config, EARLY_DATA_MAX, EARLY_DATA_UNDER_PRESSURE, FLOWS_MAX, HALF_OPEN_MAX, Limits, POOL_MAX, RESET_FOR,
    Role, Unknown,
};
pub use cookie::Secret;
pub use counters::Counters;
pub use destination::{
    ASYMMETRIC_FOR, DESTINATIONS_MAX, FAST_COOKIE_MAX, FAST_COOKIES_MAX, FAST_OPEN_OFF_FOR, Profile,
    REFUSED_FOR, Unfit, WARM_FOR,
};
pub use error::{AllowError, ConfigError};
pub use event::{Bypass, Cause, EVENTS_MAX, Event, FlowReport};
pub use flow::key::FlowKey;
pub use flow::slot::{Slot, Slots};
pub use flow::table::{Attached, slots_for};
pub use hold::PIECES_MAX;
pub use leg::{Checksum, Leg, Side};
pub use policy::{ALLOWED_MAX, Allow, Block, PORT_BGP, Rate, SOURCES_MAX};
pub use rewrite::{Strip, Translation, Windows};
pub use seq::SeqNumber;
pub use state::FlowState;
pub use timer::{
    ANSWER_TIMEOUT, BYPASS_IDLE, CONNECT_TIMEOUT, ESTABLISHED_IDLE, FAST_OPEN_WAIT, HALF_CLOSED_IDLE, LINGER,
    SWEEP_ROUND, SWEEP_SLOTS_MAX, SYN_ACK_TRIES_MAX, SYN_REPEAT, SYN_RTO, SYN_TRIES_MAX, TIME_WAIT,
};
pub use translator::{OUTBOX_MAX, Translator};
