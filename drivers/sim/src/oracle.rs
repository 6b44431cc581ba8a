//! Who can reach whom directly, by reasoning instead of by trying.

use crate::{Filtering, Mapping, NatConfig};

/// What all the NATs between a host and the internet do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The least kind of their mappings.
    pub mapping: Mapping,
    /// The least kind of their filterings.
    pub filtering: Filtering,
}

impl Edge {
    /// No NAT at all.
    pub const OPEN: Edge =
        Edge { mapping: Mapping::EndpointIndependent, filtering: Filtering::EndpointIndependent };

    /// The edge of a chain of NATs.
    pub fn of<'a>(chain: impl IntoIterator<Item = &'a NatConfig>) -> Self {
        chain.into_iter().fold(Edge::OPEN, |edge, nat| Edge {
            mapping: edge.mapping.max(nat.mapping),
            filtering: edge.filtering.max(nat.filtering),
        })
    }
}

/// Whether two hosts behind these edges can talk directly, when each knows the other's address as
/// one STUN server sees it, learns sources from what arrives (RFC 8445 §7.3.1.3), and guesses no
/// ports.
///
/// Luck does not count: a random port may happen to be the right one. Nor do early packets that
/// take a flow's place ([`crate::EarlyInbound::TakesTuple`]): they delay, and retries outlive them.
///
/// The reasoning, with *known* meaning "the endpoint that STUN saw":
///
/// * Both mappings endpoint-independent: each sends from its known endpoint to the other's, which
///   opens its own filter. Always possible.
/// * Only one is: the other's packets come from an endpoint nobody has seen, so they arrive only if
///   the filter in front of the known endpoint does not look at ports. The answer then takes the
///   way that they opened.
/// * Neither is: the known endpoints carry traffic with the STUN server only. One of them must let
///   strangers in, and its owner's answer comes from a further unseen endpoint, which the other
///   filter must not mind. That settles only if at least one of both mappings is the same for
///   every port of the peer's address: otherwise every answer comes from yet another endpoint.
pub fn direct_path_possible(a: Edge, b: Edge) -> bool {
    let is_independent = |edge: Edge| edge.mapping == Mapping::EndpointIndependent;
    let minds_ports = |edge: Edge| edge.filtering == Filtering::AddressAndPortDependent;
    match (is_independent(a), is_independent(b)) {
        (true, true) => true,
        (true, false) => !minds_ports(a),
        (false, true) => !minds_ports(b),
        (false, false) => {
            let settles = a.mapping.min(b.mapping) == Mapping::AddressDependent;
            let lets_strangers_in = a.filtering.min(b.filtering) == Filtering::EndpointIndependent;
            settles && lets_strangers_in && !minds_ports(a) && !minds_ports(b)
        }
    }
}

#[cfg(test)]
mod tests;
