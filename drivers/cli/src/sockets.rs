//! Which sockets a node speaks through.
//!
//! ICE wants to know the exact address that each datagram leaves from, so a wildcard is expanded: one
//! socket for every address of the machine, all on the same port. Loopback is left out unless it is
//! asked for, or all there is; link-local addresses are left out because they mean nothing to others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gimlet_udp::{SOCKETS_MAX, Socket, Sockets};

use crate::failure::{Exit, Failure};

/// Binds everything that `listen` stands for. `loopback` is the families in which loopback is needed,
/// because a ticket names such an address.
pub(crate) fn bind(listen: &[SocketAddr], loopback: &[IpAddr]) -> Result<Sockets, Failure> {
    let own = own_addresses().map_err(|error| Failure::local("list this machine's addresses", &error))?;
    let wanted = expand(listen, loopback, &own);
    if wanted.is_empty() {
        return Err(Failure::new(Exit::Local, "this machine has no address to listen on")
            .remedy("connect it to a network, or name an address with --listen"));
    }
    let mut sockets = Sockets::new();
    for (address, asked) in wanted.into_iter().take(SOCKETS_MAX) {
        let bound = Socket::bind(address).and_then(|socket| sockets.add(socket));
        match bound {
            Ok(_) => {}
            // One of many addresses went away, or is not ready yet (IPv6 checks for duplicates).
            Err(error) if !asked && error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(error) => return Err(refused(&error)),
        }
    }
    if sockets.is_empty() {
        return Err(Failure::new(Exit::Local, "none of this machine's addresses can be listened on"));
    }
    Ok(sockets)
}

/// What `listen` stands for at this moment: the addresses among them that this machine has.
pub(crate) fn wanted(listen: &[SocketAddr], loopback: &[IpAddr]) -> io::Result<Vec<SocketAddr>> {
    let own = own_addresses()?;
    let all = expand(listen, loopback, &own).into_iter().map(|(address, _)| address);
    Ok(all.filter(|address| own.contains(&address.ip())).take(SOCKETS_MAX).collect())
}

/// The message of [`Socket::bind`] names the address and the remedy already.
fn refused(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(Exit::Local, error).remedy(
            "stop the program that has the port, or listen on another one with --listen ADDRESS:PORT",
        ),
        _ => Failure::new(Exit::Local, error),
    }
}

/// The addresses to bind, with whether the user named exactly this one.
fn expand(listen: &[SocketAddr], loopback: &[IpAddr], own: &[IpAddr]) -> Vec<(SocketAddr, bool)> {
    let mut wanted = Vec::new();
    for address in listen {
        if !address.ip().is_unspecified() {
            wanted.push((*address, true));
            continue;
        }
        let useful = own.iter().filter(|ip| ip.is_ipv4() == address.is_ipv4() && is_useful(**ip));
        wanted.extend(useful.map(|ip| (SocketAddr::new(*ip, address.port()), false)));
    }
    if let Some(wildcard) = listen.iter().find(|address| address.ip().is_unspecified()) {
        wanted.extend(loopback.iter().map(|ip| (SocketAddr::new(*ip, wildcard.port()), false)));
    }
    if wanted.is_empty() {
        let nearest = listen.iter().map(|address| {
            let ip: IpAddr =
                if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(ip, address.port())
        });
        wanted.extend(nearest.filter(|address| own.contains(&address.ip())).map(|address| (address, false)));
    }
    let mut unique: Vec<(SocketAddr, bool)> = Vec::new();
    for one in wanted {
        if !unique.iter().any(|(known, _)| *known == one.0) {
            unique.push(one);
        }
    }
    unique
}

/// This machine's addresses: those that others are most likely to reach come first.
fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut own: Vec<IpAddr> = if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect();
    own.sort_by_key(|ip| (reach(*ip), *ip));
    own.dedup();
    Ok(own)
}

/// 0 for addresses that all the world may reach, then private ones, then loopback; IPv4 first,
/// because more networks carry it.
fn reach(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() => 4,
        IpAddr::V4(ip) if ip.is_private() || is_shared(ip) || ip.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if ip.is_loopback() => 5,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => 3,
        IpAddr::V6(_) => 1,
    }
}

/// Whether peers elsewhere may be able to reach it.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    reach(ip) <= 1
}

/// 100.64.0.0/10, between a carrier's NAT and its customers (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0b1100_0000 == 64
}

fn is_useful(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn expanded(listen: &[&str], loopback: &[&str], own: &[&str]) -> Vec<String> {
        let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
        expand(&listen, &ips(loopback), &ips(own)).iter().map(|(address, _)| address.to_string()).collect()
    }

    #[test]
    fn a_wildcard_is_every_useful_address_of_its_family() {
        let own = ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fe80::1", "127.0.0.1", "::1"];
        assert_eq!(expanded(&["0.0.0.0:4433"], &[], &own), ["192.0.2.1:4433", "10.0.0.1:4433"]);
        assert_eq!(expanded(&["[::]:4433"], &[], &own), ["[2001:db8::1]:4433"]);
        assert_eq!(expanded(&["127.0.0.1:1"], &[], &own), ["127.0.0.1:1"]);
    }

    #[test]
    fn loopback_is_used_when_there_is_nothing_else_or_a_ticket_names_it() {
        let lonely = ["127.0.0.1", "::1"];
        assert_eq!(expanded(&["0.0.0.0:1", "[::]:1"], &[], &lonely), ["127.0.0.1:1", "[::1]:1"]);
        let own = ["192.0.2.1", "127.0.0.1"];
        assert_eq!(expanded(&["0.0.0.0:0"], &["127.0.0.1"], &own), ["192.0.2.1:0", "127.0.0.1:0"]);
    }

    #[test]
    fn a_port_in_use_is_a_local_failure_with_a_remedy() {
        let first = bind(&["127.0.0.1:0".parse().unwrap()], &[]).unwrap();
        let taken: Vec<SocketAddr> = first.local_addresses().collect();
        let failure = bind(&taken, &[]).unwrap_err();
        assert_eq!(failure.exit, Exit::Local);
        assert!(failure.to_string().contains("--listen"), "{failure}");
    }
}
