//! What a NAT of the lab does, as rules for the kernel's packet filter.

/// A kind of NAT, by its mapping and filtering behaviour (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// No NAT: the host is on the internet.
    None,
    /// Endpoint-independent mapping and filtering: whoever knows the mapping reaches the host.
    FullCone,
    /// Endpoint-independent, port-preserving mapping; address- and port-dependent filtering. What a
    /// Linux router does that drops what nobody inside asked for.
    PortRestricted,
    /// The same without a firewall on the router itself. A packet from a peer that arrives before the
    /// host's own first packet to that peer takes the tuple in the connection table, and the host's
    /// packet is then given another port: to that peer, the NAT has become symmetric.
    PortRestrictedOpen,
    /// Address- and port-dependent mapping with random ports; address- and port-dependent filtering.
    Symmetric,
}

/// Unasked packets for the router itself are dropped before they leave a trace in the connection table.
const FIREWALL: &str = "
    chain input {
        type filter hook input priority filter; policy accept;
        iifname \"wan\" ct state new drop
    }";

impl Nat {
    /// The rules, for a box with the ports `wan` and `lan`; nothing where there is no box.
    pub(super) fn ruleset(self) -> Option<String> {
        let (translation, firewall) = match self {
            Nat::None => return None,
            Nat::FullCone => (full_cone(), FIREWALL),
            Nat::PortRestricted => (masquerade("masquerade"), FIREWALL),
            Nat::PortRestrictedOpen => (masquerade("masquerade"), ""),
            Nat::Symmetric => (masquerade("masquerade fully-random"), FIREWALL),
        };
        Some(format!("table ip gimlet {{{translation}{firewall}\n}}\n"))
    }
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
/// arrives from anyone to the host that last used the port. It is keyed by the port before translation,
/// so two hosts inside must not use the same one; a lab has one host inside.
fn full_cone() -> String {
    "
    map mappings {
        type inet_service : ipv4_addr . inet_service
        flags dynamic,timeout
        timeout 5m
        size 65535
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan\" meta l4proto udp update @mappings { udp sport : ip saddr . udp sport } masquerade persistent
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"wan\" meta l4proto udp dnat ip to udp dport map @mappings
    }"
    .to_owned()
}
