//! Candidates: addresses at which an agent may be reached.

mod attribute;

use alloc::boxed::Box;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use gimlet_machine::{FourTuple, Path};

use crate::priority::{as_peer_reflexive, local_preference};
use crate::{CandidateError, Foundation, MdnsName, candidate_priority};

pub(crate) use attribute::Line;

/// How a candidate was learned (RFC 8445 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of one of the host's interfaces.
    Host,
    /// What a STUN server saw.
    ServerReflexive,
    /// What the peer saw during checks.
    PeerReflexive,
    /// An address on a relay.
    Relayed,
}

impl CandidateKind {
    /// The type preference that RFC 8445 §5.1.2.2 recommends: 126, 100, 110, 0.
    pub const fn type_preference(self) -> u8 {
        match self {
            CandidateKind::Host => 126,
            CandidateKind::PeerReflexive => 110,
            CandidateKind::ServerReflexive => 100,
            CandidateKind::Relayed => 0,
        }
    }

    /// The RFC's word for it: `host`, `srflx`, `prflx`, `relay`.
    pub const fn name(self) -> &'static str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relayed => "relay",
        }
    }
}

/// The transport of a candidate. Lines of both are read and written; the agent checks UDP, and TCP where its owner
/// carries connections ([`Transports::UdpAndTcp`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A TCP connection (RFC 6544).
    Tcp(TcpType),
}

/// Which transports an agent uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Transports {
    /// Datagrams only: TCP candidates are refused.
    #[default]
    Udp,
    /// Both (RFC 6544): the owner carries connections, with [`crate::Streams`].
    UdpAndTcp,
}

impl Transports {
    pub(crate) const fn include(self, transport: Transport) -> bool {
        match self {
            Transports::Udp => !transport.is_tcp(),
            Transports::UdpAndTcp => true,
        }
    }
}

/// Who opens the connection of a TCP candidate (RFC 6544 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpType {
    /// The owner of the candidate.
    Active,
    /// The other side.
    Passive,
    /// Both at once.
    SimultaneousOpen,
}

impl Transport {
    /// Whether a local candidate of this transport pairs with a remote one of `other` (RFC 8445
    /// §6.1.2.2, RFC 6544 §6.2).
    pub const fn pairs_with(self, other: Transport) -> bool {
        match (self, other) {
            (Transport::Udp, Transport::Udp)
            | (Transport::Tcp(TcpType::Active), Transport::Tcp(TcpType::Passive))
            | (Transport::Tcp(TcpType::Passive), Transport::Tcp(TcpType::Active))
            | (Transport::Tcp(TcpType::SimultaneousOpen), Transport::Tcp(TcpType::SimultaneousOpen)) => true,
            (Transport::Udp, Transport::Tcp(_))
            | (Transport::Tcp(_), Transport::Udp)
            | (
                Transport::Tcp(TcpType::Active),
                Transport::Tcp(TcpType::Active | TcpType::SimultaneousOpen),
            )
            | (
                Transport::Tcp(TcpType::Passive),
                Transport::Tcp(TcpType::Passive | TcpType::SimultaneousOpen),
            )
            | (
                Transport::Tcp(TcpType::SimultaneousOpen),
                Transport::Tcp(TcpType::Active | TcpType::Passive),
            ) => false,
        }
    }

    /// Whether packets travel in a connection.
    pub(crate) const fn is_tcp(self) -> bool {
        match self {
            Transport::Udp => false,
            Transport::Tcp(_) => true,
        }
    }

    /// A byte for the foundation: TCP candidates of any type share one.
    pub(crate) const fn digest(self) -> u8 {
        match self {
            Transport::Udp => 17,
            Transport::Tcp(_) => 6,
        }
    }
}

/// From where packets of a local candidate leave (RFC 8445 §4, "base").
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// From the candidate's own address: host candidates, and every remote candidate.
    Own,
    /// From another local socket. Boxed, as the next, because it is large and most candidates have none.
    Socket(Box<SocketAddr>),
    /// Through a relay, over this flow.
    Relay(Box<FourTuple>),
}

