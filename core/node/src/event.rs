//! What a node tells its application.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_ice::{Declined, Part};
use gimlet_machine::{Path, PeerId};
use gimlet_stun::PortModel;

use crate::control::Unreachable;
use crate::error::{ConnectError, LostCause};
use crate::relay_stream::StreamFailure;
use crate::streams::Stream;

/// How a peer was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Its address was known (a ticket), or it dialled ours.
    Address,
    /// A common peer carried the ICE descriptions.
    Introducer(PeerId),
}

/// Something happened. [`Event::Progress`] is dropped when nobody drains; there is room for all state
/// events that one moment can bring ([`crate::STATE_EVENTS_MAX`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is authenticated and has said hello; streams may be opened.
    Connected {
        /// Who.
        peer: PeerId,
        /// On which path.
        path: Path,
        /// How it was found.
        via: Via,
        /// Whether we started the QUIC handshake.
        dialed: bool,
    },
    /// A peer that we had not asked for connected; `accept` returns it.
    Incoming {
        /// Who.
        peer: PeerId,
    },
    /// An attempt to connect ended without a connection.
    Failed {
        /// Who.
        peer: PeerId,
        /// Why, and what could help.
        cause: ConnectError,
    },
    /// A connected peer is gone. What it had sent can still be read.
    Lost {
        /// Who.
        peer: PeerId,
        /// Why.
        cause: LostCause,
        /// Whether the node is trying to get it back.
        reconnecting: bool,
    },
    /// Data to and from the peer moved to another path; or the path is the same, and turned out to cross a relay of
    /// the peer's ([`crate::Node::is_relayed`]).
    PathChanged {
        /// Who.
        peer: PeerId,
        /// The new path.
        path: Path,
    },
    /// The peer opened a stream, or we may open more.
    StreamsReady {
        /// Who.
        peer: PeerId,
    },
    /// There is something to read.
    Readable {
        /// Where.
        stream: Stream,
    },
    /// There is room to write again, or everything up to the end was acknowledged.
    Writable {
        /// Where.
        stream: Stream,
    },
    /// A datagram waits.
    DatagramReceived {
        /// From whom.
        peer: PeerId,
    },
    /// A step on the way, for people who watch.
    Progress {
        /// On the way to whom.
        peer: PeerId,
        /// What happened.
        step: Progress,
    },
}

/// One line of a connection's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The QUIC handshake starts towards a known address.
    Dialing(SocketAddr),
    /// The QUIC handshake starts again, through a relay, because the direct way brought nothing.
    DialingThrough {
        /// Where the relay listens.
        server: SocketAddr,
        /// The known address.
        address: SocketAddr,
    },
    /// No introducer is connected; waiting for one.
    WaitingForIntroducer,
    /// Our ICE description left.
    OfferSent {
        /// Through whom.
        via: PeerId,
        /// With how many candidates.
        candidates: usize,
    },
    /// A peer wants to connect.
    OfferReceived {
        /// Through whom.
        via: PeerId,
        /// With how many candidates we can use.
        candidates: usize,
    },
    /// Our answer left.
    AnswerSent {
        /// With how many candidates.
        candidates: usize,
    },
    /// The peer's answer is here.
    AnswerReceived {
        /// With how many candidates we can use.
        candidates: usize,
    },
    /// The introducer could not deliver.
    NotIntroduced(Unreachable),
    /// A STUN server told us an address of ours.
    Reflexive {
        /// Our socket.
        local: SocketAddr,
        /// What the server saw.
        mapped: SocketAddr,
    },
    /// A relay gave us an address.
    Relay {
        /// Where the relay listens.
        server: SocketAddr,
        /// Our address there.
        relayed: SocketAddr,
    },
    /// We relay for this peer from here on.
    Relaying {
        /// Where its datagrams come from.
        client: SocketAddr,
    },
    /// We relay for this peer no longer, on this allocation.
    Relayed {
        /// Where its datagrams came from.
        client: SocketAddr,
        /// Bytes from it to its peers.
        to_peers: u64,
        /// Bytes from its peers to it.
        from_peers: u64,
    },
    /// A relay gave us nothing; it is asked again when the next connection starts, if that can help.
    RelayFailed {
        /// Where the relay listens.
        server: SocketAddr,
        /// Why.
        cause: gimlet_turn::Failure,
    },
    /// A relay that is spoken to over TCP or TLS is not connected. Another connection is opened after a while,
    /// unless it would end alike.
    RelayUnreachable {
        /// Where the relay listens.
        server: SocketAddr,
        /// Why, and what could help.
        why: StreamFailure,
    },
    /// A check of ours was answered: data can flow here.
    PathValid {
        /// Where.
        path: Path,
        /// How long the answer took, if that can be told.
        rtt: Option<Duration>,
    },
    /// ICE has agreed on this path.
    PathSelected(Path),
    /// Several answers in a row are late on the path in use; others are looked for.
    PathSuspect(Path),
    /// The peer has not answered on the path in use for so long that nothing may be sent there any more.
    PathLost(Path),
    /// Sockets of this host came and went.
    AddressesChanged {
        /// How many came.
        came: usize,
        /// How many are gone.
        gone: usize,
    },
    /// The peer's addresses changed.
    PeerUpdated {
        /// How many candidates it has that are new to us.
        candidates: usize,
    },
    /// No path works: we begin anew.
    RestartSent {
        /// Through whom.
        via: PeerId,
        /// With how many candidates.
        candidates: usize,
    },
    /// The peer began anew, and so do we.
    RestartAnswered {
        /// With how many candidates.
        candidates: usize,
    },
    /// Both ends have begun anew.
    RestartAgreed {
        /// With how many candidates of the peer that we can use.
        candidates: usize,
    },
    /// About punching a hole through NATs.
    Punch(PunchProgress),
    /// TLS is done and the peer is who it should be.
    Authenticated,
    /// The next try follows after this long.
    RetryIn(Duration),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Dialing(address) => write!(f, "dialing {address}"),
            Progress::DialingThrough { server, address } => {
                write!(f, "no answer; dialing {address} through the relay {server}")
            }
            Progress::WaitingForIntroducer => f.write_str("waiting for an introducer"),
            Progress::OfferSent { via, candidates } => {
                write!(f, "offer with {candidates} candidates sent through {}", via.short())
            }
            Progress::OfferReceived { via, candidates } => {
                write!(f, "offer with {candidates} candidates received through {}", via.short())
            }
            Progress::AnswerSent { candidates } => write!(f, "answer with {candidates} candidates sent"),
            Progress::AnswerReceived { candidates } => {
                write!(f, "answer with {candidates} candidates received")
            }
            Progress::NotIntroduced(why) => write!(f, "not introduced: {why}"),
            Progress::Reflexive { local, mapped } => write!(f, "{local} is seen as {mapped}"),
            Progress::Relay { server, relayed } => write!(f, "the relay {server} forwards from {relayed}"),
            Progress::Relaying { client } => write!(f, "relaying for {client}"),
            Progress::Relayed { client, to_peers, from_peers } => {
                write!(f, "relayed for {client}: {to_peers} bytes out, {from_peers} bytes in")
            }
            Progress::RelayFailed { server, cause } => write!(f, "no relaying by {server}: {cause}"),
            Progress::RelayUnreachable { server, why } => write!(f, "no relaying by {server}: {why}"),
            Progress::PathValid { path, rtt: Some(rtt) } => write!(f, "path valid: {path}, rtt {rtt:.1?}"),
            Progress::PathValid { path, rtt: None } => write!(f, "path valid: {path}"),
            Progress::PathSelected(path) => write!(f, "path selected: {path}"),
            Progress::PathSuspect(path) => write!(f, "no answer on {path}; looking for another path"),
            Progress::PathLost(path) => write!(f, "path lost: {path}"),
            Progress::AddressesChanged { came, gone } => {
                write!(f, "addresses of this host: {came} came, {gone} are gone")
            }
            Progress::PeerUpdated { candidates } => {
                write!(f, "the peer's addresses changed, {candidates} new candidates")
            }
            Progress::RestartSent { via, candidates } => {
                write!(f, "no path works; restart with {candidates} candidates sent through {}", via.short())
            }
            Progress::RestartAnswered { candidates } => {
                write!(f, "the peer restarts; answered with {candidates} candidates")
            }
            Progress::RestartAgreed { candidates } => {
                write!(f, "restart agreed on, with {candidates} candidates of the peer")
            }
            Progress::Punch(step) => step.fmt(f),
            Progress::Authenticated => f.write_str("TLS done, identity verified"),
            Progress::RetryIn(wait) => write!(f, "trying again in {wait:.1?}"),
        }
    }
}

