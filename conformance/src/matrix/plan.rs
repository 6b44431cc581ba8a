//! What a seed means.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gimlet_machine::Rng;
use gimlet_node::{Config, Identity, Node, RelayConfig, TurnServer, TurnTls, TurnTransport};
use gimlet_sim::{
    Chance, EarlyInbound, Edge, Filtering, Firewall, HostConfig, HostId, LinkConfig, Mapping, NatConfig,
    NatId, Observer, PortSpan, World, seeded_provider,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::RELAY_CERTIFICATE;
use crate::inhabitant::{Inhabitant, Relay};
use crate::meeting::EPOCH;

/// Where the public node listens.
const PUBLIC: &str = "198.51.100.1:4433";
/// Where the relay does, if there is one: for datagrams and connections, and for TLS.
const RELAY: &str = "198.51.100.2:3478";
const RELAY_TLS_PORT: u16 = 443;
/// Datagrams that leave in one call.
const TRAIN: usize = 10;
/// Loss from peer to peer, in percent, and the loss of each of the two lines in between that makes it, in
/// millionths: `1 - sqrt(1 - loss)`.
const LOSSES: [(u32, u32); 3] = [(0, 0), (5, 25_321), (20, 105_573)];

/// What carries data between peers that cannot reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayKind {
    /// Nothing.
    None,
    /// A TURN server that both were told of: over UDP, and if a firewall drops that in front of one of them, over TCP
    /// and TLS as well. Nobody tells them what their firewall lets out.
    Turn,
    /// The public node. It relays over UDP only, so there is no such world with a firewall.
    Public,
}

/// A world and who lives in it, before it is built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// What is in front of each peer and of nobody else, the outermost first.
    pub chains: [Vec<NatConfig>; 2],
    /// What is in front of both.
    pub shared: Option<NatConfig>,
    /// Whether both have the same private address, each at home.
    pub twins: bool,
    /// What carries data between peers that cannot reach each other.
    pub relay: RelayKind,
    /// Loss from peer to peer, in percent, half of it on each peer's line.
    pub loss: u32,
    /// Of each peer's line, in each direction.
    pub latency: [Duration; 2],
    /// How long both are silent before a second file.
    pub silence: Option<Duration>,
}

/// A world with its inhabitants. Both peers know the public node's ticket and are connecting to it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) world: World<Inhabitant>,
    pub(super) public: HostId,
    pub(super) peers: [HostId; 2],
}