/// An address at which an agent may be reached (RFC 8445 §5.1).
///
/// It is written and read as a `candidate-attribute` (RFC 8839 §5.1):
///
/// ```
/// # use gimlet_ice::Candidate;
/// let candidate = Candidate::host("192.0.2.1:4000".parse().unwrap());
/// let line = candidate.to_string();
/// assert!(line.starts_with("candidate:") && line.ends_with(" 1 UDP 2130706431 192.0.2.1 4000 typ host"));
/// assert_eq!(line.parse::<Candidate>().unwrap(), candidate);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Groups candidates that likely share their fate.
    pub foundation: Foundation,
    /// Which component of the data stream, 1 to 256.
    pub component: u16,
    /// How packets travel.
    pub transport: Transport,
    /// The owner's preference, 1 to 2³¹ − 1.
    pub priority: u32,
    /// The address to reach.
    pub address: SocketAddr,
    /// How it was learned.
    pub kind: CandidateKind,
    /// The related address (`raddr`, `rport`): for diagnosis only.
    pub related: Option<SocketAddr>,
    /// The username fragment of the generation that it belongs to, if the line said so (RFC 8839 §5.1).
    pub ufrag: Option<Box<str>>,
    base: Base,
    /// What the line does not tell. Boxed because most hide nothing.
    guise: Option<Box<Guise>>,
}

/// How a candidate is shown without addresses that are private (draft-ietf-mmusic-mdns-ice-candidates).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Guise {
    /// Under a name that the agent is to draw.
    Nameless,
    /// Under this name.
    Named(MdnsName),
    /// With its address, which is no secret, and without the related one.
    Unrelated,
}

impl Candidate {
    /// A candidate for one of our sockets.
    pub fn host(address: SocketAddr) -> Self {
        Self::new(CandidateKind::Host, address, address.ip(), None, Base::Own)
    }

    /// What `server` saw of our socket `base`.
    pub fn server_reflexive(mapped: SocketAddr, base: SocketAddr, server: Option<SocketAddr>) -> Self {
        let kind = CandidateKind::ServerReflexive;
        let server = server.map(|server| server.ip());
        Self {
            related: Some(base),
            ..Self::new(kind, mapped, base.ip(), server, Base::Socket(Box::new(base)))
        }
    }

    /// An address on a relay that we reach over `relay`; `mapped` is what the relay saw of us.
    pub fn relayed(address: SocketAddr, relay: FourTuple, mapped: Option<SocketAddr>) -> Self {
        let base = Base::Relay(Box::new(relay));
        let server = Some(relay.remote.ip());
        Self { related: mapped, ..Self::new(CandidateKind::Relayed, address, address.ip(), server, base) }
    }

    /// From `ip` we open connections to the peer's passive candidates (RFC 6544 §4.1). The port says nothing: it is
    /// the 9 that RFC 6544 §4.5 asks for. Paths of it are [`crate::Streams`]'s.
    pub fn tcp_active(ip: IpAddr) -> Self {
        const DISCARD: u16 = 9;
        const DIRECTION_PREFERENCE: u16 = 6;
        Self::tcp(SocketAddr::new(ip, DISCARD), TcpType::Active, DIRECTION_PREFERENCE)
    }

    /// At `address` the owner takes connections, and hands them to [`crate::Streams::accept`].
    pub fn tcp_passive(address: SocketAddr) -> Self {
        const DIRECTION_PREFERENCE: u16 = 4;
        Self::tcp(address, TcpType::Passive, DIRECTION_PREFERENCE)
    }

    /// RFC 6544 §4.2: the local preference is the direction's, and below it 13 bits of the owner's. All of them are
    /// below what UDP begins with.
    fn tcp(address: SocketAddr, kind: TcpType, direction_preference: u16) -> Self {
        let transport = Transport::Tcp(kind);
        let foundation = Foundation::of(CandidateKind::Host, address.ip(), transport, None);
        let host = Self { foundation, transport, ..Self::host(address) };
        host.with_local_preference(direction_preference << 13 | 0x1fff)
    }

    /// What we saw of the peer when its check arrived (RFC 8445 §7.3.1.3). Whoever reached us through a connection
    /// opened it.
    pub(crate) fn peer_reflexive(
        address: SocketAddr,
        is_tcp: bool,
        priority: u32,
        foundation: Foundation,
    ) -> Self {
        let kind = CandidateKind::PeerReflexive;
        let transport = if is_tcp { Transport::Tcp(TcpType::Active) } else { Transport::Udp };
        Self { foundation, transport, priority, ..Self::new(kind, address, address.ip(), None, Base::Own) }
    }

    /// This local candidate's base, as the peer sees it at `mapped` (RFC 8445 §7.2.5.3.1).
    pub(crate) fn seen_as(&self, mapped: SocketAddr) -> Self {
        let (kind, transport, component) = (CandidateKind::PeerReflexive, self.transport, self.component);
        let (base, base_address) = match &self.base {
            Base::Own => (Base::Socket(Box::new(self.address)), self.address),
            Base::Socket(socket) => (self.base.clone(), **socket),
            Base::Relay(_) => (self.base.clone(), self.address),
        };
        Self {
            foundation: Foundation::of(kind, base_address.ip(), transport, None),
            component,
            transport,
            priority: as_peer_reflexive(self.priority),
            address: mapped,
            kind,
            related: Some(base_address),
            ufrag: None,
            base,
            guise: None,
        }
    }

