//! A node on real sockets, and the first things it does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gimlet_machine::PeerId;
use gimlet_node::{
    Allow, Config, ConnectError, Error, Identity, Node, Paths, PunchLimits, RelayConfig, Ticket, TurnServer,
};
use gimlet_tokio::{Connection, Handle};
use gimlet_udp::{Clock, Sockets};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio::time::timeout;

use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::watch::Watch;

/// How long closing may take before it is cut short.
pub(crate) const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a node is started with.
pub(crate) struct Start {
    pub(crate) identity: Identity,
    pub(crate) sockets: Sockets,
    /// Whether it serves others.
    pub(crate) public: bool,
    pub(crate) allow: Allow,
    /// Relays for peers that cannot be reached directly.
    pub(crate) turn: Vec<TurnServer>,
    /// How it relays for others, if it is public.
    pub(crate) relay: Option<RelayConfig>,
    pub(crate) paths: Paths,
    /// What punching holes may cost; `None`: it is not tried.
    pub(crate) punch: Option<PunchLimits>,
}

/// A running node.
pub(crate) type Running = Handle<Node>;

impl Start {
    /// Builds the node and drives it in the current runtime.
    pub(crate) fn run(self) -> Result<Running, Failure> {
        let seed = gimlet_udp::seed().map_err(|error| Failure::local("draw a seed", &error))?;
        let clock = Clock::start();
        let mut config = Config::new(
            self.identity,
            seed,
            self.sockets.local_addresses().collect(),
            clock.origin(),
            clock.unix_time_at_origin(),
            provider(),
        );
        config.public = self.public;
        config.allow = self.allow;
        config.turn_servers = self.turn;
        config.relay = self.relay;
        config.paths = self.paths;
        config.limits.punch = self.punch;
        let node = Node::new(clock.now(), config).map_err(|error| Failure::new(Exit::Failed, error))?;
        gimlet_tokio::spawn(node, self.sockets, clock)
            .map_err(|error| Failure::local("drive the sockets", &error))
    }
}

/// aws-lc-rs with its hybrid post-quantum key exchange first: what is recorded today shall not be
/// readable when there are quantum computers.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(provider)
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The loopback addresses in the families in which a ticket names one: without a socket there, the
/// node that it names cannot be reached.
pub(crate) fn loopback_for(ticket: &Ticket) -> Vec<IpAddr> {
    ticket.addresses().iter().map(SocketAddr::ip).filter(IpAddr::is_loopback).collect()
}

/// Connects to the public node that a ticket names.
pub(crate) async fn join(
    node: &Running,
    ticket: &Ticket,
    watch: &Watch,
    wait: Duration,
) -> Result<(), Failure> {
    let own = node.read(Node::peer_id).map_err(|stopped| Failure::new(Exit::Failed, stopped))?;
    if ticket.peer() == own {
        return Err(Failure::new(Exit::Usage, "the ticket is our own: a node cannot join itself")
            .remedy("use another identity here, with --identity FILE"));
    }
    ticket.check(unix_seconds()).map_err(|error| {
        Failure::new(Exit::Unreachable, error)
            .remedy("run `gimlet serve` there again; check this machine's date, too")
    })?;
    let added = node.with(|node, now| node.add_ticket(now, ticket));
    added
        .map_err(|stopped| Failure::new(Exit::Failed, stopped))?
        .map_err(|error| Failure::new(Exit::Unreachable, error))?;
    match timeout(wait, node.connect(ticket.peer())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unreachable(ticket.peer(), &error, "the public node")),
        Err(_) => {
            let addresses: Vec<String> = ticket.addresses().iter().map(ToString::to_string).collect();
            let why = watch.last_failure(ticket.peer()).unwrap_or(ConnectError::HandshakeTimeout);
            Err(Failure::new(
                Exit::Unreachable,
                format_args!("cannot reach the public node at {}: {why}", addresses.join(", ")),
            )
            .remedy("check that `gimlet serve` runs there, and that firewalls let its UDP port through"))
        }
    }
}

/// Connects to a peer through the public nodes that we are connected to.
pub(crate) async fn reach(node: &Running, peer: PeerId, wait: Duration) -> Result<Connection<Node>, Failure> {
    match timeout(wait, node.connect(peer)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(unreachable(peer, &error, "the peer")),
        Err(_) => Err(Failure::new(
            Exit::Unreachable,
            format_args!("no connection to {} within {} s", peer.short(), wait.as_secs()),
        )
        .remedy("try again, or give it longer with --timeout")),
    }
}

fn unreachable(peer: PeerId, error: &gimlet_tokio::Error<Error>, who: &str) -> Failure {
    let failure = Failure::new(Exit::Unreachable, format_args!("{who} {}: {error}", peer.short()));
    match error.session() {
        Some(Error::Connect(ConnectError::Unreachable(_))) => {
            failure.remedy("check the peer id, and that `gimlet join` runs there with the same ticket")
        }
        Some(Error::Connect(ConnectError::NoPath)) => failure.remedy(
            "join a public node that relays, as `gimlet serve` does by default, or use a relay with --turn on one \
             side, and leave out --direct-only; `gimlet network --stun HOST:PORT HOST:PORT` on both sides \
             shows which NAT is in the way",
        ),
        Some(Error::Myself) => failure.remedy("name the other peer's id"),
        Some(_) | None => failure,
    }
}

/// Closes every connection, delivering what was accepted, within limits. Another Ctrl-C cuts it
/// short.
pub(crate) async fn close(node: &Running, interrupts: &mut Interrupts) {
    let closed = async {
        tokio::select! {
            closed = timeout(CLOSE_MAX, node.close()) => closed.is_ok(),
            () = interrupts.next() => false,
        }
    };
    if !closed.await {
        node.abort();
    }
}
