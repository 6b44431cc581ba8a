//! A host's UDP sockets: those it was given, and those its machine asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use gimlet_machine::{Answer, CloseReason, Rng, SocketId};

/// Sockets and connections that a machine may have open besides the sockets it was given: the usual
/// limit of open files. Beyond it requests are answered with [`CloseReason::TooMany`].
/// [`crate::HostConfig::opened_max`] sets another limit.
pub const OPENED_MAX: usize = 1_024;

/// The ports from which a machine that does not mind gets one (RFC 6335 §6).
const DYNAMIC: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Which addresses and ports are a host's own.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Sorted. Port 0 stands for every port of the address.
    given: Vec<SocketAddr>,
    /// What the machine asked for, by name and by address.
    opened: BTreeMap<SocketId, SocketAddr>,
    names: BTreeMap<SocketAddr, SocketId>,
    max: usize,
    /// Decides which free port it gets who asks for any.
    rng: Rng,
}

impl Sockets {
    pub(crate) fn new(rng: Rng, given: Vec<SocketAddr>, max: usize) -> Self {
        let mut sockets =
            Self { given: Vec::new(), opened: BTreeMap::new(), names: BTreeMap::new(), max, rng };
        sockets.give(given);
        sockets
    }

    /// Other addresses from here on. Whatever is bound to an address that is gone stays open and useless.
    pub(crate) fn give(&mut self, mut given: Vec<SocketAddr>) {
        assert!(!given.is_empty(), "a host needs a socket");
        given.sort_unstable();
        self.given = given;
    }

    /// Closes what the machine had opened.
    pub(crate) fn reset(&mut self) {
        self.opened.clear();
        self.names.clear();
    }

    pub(crate) fn given(&self) -> &[SocketAddr] {
        &self.given
    }

    /// How many the machine has opened.
    pub(crate) fn opened(&self) -> usize {
        self.opened.len()
    }

    /// Whether there is such a name.
    pub(crate) fn is_open(&self, id: SocketId) -> bool {
        self.opened.contains_key(&id)
    }

    /// Whether a socket is `at`, or covers it.
    pub(crate) fn listens(&self, at: SocketAddr) -> bool {
        let is_given = match self.given.as_slice() {
            [only] => only.ip() == at.ip() && (only.port() == at.port() || only.port() == 0),
            several => {
                several.binary_search(&at).is_ok()
                    || several.binary_search(&SocketAddr::new(at.ip(), 0)).is_ok()
            }
        };
        is_given || (self.names.contains_key(&at) && self.has(at.ip()))
    }

    /// The socket that a packet leaves from: `local`, or, if that names no address, the first
    /// socket with its port (a wildcard socket, as a kernel resolves it).
    pub(crate) fn source(&self, local: SocketAddr) -> Option<SocketAddr> {
        if local.ip().is_unspecified() {
            let fits = |socket: &&SocketAddr| {
                socket.is_ipv4() == local.is_ipv4() && (socket.port() == local.port() || socket.port() == 0)
            };
            return self.given.iter().find(fits).map(|socket| SocketAddr::new(socket.ip(), local.port()));
        }
        self.listens(local).then_some(local)
    }

    /// Whether the host has this address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.given.iter().any(|socket| socket.ip() == address)
    }

    /// `address`, or the host's first one of the family if it names none.
    pub(crate) fn resolve(&self, address: IpAddr) -> Option<IpAddr> {
        let mut ours = self.given.iter().map(SocketAddr::ip);
        if address.is_unspecified() {
            return ours.find(|ip| ip.is_ipv4() == address.is_ipv4());
        }
        ours.find(|ip| *ip == address)
    }

    /// Whether one more may be opened when there are `others` already.
    pub(crate) fn has_room(&self, others: usize) -> bool {
        self.opened.len() + others < self.max
    }

    /// Opens a socket. There are `others` open besides sockets.
    pub(crate) fn bind(&mut self, id: SocketId, local: SocketAddr, others: usize) -> Answer<'static> {
        let closed = |why| Answer::Closed { id, why };
        if !self.has_room(others) {
            return closed(CloseReason::TooMany);
        }
        let Some(ip) = self.resolve(local.ip()) else { return closed(CloseReason::AddressUnavailable) };
        let port = match local.port() {
            0 => self.free_port(ip),
            port => (!self.is_taken(SocketAddr::new(ip, port))).then_some(port),
        };
        let Some(port) = port else { return closed(CloseReason::AddressUnavailable) };
        let local = SocketAddr::new(ip, port);
        self.opened.insert(id, local);
        self.names.insert(local, id);
        Answer::Bound { id, local }
    }

    /// Closes a socket, if there is one of this name.
    pub(crate) fn close(&mut self, id: SocketId) {
        if let Some(local) = self.opened.remove(&id) {
            self.names.remove(&local);
        }
    }

    fn is_taken(&self, at: SocketAddr) -> bool {
        self.given.binary_search(&at).is_ok() || self.names.contains_key(&at)
    }

    fn free_port(&mut self, ip: IpAddr) -> Option<u16> {
        let start = draw_port(&mut self.rng);
        (start..=*DYNAMIC.end())
            .chain(*DYNAMIC.start()..start)
            .find(|port| !self.is_taken(SocketAddr::new(ip, *port)))
    }
}