impl Plan {
    /// What `seed` means.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::from_u64(seed).fork("matrix");
        let (loss, _) = LOSSES[rng.below(3) as usize];
        let relay = match rng.below(4) {
            0 => RelayKind::Turn,
            1 => RelayKind::Public,
            _ => RelayKind::None,
        };
        let latency = [(); 2].map(|()| Duration::from_micros(500 + rng.below(50_000)));
        let situation = rng.below(20);
        let mut shared = (situation >= 16).then(|| NatConfig::draw(&mut rng, [203, 0, 113, 9]));
        let mut chains = [1, 2].map(|nth| match situation {
            // Both in one home.
            19 => Vec::new(),
            // Each in a home of their own, behind one carrier.
            16..=18 => vec![NatConfig::draw(&mut rng, [100, 64, nth, 1])],
            _ => match rng.below(10) {
                0 => Vec::new(),
                1..=7 => vec![NatConfig::draw(&mut rng, [203, 0, 113, nth])],
                _ => {
                    let carrier = NatConfig::draw(&mut rng, [203, 0, 113, nth]);
                    vec![carrier, NatConfig::draw(&mut rng, [100, 64, nth, 1])]
                }
            },
        });
        if situation == 15
            && let Some(nat) = chains[rng.below(2) as usize].first_mut()
        {
            nat.firewall = if rng.below(2) == 0 { Firewall::without_udp() } else { Firewall::web_only() };
        }
        if rng.below(8) != 0 {
            let nats = chains.iter_mut().flatten().chain(&mut shared);
            nats.for_each(|nat| nat.early_inbound = EarlyInbound::Ignored);
        }
        let walled = chains.iter().flatten().any(|nat| nat.firewall != Firewall::default());
        let relay = if walled && relay == RelayKind::Public { RelayKind::Turn } else { relay };
        let twins = shared.is_none() && rng.below(4) == 0;
        let nats = chains.iter().flatten().chain(&shared);
        let longest = nats.map(|nat| nat.expiry.after).max().unwrap_or_default();
        let silence = (rng.below(8) == 0).then(|| longest + Duration::from_secs(30));
        Self { seed, chains, shared, twins, relay, loss, latency, silence }
    }

    /// The same world, with a relay or without one. If it had none: a TURN server where a firewall drops UDP, and for
    /// every other seed.
    #[must_use]
    pub fn relayed(mut self, yes: bool) -> Self {
        let walled = self.is_blocked(0) || self.is_blocked(1);
        self.relay = match (yes, self.relay) {
            (false, _) => RelayKind::None,
            (true, RelayKind::None) if walled || self.seed.is_multiple_of(2) => RelayKind::Turn,
            (true, RelayKind::None) => RelayKind::Public,
            (true, kind @ (RelayKind::Turn | RelayKind::Public)) => kind,
        };
        self
    }

    /// What all NATs in front of a peer do together, and how far its next port can be guessed.
    pub fn edge(&self, nth: usize) -> (Edge, PortSpan) {
        let chain = || self.chains[nth].iter().rev().chain(&self.shared);
        (Edge::of(chain()), PortSpan::of(chain()))
    }

    /// Whether a firewall keeps a peer's datagrams in.
    pub fn is_blocked(&self, nth: usize) -> bool {
        self.chains[nth].iter().any(|nat| nat.firewall != Firewall::default())
    }

    /// Whether there is a NAT that takes an uninvited packet for the beginning of a flow.
    pub fn clashes(&self) -> bool {
        let mut nats = self.chains.iter().flatten().chain(&self.shared);
        nats.any(|nat| nat.early_inbound == EarlyInbound::TakesTuple)
    }

    /// The cell of the matrix that it belongs to.
    pub fn cell(&self) -> String {
        if let Some(shared) = &self.shared {
            let between = match (self.chains[0].is_empty(), shared.hairpin) {
                (true, _) => "one home",
                (false, true) => "one carrier, hairpin",
                (false, false) => "one carrier, no hairpin",
            };
            return between.into();
        }
        let mut sides = [0, 1].map(|nth| self.side(nth));
        sides.sort_unstable();
        format!("{} – {}", sides[0], sides[1])
    }

    fn side(&self, nth: usize) -> String {
        if self.is_blocked(nth) {
            return "UDP blocked".into();
        }
        if self.chains[nth].is_empty() {
            return "open".into();
        }
        let (edge, _) = self.edge(nth);
        let mapping = match edge.mapping {
            Mapping::EndpointIndependent => "EIM",
            Mapping::AddressDependent => "ADM",
            Mapping::AddressAndPortDependent => "APDM",
        };
        let filtering = match edge.filtering {
            Filtering::EndpointIndependent => "EIF",
            Filtering::AddressDependent => "ADF",
            Filtering::AddressAndPortDependent => "APDF",
        };
        format!("{mapping}/{filtering}")
    }

    /// Builds it. An `observer` sees every packet.
    pub(super) fn open(&self, observer: Option<Box<dyn Observer>>) -> Scene {
        let mut world = World::new(self.seed);
        if let Some(observer) = observer {
            world.observe(observer);
        }
        let line = |nth: Option<usize>| {
            // Servers are well connected: what loses is the peers' lines.
            let Some(nth) = nth else { return LinkConfig::with_latency(Duration::from_millis(5)) };
            let loss = LOSSES.iter().find(|(percent, _)| *percent == self.loss).map_or(0, |(_, line)| *line);
            LinkConfig { loss: Chance::per_million(loss), ..LinkConfig::with_latency(self.latency[nth]) }
        };
        let relay: SocketAddr = RELAY.parse().expect("a socket address");
        let mut servers = Vec::new();
        if self.relay == RelayKind::Turn {
            let rng = world.rng("relay", 0);
            let everywhere = SocketAddr::new(relay.ip(), 0);
            let secure = SocketAddr::new(relay.ip(), RELAY_TLS_PORT);
            let host = HostConfig::new("relay", [everywhere]).link(line(None));
            let host = HostConfig { listens: vec![relay, secure], ..host };
            world.add_host(host, Inhabitant::Relay(Box::new(Relay::new(rng, relay.ip()))));
            servers.push(Relay::known_to(relay));
            if self.is_blocked(0) || self.is_blocked(1) {
                let tcp = TurnServer { transport: TurnTransport::Tcp, ..Relay::known_to(relay) };
                let tls = TurnServer { transport: TurnTransport::Tls(trust()), ..Relay::known_to(secure) };
                servers.extend([tcp, tls]);
            }
        }
        let listens: SocketAddr = PUBLIC.parse().expect("a socket address");
        let host = HostConfig::new("public", [listens]).link(line(None));
        let embedded = (self.relay == RelayKind::Public).then(RelayConfig::default);
        let public = add_node(&mut world, host, 0, &[], embedded);
        let shared = self.shared.as_ref().map(|nat| world.add_nat(nat.clone(), LinkConfig::default()));
        let peers = [0, 1].map(|nth| {
            let nat = self.add_nats(&mut world, nth, shared);
            let socket = SocketAddr::new(self.address(nth).into(), 5_000);
            let host = HostConfig::new(["a", "b"][nth], [socket]).behind(nat).link(line(Some(nth)));
            add_node(&mut world, host, nth as u8 + 1, &servers, None)
        });
        let expires = EPOCH.as_secs() + 86_400;
        let ticket =
            touch(&mut world, public, |node, _| node.ticket(&[listens], expires)).expect("one address");
        for host in peers {
            touch(&mut world, host, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
        }
        Scene { world, public, peers }
    }

    fn add_nats(&self, world: &mut World<Inhabitant>, nth: usize, shared: Option<NatId>) -> Option<NatId> {
        self.chains[nth].iter().fold(shared, |front, nat| {
            let (nat, line) = (nat.clone(), LinkConfig::default());
            Some(match front {
                Some(front) => world.add_nat_behind(front, nat, line),
                None => world.add_nat(nat, line),
            })
        })
    }

    fn address(&self, nth: usize) -> Ipv4Addr {
        let last = nth as u8 + 1;
        match (self.chains[nth].is_empty(), &self.shared) {
            (true, None) => [192, 0, 2, last].into(),
            (true, Some(_)) => [192, 168, 0, 1 + last].into(),
            (false, _) if self.twins => [192, 168, 0, 2].into(),
            (false, _) => [10, 0, last, 2].into(),
        }
    }
}

