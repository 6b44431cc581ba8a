//! The machine that an application drives: STUN, TURN, ICE and QUIC on one set of UDP sockets.
//!
//! A [`Node`] is told its identity, the addresses of its sockets, a seed and two clock readings
//! ([`Config`]). From then on it is a [`gimlet_machine::Machine`] for its driver and a
//! [`gimlet_machine::Session`] for its application: connect to a peer by id, open streams, send
//! messages. Everything an application can do also exists as a value ([`Command`]).
//!
//! A *public* node serves others. It answers STUN on the same port, accepts connections from
//! anywhere, and introduces two peers that are both connected to it: it carries their ICE
//! descriptions, which they sign, so it cannot forge them. If it is told to ([`Config::relay`]), it is also the
//! relay for peers that cannot reach each other: a TURN server (RFC 8656) on the same port, for those that are
//! connected to it and nobody else. A public node is named by a [`Ticket`].
//! A peer is named by its [`gimlet_machine::PeerId`] alone.
//!
//! Connecting to a peer goes like this: the offer, with our candidates, travels through an
//! introducer; the answer comes back; both ICE agents check pairs of candidates; on the first pair
//! that works, the offerer starts a QUIC handshake, mutually authenticated and pinned to the peer
//! id; both sides say hello; the application hears [`Event::Connected`]. When ICE later selects a
//! better path, data moves there and QUIC does not notice.
//!
//! While a link stands its agents stay. A path that dies gives way to another within three probes, a direct path
//! that turns up later is moved to, and when this host gets other addresses ([`Node::set_local_addresses`])
//! everything that spoke from one that is gone finds another at once: connections to public nodes move, relays are
//! asked anew, the peer is told, on the link itself or through an introducer. When nothing works, both ends begin
//! anew through an introducer (RFC 8445 §9), and QUIC notices nothing but a pause.
//!
//! Where no direct path works, a relay helps: the public node that both know, or one that is configured
//! ([`Config::turn_servers`]). Its addresses are candidates like others, of the lowest priority. A public node hands
//! each peer a pass for its relay over their link; the peer uses it when a connection starts, and the first request
//! is granted, because the pass holds what the relay would have asked for. What ICE and QUIC write for [`gimlet_machine::Path::Relayed`] is
//! wrapped on its way out, and what the relay forwards is unwrapped before anybody else sees it.
//!
//! Where a NAT gives every destination another port, no candidate can be right, and a hole is *punched*: without a
//! direct path after a second or so, beside a relayed connection or before there is any, each end finds out what its
//! NAT does, both tell each other, and begin together ([`Limits::punch`]). Public nodes help: each answers STUN on a
//! second port, and says where it sees a peer. Nothing is sprayed anywhere else. Two hard NATs are left to relays unless
//! both ends are told otherwise ([`PunchLimits::both_dependent`]).
//!
//! A configured relay is spoken to over UDP, TCP or TLS ([`TurnTransport`]). The latter two are for networks that let
//! nothing else out: the driver opens the connection, TLS is bytes and time like the rest, and when a public node does
//! not answer directly within two seconds it is reached through such a relay, too. What the network does not take is
//! dropped and not queued ([`RELAY_BACKLOG_MAX`]); a connection that is lost is opened again, and links that went
//! through it go on.
//!
//! Inside, children do the work: one STUN client and server, one TURN client per relay, a TURN server, one ICE
//! agent per peer, one QUIC endpoint. Sockets that a child needs are asked of the driver
//! ([`gimlet_machine::Request`]). Input goes to the child it belongs to; then the node *settles*: events of one child
//! become commands to another until all are quiet. Nothing else in Gimlet knows two protocols.
//!
//! ```text
//!           datagrams                        application
//!              │                                  │
//!          ┌───▼───┐   ┌──────────────────────────▼──┐
//!          │ demux │   │ session: peers, streams     │
//!          └┬──┬──┬┘   └───────────────┬─────────────┘
//!     ┌─────▼┐┌▼──────────┐ ┌──────────▼──┐
//!     │ stun ││ ice agent │ │ quic        │   frame and hello on streams
//!     └──────┘└───────────┘ └─────────────┘
//!          └──────────┴── settle ──┘
//! ```
//!
//! The state graphs of attempts and links are drawn in `state.rs`.
//!
//! # What it deliberately does not do
//!
//! * It never sends QUIC on a path that ICE has not validated, except to the addresses of a ticket,
//!   which the node named there has signed. RFC 9000 §8.2 path validation is ICE's job here.
//! * It is no open relay. Without a link there is no pass; a pass ends by itself, and quotas are per peer. It relays
//!   to addresses that everybody can reach and between its own clients, not into its owner's network.
//! * It relays nothing itself while a direct path works: allocations are asked for when a connection starts, and
//!   given back when none has needed them for [`RELAY_IDLE`].
//! * A peer that uses direct paths only ([`Paths::DirectOnly`]) hears nothing from relayed addresses that the other
//!   side has named. A check that arrives before the name does is taken for a direct one.
//! * It does not take a peer's word for where to punch. A public node has to see it there, one whose ticket the
//!   application gave us, or the peer has to have been heard from there (RFC 8445 §19.5.1). At most
//!   [`PUNCHES_MAX`] punches are under way at once, and none while a direct path works.
//! * It does not know for certain that a NAT is easy: two ports of one public node see the same, and a NAT that minds
//!   addresses only shows when somebody elsewhere sees something else. Where nothing works between two that look easy,
//!   it takes each for hard once, in turn. Behind a public node whose second port is closed by a firewall, it does not
//!   know at all, and does not punch.
//! * It speaks no DTLS to relays. It asks the public nodes' own relays over UDP only, and takes no ALTERNATE-DOMAIN
//!   (RFC 8489 §14.16): a relay that sends us on over TLS has to send us to one with a certificate for the same name.
//! * It does not hide descriptions from the introducer, as RFC 8445 §19.3 assumes of any signalling.
//!   What an introducer learns lets it disturb checks; it cannot read or alter what peers say,
//!   because QUIC is pinned to their ids.
//! * It does not resume TLS sessions or send 0-RTT data (RFC 8446 §2.3): replays would reach
//!   applications.
//!
//! # Example
//!
//! A public node and a peer that knows its ticket, connected by hand with no sockets:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use gimlet_machine::{FourTuple, Instant, Machine, Session};
//! use gimlet_node::{Config, Event, Identity, Node};
//!
//! let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
//! // The machines never read it; a driver's clock starts somewhere, and so does this one.
//! let origin = std::time::Instant::now();
//! let node = |secret: u8, address: &str, public| {
//!     let mut config = Config::new(
//!         Identity::from_secret([secret; 32]), [secret; 32], vec![address.parse().unwrap()],
//!         origin, Duration::from_secs(1_700_000_000), provider.clone(),
//!     );
//!     config.public = public;
//!     Node::new(Instant::ZERO, config).unwrap()
//! };
//! let mut public = node(1, "192.0.2.1:4433", true);
//! let mut peer = node(2, "198.51.100.2:5000", false);
//!
//! let ticket = public.ticket(&["192.0.2.1:4433".parse()?], 1_800_000_000)?;
//! peer.add_ticket(Instant::ZERO, &ticket)?;
//!
//! let mut connected = 0;
//! gimlet_testkit::Shuttle::new(Duration::from_millis(10), FourTuple::flipped).run(
//!     (&mut public, &mut peer),
//!     Instant::from_millis(1_000),
//!     |_| true,
//!     |_, _, event| connected += usize::from(matches!(event, Event::Connected { .. })),
//! );
//! assert_eq!(connected, 2);
//! assert_eq!(peer.is_connected(ticket.peer()), Ok(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

