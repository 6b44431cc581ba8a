//! Which network each address is in, and what is between the networks.
//!
//! Networks are called realms: realm 0 is the internet, and behind NAT *n* is realm *n* + 1. Each
//! realm but the internet has one way out, its NAT.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use gimlet_machine::Rng;

use crate::link::{Link, LinkConfig};
use crate::nat::{Egress, Nat, NatConfig};
use crate::packed::{Packed, PackedMap};

/// Names a NAT of a [`crate::World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NatId(pub(crate) u32);

impl NatId {
    /// Its number: NATs count from 0 in the order in which they were added.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nat {}", self.0)
    }
}

/// The realm of public addresses.
pub(crate) const INTERNET: u32 = 0;

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Host(u32),
    Nat(u32),
}

/// A NAT in the world.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) nat: Nat,
    /// The same box with its table for connections.
    pub(crate) tcp: Nat,
    /// The realm that its outside addresses are in.
    pub(crate) outer: u32,
    pub(crate) uplink: Link,
    pub(crate) downlink: Link,
    /// Hosts whose way out leads through it.
    hosts: Vec<u32>,
}

/// Realms, gateways, routes and cuts.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) gateways: Vec<Gateway>,
    /// Keyed by address, tagged with the realm.
    owners: PackedMap<Packed, Owner>,
    /// (sender, receiver) pairs that packets do not cross.
    cuts: BTreeSet<(u32, u32)>,
}

impl Net {
    pub(crate) fn add_gateway(
        &mut self,
        rng: &Rng,
        behind: Option<NatId>,
        config: NatConfig,
        link: LinkConfig,
    ) -> NatId {
        let id = u32::try_from(self.gateways.len()).expect("fewer than 2^32 NATs");
        let rng = rng.fork_nth("nat", u64::from(id));
        let outer = behind.map_or(INTERNET, |behind| behind.0 + 1);
        assert!(outer <= id, "{behind:?} is not a NAT of this world");
        for address in &config.outside {
            let realm = self.realm(behind, address.is_ipv6());
            assert_eq!(realm, outer, "the NAT in front does not translate the family of {address}");
            self.claim(realm, *address, Owner::Nat(id));
        }
        self.gateways.push(Gateway {
            tcp: Nat::for_tcp(rng.fork("tcp ports"), &config),
            nat: Nat::new(rng.fork("ports"), config),
            outer,
            uplink: Link::new(rng.fork("uplink"), link),
            downlink: Link::new(rng.fork("downlink"), link),
            hosts: Vec::new(),
        });
        NatId(id)
    }

    /// Gives a host its addresses; returns the realms of its IPv4 and its IPv6 sockets.
    pub(crate) fn attach(&mut self, host: u32, sockets: &[SocketAddr], behind: Option<NatId>) -> [u32; 2] {
        let realms = [self.realm(behind, false), self.realm(behind, true)];
        for socket in sockets {
            self.claim(realms[usize::from(socket.is_ipv6())], socket.ip(), Owner::Host(host));
        }
        let mut realm = realms[usize::from(sockets.iter().all(SocketAddr::is_ipv6))];
        while realm != INTERNET {
            let gateway = self.gateway_mut(realm);
            gateway.hosts.push(host);
            realm = gateway.outer;
        }
        realms
    }

    /// Takes a host's addresses away again.
    pub(crate) fn detach(&mut self, host: u32, sockets: &[SocketAddr], realms: [u32; 2]) {
        for socket in sockets {
            self.owners.remove(&Packed::address(socket.ip(), realms[usize::from(socket.is_ipv6())]));
        }
        for gateway in &mut self.gateways {
            gateway.hosts.retain(|behind| *behind != host);
        }
    }

    fn claim(&mut self, realm: u32, address: IpAddr, owner: Owner) {
        assert!(!address.is_unspecified(), "{owner:?} needs an address that names it, not {address}");
        let earlier = self.owners.insert(Packed::address(address, realm), owner).unwrap_or(owner);
        assert_eq!(earlier, owner, "{address} cannot belong to both in the same network");
    }

