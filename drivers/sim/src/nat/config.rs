//! What one NAT does.

use std::net::IpAddr;
use std::time::Duration;

use super::behaviour::{
    EarlyInbound, Expiry, Filtering, Firewall, Mapping, NatKind, PortAllocation, TablePolicy,
};

/// Everything that tells one NAT from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Its addresses on the outside; at least one. It translates the families that it has an
    /// address of, and an inside address is always paired with the same one of them.
    pub outside: Vec<IpAddr>,
    /// When flows share an outside endpoint.
    pub mapping: Mapping,
    /// Whose packets are let in.
    pub filtering: Filtering,
    /// Which port a new mapping gets.
    pub ports: PortAllocation,
    /// How long an unused mapping lives.
    pub expiry: Expiry,
    /// Whether two inside endpoints reach each other through their outside endpoints (RFC 4787 §6,
    /// "external source IP address and port").
    pub hairpin: bool,
    /// What is let out.
    pub firewall: Firewall,
    /// What packets do that are not let in.
    pub early_inbound: EarlyInbound,
    /// Mappings at most.
    pub mappings_max: usize,
    /// What happens to a new flow beyond that.
    pub when_full: TablePolicy,
}

impl NatConfig {
    /// A NAT with the given behaviour, and otherwise the least that RFC 4787 permits: ports are
    /// preserved (or random, if the mapping is not endpoint-independent), mappings live for two
    /// minutes and only packets from the inside refresh them, no hairpinning, 65,536 mappings.
    pub fn new(outside: impl Into<IpAddr>, mapping: Mapping, filtering: Filtering) -> Self {
        let ports = match mapping {
            Mapping::EndpointIndependent => PortAllocation::Preserving,
            Mapping::AddressDependent | Mapping::AddressAndPortDependent => PortAllocation::Random,
        };
        Self {
            outside: vec![outside.into()],
            mapping,
            filtering,
            ports,
            expiry: Expiry { after: Duration::from_secs(120), inbound_refresh: false },
            hairpin: false,
            firewall: Firewall::default(),
            early_inbound: EarlyInbound::Ignored,
            mappings_max: 65_536,
            when_full: TablePolicy::RefuseNew,
        }
    }

    /// The same NAT as TCP meets it: filtering is strict because connections are tracked, and
    /// mappings live for two hours and four minutes (RFC 5382 REQ-5).
    pub(crate) fn for_tcp(&self) -> Self {
        Self {
            filtering: Filtering::AddressAndPortDependent,
            expiry: Expiry { after: Duration::from_secs(124 * 60), inbound_refresh: true },
            early_inbound: EarlyInbound::Ignored,
            ..self.clone()
        }
    }

    /// The NAT that people call by this name; `None` for [`NatKind::None`].
    pub fn of_kind(kind: NatKind, outside: impl Into<IpAddr>) -> Option<Self> {
        let (mapping, filtering) = match kind {
            NatKind::None => return None,
            NatKind::FullCone => (Mapping::EndpointIndependent, Filtering::EndpointIndependent),
            NatKind::AddressRestricted => (Mapping::EndpointIndependent, Filtering::AddressDependent),
            NatKind::PortRestricted => (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent),
            NatKind::Symmetric => (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent),
        };
        Some(Self::new(outside, mapping, filtering))
    }
}
