//! What a NAT of the lab does, as rules for the kernel's packet filter.

use std::fmt;
use std::str::FromStr;

use gimlet_sim::{Edge, Filtering, Mapping};

use super::Family;

/// The ports of [`Nat::SymmetricBlock`]: 512, as a carrier gives them to one customer.
pub const BLOCK: std::ops::RangeInclusive<u16> = 50_000..=50_511;

/// The ports of the carrier's box of [`Nat::Carrier`], which are never those of the home's box.
pub const CARRIER_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// A kind of NAT, by its mapping and filtering behaviour (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nat {
    /// No NAT: the host is on the internet.
    None,
    /// No translation, but nothing comes in that nobody inside asked for: what an IPv6 home router does
    /// (RFC 6092 §3.2.3), and a company's firewall before public addresses.
    Firewall,
    /// Endpoint-independent mapping and filtering: whoever knows the mapping reaches the host.
    FullCone,
    /// Endpoint-independent mapping; whom the host has sent to may answer, from any port.
    AddressRestricted,
    /// Endpoint-independent, port-preserving mapping; address- and port-dependent filtering. What a
    /// Linux router does that drops what nobody inside asked for.
    PortRestricted,
    /// The same without a firewall on the router itself. A packet from a peer that arrives before the
    /// host's own first packet to that peer takes the tuple in the connection table, and the host's
    /// packet is then given another port: to that peer, the NAT has become symmetric.
    PortRestrictedOpen,
    /// Address- and port-dependent mapping with random ports; address- and port-dependent filtering.
    Symmetric,
    /// The same with the ports of [`BLOCK`] only.
    SymmetricBlock,
    /// Two NATs: a port-restricted one at home, and behind it the carrier's (RFC 6888), which has
    /// endpoint-independent mapping (REQ-1), address- and port-dependent filtering, and ports of its own.
    Carrier,
}

/// One box on the way to the internet.
pub(super) struct Level {
    /// Its rules.
    pub(super) rules: String,
    /// Whether the network behind it has addresses that the internet knows.
    pub(super) is_routed: bool,
}

impl Nat {
    /// Every kind.
    pub const ALL: [Nat; 9] = [
        Nat::None,
        Nat::Firewall,
        Nat::FullCone,
        Nat::AddressRestricted,
        Nat::PortRestricted,
        Nat::PortRestrictedOpen,
        Nat::Symmetric,
        Nat::SymmetricBlock,
        Nat::Carrier,
    ];

    /// Its name on command lines and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Nat::None => "none",
            Nat::Firewall => "firewall",
            Nat::FullCone => "full-cone",
            Nat::AddressRestricted => "address-restricted",
            Nat::PortRestricted => "port-restricted",
            Nat::PortRestrictedOpen => "port-restricted-open",
            Nat::Symmetric => "symmetric",
            Nat::SymmetricBlock => "symmetric-512",
            Nat::Carrier => "cgn",
        }
    }

    /// The same in the words of the oracle.
    pub const fn edge(self) -> Edge {
        let (mapping, filtering) = match self {
            Nat::None | Nat::FullCone => (Mapping::EndpointIndependent, Filtering::EndpointIndependent),
            Nat::AddressRestricted => (Mapping::EndpointIndependent, Filtering::AddressDependent),
            Nat::Firewall | Nat::PortRestricted | Nat::PortRestrictedOpen | Nat::Carrier => {
                (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
            }
            Nat::Symmetric | Nat::SymmetricBlock => {
                (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent)
            }
        };
        Edge { mapping, filtering }
    }

    /// The boxes between the host and the internet, the host's own first.
    pub(super) fn levels(self, family: Family) -> Vec<Level> {
        let translator = |translation: String, firewall: &str| Level {
            rules: table(family, &format!("{translation}{firewall}")),
            is_routed: false,
        };
        let home = || translator(masquerade("masquerade"), INPUT);
        match self {
            Nat::None => Vec::new(),
            Nat::Firewall => {
                vec![Level { rules: table(family, &format!("{FORWARD}{INPUT}")), is_routed: true }]
            }
            Nat::FullCone => vec![translator(full_cone(family), INPUT)],
            Nat::AddressRestricted => {
                vec![translator(full_cone(family) + &known_addresses(family), INPUT)]
            }
            Nat::PortRestricted => vec![home()],
            Nat::PortRestrictedOpen => vec![translator(masquerade("masquerade"), "")],
            Nat::Symmetric => vec![translator(masquerade("masquerade fully-random"), INPUT)],
            Nat::SymmetricBlock => {
                let how = format!("meta l4proto udp masquerade to :{} fully-random", ports(&BLOCK));
                vec![translator(masquerade(&how), INPUT)]
            }
            Nat::Carrier => {
                let how = format!("meta l4proto udp masquerade to :{}", ports(&CARRIER_PORTS));
                vec![home(), translator(masquerade(&how), INPUT)]
            }
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Nat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Nat::ALL.into_iter().find(|nat| nat.name() == text).ok_or_else(|| {
            let names = Nat::ALL.map(Nat::name).join(", ");
            format!("there is no NAT called {text}; there are {names}")
        })
    }
}

/// Unasked packets for the router itself are dropped before they leave a trace in the connection table.
const INPUT: &str = "
    chain input {
        type filter hook input priority filter; policy accept;
        iifname \"wan\" ct state new drop
    }";

/// Unasked packets for hosts inside are dropped.
const FORWARD: &str = "
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname \"wan\" ct state new drop
    }";

fn table(family: Family, chains: &str) -> String {
    format!("table {} gimlet {{{chains}\n}}\n", family.table())
}

fn ports(range: &std::ops::RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

fn masquerade(how: &str) -> String {
    format!(
        "
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan\" {how}
    }}"
    )
}

/// The kernel has no full cone of its own. A map from port to host, filled by what leaves, sends what
/// arrives from anyone to the host that last used the port. The port is the one before translation, so
/// two hosts inside must not use the same one; a lab has one host inside.
fn full_cone(family: Family) -> String {
    let (ip, address) = (family.table(), family.address_type());
    format!(
        "
    map hosts {{
        type inet_service : {address}
        flags dynamic,timeout
        timeout 5m
        size 65535
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan\" meta l4proto udp update @hosts {{ udp sport : {ip} saddr }} masquerade persistent
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"wan\" meta l4proto udp dnat {ip} to udp dport map @hosts
    }}"
    )
}

/// What makes a full cone address-restricted: who came in by the map is let through only from an address
/// that the same inside port has sent to.
fn known_addresses(family: Family) -> String {
    let (ip, address) = (family.table(), family.address_type());
    format!(
        "
    set known {{
        type {address} . {address} . inet_service
        flags dynamic,timeout
        timeout 5m
        size 65535
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname \"lan\" meta l4proto udp update @known {{ {ip} daddr . {ip} saddr . udp sport }}
        iifname \"wan\" ct state new {ip} saddr . {ip} daddr . udp dport != @known drop
    }}"
    )
}
