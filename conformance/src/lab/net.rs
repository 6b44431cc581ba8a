//! The lab's networks and their addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which internet protocol a lab speaks. One lab speaks one, so that no pair of hosts meets over the
/// other by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// What nft calls its tables and headers.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// What nft calls its addresses.
    pub(super) const fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// A network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    base: IpAddr,
    length: u8,
}

impl Net {
    const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length }
    }

    const fn v6(a: u16, b: u16, c: u16, d: u16) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), length: 64 }
    }

    /// The address number `last` of this network.
    pub(super) fn host(self, last: u8) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::from(last)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(last)).into()),
        }
    }

    /// The same with the length of the network, for `ip`.
    pub(super) fn interface(self, last: u8) -> String {
        format!("{}/{}", self.host(last), self.length)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

/// The networks on one side of the lab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// Where the outermost box, or a host without one, is on the internet.
    pub(super) wan: Net,
    /// Behind a box that does not translate.
    pub(super) routed: Net,
    /// Behind a box that does.
    pub(super) private: Net,
    /// Between two boxes: RFC 6598 keeps it for carriers.
    pub(super) between: Net,
}

/// Where the public host is.
pub(super) const fn public(family: Family) -> Net {
    match family {
        Family::V4 => Net::v4(198, 51, 100, 0, 24),
        Family::V6 => Net::v6(0x2001, 0xdb8, 0xf, 0),
    }
}

/// The side of host `a`.
pub(super) const fn side_a(family: Family) -> Side {
    match family {
        Family::V4 => Side {
            wan: Net::v4(192, 0, 2, 0, 25),
            routed: Net::v4(192, 0, 2, 128, 25),
            private: Net::v4(10, 1, 0, 0, 24),
            between: Net::v4(100, 64, 1, 0, 24),
        },
        Family::V6 => Side {
            wan: Net::v6(0x2001, 0xdb8, 0xa, 0),
            routed: Net::v6(0x2001, 0xdb8, 0xa, 1),
            private: Net::v6(0xfd00, 0xa, 0, 0),
            between: Net::v6(0xfd00, 0xa, 0, 1),
        },
    }
}

/// The side of host `b`.
pub(super) const fn side_b(family: Family) -> Side {
    match family {
        Family::V4 => Side {
            wan: Net::v4(203, 0, 113, 0, 25),
            routed: Net::v4(203, 0, 113, 128, 25),
            private: Net::v4(10, 2, 0, 0, 24),
            between: Net::v4(100, 64, 2, 0, 24),
        },
        Family::V6 => Side {
            wan: Net::v6(0x2001, 0xdb8, 0xb, 0),
            routed: Net::v6(0x2001, 0xdb8, 0xb, 1),
            private: Net::v6(0xfd00, 0xb, 0, 0),
            between: Net::v6(0xfd00, 0xb, 0, 1),
        },
    }
}