/// One step on the way to a hole in a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PunchProgress {
    /// What the NAT in front of us does, as far as servers could tell.
    Nat {
        /// Whether the outside port depends on the destination, if that is known.
        dependent: Option<bool>,
        /// Which outside ports fresh sockets get, if that is known.
        port_model: Option<PortModel>,
        /// Our outside address.
        outside: Option<IpAddr>,
    },
    /// No direct path works: a hole is being punched.
    Begun {
        /// What we do.
        part: Part,
        /// Sockets that the side which opens is to open.
        sockets: u16,
        /// Ports that the side which probes tries at first.
        probes: u16,
        /// The chance that this hits, in millionths, if the NATs do what they did.
        chance: u32,
    },
    /// The punch reached the peer, or the peer reached us.
    Hit,
    /// Everything that was allowed was tried, and nothing was hit.
    Exhausted {
        /// When we ask for the next one; `None`: the peer does.
        again: Option<Duration>,
    },
    /// There is no punch.
    Declined(Declined),
    /// The peer says that a punch would be of no use, or that it wants none.
    Refused,
}

impl fmt::Display for PunchProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PunchProgress::Nat { dependent, port_model, outside } => {
                f.write_str(match dependent {
                    Some(true) => "NAT: another port for every destination",
                    Some(false) => "NAT: one port for all destinations, or there is none",
                    None => "NAT: not known whether the port depends on the destination",
                })?;
                if let Some(model) = port_model {
                    write!(f, "; ports {model}")?;
                }
                outside.map_or(Ok(()), |ip| write!(f, "; outside {ip}"))
            }
            PunchProgress::Begun { part, sockets, probes, chance } => {
                let percent = chance / 10_000;
                match part {
                    Part::Open => write!(f, "punching: {sockets} sockets open the way, {percent} in 100"),
                    Part::Probe => {
                        write!(f, "punching: trying {probes} ports of {sockets} open ones, {percent} in 100")
                    }
                    Part::Meet => f.write_str("punching: both NATs are left alone, then both sides begin"),
                }
            }
            PunchProgress::Hit => f.write_str("punching: a hit"),
            PunchProgress::Exhausted { again: Some(wait) } => {
                write!(f, "punching: nothing was hit; again in {wait:.0?}")
            }
            PunchProgress::Exhausted { again: None } => f.write_str("punching: nothing was hit"),
            PunchProgress::Declined(why) => write!(f, "no punch: {why}"),
            PunchProgress::Refused => f.write_str("no punch: the peer sees no use in it"),
        }
    }
}
