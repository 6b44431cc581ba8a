//! How a node is set up, and everything that limits it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use gimlet_ice::PunchLimits;
use gimlet_machine::PeerId;
use gimlet_turn::{PeerPolicy, ServerLimits};
use rustls::crypto::CryptoProvider;

use crate::identity::Identity;
use crate::relay_stream::TurnTls;

/// Who may connect to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Everybody who proves an identity.
    Anyone,
    /// Only these.
    Listed(BTreeSet<PeerId>),
    /// Nobody: we dial, others do not.
    Nobody,
}

impl Allow {
    /// Whether `peer` may connect to us.
    pub fn admits(&self, peer: PeerId) -> bool {
        match self {
            Allow::Anyone => true,
            Allow::Listed(peers) => peers.contains(&peer),
            Allow::Nobody => false,
        }
    }
}

/// How a relay is spoken to (RFC 8656 §3.1).
#[derive(Clone, Debug, Default)]
pub enum TurnTransport {
    /// Over UDP, from the first of our sockets that can reach it.
    #[default]
    Udp,
    /// Over a TCP connection, which the driver opens ([`gimlet_machine::Request::Connect`]). In
    /// [`gimlet_machine::Path::Relayed`] its `local` is the unspecified address with port 0.
    Tcp,
    /// Over TLS 1.2 or 1.3 on such a connection. It passes what lets out nothing but the web, if the relay listens on
    /// port 443.
    Tls(TurnTls),
}

/// A relay (RFC 8656), and the name under which it knows us.
#[derive(Clone)]
pub struct TurnServer {
    /// Where it listens. It gives us an address of the same family.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: TurnTransport,
    /// The name, not empty, at most [`gimlet_stun::USERNAME_MAX`] bytes.
    pub username: String,
    /// The password, at most [`gimlet_turn::PASSWORD_MAX`] bytes.
    pub password: String,
}

/// The name is public, the password is not.
impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self.transport {
            TurnTransport::Udp => "UDP",
            TurnTransport::Tcp => "TCP",
            TurnTransport::Tls(_) => "TLS",
        };
        write!(f, "TurnServer({} over {over} as {})", self.address, self.username.escape_debug())
    }
}

/// How a public node relays for peers that cannot reach each other (RFC 8656). Only peers that are connected to
/// it learn how to ask, and each allocation costs the driver one socket.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// For whom, of those that are connected to us.
    pub allow: Allow,
    /// What clients are told in place of the address that a socket is bound to, one of each family: for a host
    /// behind a one-to-one NAT. Without one, the socket's own.
    pub advertised: Vec<IpAddr>,
    /// To which addresses, besides other clients of this relay.
    pub peers: PeerPolicy,
    /// How much anybody may have.
    pub limits: ServerLimits,
}

impl Default for RelayConfig {
    /// For anyone who is connected, to peers that everybody can reach: 256 allocations, 4 for one peer, 32 from
    /// one address, each 16 MiB a second. 256 sockets are a quarter of what a process usually may open.
    fn default() -> Self {
        let limits = ServerLimits {
            allocations_max: 256,
            per_user_max: 4,
            per_address_max: 32,
            bytes_per_second_max: 16 << 20,
            ..ServerLimits::default()
        };
        Self { allow: Allow::Anyone, advertised: Vec::new(), peers: PeerPolicy::default(), limits }
    }
}

/// Which paths to peers a node uses. Those to public nodes are direct in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// Direct ones where there are any, relayed ones elsewhere.
    #[default]
    Any,
    /// No relays, neither ours nor those that the peer names.
    DirectOnly,
    /// Only through our relays: the peer does not learn our addresses (RFC 8828 §5.2, mode 4), which public
    /// nodes and relays do.
    RelayedOnly,
}

/// What the core cannot have and the driver lends.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The standard library's clock at [`gimlet_machine::Instant::ZERO`]: quinn-proto wants one.
    pub origin: std::time::Instant,
    /// The wall clock at [`gimlet_machine::Instant::ZERO`], since the Unix epoch.
    pub unix_time_at_origin: Duration,
    /// The TLS cryptography.
    pub provider: Arc<CryptoProvider>,
}

