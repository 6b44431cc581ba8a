//! What was found out, in the words of RFC 4787.

use core::fmt;
use core::net::SocketAddr;

/// When two flows of one socket share an outside address (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// There is nothing to share: everybody sees the socket's own address.
    NoNat,
    /// Always.
    EndpointIndependent,
    /// When they go to the same address.
    AddressDependent,
    /// When they go to the same address and port.
    AddressAndPortDependent,
}

/// Whose packets an outside address lets in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those from an address that the socket has sent to.
    AddressDependent,
    /// Those from an address and port that the socket has sent to.
    AddressAndPortDependent,
}

/// Which outside ports fresh sockets get (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortModel {
    /// Their own, as long as nobody else has it.
    Preserving,
    /// One after the other.
    Sequential {
        /// From each to the next; negative where the NAT counts down.
        delta: i32,
    },
    /// Somewhere in a block of at most [`BLOCK_MAX`](super::BLOCK_MAX) ports, as carriers' NATs deal
    /// them out (RFC 7422). The block holds at least these; where it begins and ends no handful of
    /// samples can tell.
    Block {
        /// The lowest port seen.
        first: u16,
        /// The highest port seen.
        last: u16,
    },
    /// Anywhere.
    Random,
}

/// The final report. What could not be known for certain is `None`: no answer is not an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Our address as the first server that answered sees it; `None`: no server answered.
    pub mapped: Option<SocketAddr>,
    /// Who shares an outside address.
    pub mapping: Option<Mapping>,
    /// Whether the outside address depends on whom we speak with. With plain servers this may be
    /// known when [`Behaviour::mapping`] is not: two servers at different addresses and ports that see
    /// different things do not tell whether the address or the port makes the difference.
    pub endpoint_dependent: Option<bool>,
    /// Who is let in.
    pub filtering: Option<Filtering>,
    /// Whether a packet to our outside address, sent from behind the same NAT, comes back in
    /// (RFC 4787 §6).
    pub hairpinning: Option<bool>,
    /// Which ports fresh sockets get.
    pub port_model: Option<PortModel>,
}

impl Behaviour {
    /// The name from RFC 3489 §5, which RFC 4787 §3 retired because it says too little and which
    /// everybody still uses; `None` where what is known fits none.
    pub const fn old_name(&self) -> Option<&'static str> {
        use Filtering::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        match (self.mapping, self.filtering) {
            (Some(Mapping::NoNat), Some(EndpointIndependent)) => Some("open Internet"),
            (Some(Mapping::NoNat), Some(AddressDependent | AddressAndPortDependent)) => {
                Some("symmetric UDP firewall")
            }
            (Some(Mapping::EndpointIndependent), Some(EndpointIndependent)) => Some("full cone"),
            (Some(Mapping::EndpointIndependent), Some(AddressDependent)) => Some("restricted cone"),
            (Some(Mapping::EndpointIndependent), Some(AddressAndPortDependent)) => {
                Some("port-restricted cone")
            }
            (Some(Mapping::EndpointIndependent), None) => Some("cone"),
            (Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent), _) => Some("symmetric"),
            (Some(Mapping::NoNat), None) | (None, _) => None,
        }
    }
}

impl Mapping {
    /// RFC 4787's word.
    pub const fn name(self) -> &'static str {
        match self {
            Mapping::NoNat => "no NAT",
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "address-dependent",
            Mapping::AddressAndPortDependent => "address and port-dependent",
        }
    }
}

impl Filtering {
    /// RFC 4787's word.
    pub const fn name(self) -> &'static str {
        match self {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address and port-dependent",
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for PortModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortModel::Preserving => f.write_str("preserving"),
            PortModel::Sequential { delta } => write!(f, "sequential, {delta:+} each time"),
            PortModel::Block { first, last } => write!(f, "random in a block that holds {first} to {last}"),
            PortModel::Random => f.write_str("random"),
        }
    }
}

impl fmt::Display for Behaviour {
    /// Mapping and filtering, and the old name in brackets if they have one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mapping, self.endpoint_dependent) {
            (Some(Mapping::NoNat), _) => f.write_str("no NAT")?,
            (Some(mapping), _) => write!(f, "{mapping} mapping")?,
            (None, Some(true)) => f.write_str("endpoint-dependent mapping")?,
            (None, Some(false) | None) => f.write_str("unknown mapping")?,
        }
        write!(f, ", {} filtering", self.filtering.map_or("unknown", Filtering::name))?;
        match self.old_name() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn the_report_speaks_rfc_4787_and_keeps_the_old_names_in_brackets() {
        use Filtering as F;
        use Mapping as M;
        for (mapping, filtering, text) in [
            (
                Some(M::EndpointIndependent),
                Some(F::AddressAndPortDependent),
                "endpoint-independent mapping, address and port-dependent filtering (port-restricted cone)",
            ),
            (
                Some(M::AddressAndPortDependent),
                None,
                "address and port-dependent mapping, unknown filtering (symmetric)",
            ),
            (
                Some(M::NoNat),
                Some(F::EndpointIndependent),
                "no NAT, endpoint-independent filtering (open Internet)",
            ),
            (None, Some(F::AddressDependent), "unknown mapping, address-dependent filtering"),
        ] {
            let behaviour = Behaviour { mapping, filtering, ..Behaviour::default() };
            assert_eq!(behaviour.to_string(), text);
        }
        let depends = Behaviour { endpoint_dependent: Some(true), ..Behaviour::default() };
        assert_eq!(depends.to_string(), "endpoint-dependent mapping, unknown filtering");
    }
}