/// A port of those that nobody owns.
pub(crate) fn draw_port(rng: &mut Rng) -> u16 {
    *DYNAMIC.start() + rng.below(u64::from(DYNAMIC.end() - DYNAMIC.start()) + 1) as u16
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn sockets(max: usize) -> Sockets {
        let given = ["10.0.0.2:5000", "10.0.0.2:6000", "[fd00::2]:5000"].map(at).to_vec();
        Sockets::new(Rng::from_u64(1), given, max)
    }

    fn bind(sockets: &mut Sockets, id: u64, local: &str) -> Result<SocketAddr, CloseReason> {
        match sockets.bind(SocketId(id), at(local), 0) {
            Answer::Bound { id: bound, local } if bound == SocketId(id) => Ok(local),
            Answer::Closed { id: bound, why } if bound == SocketId(id) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_does_not_mind_gets_a_free_port_of_the_dynamic_range() {
        let mut sockets = sockets(100);
        let ports: BTreeSet<u16> =
            (0..100).map(|id| bind(&mut sockets, id, "10.0.0.2:0").unwrap().port()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| DYNAMIC.contains(port)));
        assert_eq!(bind(&mut sockets, 100, "10.0.0.2:0"), Err(CloseReason::TooMany));
    }

    #[test]
    fn an_address_of_somebody_else_and_a_port_in_use_are_not_to_be_had() {
        let mut sockets = sockets(100);
        for local in ["10.0.0.3:0", "10.0.0.3:7000", "10.0.0.2:5000", "[fd00::2]:5000"] {
            assert_eq!(bind(&mut sockets, 1, local), Err(CloseReason::AddressUnavailable), "{local}");
        }
        assert_eq!(bind(&mut sockets, 1, "10.0.0.2:7000"), Ok(at("10.0.0.2:7000")));
        assert_eq!(bind(&mut sockets, 2, "10.0.0.2:7000"), Err(CloseReason::AddressUnavailable));
        sockets.close(SocketId(1));
        assert_eq!(bind(&mut sockets, 3, "10.0.0.2:7000"), Ok(at("10.0.0.2:7000")));
    }

    #[test]
    fn no_address_stands_for_the_first_of_the_family() {
        let mut sockets = sockets(100);
        assert_eq!(bind(&mut sockets, 1, "0.0.0.0:7000"), Ok(at("10.0.0.2:7000")));
        assert_eq!(bind(&mut sockets, 2, "[::]:7000"), Ok(at("[fd00::2]:7000")));
    }

    #[test]
    fn what_is_bound_to_a_lost_address_is_useless_until_the_address_returns() {
        let mut sockets = sockets(100);
        let bound = bind(&mut sockets, 1, "10.0.0.2:0").unwrap();
        assert!(sockets.listens(bound) && sockets.source(bound) == Some(bound));
        sockets.give(vec![at("192.168.0.2:5000")]);
        assert!(!sockets.listens(bound) && sockets.source(bound).is_none());
        sockets.give(vec![at("10.0.0.2:5000")]);
        assert!(sockets.listens(bound));
    }

    #[test]
    fn a_host_with_every_port_gives_each_away_once() {
        let mut sockets = Sockets::new(Rng::from_u64(1), vec![at("198.51.100.2:0")], 100);
        assert_eq!(bind(&mut sockets, 1, "198.51.100.2:50000"), Ok(at("198.51.100.2:50000")));
        assert_eq!(bind(&mut sockets, 2, "198.51.100.2:50000"), Err(CloseReason::AddressUnavailable));
    }
}
