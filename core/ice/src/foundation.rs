//! Foundations: which candidates are likely to share their fate.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use crate::{CandidateError, CandidateKind, FOUNDATION_MAX, Transport};

/// A foundation (RFC 8445 §5.1.1.3): 1 to 32 `ice-char`s (RFC 8839 §5.1). Pairs whose foundations are
/// equal are checked one first, the others after it succeeds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foundation {
    len: u8,
    chars: [u8; FOUNDATION_MAX],
}

/// The 64 `ice-char`s (RFC 8839 §5.1).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Foundation {
    /// The foundation of a local candidate: equal for equal type, base address, transport and server
    /// address, ports aside. It is a 64-bit digest of the four, so it needs no table and an agent
    /// names the same thing alike in every session.
    pub fn of(kind: CandidateKind, base: IpAddr, transport: Transport, server: Option<IpAddr>) -> Self {
        let mut digest = Digest::new();
        digest.byte(kind.type_preference());
        digest.address(base);
        digest.byte(transport.digest());
        if let Some(server) = server {
            digest.address(server);
        }
        Self::from_number(digest.finish())
    }

    /// The foundation that spells `number`: for peer-reflexive candidates, whose foundation only has to
    /// differ from all others (RFC 8445 §7.3.1.3).
    pub(crate) fn from_number(mut number: u64) -> Self {
        let mut foundation = Self { len: 0, chars: [0; FOUNDATION_MAX] };
        loop {
            foundation.chars[usize::from(foundation.len)] = ICE_CHARS[(number & 63) as usize];
            foundation.len += 1;
            number >>= 6;
            if number == 0 {
                return foundation;
            }
        }
    }

    /// Its characters.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.chars[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for Foundation {
    type Err = CandidateError;

    fn from_str(text: &str) -> Result<Self, CandidateError> {
        if text.is_empty() || text.len() > FOUNDATION_MAX || !is_ice_chars(text) {
            return Err(CandidateError::Syntax("foundation"));
        }
        let mut chars = [0; FOUNDATION_MAX];
        chars[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len: text.len() as u8, chars })
    }
}

impl fmt::Display for Foundation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Foundation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foundation({self})")
    }
}

/// Whether `text` holds only `ice-char`s (RFC 8839 §5.1): letters, digits, `+` and `/`.
pub(crate) fn is_ice_chars(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// `byte` as an `ice-char`: six of its bits.
pub(crate) const fn ice_char(byte: u8) -> char {
    ICE_CHARS[(byte & 63) as usize] as char
}

/// FNV-1a over 64 bits: a name, not a secret.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => address.octets().into_iter().for_each(|byte| self.byte(byte)),
            IpAddr::V6(address) => address.octets().into_iter().for_each(|byte| self.byte(byte)),
        }
    }

    fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: CandidateKind, base: &str, server: Option<&str>) -> Foundation {
        Foundation::of(kind, base.parse().unwrap(), Transport::Udp, server.map(|ip| ip.parse().unwrap()))
    }

    #[test]
    fn case_20_foundations_are_equal_exactly_when_type_base_transport_and_server_are() {
        use CandidateKind::{Host, ServerReflexive};
        let reference = of(ServerReflexive, "192.0.2.1", Some("203.0.113.1"));
        assert_eq!(reference, of(ServerReflexive, "192.0.2.1", Some("203.0.113.1")));
        let others = [
            of(Host, "192.0.2.1", Some("203.0.113.1")),
            of(ServerReflexive, "192.0.2.2", Some("203.0.113.1")),
            of(ServerReflexive, "192.0.2.1", Some("203.0.113.2")),
            of(ServerReflexive, "192.0.2.1", None),
            Foundation::of(
                ServerReflexive,
                "192.0.2.1".parse().unwrap(),
                Transport::Tcp(crate::TcpType::Active),
                Some("203.0.113.1".parse().unwrap()),
            ),
        ];
        assert!(others.iter().all(|other| *other != reference), "{others:?}");
    }

    #[test]
    fn a_foundation_is_one_to_thirty_two_ice_chars() {
        let long = "a".repeat(32);
        assert_eq!(long.parse::<Foundation>().unwrap().as_str(), long);
        for bad in ["", &"a".repeat(33), "a b", "ä", "a-b", "a\n"] {
            assert_eq!(bad.parse::<Foundation>(), Err(CandidateError::Syntax("foundation")), "{bad:?}");
        }
    }

    #[test]
    fn numbers_spell_distinct_foundations() {
        assert_ne!(Foundation::from_number(0), Foundation::from_number(1));
        assert_eq!(Foundation::from_number(u64::MAX).as_str().len(), 11);
    }
}