    fn new(
        kind: CandidateKind,
        address: SocketAddr,
        base_ip: IpAddr,
        server: Option<IpAddr>,
        base: Base,
    ) -> Self {
        let transport = Transport::Udp;
        Self {
            foundation: Foundation::of(kind, base_ip, transport, server),
            component: 1,
            transport,
            priority: candidate_priority(kind, u16::MAX, 1),
            address,
            kind,
            related: None,
            ufrag: None,
            base,
            guise: None,
        }
    }

    /// The same candidate with another local preference: higher is tried, and preferred, earlier. The agent
    /// keeps it if it is free. 65 535, which every candidate begins with, leaves it to the agent, which lets IPv4
    /// and IPv6, and the networks of each, take turns (RFC 8421 §4).
    #[must_use]
    pub fn with_local_preference(mut self, local_preference: u16) -> Self {
        self.priority = candidate_priority(self.kind, local_preference, self.component);
        self
    }

    /// The same candidate for another component.
    #[must_use]
    pub fn with_component(mut self, component: u16) -> Self {
        self.component = component;
        self.priority = candidate_priority(self.kind, local_preference(self.priority), component);
        self
    }

    /// The same host candidate, with its address hidden from the peer: its line shows a name that the agent
    /// draws, the same for every candidate of the address (draft-ietf-mmusic-mdns-ice-candidates §3.1.1).
    /// [`crate::Event::PublishName`] tells it. Other lines of the agent lose their related addresses, and
    /// foundations, which are digests of addresses, are drawn anew. Hide before anything is signalled. What the
    /// agent sends still has its source, and candidates of other types, whose addresses others have seen already,
    /// cannot hide.
    ///
    /// ```
    /// # use gimlet_ice::{Agent, Candidate, Config, Event};
    /// # use gimlet_machine::{Instant, Machine, Rng};
    /// let mut agent = Agent::new(Instant::ZERO, Rng::from_u64(1), Config::default());
    /// let private = Candidate::host("192.168.1.2:4000".parse().unwrap());
    /// agent.add_local_candidate(Instant::ZERO, private.hidden()).unwrap();
    /// let line = agent.local_candidates().next().unwrap().to_string();
    /// let Some(Event::PublishName { name, address }) = agent.poll_event() else { panic!() };
    /// assert!(line.ends_with(&format!(" 1 UDP 2130706431 {name} 4000 typ host")));
    /// assert_eq!(address.to_string(), "192.168.1.2");
    /// ```
    #[must_use]
    pub fn hidden(self) -> Self {
        self.guised(Guise::Nameless)
    }

    /// The same host candidate, hidden behind a name that the owner chose.
    #[must_use]
    pub fn hidden_as(self, name: MdnsName) -> Self {
        self.guised(Guise::Named(name))
    }

    fn guised(self, guise: Guise) -> Self {
        let guise = (self.kind == CandidateKind::Host).then(|| Box::new(guise));
        Self { guise, ..self }
    }

    /// The name that its line shows in place of the address.
    pub fn mdns_name(&self) -> Option<&MdnsName> {
        match self.guise.as_deref()? {
            Guise::Named(name) => Some(name),
            Guise::Nameless | Guise::Unrelated => None,
        }
    }

    pub(crate) fn awaits_name(&self) -> bool {
        matches!(self.guise.as_deref(), Some(Guise::Nameless))
    }

    /// Whether its line tells an address of ours that it need not.
    pub(crate) fn is_revealing(&self) -> bool {
        self.guise.is_none() && self.kind != CandidateKind::Host
    }

    /// The same with a foundation that tells nothing, and without a related address in its line.
    pub(crate) fn concealed(mut self, foundation: Foundation) -> Self {
        if self.is_revealing() {
            self.guise = Some(Box::new(Guise::Unrelated));
        }
        if self.guise.is_some() {
            self.foundation = foundation;
        }
        self
    }

    /// Whether both have the same name and port.
    pub(crate) fn is_namesake_of(&self, other: &Candidate) -> bool {
        let named = self.mdns_name().is_some() && self.mdns_name() == other.mdns_name();
        named && self.address.port() == other.address.port()
    }

    /// The same, found at `ip`.
    pub(crate) fn at(mut self, ip: IpAddr) -> Self {
        self.address.set_ip(ip);
        self
    }

    /// The local preference inside [`Candidate::priority`].
    pub const fn local_preference(&self) -> u16 {
        local_preference(self.priority)
    }

