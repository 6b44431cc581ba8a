//! TURN (RFC 8656): a server with a public address relays datagrams for clients that have none.
//!
//! When two hosts cannot reach each other, a third carries their datagrams. A client asks a server for
//! a *relayed address*: whatever peers send there reaches the client, and the client sends from there.
//! The server lets through only peers that the client has *permitted*, and a *channel* makes the
//! relaying of one peer's datagrams cost four bytes.
//!
//! # How it works
//!
//! * [`Client`] is a machine with one allocation on one server. It answers challenges, refreshes what
//!   has to be refreshed, and asks for everything anew when the server has lost it. Nothing waits
//!   for anything that it need not wait for: permissions and channels follow Allocate at once, and
//!   data follows them as Send indications until the channel is there.
//! * **Paths.** What arrives from the server on [`Path::Direct`](gimlet_machine::Path) passes as
//!   [`Path::Relayed`](gimlet_machine::Path) with the payload's range, in place. [`Client::wrap`] does
//!   the reverse to whatever another machine wrote, trains included. ICE and QUIC notice nothing.
//! * [`Server`] is a machine with clients on one side and the sockets that its owner opens for them on
//!   the other. It keeps nothing for strangers: its nonces can be checked without being kept. From
//!   client to peer, bytes pass in place; from peer to client they leave in trains.
//! * [`LongTerm`] is a name and a password; [`LongTerm::until`] makes one of limited time, which a
//!   server checks knowing only the secret. Renewed credentials belong to the same user.
//! * [`Challenge`] is what a server says to strangers. An owner that has another way to its clients tells
//!   them beforehand, and their first request is served ([`Server::challenge_on`], [`Client::renew`]).
//! * **Two clients of one server** reach each other without a packet leaving it.
//!
//! # What it deliberately does not do
//!
//! * **TCP to peers** (RFC 6062): it carries datagrams, and QUIC makes streams of them.
//! * **Streams on the server's side** (§2.1, TCP and TLS from clients): clients reach this server over
//!   UDP. The client can use a stream, because the networks that need one have other servers too.
//! * **DONT-FRAGMENT** (§14): the server answers 420. A machine cannot set a bit in an IP header.
//! * **Reserved ports** (§7.2, EVEN-PORT with its bit set, RESERVATION-TOKEN): the server answers 508. Pairs
//!   of ports were for RTP before it could share one. An even port alone it gives.
//! * **ICMP to clients** (§11.5): sockets do not tell a server what happened to its datagrams. The
//!   client understands them.
//! * **DSCP, TTL and fragments carried over** (§14): paths carry the congestion mark alone, from peer to
//!   client; from client to peer the owner sends with the mark it received.
//! * **Mobility** (RFC 8016) and **OAuth** (RFC 7635): a client that moved asks again, in two round trips.
//! * **Finding servers** (§6): the owner knows its relays. A redirection (300) is followed at most three times.
//!
//! # The life of an allocation, as the client sees it
//!
//! ```text
//!   allocate ──► Allocating ──────► Allocated ◄──────► Refreshing
//!                 ▲  │ │  486,508       │ 437, or time ran out   │
//!                 │  │ └────► Waiting   └──────► Idle ◄──────────┘
//!                 │  │ 437       │                │
//!                 │  └─► Clearing│                │
//!                 └──────┴───────┴────────────────┘      release ──► Deleting ──► Released
//! ```
//!
//! # Example
//!
//! A client asks, is challenged, asks again and has its address. No socket, no clock.
//!
//! ```
//! use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng};
//! use gimlet_turn::*;
//!
//! let (ours, relay) = ("10.0.0.2:5000".parse()?, "192.0.2.1:3478".parse()?);
//! let alice = LongTerm::new(b"alice", b"her password").unwrap();
//! let config = ServerConfig { users: vec![alice.clone()], ..ServerConfig::default() };
//! let mut server = Server::new(Rng::from_u64(1), config);
//! let flow = FourTuple::new(ours, relay);
//! let mut client = Client::new(Rng::from_u64(2), flow, alice, ClientConfig::default());
//! let (now, mut bytes) = (Instant::ZERO, Vec::new());
//!
//! client.allocate(now, Families::V4)?;
//! while client.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
//!     server.handle_input(now, Input::new(flow.flipped(), &mut bytes));
//!     while let Some(event) = server.poll_event() {
//!         if let ServerEvent::OpenRelay { id, .. } = event {
//!             server.relay_opened(now, id, "192.0.2.1:50000".parse()?, "192.0.2.1:50000".parse()?);
//!         }
//!     }
//!     while server.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
//!         client.handle_input(now, Input::new(Path::Direct(flow), &mut bytes));
//!     }
//! }
//! let Some(ClientEvent::Allocated(allocated)) = client.poll_event() else { panic!() };
//! assert_eq!(allocated.relayed_v4, Some("192.0.2.1:50000".parse()?));
//! assert_eq!(client.poll_timeout().map(|deadline| deadline.why), Some("refresh"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod client;
mod credentials;
mod error;
mod event;
mod nonce;
mod place;
mod server;
mod state;
mod timer;

pub use client::{
    ALGORITHMS_MAX, CHANNEL_COOL_DOWN, CHANNEL_LIFETIME, CHANNEL_REFRESH, CHANNELS_MAX, Client, ClientConfig,
    ClientCounters, EVENTS_MAX, Families, KEEPALIVE_DEFAULT, PERMISSION_LIFETIME, PERMISSION_REFRESH,
    PERMISSIONS_MAX, PERMISSIONS_PER_REQUEST_MAX, RECEIVED_MAX, REQUESTS_MAX, Transport, WRAP_MAX,
};
pub use credentials::{Challenge, LongTerm, PASSWORD_MAX};
pub use error::{AllocateError, PeerError, WrapError};
pub use event::{Allocated, ClientEvent, Failure, ServerEvent};
pub use server::{
    DENIED_MAX, NONCE_LIFETIME, OPEN_WAIT, OUTBOX_BYTES_MAX, OUTBOX_MAX, PeerPolicy, REALM_MAX, RelayId,
    SECRETS_MAX, STRANGERS_PER_SECOND, Server, ServerConfig, ServerCounters, ServerLimits, USERS_MAX,
};
pub use state::{AllocationState, ChannelState, PermissionState};
