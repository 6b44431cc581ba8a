//! Addresses as attributes carry them: plain (RFC 8489 §14.1) and obfuscated (§14.2).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gimlet_wire::Reader;

use crate::header::{MAGIC_COOKIE, TransactionId};

/// An address family, numbered as RFC 8489 §14.1 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AddressFamily {
    /// IPv4.
    V4 = 0x01,
    /// IPv6.
    V6 = 0x02,
}

impl AddressFamily {
    /// The family of an address.
    pub const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => AddressFamily::V4,
            SocketAddr::V6(_) => AddressFamily::V6,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0x01 => Some(AddressFamily::V4),
            0x02 => Some(AddressFamily::V6),
            _ => None,
        }
    }
}

/// Reads a plain address. `None` unless the family is known and the length is exactly right: a value
/// that is too long is as wrong as one that is too short.
pub(crate) fn read(value: &[u8]) -> Option<SocketAddr> {
    let mut reader = Reader::new(value);
    reader.skip(1)?; // reserved, ignored (RFC 8489 §14.1)
    let family = AddressFamily::from_number(reader.u8()?)?;
    let port = reader.u16()?;
    let ip = match family {
        AddressFamily::V4 => IpAddr::from(*reader.array::<4>()?),
        AddressFamily::V6 => IpAddr::from(*reader.array::<16>()?),
    };
    reader.is_empty().then_some(SocketAddr::new(ip, port))
}

/// Reads an obfuscated address.
pub(crate) fn read_xored(value: &[u8], id: &TransactionId) -> Option<SocketAddr> {
    read(value).map(|address| xor(address, id))
}

/// Turns a plain address into an obfuscated one, and back: exclusive-or with the cookie and, past
/// its four bytes, with the transaction id (RFC 8489 §14.2). It keeps meddling NATs, which rewrite
/// whatever looks like an address, away from the value.
pub(crate) fn xor(address: SocketAddr, id: &TransactionId) -> SocketAddr {
    let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match address.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() ^ MAGIC_COOKIE).into(),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(&id.0);
            Ipv6Addr::from_bits(ip.to_bits() ^ u128::from_be_bytes(mask)).into()
        }
    };
    SocketAddr::new(ip, port)
}

/// The value of an address attribute: its bytes, and how many of them count.
pub(crate) fn value(address: SocketAddr) -> ([u8; 20], usize) {
    let mut bytes = [0; 20];
    bytes[1] = AddressFamily::of(address) as u8;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes[4..8].copy_from_slice(&ip.octets());
            (bytes, 8)
        }
        IpAddr::V6(ip) => {
            bytes[4..].copy_from_slice(&ip.octets());
            (bytes, 20)
        }
    }
}