    /// The path from this local candidate to `peer`. One through a connection is written as if the peer were a relay
    /// to itself, which no relay is: [`crate::Streams`] carries those.
    pub fn path_to(&self, peer: SocketAddr) -> Path {
        match &self.base {
            Base::Own if self.transport.is_tcp() => {
                Path::Relayed { relay: FourTuple::new(self.address, peer), peer }
            }
            Base::Socket(socket) if self.transport.is_tcp() => {
                Path::Relayed { relay: FourTuple::new(**socket, peer), peer }
            }
            Base::Own => Path::Direct(FourTuple::new(self.address, peer)),
            Base::Socket(socket) => Path::Direct(FourTuple::new(**socket, peer)),
            Base::Relay(relay) => Path::Relayed { relay: **relay, peer },
        }
    }

    /// The address that packets leave from, where we know it: of a relayed candidate that is the relay's.
    pub(crate) fn base_ip(&self) -> IpAddr {
        match &self.base {
            Base::Own | Base::Relay(_) => self.address.ip(),
            Base::Socket(socket) => socket.ip(),
        }
    }

    /// Whether packets of `path` leave from, and arrive at, this local candidate's base.
    pub(crate) fn is_base_of(&self, path: &Path) -> bool {
        if let Some(flow) = stream_of(path) {
            return self.transport.is_tcp() && matches!(self.base, Base::Own) && self.address == flow.local;
        }
        if self.transport.is_tcp() {
            return false;
        }
        match (&self.base, path) {
            (Base::Own, Path::Direct(tuple)) => self.address == tuple.local,
            (Base::Socket(socket), Path::Direct(tuple)) => **socket == tuple.local,
            (Base::Relay(flow), Path::Relayed { relay, .. }) => **flow == *relay,
            (Base::Own | Base::Socket(_), Path::Relayed { .. }) | (Base::Relay(_), Path::Direct(_)) => false,
        }
    }

    /// Whether a local candidate knows from where it sends: one that was read from a line does not, unless
    /// it is a host's.
    pub(crate) const fn has_base(&self) -> bool {
        matches!((self.kind, &self.base), (CandidateKind::Host, Base::Own))
            || matches!((self.kind, &self.base), (CandidateKind::ServerReflexive, Base::Socket(_)))
            || matches!((self.kind, &self.base), (CandidateKind::Relayed, Base::Relay(_)))
    }

    /// Whether both local candidates send from the same place.
    pub(crate) fn shares_base_with(&self, other: &Candidate) -> bool {
        self.path_to(other.address) == other.path_to(other.address)
    }

    /// Whether a pair of this local and that remote candidate makes sense (RFC 8445 §6.1.2.2).
    pub(crate) fn pairs_with(&self, peer: &Candidate) -> bool {
        let families = match (self.address.ip(), peer.address.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => true,
            // Link-local addresses reach only their link.
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                ours.is_unicast_link_local() == theirs.is_unicast_link_local()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        };
        // A relay is no way to itself.
        let returns = matches!(&self.base, Base::Relay(flow) if flow.remote == peer.address);
        let transports = !returns && self.transport.pairs_with(peer.transport);
        families && self.component == peer.component && transports
    }

    /// Whether we are to begin on a pair of this local and that remote candidate. Of a passive one's pairs the peer
    /// does, and they form when it is heard (RFC 6544 §6.2).
    pub(crate) fn begins_with(&self, peer: &Candidate) -> bool {
        self.transport != Transport::Tcp(TcpType::Passive) && self.pairs_with(peer)
    }

    /// Whether the address can be a candidate at all. Multicast and broadcast are refused because a
    /// peer that names them would have us flood a network (RFC 8445 §19.5.1).
    pub(crate) fn validate(&self) -> Result<(), CandidateError> {
        let ip = self.address.ip();
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(CandidateError::Unusable(self.address));
        }
        self.validate_port()
    }

    /// The part of it that needs no address.
    pub(crate) fn validate_port(&self) -> Result<(), CandidateError> {
        if self.address.port() == 0 {
            return Err(CandidateError::Unusable(self.address));
        }
        match self.transport {
            Transport::Udp | Transport::Tcp(TcpType::Active | TcpType::Passive) => Ok(()),
            Transport::Tcp(TcpType::SimultaneousOpen) => Err(CandidateError::UnsupportedTransport),
        }
    }
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The connection that `path` runs through, if it does (see [`Candidate::path_to`]). No relay forwards to itself.
pub(crate) fn stream_of(path: &Path) -> Option<FourTuple> {
    match path {
        Path::Relayed { relay, peer } if relay.remote == *peer => Some(*relay),
        Path::Relayed { .. } | Path::Direct(_) => None,
    }
}

/// Whether `ip` is of a kind that only a nearby host reaches: private, shared, unique-local,
/// link-local or loopback (RFC 1918, 6598, 4193, 3927, 4291).
pub(crate) fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests;
