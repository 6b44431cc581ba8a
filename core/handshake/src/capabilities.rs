//! What a peer says it is and can do.

use core::fmt;
use core::ops::BitOr;

/// What a node is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An ordinary node, possibly behind a NAT.
    Peer,
    /// A publicly reachable node that serves others: it answers STUN and introduces peers.
    Public,
    /// A role of a later version, by its number; treat it as [`Role::Peer`].
    Other(u8),
}

impl Role {
    /// The role's number on the wire.
    pub const fn to_wire(self) -> u8 {
        match self {
            Role::Peer => 0,
            Role::Public => 1,
            Role::Other(number) => number,
        }
    }

    /// The role that `number` names.
    pub const fn from_wire(number: u8) -> Role {
        match number {
            0 => Role::Peer,
            1 => Role::Public,
            number => Role::Other(number),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Peer => f.write_str("peer"),
            Role::Public => f.write_str("public"),
            Role::Other(number) => write!(f, "role {number}"),
        }
    }
}

/// A set of things a node can do, one bit each. Bits that this version does not know are kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Nothing beyond streams.
    pub const NONE: Capabilities = Capabilities(0);
    /// Takes and sends unreliable datagrams (RFC 9221).
    pub const DATAGRAMS: Capabilities = Capabilities(1);
    /// Takes part in introductions: understands ICE descriptions that a common peer carries.
    pub const INTRODUCTION: Capabilities = Capabilities(1 << 1);
    /// Carries introductions between peers that are both connected to it.
    pub const INTRODUCER: Capabilities = Capabilities(1 << 2);
    /// Answers STUN Binding requests on the socket that carries this connection (RFC 8489 §2).
    pub const STUN: Capabilities = Capabilities(1 << 3);

    /// Relays for peers that are connected to it, and tells them how to ask (RFC 8656).
    pub const RELAY: Capabilities = Capabilities(1 << 4);

    const NAMES: [(Capabilities, &'static str); 5] = [
        (Capabilities::DATAGRAMS, "datagrams"),
        (Capabilities::INTRODUCTION, "introduction"),
        (Capabilities::INTRODUCER, "introducer"),
        (Capabilities::STUN, "stun"),
        (Capabilities::RELAY, "relay"),
    ];

    /// Everything that this version knows.
    pub const fn all() -> Capabilities {
        Capabilities((1 << 5) - 1)
    }

    /// Exactly these bits.
    pub const fn from_bits(bits: u64) -> Capabilities {
        Capabilities(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `these` are in the set.
    pub const fn contains(self, these: Capabilities) -> bool {
        self.0 & these.0 == these.0
    }

    /// What both sets hold.
    #[must_use]
    pub const fn intersection(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Capabilities;
    fn bitor(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }
}

impl fmt::Display for Capabilities {
    /// Names joined by `+`, unknown bits in hexadecimal: `datagrams+stun+0x80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::NAMES.iter().filter(|(bit, _)| self.contains(*bit));
        let mut separator = "";
        for (_, name) in known {
            write!(f, "{separator}{name}")?;
            separator = "+";
        }
        match self.0 & !Self::all().0 {
            0 if separator.is_empty() => f.write_str("none"),
            0 => Ok(()),
            unknown => write!(f, "{separator}{unknown:#x}"),
        }
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_role_number_survives_the_wire() {
        assert!((0..=u8::MAX).all(|number| Role::from_wire(number).to_wire() == number));
    }

    #[test]
    fn all_is_exactly_what_has_a_name() {
        let named = Capabilities::NAMES.iter().fold(Capabilities::NONE, |set, (bit, _)| set | *bit);
        assert_eq!(named, Capabilities::all());
        assert!(Capabilities::NAMES.iter().all(|(bit, _)| bit.bits().is_power_of_two()));
    }

    #[test]
    fn a_set_is_written_by_name_and_unknown_bits_by_number() {
        let set = Capabilities::STUN | Capabilities::DATAGRAMS | Capabilities::from_bits(0x80);
        assert_eq!(set.to_string(), "datagrams+stun+0x80");
        assert_eq!(Capabilities::NONE.to_string(), "none");
    }
}
