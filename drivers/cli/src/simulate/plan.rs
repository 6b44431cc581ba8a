//! What is simulated: a seed, two NATs, and what the lines do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gimlet_machine::{Instant, PeerId};
use gimlet_node::{Config, Identity, Node};
use gimlet_sim::{HostConfig, HostId, LinkConfig, NatConfig, NatId, NatKind, World, seeded_provider};

use crate::failure::{Exit, Failure};

/// The wall clock of every simulation begins here: 2023-11-14 22:13:20 UTC.
const UNIX_TIME: Duration = Duration::from_secs(1_700_000_000);

/// How long the ticket of a simulated public node is good for, in seconds.
const TICKET_SECONDS: u64 = 3_600;

/// The names of the hosts, in the order of their addition.
pub(crate) const NAMES: [&str; 3] = ["public", "alice", "bob"];

/// One simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// In front of Alice, and of Bob.
    pub(crate) nats: [NatKind; 2],
    /// What happens to a packet between any two hosts.
    pub(crate) link: LinkConfig,
    /// The size of Alice's file.
    pub(crate) bytes: u64,
}

/// The network that a plan describes, at its beginning.
pub(crate) struct Network {
    pub(crate) world: World<Node>,
    pub(crate) alice: HostId,
    pub(crate) bob: HostId,
    /// The peer ids, in the order of [`NAMES`].
    pub(crate) ids: [PeerId; 3],
}

impl Plan {
    /// Builds the network and introduces both peers to the public node.
    pub(crate) fn network(&self) -> Result<Network, Failure> {
        let mut world = World::new(self.seed);
        let [nat_a, nat_b] = self.nats;
        let outside_a = Ipv4Addr::new(198, 51, 100, 1);
        let outside_b = Ipv4Addr::new(203, 0, 113, 1);
        let behind = [None, place_nat(&mut world, nat_a, outside_a), place_nat(&mut world, nat_b, outside_b)];
        let private =
            |kind, inside: [u8; 4], outside| if kind == NatKind::None { outside } else { inside.into() };
        let addresses = [
            SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 4_433),
            SocketAddr::new(private(nat_a, [10, 1, 0, 2], IpAddr::from(outside_a)), 5_000),
            SocketAddr::new(private(nat_b, [10, 2, 0, 2], IpAddr::from(outside_b)), 5_000),
        ];
        // Where the standard library's clock stands does not matter: only differences are used.
        let origin = std::time::Instant::now();
        let mut hosts = Vec::new();
        let mut ids = [PeerId([0; 32]); 3];
        for (nth, name) in NAMES.into_iter().enumerate() {
            let dice = |label: &str| world.rng(label, nth as u64);
            let identity = Identity::from_secret(dice("identity").bytes());
            ids[nth] = identity.peer_id();
            let provider = seeded_provider(dice("tls"));
            let local = vec![addresses[nth]];
            let mut config = Config::new(identity, dice("node").bytes(), local, origin, UNIX_TIME, provider);
            config.public = nth == 0;
            let node = Node::new(Instant::ZERO, config).map_err(|error| Failure::new(Exit::Failed, error))?;
            // The whole way is on the sender's line, so each packet meets loss and delay once.
            let mut host = HostConfig::new(name, [addresses[nth]]).behind(behind[nth]);
            host.uplink = self.link;
            hosts.push(world.add_host(host, node));
        }
        let (public, alice, bob) = (hosts[0], hosts[1], hosts[2]);
        let expires = UNIX_TIME.as_secs() + TICKET_SECONDS;
        let ticket = world.touch(public, |node, _| node.ticket(&addresses[..1], expires));
        let ticket = ticket.map_err(|error| Failure::new(Exit::Failed, error))?;
        for host in [alice, bob] {
            let added = world.touch(host, |node, now| node.add_ticket(now, &ticket));
            added.map_err(|error| Failure::new(Exit::Failed, error))?;
        }
        Ok(Network { world, alice, bob, ids })
    }
}

fn place_nat(world: &mut World<Node>, kind: NatKind, outside: Ipv4Addr) -> Option<NatId> {
    NatConfig::of_kind(kind, outside).map(|config| world.add_nat(config, LinkConfig::default()))
}
