//! Whom a server relays to.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most addresses in [`PeerPolicy::denied`]; the ones after that are ignored.
pub const DENIED_MAX: usize = 64;

/// Which peers a server relays to. By default only what is reachable for everybody anyway: a relay
/// stands inside its owner's network, and whoever may send through it must not thereby be inside too
/// (RFC 8656 §21.2.4 and the practice since).
#[derive(Clone, Debug, Default)]
pub struct PeerPolicy {
    /// Relay to the server's own host.
    pub allow_loopback: bool,
    /// Relay to private, shared, unique-local and link-local addresses.
    pub allow_private: bool,
    /// Sockets to which nothing is relayed: the server's own, and other services beside it; port 0 stands
    /// for every port of the address. Addresses from which the server itself relays are exempt: another
    /// client is behind each. At most [`DENIED_MAX`].
    pub denied: Vec<SocketAddr>,
}

impl PeerPolicy {
    /// Whether a permission for `ip` is given at all.
    pub fn admits_ip(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.admits_v4(ip),
            IpAddr::V6(ip) => self.admits_v6(ip),
        }
    }

    /// Whether datagrams go to `peer`.
    pub fn admits(&self, peer: SocketAddr) -> bool {
        let denied = &self.denied[..self.denied.len().min(DENIED_MAX)];
        let is_denied =
            denied.iter().any(|it| it.ip() == peer.ip() && (it.port() == 0 || it.port() == peer.port()));
        peer.port() != 0 && !is_denied && self.admits_ip(peer.ip())
    }

    fn admits_v4(&self, ip: Ipv4Addr) -> bool {
        let [a, b, ..] = ip.octets();
        let shared = a == 100 && b & 0xc0 == 64; // RFC 6598
        let never = a == 0 || ip.is_multicast() || a >= 240;
        let private = ip.is_private() || ip.is_link_local() || shared;
        !never && (self.allow_loopback || !ip.is_loopback()) && (self.allow_private || !private)
    }

    fn admits_v6(&self, ip: Ipv6Addr) -> bool {
        let never = ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4_mapped().is_some();
        let private = ip.is_unique_local() || ip.is_unicast_link_local();
        // A translator behind us would turn these into IPv4 addresses that may not be reached.
        let inside = embedded(ip).is_none_or(|ip| self.admits_v4(ip));
        !never && inside && (self.allow_loopback || !ip.is_loopback()) && (self.allow_private || !private)
    }
}

/// The IPv4 address that 6to4 (RFC 3056) and NAT64 (RFC 6052) write into an IPv6 address.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let at = match ip.segments() {
        [0x2002, ..] => 2,
        [0x0064, 0xff9b, 0, 0, 0, 0, ..] => 12,
        _ => return None,
    };
    octets[at..].first_chunk().map(|four: &[u8; 4]| Ipv4Addr::from(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: [&str; 9] = [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "fd00::1",
        "fe80::1",
        "64:ff9b::a01:203",
    ];
    const NEVER: [&str; 9] = [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "ff02::1",
        "::ffff:192.0.2.1",
        "2002:7f00:1::",
    ];
    const OUTSIDE: [&str; 6] =
        ["192.0.2.1", "100.63.255.255", "172.32.0.1", "2001:db8::1", "64:ff9b::c000:201", "2002:c000:201::"];

    #[test]
    fn only_addresses_that_everybody_reaches_are_relayed_to_by_default() {
        let policy = PeerPolicy::default();
        let admitted = |ip: &&str| policy.admits_ip(ip.parse().unwrap());
        assert_eq!(INSIDE.iter().chain(&NEVER).find(|ip| admitted(ip)), None);
        assert_eq!(OUTSIDE.iter().find(|ip| !admitted(ip)), None);
        assert!(!admitted(&"127.0.0.1") && !admitted(&"::1"));
    }

    #[test]
    fn permission_for_one_kind_is_not_permission_for_another() {
        let private = PeerPolicy { allow_private: true, ..PeerPolicy::default() };
        assert!(INSIDE.iter().all(|ip| private.admits_ip(ip.parse().unwrap())));
        assert!(!private.admits_ip("127.0.0.1".parse().unwrap()));
        assert!(!NEVER.iter().any(|ip| private.admits_ip(ip.parse().unwrap())));
        let loopback = PeerPolicy { allow_loopback: true, ..PeerPolicy::default() };
        assert!(loopback.admits_ip("::1".parse().unwrap()));
        assert!(!loopback.admits_ip("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_servers_own_socket_is_denied_and_the_port_beside_it_is_not() {
        let policy =
            PeerPolicy { denied: alloc::vec!["192.0.2.1:3478".parse().unwrap()], ..PeerPolicy::default() };
        assert!(!policy.admits("192.0.2.1:3478".parse().unwrap()));
        assert!(policy.admits("192.0.2.1:3479".parse().unwrap()));
        assert!(!policy.admits("192.0.2.1:0".parse().unwrap()));
        let policy =
            PeerPolicy { denied: alloc::vec!["192.0.2.1:0".parse().unwrap()], ..PeerPolicy::default() };
        assert!(!policy.admits("192.0.2.1:3479".parse().unwrap()), "port 0 is every port");
        assert!(policy.admits("192.0.2.2:3479".parse().unwrap()));
    }
}
