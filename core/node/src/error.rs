//! What can go wrong, said with its cause and its remedy; and what was dropped, counted.

use core::fmt;
use core::net::SocketAddr;

use gimlet_machine::PeerId;

use crate::control::Unreachable;
use crate::relays::TURN_SERVERS_MAX;

/// Why a node could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No local address was given: the node has no socket to speak from.
    NoLocalAddress,
    /// The QUIC room refused its configuration.
    Quic(String),
    /// The agent's name is too long or not legible.
    Agent(String),
    /// More relays than [`TURN_SERVERS_MAX`](crate::TURN_SERVERS_MAX).
    TooManyTurnServers(usize),
    /// [`Config::relay`](crate::Config::relay) for a node that is not public: nobody could reach the relay.
    RelayNotPublic,
    /// The relay has no address to give: the node's sockets are wildcards and nothing is advertised.
    RelayWithoutAddress,
    /// The name for this relay is empty, or name or password is too long.
    TurnCredentials(SocketAddr),
    /// What the certificate of this relay has to be for is neither a domain name nor an IP address.
    TurnServerName(SocketAddr),
}

/// Why a verb failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The peer is ourselves.
    Myself,
    /// The peer is not connected and no attempt is under way: `connect` first.
    NotConnected(PeerId),
    /// The last attempt to connect failed.
    Connect(ConnectError),
    /// The connection is gone.
    Lost(LostCause),
    /// No such stream, or it is over and forgotten.
    UnknownStream,
    /// The stream has ended: the peer finished it and everything was read.
    Finished,
    /// This direction of the stream was finished or abandoned by us.
    AlreadyFinished,
    /// The peer abandoned the stream with this code.
    Abandoned(u64),
    /// The message is longer than this node's limit.
    MessageTooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes on the stream are not messages: over-long or cut off.
    Framing(String),
    /// The peer does not take datagrams of this size.
    DatagramTooLong,
    /// A limit was reached; close something first.
    TooMany(&'static str),
    /// The node is closing.
    Closing,
}

/// Why an attempt to connect failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No introducer is connected and none became so in time.
    NoIntroducer,
    /// The introducer cannot reach the peer.
    Unreachable(Unreachable),
    /// The peer did not answer our offer in time.
    NoAnswer,
    /// Both sides exchanged candidates and no pair worked.
    NoPath,
    /// A path worked, but the QUIC handshake did not finish in time.
    HandshakeTimeout,
    /// The handshake failed; the text is the QUIC layer's.
    Handshake(String),
    /// Somebody else answered at the peer's address.
    WrongPeer,
    /// No local address can reach the peer's address family.
    NoLocalAddress,
    /// The peer's hello was not acceptable.
    Hello(String),
    /// This node's limit on connections is reached.
    TooManyPeers,
    /// The attempt was given up because the application closed it.
    Cancelled,
}

/// Why a connected peer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostCause {
    /// We closed it.
    ClosedByUs,
    /// The peer closed it with this code and reason.
    ClosedByPeer {
        /// 0 is an orderly end.
        code: u64,
        /// The peer's words.
        reason: String,
    },
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The peer broke the protocol, or lost its state; the text is the QUIC layer's.
    Broken(String),
    /// A newer connection to the same peer took over.
    Replaced,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NoLocalAddress => {
                f.write_str("a node needs at least one local address to speak from")
            }
            ConfigError::Agent(why) => write!(f, "the name to show to peers was refused: {why}"),
            ConfigError::Quic(why) => write!(f, "the QUIC configuration was refused: {why}"),
            ConfigError::TooManyTurnServers(count) => {
                write!(f, "{count} relays are too many: name at most {TURN_SERVERS_MAX}")
            }
            ConfigError::RelayNotPublic => f.write_str("only a public node can relay: make it public, too"),
            ConfigError::RelayWithoutAddress => {
                f.write_str("the relay does not know its address: name a local one, or one to advertise")
            }
            ConfigError::TurnCredentials(server) => {
                write!(f, "the name for the relay {server} is empty, or it or the password is too long")
            }
            ConfigError::TurnServerName(server) => {
                write!(f, "the relay {server} has no name for TLS: give its domain name or its IP address")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Myself => f.write_str("that peer id is our own"),
            Error::NotConnected(peer) => write!(f, "not connected to {}: connect first", peer.short()),
            Error::Connect(cause) => write!(f, "could not connect: {cause}"),
            Error::Lost(cause) => write!(f, "the connection is gone: {cause}"),
            Error::UnknownStream => f.write_str("no such stream"),
            Error::Finished => f.write_str("the stream has ended"),
            Error::AlreadyFinished => f.write_str("our half of the stream has ended"),
            Error::Abandoned(code) => write!(f, "the peer abandoned the stream (code {code})"),
            Error::MessageTooLong { length, max } => {
                write!(
                    f,
                    "a message of {length} bytes is over the limit of {max}: split it or send it as bytes"
                )
            }
            Error::Framing(why) => write!(f, "the stream does not carry messages: {why}"),
            Error::DatagramTooLong => f.write_str("the datagram does not fit the path to this peer"),
            Error::TooMany(what) => write!(f, "too many {what}: close some first"),
            Error::Closing => f.write_str("the node is closing"),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::NoIntroducer => {
                f.write_str("no public node is connected: check the ticket and the network")
            }
            ConnectError::Unreachable(why) => write!(f, "the public node cannot introduce us: {why}"),
            ConnectError::NoAnswer => f.write_str("the peer did not answer: is it still running?"),
            ConnectError::NoPath => f.write_str(
                "no path between the two networks worked: both NATs may be symmetric, or UDP is blocked",
            ),
            ConnectError::HandshakeTimeout => {
                f.write_str("nobody answered in time: is the address right and UDP allowed?")
            }
            ConnectError::Handshake(why) => write!(f, "the handshake failed: {why}"),
            ConnectError::WrongPeer => f.write_str(
                "somebody else answered at that address: the ticket may be old, or traffic is intercepted",
            ),
            ConnectError::NoLocalAddress => f.write_str("no local address of that family (IPv4 or IPv6)"),
            ConnectError::Hello(why) => write!(f, "the peer speaks another protocol: {why}"),
            ConnectError::TooManyPeers => f.write_str("this node has reached its limit of peers"),
            ConnectError::Cancelled => f.write_str("cancelled by the application"),
        }
    }
}

