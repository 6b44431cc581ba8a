//! The words of RFC 4787, and the older names for common mixtures of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When two flows of one inside endpoint share an outside endpoint (RFC 4787 §4.1). From the
/// kindest to peers down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// Always: whoever learnt the outside endpoint can pass it on.
    EndpointIndependent,
    /// When they go to the same address.
    AddressDependent,
    /// When they go to the same address and port. (Old name: "symmetric".)
    AddressAndPortDependent,
}

/// Whose packets an outside endpoint lets in (RFC 4787 §5). From the kindest to peers down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those from an address that the inside endpoint has sent to.
    AddressDependent,
    /// Those from an address and port that the inside endpoint has sent to.
    AddressAndPortDependent,
}

/// Which outside port a new mapping gets (RFC 4787 §4.2). Ports below [`PORT_FIRST`] are handed
/// out only by [`PortAllocation::Preserving`], to an inside endpoint that uses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortAllocation {
    /// The inside port, or the next free one above it ("port preservation").
    Preserving,
    /// The previous mapping's port plus `step`, or the next free one above that. The first is drawn
    /// from the seed.
    Sequential {
        /// Distance between successive ports; 0 counts as 1.
        step: u16,
    },
    /// Any free port.
    Random,
    /// Any free port of a block that belongs to the inside address: what carrier-grade NATs do, so
    /// that they need not log each mapping (RFC 6888 §4, RFC 7422). The nth inside address to be
    /// seen has the nth block; when there is no block left it gets no ports.
    Block {
        /// The first port of the first block.
        first: u16,
        /// Ports per block; 0 counts as 1.
        size: u16,
    },
}

/// The lowest port that a NAT picks by itself: those below are for well-known services.
pub const PORT_FIRST: u16 = 1_024;

/// How long a mapping, and the filter entries that belong to it, live unused (RFC 4787 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Idle time after which it is gone. RFC 4787 REQ-5: at least two minutes; many home routers
    /// allow 30 s.
    pub after: Duration,
    /// Whether packets from the outside count as use. Those from the inside always do (REQ-6).
    pub inbound_refresh: bool,
}

/// What a packet from the outside does that finds no mapping, or is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyInbound {
    /// Nothing.
    Ignored,
    /// It takes the flow's place. Connection tracking in Linux sees a flow from the peer to the NAT
    /// itself, unless a rule drops such packets first. When the inside endpoint then sends to that
    /// peer, the flow it would have used is taken, and a mapping on another port is made for this
    /// peer alone. So the first punch to arrive early turns an endpoint-independent NAT into
    /// a symmetric one, for this peer, for [`EARLY_INBOUND_LIFETIME`].
    TakesTuple,
}

/// How long an early packet keeps the place it took: Linux's `nf_conntrack_udp_timeout`.
pub const EARLY_INBOUND_LIFETIME: Duration = Duration::from_secs(30);

/// To which ports packets are let out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// All.
    #[default]
    Any,
    /// These.
    To(Vec<u16>),
}

impl Egress {
    /// Whether packets to `port` are let out.
    pub fn lets_out(&self, port: u16) -> bool {
        match self {
            Egress::Any => true,
            Egress::To(ports) => ports.contains(&port),
        }
    }
}

/// What a network's owner lets out through the NAT. What comes in is what was let out to its sender.
/// By default everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Datagrams.
    pub udp: Egress,
    /// Connections.
    pub tcp: Egress,
}

impl Firewall {
    /// No datagrams at all; connections to any port.
    pub fn without_udp() -> Self {
        Self { udp: Egress::To(Vec::new()), tcp: Egress::Any }
    }

    /// The web and the names it needs: HTTP and HTTPS over TCP, DNS over both.
    pub fn web_only() -> Self {
        Self { udp: Egress::To(vec![53]), tcp: Egress::To(vec![53, 80, 443]) }
    }
}

/// What happens to a new flow when the table of mappings is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TablePolicy {
    /// It gets no mapping: its packets are dropped.
    RefuseNew,
    /// It takes the place of the mapping that is closest to its expiry.
    EvictIdlest,
}

/// The mixtures that people have names for (the names are from RFC 3489 §5, which RFC 4787 §3
/// retired because they say too little). [`crate::NatConfig::of_kind`] builds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// A public address.
    None,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address and port-dependent filtering: most home routers.
    PortRestricted,
    /// Address and port-dependent mapping and filtering, random ports: many firewalls and mobile
    /// networks.
    Symmetric,
}

impl NatKind {
    /// Every kind, from the easiest to the hardest to get through.
    pub const ALL: [NatKind; 5] = [
        NatKind::None,
        NatKind::FullCone,
        NatKind::AddressRestricted,
        NatKind::PortRestricted,
        NatKind::Symmetric,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            NatKind::None => "none",
            NatKind::FullCone => "full-cone",
            NatKind::AddressRestricted => "address-restricted",
            NatKind::PortRestricted => "port-restricted",
            NatKind::Symmetric => "symmetric",
        }
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no [`NatKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANatKind;

impl FromStr for NatKind {
    type Err = NotANatKind;

    fn from_str(text: &str) -> Result<Self, NotANatKind> {
        NatKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or(NotANatKind)
    }
}

impl fmt::Display for NotANatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a NAT kind is one of none, full-cone, address-restricted, port-restricted, symmetric")
    }
}

impl std::error::Error for NotANatKind {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_being_written_down_and_nothing_else_parses() {
        for kind in NatKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("cone".parse::<NatKind>(), Err(NotANatKind));
        assert!(NatKind::ALL.iter().all(|kind| NotANatKind.to_string().contains(kind.name())));
    }
}