    /// The realm that addresses of a family are in, behind a NAT: beyond those that do not
    /// translate it.
    fn realm(&self, behind: Option<NatId>, is_ipv6: bool) -> u32 {
        let mut realm = behind.map_or(INTERNET, |behind| behind.0 + 1);
        while realm != INTERNET {
            let gateway = self.gateway(realm);
            if gateway.nat.config().outside.iter().any(|outside| outside.is_ipv6() == is_ipv6) {
                break;
            }
            realm = gateway.outer;
        }
        realm
    }

    /// Who has `address` in `realm`.
    pub(crate) fn owner(&self, realm: u32, address: IpAddr) -> Option<Owner> {
        self.owners.get(&Packed::address(address, realm)).copied()
    }

    /// The gateway between `realm`, which is not the internet, and the world.
    pub(crate) fn gateway(&self, realm: u32) -> &Gateway {
        &self.gateways[realm as usize - 1]
    }

    pub(crate) fn gateway_mut(&mut self, realm: u32) -> &mut Gateway {
        &mut self.gateways[realm as usize - 1]
    }

    pub(crate) fn cut(&mut self, from: u32, to: u32) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether packets of `sender` do not get to `owner`.
    pub(crate) fn is_cut(&self, sender: u32, owner: Owner) -> bool {
        if self.cuts.is_empty() {
            return false;
        }
        match owner {
            Owner::Host(host) => self.cuts.contains(&(sender, host)),
            Owner::Nat(nat) => {
                let hosts = &self.gateways[nat as usize].hosts;
                !hosts.is_empty() && hosts.iter().all(|host| self.cuts.contains(&(sender, *host)))
            }
        }
    }

    /// Whether hosts in these realms can find a path, if `judge` says so about the NATs in front of each, the
    /// innermost first; plus what it does not know: who shares a network, and what firewalls let out.
    pub(crate) fn path_possible(
        &self,
        a: u32,
        b: u32,
        judge: fn(&[&NatConfig], &[&NatConfig]) -> bool,
    ) -> bool {
        let (ways_a, ways_b) = (self.way_out(a), self.way_out(b));
        // Nobody knows a peer's port beforehand: a firewall that minds ports lets none out.
        let lets_out = |realm: &u32| *self.gateway(*realm).nat.egress() == Egress::Any;
        let reaches = |way: &[u32], realm: u32| {
            let crossed = way.iter().position(|there| *there == realm);
            crossed.map(|count| way[..count].iter().all(lets_out))
        };
        if let Some(is_open) = reaches(&ways_a, b).or_else(|| reaches(&ways_b, a)) {
            return is_open;
        }
        if reaches(&ways_a, INTERNET) != Some(true) || reaches(&ways_b, INTERNET) != Some(true) {
            return false;
        }
        // Both see each other's outermost endpoints: if those are on one NAT, it must hairpin.
        let outermost = |way: &[u32]| way[way.len() - 2];
        let shared = outermost(&ways_a) == outermost(&ways_b);
        if shared && !self.gateway(outermost(&ways_a)).nat.config().hairpin {
            return false;
        }
        let chain = |way: &[u32]| -> Vec<&NatConfig> {
            way.iter()
                .filter(|realm| **realm != INTERNET)
                .map(|realm| self.gateway(*realm).nat.config())
                .collect()
        };
        judge(&chain(&ways_a), &chain(&ways_b))
    }

    /// The realms from `realm` to the internet, both included.
    fn way_out(&self, realm: u32) -> Vec<u32> {
        let mut way = vec![realm];
        while let Some(inner) = way.last().copied().filter(|realm| *realm != INTERNET) {
            way.push(self.gateway(inner).outer);
        }
        way
    }
}