/// Everything a node is told at birth. The driver supplies what the core cannot have: a seed, two
/// clock readings, the addresses of its sockets, and the cryptography.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who we are.
    pub identity: Identity,
    /// All randomness comes from here: 32 bytes from the operating system, or from a simulation.
    pub seed: [u8; 32],
    /// The addresses of the driver's sockets; each becomes a host candidate (RFC 8445 §5.1.1.1).
    pub local_addresses: Vec<SocketAddr>,
    /// Whether this node serves others: answers STUN, accepts connections from anywhere, introduces,
    /// and relays if [`Config::relay`] says so.
    pub public: bool,
    /// STUN servers to ask for our addresses, besides every public node we are connected to.
    pub stun_servers: Vec<SocketAddr>,
    /// Relays for the peers that we cannot reach otherwise, at most
    /// [`TURN_SERVERS_MAX`](crate::TURN_SERVERS_MAX). An address on each is asked for at birth, and kept. Public
    /// nodes that relay are used too, and need not be named.
    pub turn_servers: Vec<TurnServer>,
    /// How to relay for others; `None`: not at all. For public nodes only.
    pub relay: Option<RelayConfig>,
    /// Which paths to peers are used.
    pub paths: Paths,
    /// Who may connect to us.
    pub allow: Allow,
    /// Clocks and cryptography.
    pub outside: Outside,
    /// A name and version that peers see, for people: at most 64 bytes are kept.
    pub agent: String,
    /// What must not grow without bound.
    pub limits: Limits,
}

impl Config {
    /// A peer (not public) with default limits.
    pub fn new(
        identity: Identity,
        seed: [u8; 32],
        local_addresses: Vec<SocketAddr>,
        origin: std::time::Instant,
        unix_time_at_origin: Duration,
        provider: Arc<CryptoProvider>,
    ) -> Config {
        Config {
            identity,
            seed,
            local_addresses,
            public: false,
            stun_servers: Vec::new(),
            turn_servers: Vec::new(),
            relay: None,
            paths: Paths::Any,
            allow: Allow::Anyone,
            outside: Outside { origin, unix_time_at_origin, provider },
            agent: concat!("gimlet/", env!("CARGO_PKG_VERSION")).into(),
            limits: Limits::default(),
        }
    }

    /// The addresses of our sockets that peers may know.
    pub(crate) fn shown_addresses(&self) -> &[SocketAddr] {
        match self.paths {
            Paths::Any | Paths::DirectOnly => &self.local_addresses,
            Paths::RelayedOnly => &[],
        }
    }
}

/// Limits of one node, each with what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers known at once, connected or being connected. Beyond: refused, and counted.
    pub peers_max: usize,
    /// Bytes of one message on a stream. Beyond: sending is an error, receiving ends the stream.
    pub message_max: usize,
    /// Bytes queued on one stream before `send` says "not now". One longer message is still taken
    /// whole when the queue is empty.
    pub stream_buffer_max: usize,
    /// How long an attempt to connect may take. Beyond: it fails with what it was waiting for.
    pub attempt_timeout: Duration,
    /// How long a close waits for acknowledgements. Beyond: it closes anyway, and counts it.
    pub close_timeout: Duration,
    /// Introductions that one peer may ask of us per second. Beyond: refused, and counted.
    pub introductions_per_second_max: u32,
    /// The longest wait between two tries to get a lost peer back; the first wait is
    /// [`RETRY_MIN`](crate::RETRY_MIN).
    pub retry_max: Duration,
    /// What hole punching may cost where a NAT gives every destination another port; `None`: it is not tried.
    /// Both ends have to allow it.
    pub punch: Option<PunchLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            peers_max: 1_024,
            message_max: gimlet_frame::MESSAGE_MAX_DEFAULT,
            stream_buffer_max: 1 << 20,
            attempt_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
            introductions_per_second_max: 32,
            retry_max: Duration::from_secs(30),
            punch: Some(PunchLimits::default()),
        }
    }
}
