//! STUN (RFC 8489): asks a host elsewhere "where do I come from?", and answers that question.
//!
//! A host behind a NAT does not know its address as others see it. It sends a *Binding request*; the
//! server copies the source address of the packet into the answer. That is the whole protocol. Its
//! message format carries more: ICE checks paths with it (RFC 8445), TURN reserves relayed addresses
//! with it (RFC 8656), and behaviour discovery tells NATs apart with it (RFC 5780).
//!
//! # How it works
//!
//! * [`Message`] is a view of borrowed bytes. [`Message::parse`] checks structure, attribute order
//!   and FINGERPRINT in one pass; accessors read attributes when asked; [`Message::verify`] checks
//!   the signature against a [`Key`]. None of them allocates.
//! * [`MessageWriter`] appends a message to a `Vec`, attribute by attribute, and its types keep the
//!   order in which messages are signed and sealed.
//! * [`Retransmission`] knows when one request is sent, sent again and given up. ICE uses it too.
//! * [`Client`] and [`Server`] are the two machines. [`Framer`] cuts a stream into messages.
//! * [`Discovery`] is a third: it tells what the NAT in front of us does ([`Behaviour`]), with the help
//!   of a server that has two addresses ([`Server::with_faces`]) or, less, of plain ones. What loss
//!   leaves in doubt is unknown, never guessed.
//!
//! What a message shows is what may be acted on: attributes behind the signature are invisible, a
//! duplicate never replaces the first, and a message with a wrong FINGERPRINT is not STUN.
//!
//! # What it deliberately does not do
//!
//! * **The long-term mechanism** (§9.2) as a conversation: realm, nonce and bid-down protection
//!   belong to the machine that is challenged, which is TURN's. The codec has all that it needs:
//!   [`Key::long_term`], [`userhash`], PASSWORD-ALGORITHMS.
//! * **OpaqueString preparation** of names and passwords (§9, RFC 8265): see [`Key`].
//! * **ALTERNATE-SERVER** (§10): a refusal with 300 is reported, and the owner decides whether to ask
//!   elsewhere. A redirection that nobody signed is an attacker's tool.
//! * **Learning the RTO** (§6.2.1): every request begins with the one configured. Whoever has measured
//!   the path better than a Binding request can says so in [`ClientConfig`].
//! * **DNS discovery** (§8), TCP connections and TLS: a driver's work.
//! * **RFC 3489** without the magic cookie (§11): such a message cannot be told from other protocols
//!   on the same port, and the servers that spoke it are gone.
//! * **More than one request for one question**: a client asks one server on one path. Which servers
//!   to ask, and what to make of two different answers, is the owner's to know.
//! * **RESPONSE-PORT and PADDING** (RFC 5780 §7.5–7.6): the server refuses them with 420, because they
//!   send to ports that asked for nothing and ask for the largest datagrams there are. Beside servers like
//!   it a [`Lifetime`] learns less, and nothing tells what becomes of fragments (§4.7).
//!
//! # The life of a request
//!
//! ```text
//!   binding ──► Sending ──── last copy sent ───► Listening ──── nothing came ───► Failed
//!                │   ▲                             │
//!                │   └── 0.5, 1, 2, … 16 s later   │
//!                └─────────── an answer ───────────┴──────────► Answered or Failed
//! ```
//!
//! # The steps of a discovery
//!
//! ```text
//!   Basic ──► Sampling ──► Mapping ──┬── other address ──► Filtering ──┬──► Hairpin ──► Done
//!     │                              └── none ─────────────────────────┘                 ▲
//!     └── nobody answers ────────────────────────────────────────────────────────────────┘
//! ```
//!
//! # Example
//!
//! A client behind a NAT asks; no socket, no clock. The path is the same flow as each side sees it.
//!
//! ```
//! use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Rng};
//! use gimlet_stun::{Client, ClientConfig, ClientEvent, Server, ServerConfig};
//!
//! let (inside, outside, server_at) =
//!     ("10.0.0.2:5000".parse()?, "198.51.100.7:61000".parse()?, "192.0.2.1:3478".parse()?);
//! let mut client = Client::new(Rng::from_u64(1), ClientConfig::default());
//! let mut server = Server::new(ServerConfig::default());
//! let (mut storage, start) = (Vec::new(), Instant::ZERO);
//!
//! client.binding(start, FourTuple::new(inside, server_at))?;
//! let sent = client.poll_transmit(start, &mut Buf::new(&mut storage)).expect("a request");
//! assert_eq!(sent.path.remote, server_at);
//!
//! server.handle_input(start, Input::new(FourTuple::new(server_at, outside), &mut storage));
//! let answer = server.poll_transmit(start, &mut Buf::new(&mut storage)).expect("an answer");
//! assert_eq!(answer.path.remote, outside);
//!
//! let later = Instant::from_millis(80);
//! client.handle_input(later, Input::new(sent.path, &mut storage));
//! let Some(ClientEvent::Answered { mapped, rtt, .. }) = client.poll_event() else { panic!() };
//! assert_eq!((mapped, rtt.map(|rtt| rtt.as_millis())), (outside, Some(80)));
//! assert_eq!(client.poll_timeout(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod address;
pub mod attribute;
mod client;
mod credentials;
mod discovery;
mod error;
pub mod error_code;
mod event;
mod fingerprint;
mod framing;
mod header;
mod hmac;
mod key;
mod lifetime;
mod message;
mod server;
mod state;
mod timer;
mod writer;

pub use address::AddressFamily;
pub use attribute::Attribute;
pub use client::{Client, ClientConfig, ClientCounters, REQUESTS_MAX, RequestId, SOFTWARE_MAX};
pub use credentials::{Credentials, USERNAME_MAX};
pub use discovery::{
    BLOCK_MAX, Behaviour, CONTEST_ROUNDS_MAX, Discovery, DiscoveryConfig, DiscoveryCounters, DiscoveryError,
    DiscoveryEvent, Filtering, LOCALS_MAX, Mapping, PortModel, ROUNDS_MAX, SERVERS_MAX, Step,
};
pub use error::{IntegrityError, ParseError, RequestError};
pub use error_code::ErrorCode;
pub use event::{ClientEvent, Failure, ServerEvent};
pub use framing::{ChannelData, FRAME_MAX, Frame, Framer, FramingError};
pub use header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, is_stun};
pub use key::{IntegrityAlgorithm, Key, PasswordAlgorithm, userhash};
pub use lifetime::{BindingLifetime, Lifetime, LifetimeConfig, LifetimeCounters, LifetimeEvent, WAITERS_MAX};
pub use message::{ATTRIBUTES_MAX, ChangeRequest, Icmp, Message};
pub use server::{
    CREDENTIALS_MAX, Faces, REPLIES_MAX, REPLY_GROWTH_MAX, Server, ServerConfig, ServerCounters, UNKNOWN_MAX,
};
pub use state::{
    Due, RC_DEFAULT, RC_MAX, RM_DEFAULT, RM_MAX, RTO_DEFAULT, RTO_MAX, RTO_MIN, Retransmission, TI_DEFAULT,
};
pub use writer::{MessageWriter, Sealed, TEXT_MAX};
