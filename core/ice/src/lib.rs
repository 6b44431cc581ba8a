//! ICE (RFC 8445): finds a way between two hosts that sit behind NATs, by trying.
//!
//! An [`Agent`] is given the addresses at which this host may be reached ([`Candidate`]s), and over
//! signalling the peer's addresses and [`Credentials`]. It pairs them, sends a STUN request on each
//! pair, and answers the peer's. A request that is answered on the way it went proves that the pair
//! works: the agent says [`Event::PathValid`], and data may flow. The controlling agent then asks for
//! the best valid pair, and both sides say [`Event::PathSelected`].
//!
//! Everything may arrive in any order and late (RFC 8838): candidates of either side, credentials, the
//! peer's checks. A check is answered at once, even before the peer's password is known, because only
//! ours is needed: this lets the peer send data a round trip earlier.
//!
//! How checks are ordered decides how long people wait. One leaves per Ta (5 ms by default), answers
//! and keepalives aside, retransmissions included. What the peer has just checked goes first, because
//! its NAT is open. Then pairs of host, reflexive and relayed candidates take turns, within each kind IPv4
//! and IPv6 (RFC 8421), and of those the likeliest goes first: an order that is the same on both sides. When the
//! list of 100 pairs is full, the least likely pair of the most numerous kind and family gives way, so fifty
//! interfaces cannot crowd out the one pair that works. Where the owner has no preferences, the agent deals
//! them so that families and networks alternate in what the peer is told as well.
//!
//! Nomination is regular, and waits no fixed time: it begins as soon as no better pair can be hoped
//! for, at the latest one round trip (and 100 ms) after the first valid direct pair. While it is under
//! way, no further pair is checked. A check out of the peer's relay may arrive before the relay is signalled, and
//! claims the priority of any peer-reflexive candidate: until the peer has declared the end of its candidates, what
//! is known to be direct goes before what may be such a relay. Signalling that comes after the choice is acted
//! upon at once, if both sides renominate.
//!
//! The path in use is asked for consent every five seconds (RFC 7675), and nothing else is sent while all is
//! well. An answer that is late is asked for again sooner if there is anywhere else to go; the second one that
//! is late opens the search for other ways; after the third, data moves to whatever else works, and the peer
//! is asked to follow. A path that was lost may come back, and is then found: by the peer's checks, or by ours,
//! at growing intervals. One that comes and goes is gone back to later each time. A peer that roams is followed. [`Agent::network_changed`],
//! [`Agent::remove_local_candidate`] and [`Agent::report_silence`] say sooner what silence would say later.
//! [`Agent::restart`] begins a new generation beside the path in use (RFC 8445 §9).
//!
//! Where a NAT gives every destination another port, no candidate can be right. [`Agent::punch`] then looks
//! for a way by trying many, as [`plan`] works out from what both sides know of their NATs ([`Profile`]):
//!
//! | the hard NAT | sockets that its side opens | ports that the other tries | likely in one pass |
//! |---|--:|--:|--:|
//! | counts | 4 | 32 | always, if nobody else uses it |
//! | deals from a block of 512 … 4096 | 16 … 64 | 128 … 256 | 0.98 … 0.99 |
//! | deals from everywhere | 256 | 1024 | 0.983 |
//! | both, or something less likely than 0.95 | | | declined, with the reason |
//!
//! Probes are ordinary checks, so what they find is an ordinary pair. They wait for every other packet, leave at
//! most 200 times in a second and [`PUNCH_PROBES_MAX`] times in any hour, and go only where the peer was heard
//! from or the owner knows it to be ([`Agent::vouch`]). Data takes a relay meanwhile and moves when a direct
//! path is found. Two NATs that are not hard, and still do not connect, suffer from packets that came too early and
//! took a flow's place (Linux without a firewall rule does that): the plan then is to fall silent until both have
//! forgotten, and to begin at one moment.
//!
//! Addresses may stay private (draft-ietf-mmusic-mdns-ice-candidates): [`Candidate::hidden`] offers a random
//! `.local` name in an address's place, for the owner to publish on its link. Names that the peer offers come
//! by [`Agent::add_remote_line`], are asked of the owner, and go the way of every candidate once
//! [`Agent::name_resolved`] answers.
//!
//! Where no datagram gets through, a connection may ([`Transports::UdpAndTcp`], RFC 6544): [`Candidate::tcp_active`] opens it,
//! [`Candidate::tcp_passive`] waits for it. To the agent it is a path like every other one, whose datagrams the owner
//! hands to [`Streams`], which frames them and asks the driver for connections. A check leaves there once, since
//! nothing gets lost on the way, and a connection that cannot be had fails its pair at once. UDP is preferred.
//!
//! Whatever is not signed with the right password changes nothing but a counter, and is answered at
//! most ten times a second by something smaller than itself. What is signed is still bounded: see
//! [`Limits`].
//!
//! # What it deliberately does not do
//!
//! * **Gather.** Its owner asks the interfaces, STUN and TURN servers. Nor does it pace them together
//!   with its checks (RFC 8445 §14.2): at 5 ms the few requests of a gathering change nothing.
//! * **Aggressive nomination.** RFC 8445 removed it, since the two ends could settle on different pairs.
//! * **Several components or streams** (RFC 8445 §4): QUIC multiplexes. Use an agent for each; those of one stream
//!   share credentials ([`Agent::share_credentials`]). A component that works does not unfreeze the pairs of another
//!   (§6.1.2.6): every agent finds its own way, at its own pace.
//! * **Simultaneous open, and TCP through NATs' outsides** (RFC 6544 §4.1): of TCP candidates there are active and
//!   passive ones on our own addresses. Reflexive and relayed ones need a connection opened from a port that also
//!   listens, or a relay that opens connections (RFC 6062); no driver and no relay of ours does. Lines of them are
//!   read and written, and those that cannot be checked are refused ([`CandidateError::UnsupportedTransport`]).
//! * **Listen.** Connections to passive candidates are the owner's to take ([`Streams::accept`]).
//! * **Free candidates** (RFC 8445 §8.3): the sockets are the owner's, who knows what else uses them.
//! * **React to ICMP** (RFC 8445 §7.2.5.2.4), be it to stop a punch: anybody can send it, and an unanswered check fails anyway.
//! * **Punch unasked**, or find out about NATs: that is `gimlet_stun::Discovery`'s work, and the owner's to signal.
//! * **Send first packets that die on the way** (a low TTL), against NATs that mind early packets: the contract
//!   has no word for it. A silence and a common beginning do the same, only later.
//! * **Speak mDNS**: [`Event::PublishName`] and [`Event::ResolveName`] leave it to the owner, who also decides
//!   which addresses to hide. Names that belong to the world's DNS are refused ([`CandidateError::UnresolvedName`]).
//! * **Insist on a restart after lost consent** (RFC 7675 §5.1): the peer's fresh answer on a path proves the
//!   same as its first one did, and a path that comes back should not need signalling, which may be gone.
//! * **Hold back probes for four seconds** (RFC 7675 §5.1) once an answer is late and another path works:
//!   they are connectivity checks, at most two, and decide which path has the consent.
//! * **Renominate unasked.** Without [`Config::renomination`], what was selected stays as long as it works
//!   (RFC 8445 §8.1.1).
//! * **Drop the lowest priorities first** when the list is full (RFC 8445 §6.1.2.5), or check strictly by
//!   priority (§6.1.4.2): priority decides nomination, likelihood decides the order of checks.
//!
//! # Pairs
//!
//! ```text
//!            best of its foundation              its turn, or the peer's check
//!   Frozen ──────────────────────────► Waiting ─────────────────────────────────► InProgress
//!      ▲  an equal one works, or none      │ ▲                                     │  │   │
//!      └────────────────────────────────── ┘ └───────────── the peer's check ──────┘  │   │
//!        a better one of its foundation      ▲                                        │   │
//!                                            └──── the peer's check ──── Failed ◄─────┘   │
//!                                                  silence, error, another way            ▼
//!                                                                                     Succeeded
//! ```
//!
//! The graphs of the agent and of nomination are in `state.rs`. A punch is a graph of its own:
//!
//! ```text
//!                         sockets, and a sign of the peer             got through
//!                 Planned ──────────────────────────────► Spraying ◄──────────────► Hit ──► Ended
//!                  ▲   │ budget spent, or NATs are to forget    │    does not work         any state:
//!                  │   ▼                                        │                          a direct path
//!                  Backoff ◄────────────────────────────────────┘ all was tried            is selected
//! ```
//!
//! # Example
//!
//! Two agents on one network, connected by hand:
//!
//! ```
//! use gimlet_ice::{Agent, Candidate, Config, Event, Role, State};
//! use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng};
//!
//! let now = Instant::ZERO;
//! let mut alice = Agent::new(now, Rng::from_u64(1), Config::default());
//! let mut bob = Agent::new(now, Rng::from_u64(2), Config { role: Role::Controlled, ..Config::default() });
//!
//! // Each offers an address; signalling carries credentials and candidates across.
//! alice.add_local_candidate(now, Candidate::host("192.0.2.1:1000".parse().unwrap())).unwrap();
//! bob.add_local_candidate(now, Candidate::host("192.0.2.2:2000".parse().unwrap())).unwrap();
//! bob.set_remote_credentials(now, alice.local_credentials().clone()).unwrap();
//! alice.set_remote_credentials(now, bob.local_credentials().clone()).unwrap();
//! let line = alice.local_candidates().next().unwrap().to_string();
//! bob.add_remote_candidate(now, line.parse().unwrap()).unwrap();
//!
//! // Bob checks, Alice learns his address from the check, checks back and nominates. Time stands still
//! // but for the pacing of 5 ms.
//! let mut storage = Vec::new();
//! for ms in 0..20 {
//!     let now = Instant::from_millis(ms);
//!     for _ in 0..4 {
//!         while let Some(sent) = alice.poll_transmit(now, &mut Buf::new(&mut storage)) {
//!             let Path::Direct(tuple) = sent.path else { unreachable!("no relay is involved") };
//!             bob.handle_input(now, Input::new(Path::Direct(tuple.flipped()), &mut storage));
//!         }
//!         while let Some(sent) = bob.poll_transmit(now, &mut Buf::new(&mut storage)) {
//!             let Path::Direct(tuple) = sent.path else { unreachable!("no relay is involved") };
//!             alice.handle_input(now, Input::new(Path::Direct(tuple.flipped()), &mut storage));
//!         }
//!     }
//! }
//!
//! assert_eq!((alice.state(), bob.state()), (State::Completed, State::Completed));
//! let path = FourTuple::new("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:2000".parse().unwrap());
//! assert_eq!(alice.selected_path(), Some(Path::Direct(path)));
//! assert_eq!(bob.selected_path(), Some(Path::Direct(path.flipped())));
//! let events: Vec<_> = std::iter::from_fn(|| bob.poll_event()).collect();
//! assert_eq!(events.last(), Some(&Event::StateChanged(State::Completed)));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod agent;
mod answers;
mod candidate;
mod candidates;
mod check;
mod checklist;
mod checks;
mod consent;
mod counters;
mod credentials;
mod error;
mod event;
mod foundation;
mod limits;
mod mdns;
mod pair;
mod preference;
mod priority;
mod punch;
mod report;
mod role;
mod state;
mod streams;
mod timer;