#[cfg(test)]
mod attempt_tests;
mod close;
mod command;
mod config;
mod connect;
mod control;
mod demux;
mod description;
mod detour;
mod embedded;
mod error;
mod event;
mod explain;
mod gather;
#[cfg(test)]
mod hostile_tests;
mod identity;
mod introduce;
mod link;
mod nat;
mod node;
mod peer;
mod punch;
mod relay;
mod relay_pass;
mod relay_stream;
#[cfg(test)]
mod relay_tests;
mod relays;
mod repair;
mod requests;
mod roam;
mod sequence;
mod session;
mod settle;
mod state;
mod stream_relays;
#[cfg(test)]
mod stream_tests;
mod streams;
mod suppose;
mod ticket;
mod timer;
mod usage;
mod witness;

pub use command::{Command, CommandError, Outcome};
pub use config::{Allow, Config, Limits, Outside, Paths, RelayConfig, TurnServer, TurnTransport};
pub use connect::{ANSWERS_MAX, ICE_AGENTS_MAX, RETRY_MIN};
pub use control::{CONTROL_MESSAGE_MAX, Unreachable};
pub use description::{DESCRIPTION_CANDIDATES_MAX, DESCRIPTION_MAX};
pub use embedded::RelayReport;
pub use error::{ConfigError, ConnectError, Error, LostCause, NodeCounters};
pub use event::{Event, Progress, PunchProgress, Via};
pub use explain::{Explanation, MappingSeen, Verdict};
pub use gather::REFLEXIVE_MAX;
pub use gimlet_ice::{Declined, PairReport, Part, PunchLimits};
pub use gimlet_stun::PortModel;
pub use gimlet_turn::{PeerPolicy, ServerCounters, ServerLimits};
pub use identity::Identity;
pub use link::CONTROL_QUEUE_MAX;
pub use nat::SAMPLINGS_PER_MINUTE_MAX;
pub use node::{ACCEPT_QUEUE_MAX, EVENTS_MAX, Node, STATE_EVENTS_MAX};
pub use peer::UNACCEPTED_STREAMS_MAX;
pub use punch::PUNCHES_MAX;
pub use relay::PERMITTED_PER_PEER_MAX;
pub use relay_pass::RELAY_PASS_LIFETIME;
pub use relay_stream::{RELAY_BACKLOG_MAX, RELAY_OPEN_MAX, StreamFailure, TurnTls};
pub use relays::{RELAY_IDLE, TURN_SERVERS_MAX};
pub use requests::SOCKETS_MAX;
pub use roam::LOCAL_ADDRESSES_MAX;
pub use sequence::SEQUENCES_MAX;
pub use streams::{ENDED_BYTES_MAX, ENDED_STREAMS_MAX, OVER_STREAMS_MAX, Stream};
pub use ticket::{TICKET_ADDRESSES_MAX, TICKET_TEXT_MAX, Ticket, TicketError};
pub use usage::Usage;
pub use witness::WITNESSES_MAX;
