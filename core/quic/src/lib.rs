//! QUIC connections to peers that are named by their keys, over paths that somebody else chooses.
//!
//! An [`Endpoint`] is one machine with many connections. It wraps quinn-proto (RFC 9000, 9001, 9002,
//! 9221), which does the protocol, and adds what a node among NATs needs: identities, paths that
//! move, and silence towards strangers.
//!
//! **Who.** TLS runs with raw public keys (RFC 7250) at both ends. A certificate is the 44 bytes of
//! an Ed25519 key, and a peer is that key. [`Endpoint::dial`] and [`Endpoint::expect`] name the peer,
//! and anybody else fails inside the handshake; [`Endpoint::listen`] accepts everybody and says who
//! it was. The crypto provider is the owner's: a seeded one makes runs repeatable byte for byte.
//!
//! **Where.** A connection sends nothing before [`Endpoint::set_path`], and afterwards only there;
//! it listens on every path it was [admitted](Endpoint::admit) to. quinn-proto never learns of it:
//! for it each peer has one synthetic address (RFC 4193) for good. It would otherwise drop packets
//! whose sender moved, as its clients do when the *server* moves. Since its own validation of paths
//! is thereby idle, whoever calls `set_path` vouches that the path was checked: ICE has done that
//! (RFC 8445 §7), and its consent keeps doing it (RFC 7675).
//!
//! **Strangers.** A connection accepted by listening has no ICE beneath it, and its peer's NAT may
//! give it another port at any time. There each path has a synthetic address of its own, so that
//! quinn-proto's connection migration (RFC 9000 §9) does the deciding: it follows the authentic
//! packet with the highest number only, challenges the new path and the old, and returns if the
//! challenge fails. A replay or a forgery moves nothing. The owner learns of a move by
//! [`Event::Moved`], and may take such a connection over with `set_path`.
//!
//! **Silence.** A path that carries data and brings nothing back is told by [`Event::Silent`] after two round
//! trips or the first probe timeout (RFC 9002 §6.2), and whoever chooses paths may look for another one. After a move a probe
//! leaves at once, whatever the congestion window of the dead path says.
//!
//! **Noise.** Connection ids carry a keyed tag, so random bytes are told apart without state and draw no
//! stateless reset. A datagram on an unknown path is left to the owner unless it may open a
//! connection. First packets that come before their path is admitted are kept, a few of them.
//!
//! **Restarts.** The keys of connection ids and of stateless resets come from the identity, so a
//! listener that was restarted says "reset" to its old peers at once (RFC 9000 §10.3).
//!
//! # What it deliberately does not do
//!
//! * **No session resumption and no 0-RTT** (RFC 9001 §4.6). Resumption would replace the proof of the
//!   key by the possession of a ticket, 0-RTT data can be replayed, and both need memory of past
//!   peers. A handshake is one round trip anyway.
//! * **No version negotiation** (RFC 9000 §6): there is version 1, and packets of another one are left
//!   to the owner in silence.
//! * **No greasing of the fixed bit** (RFC 9287): half of all packets would look like STUN, TURN or
//!   DTLS, with which they share a socket (RFC 9443).
//! * **No preferred address** (RFC 9000 §9.6) and **no NEW_TOKEN** (§8.1.3): paths are ICE's business.
//! * **No coalescing of small writes.** quinn-proto looks through every unacknowledged write for each
//!   new one; whoever has many small messages gathers them first.
//! * **No delivery on close.** A QUIC close is immediate (RFC 9000 §10.2): finish the streams, wait
//!   for [`Event::Finished`] or [`Endpoint::has_unacknowledged`], then close.
//!
//! # The life of a connection
//!
//! ```text
//!   expect ──► AwaitingInitial ──close──────────────────────────┐
//!                    │ first packet on an admitted path         │
//!   dial ────► AwaitingHandshake ──close, wrong peer, …──┐      │
//!   listen ──►       │ both keys proven: Connected       │      │
//!               Established ──close, Lost────────────────┤      │
//!                                                        ▼      ▼
//!                                              AwaitingDrain ──► Drained ──► the id is stale
//! ```
//!
//! # Example
//!
//! Two endpoints, connected by hand:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use gimlet_machine::*;
//! use gimlet_quic::{Config, Endpoint, Event, PathMtu};
//!
//! let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
//! let origin = std::time::Instant::now(); // stands for `Instant::ZERO`; the only clock read
//! let config = |secret| Config::new(origin, Duration::from_secs(1_767_225_600), provider.clone(), secret);
//! let mut alice = Endpoint::new(Rng::from_u64(1), config([1; 32])).unwrap();
//! let mut bob = Endpoint::new(Rng::from_u64(2), config([2; 32])).unwrap();
//!
//! // ICE has found this path, seen from Alice's end.
//! let path = FourTuple::new("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
//! let now = Instant::ZERO;
//! let a = alice.dial(now, bob.peer_id()).unwrap();
//! let b = bob.expect(now, alice.peer_id()).unwrap();
//! alice.set_path(now, a, Path::Direct(path), PathMtu::Same);
//! bob.set_path(now, b, Path::Direct(path.flipped()), PathMtu::Same);
//!
//! // Whatever one end says, the other hears, until both are quiet.
//! fn carry(from: &mut Endpoint, to: &mut Endpoint, at: Path, now: Instant) -> bool {
//!     let mut storage = Vec::new();
//!     if from.poll_transmit(now, &mut Buf::new(&mut storage)).is_none() {
//!         return false;
//!     }
//!     to.handle_input(now, Input::new(at, &mut storage));
//!     true
//! }
//! let (at_alice, at_bob) = (Path::Direct(path), Path::Direct(path.flipped()));
//! while carry(&mut alice, &mut bob, at_bob, now) | carry(&mut bob, &mut alice, at_alice, now) {}
//!
//! let peer = bob.peer_id();
//! assert_eq!(alice.poll_event(), Some(Event::Connected { id: a, peer, dialed: true }));
//! assert!(bob.is_connected(b));
//!
//! let stream = alice.open(now, a, Direction::Unidirectional).unwrap().unwrap();
//! alice.write(now, a, stream, &mut [Bytes::from_static(b"hello")]).unwrap();
//! while carry(&mut alice, &mut bob, at_bob, now) {}
//! let (stream, _) = bob.accept(now, b).unwrap().unwrap();
//! assert_eq!(bob.read(now, b, stream, 100).unwrap().unwrap(), &b"hello"[..]);
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod address;
mod cid;
mod clock;
mod config;
mod endpoint;
mod engine;
mod error;
mod event;
mod lobby;
mod session;
mod shape;
mod silence;
mod state;
mod stream;
mod table;
#[cfg(test)]
mod testing;
mod tls;
mod watch;

pub use config::{Config, Limits, Transport};
pub use endpoint::{Endpoint, EndpointCounters, PathMtu};
pub use error::{ConfigError, DatagramError, DialError, StreamError};
pub use event::{Cause, Event};
pub use session::Session;
pub use stream::StreamId;
pub use table::ConnectionId;