pub use agent::{Agent, Config};
pub use candidate::{Candidate, CandidateKind, TcpType, Transport, Transports};
pub use counters::IceCounters;
pub use credentials::Credentials;
pub use error::{CandidateError, CredentialsError};
pub use event::{Event, FailureCause, PunchEvent};
pub use foundation::Foundation;
pub use limits::{
    CANDIDATE_LINE_MAX, CONSENT_INTERVAL_MAX, CONSENT_INTERVAL_MIN, CONSENT_TIMEOUT, FOUNDATION_MAX,
    KEEPALIVE_INTERVAL, Limits, MDNS_QUERIES_MAX, MDNS_TIMEOUT, MESSAGE_MAX, PAC_TIMEOUT, PASSWORD_MAX,
    TA_MIN, UFRAG_MAX,
};
pub use mdns::{MdnsName, MdnsQuery};
pub use pair::PairError;
pub use priority::{candidate_priority, pair_priority};
pub use punch::{
    Declined, OUTSIDE_MAX, PUNCH_PROBES_MAX, PUNCH_SOCKETS_MAX, Part, Plan, Profile, PunchLimits,
    PunchSocketError, PunchState, plan,
};
pub use report::PairReport;
pub use role::Role;
pub use state::{PairState, State};
pub use streams::{STREAM_BACKLOG_MAX, STREAM_DATAGRAM_MAX, STREAMS_MAX, StreamCounters, Streams};