impl fmt::Display for LostCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LostCause::ClosedByUs => f.write_str("closed by us"),
            LostCause::ClosedByPeer { code: 0, .. } => f.write_str("closed by the peer"),
            LostCause::ClosedByPeer { code, reason } => {
                write!(f, "closed by the peer: {reason} (code {code})")
            }
            LostCause::TimedOut => f.write_str("timed out"),
            LostCause::Broken(why) => f.write_str(why),
            LostCause::Replaced => f.write_str("replaced by a newer connection"),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreachable::NotConnected => "the peer is not connected to it",
            Unreachable::TooMany => "we ask too often; wait a little",
            Unreachable::NotAnIntroducer => "it does not introduce peers",
        })
    }
}

impl core::error::Error for ConfigError {}
impl core::error::Error for Error {}
impl core::error::Error for ConnectError {}
impl core::error::Error for LostCause {}

gimlet_machine::counters! {
    /// What a node dropped or refused, and why.
    pub struct NodeCounters {
        /// Datagrams that are neither STUN nor QUIC.
        unknown_protocol,
        /// STUN that belongs to no attempt, no request of ours, and is no request we serve.
        unknown_stun,
        /// QUIC from a path that nobody announced, on a node that does not listen.
        unknown_path,
        /// Descriptions whose signature is not the named sender's: the introducer lies.
        forged_descriptions,
        /// Descriptions that cannot be read, are too long, or name other people.
        malformed_descriptions,
        /// Descriptions seen before, or older than one seen.
        replayed_descriptions,
        /// Offers from peers that the policy does not admit, or while too many are being answered.
        refused_offers,
        /// Descriptions for attempts that are over.
        stale_descriptions,
        /// Connections from peers that the policy does not admit.
        refused_peers,
        /// Connections and offers beyond the limit of peers.
        peers_over_limit,
        /// Introductions beyond a peer's rate.
        introductions_over_rate,
        /// Introductions for peers that are not connected here.
        introductions_undeliverable,
        /// Hellos that were not acceptable.
        refused_hellos,
        /// Control messages that were not sent: the peer is gone, does not read them, or is being closed.
        control_dropped,
        /// Peers that lost their place in the queue of those to accept.
        accepts_dropped,
        /// Control messages of no known kind.
        unknown_control,
        /// Progress events dropped because nobody drained them.
        progress_dropped,
        /// State events dropped because nobody drained even the reserve.
        events_dropped,
        /// Streams that nobody accepted, abandoned because there were too many.
        unaccepted_streams_dropped,
        /// Streams of ended connections forgotten before they were read to their end, because there were
        /// too many of them or they held too much.
        ended_streams_forgotten,
        /// Closes that gave up waiting for the peer's acknowledgements.
        closed_undelivered,
        /// Datagrams for a relay that has no allocation of ours, or relays nothing to that peer.
        relay_unsent,
        /// Datagrams for a relay over TCP or TLS that were not sent because it was not connected, or because
        /// [`RELAY_BACKLOG_MAX`](crate::RELAY_BACKLOG_MAX) bytes waited.
        relay_backlog_dropped,
        /// Relays of public nodes that are not used because there are [`TURN_SERVERS_MAX`](crate::TURN_SERVERS_MAX)
        /// already.
        relays_over_limit,
        /// Passes for relays that cannot be used: expired, over a limit, or not asked for.
        refused_passes,
        /// Questions and beginnings of punches that came too often, were not the peer's to say, or found too many
        /// punches under way.
        punches_refused,
        /// Permissions and channels that were not asked for because a relay already has its most.
        relay_peers_over_limit,
    }
}
