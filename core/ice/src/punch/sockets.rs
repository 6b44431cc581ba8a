//! The sockets that the owner opened for a punch: a few bytes each.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// Local addresses that punch sockets may be bound to; sockets on further ones are refused.
const LOCAL_IPS_MAX: usize = 4;

/// A socket was not taken for a punch. Close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PunchSocketError {
    /// No punch of ours takes sockets at the moment, or it has as many as it wants.
    NotWanted,
    /// No host has this address, or one of our candidates uses it.
    Unusable(SocketAddr),
}

impl fmt::Display for PunchSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PunchSocketError::NotWanted => f.write_str("no further punch socket is wanted: close it"),
            PunchSocketError::Unusable(address) => {
                write!(f, "{address} is of no use to a punch: bind a fresh socket to one address and port")
            }
        }
    }
}

impl Error for PunchSocketError {}

/// Sockets by the place of their address in a list, and their port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sockets {
    ips: Vec<IpAddr>,
    ports: Vec<(u8, u16)>,
}

impl Sockets {
    pub(crate) fn len(&self) -> usize {
        self.ports.len()
    }

    pub(crate) fn nth(&self, nth: usize) -> Option<SocketAddr> {
        let (ip, port) = self.ports.get(nth)?;
        Some(SocketAddr::new(*self.ips.get(usize::from(*ip))?, *port))
    }

    fn place(&self, socket: SocketAddr) -> Option<usize> {
        let ip = self.ips.iter().position(|ip| *ip == socket.ip())?;
        self.ports.iter().position(|(of, port)| usize::from(*of) == ip && *port == socket.port())
    }

    pub(crate) fn contains(&self, socket: SocketAddr) -> bool {
        self.place(socket).is_some()
    }

    /// Takes a socket; says whether it could. Nobody needs to know how many there are: the caller does.
    pub(crate) fn insert(&mut self, socket: SocketAddr) -> bool {
        if self.contains(socket) {
            return true;
        }
        let ip = match self.ips.iter().position(|ip| *ip == socket.ip()) {
            Some(ip) => ip,
            None if self.ips.len() < LOCAL_IPS_MAX => {
                self.ips.push(socket.ip());
                self.ips.len() - 1
            }
            None => return false,
        };
        let Ok(ip) = u8::try_from(ip) else { return false };
        self.ports.push((ip, socket.port()));
        true
    }

    /// Forgets a socket; says whether it was known.
    pub(crate) fn remove(&mut self, socket: SocketAddr) -> bool {
        let place = self.place(socket);
        place.map(|place| self.ports.remove(place)).is_some()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_kept_by_address_and_port() {
        let mut sockets = Sockets::default();
        let at = |host: u8, port: u16| SocketAddr::from(([10, 0, 0, host], port));
        assert!((0..300).all(|port| sockets.insert(at(1, 1_000 + port))) && sockets.insert(at(2, 1_000)));
        assert!(sockets.insert(at(2, 1_000)), "known");
        assert_eq!(
            (sockets.len(), sockets.nth(0), sockets.nth(300)),
            (301, Some(at(1, 1_000)), Some(at(2, 1_000)))
        );
        assert!(sockets.contains(at(1, 1_299)) && !sockets.contains(at(2, 1_001)));
        assert!(sockets.remove(at(2, 1_000)) && !sockets.remove(at(2, 1_000)));
        assert!(
            (3..5).all(|host| sockets.insert(at(host, 1))) && !sockets.insert(at(9, 1)),
            "four addresses"
        );
        sockets.clear();
        assert_eq!((sockets.len(), sockets.nth(0)), (0, None));
    }
}
