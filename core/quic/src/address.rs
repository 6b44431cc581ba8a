//! The addresses that quinn-proto believes in.
//!
//! quinn-proto names the far end by a `SocketAddr` and reacts when it changes. The real path is
//! chosen by ICE and may be a relay, so quinn-proto is shown unique local addresses
//! (RFC 4193 §3.1) that never leave this process.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use gimlet_machine::{FourTuple, Path};
use siphasher::sip128::SipHasher24;

/// quinn-proto refuses port 0; any other will do.
const PORT: u16 = 1;

/// Makes synthetic addresses.
pub(crate) struct Addresses {
    key: [u8; 16],
    issued: u64,
}

impl Addresses {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key, issued: 0 }
    }

    /// An address that stands for a peer, whatever paths lead to it: `fd00::n`.
    pub(crate) fn of_next_peer(&mut self) -> SocketAddr {
        self.issued += 1;
        let bits = (0xfd00_u128 << 112) | u128::from(self.issued);
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), PORT)
    }

    /// The address that stands for `path`, always the same one: `fd01:…`. It is a keyed hash,
    /// so a stranger cannot choose a path that collides with somebody else's.
    pub(crate) fn of_path(&self, path: &Path) -> SocketAddr {
        let mut bytes = Vec::with_capacity(64);
        match path {
            Path::Direct(tuple) => {
                bytes.push(0);
                put_tuple(&mut bytes, tuple);
            }
            Path::Relayed { relay, peer } => {
                bytes.push(1);
                put_tuple(&mut bytes, relay);
                put_address(&mut bytes, peer);
            }
        }
        let hash = SipHasher24::new_with_key(&self.key).hash(&bytes).as_u128();
        let bits = (0xfd01_u128 << 112) | (hash >> 16);
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), PORT)
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Addresses({} issued)", self.issued)
    }
}

fn put_tuple(bytes: &mut Vec<u8>, tuple: &FourTuple) {
    put_address(bytes, &tuple.local);
    put_address(bytes, &tuple.remote);
}

/// Unambiguous and the same on every platform, which `Hash` does not promise.
fn put_address(bytes: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
    if let SocketAddr::V6(address) = address {
        bytes.extend_from_slice(&address.scope_id().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_address_and_peers_get_fresh_ones() {
        let tuple = FourTuple::new("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let (direct, other) = (Path::Direct(tuple), Path::Direct(tuple.flipped()));
        let relayed = Path::Relayed { relay: tuple, peer: tuple.remote };
        let mut addresses = Addresses::new([3; 16]);
        assert_eq!(addresses.of_path(&direct), addresses.of_path(&direct));
        assert_ne!(addresses.of_path(&direct), addresses.of_path(&other));
        assert_ne!(addresses.of_path(&direct), addresses.of_path(&relayed));
        assert_ne!(addresses.of_path(&direct), Addresses::new([4; 16]).of_path(&direct));
        assert_ne!(addresses.of_next_peer(), addresses.of_next_peer());
        assert!(addresses.of_next_peer().to_string().starts_with("[fd00::"));
    }
}