/// What tells the relay from others.
fn trust() -> TurnTls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(RELAY_CERTIFICATE).expect("a certificate")).expect("a root");
    TurnTls { server_name: "relay.example".into(), roots: Arc::new(roots) }
}

/// Whether `address` belongs to a server of the scene.
pub(super) fn is_server(address: SocketAddr) -> bool {
    let server = |text: &str| text.parse::<SocketAddr>().is_ok_and(|server| server.ip() == address.ip());
    server(PUBLIC) || server(RELAY)
}

/// Gives a command to the node on `host`.
pub(super) fn touch<T>(
    world: &mut World<Inhabitant>,
    host: HostId,
    command: impl FnOnce(&mut Node, gimlet_machine::Instant) -> T,
) -> T {
    world.touch(host, |inhabitant, now| command(inhabitant.node_mut().expect("a node"), now))
}

fn add_node(
    world: &mut World<Inhabitant>,
    host: HostConfig,
    nth: u8,
    servers: &[TurnServer],
    relay: Option<RelayConfig>,
) -> HostId {
    let host = HostConfig { segments_max: TRAIN, ..host };
    let sockets = host.sockets.clone();
    let (servers, origin) = (servers.to_vec(), std::time::Instant::now());
    world.add_host_with(host, move |mut seat| {
        let identity = Identity::from_secret([nth + 1; 32]);
        let provider = seeded_provider(seat.rng.fork("tls"));
        let mut config = Config::new(identity, seat.rng.bytes(), sockets.clone(), origin, EPOCH, provider);
        config.public = nth == 0;
        config.relay.clone_from(&relay);
        config.turn_servers.clone_from(&servers);
        Inhabitant::Node(Box::new(Node::new(seat.now, config).expect("the configuration is complete")))
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.cell())?;
        let relay = match self.relay {
            RelayKind::None => "no relay",
            RelayKind::Turn => "a TURN server",
            RelayKind::Public => "a public node that relays",
        };
        write!(f, ", {relay}, {} % loss, lines of {:?}", self.loss, self.latency)?;
        if let Some(silence) = self.silence {
            write!(f, ", silent for {silence:?}")?;
        }
        if self.twins {
            f.write_str(", the same private address")?;
        }
        for (who, chain) in ["both", "a", "b"].iter().zip([&[], &self.chains[0][..], &self.chains[1][..]]) {
            let chain = if *who == "both" { self.shared.as_slice() } else { chain };
            for nat in chain {
                write!(f, "\n  {who}: {nat:?}")?;
            }
        }
        Ok(())
    }
}
