//! Priorities of candidates and of pairs.

use crate::CandidateKind;

/// Where the type preference sits in a candidate's priority.
const TYPE_SHIFT: u32 = 24;

/// The priority of a candidate (RFC 8445 §5.1.2.1): the type first, then the local preference, then
/// the component. Never 0, which the formula gives to the last component of the worst relay and which is no
/// priority (§5.1.2: 1 to 2³¹ − 1).
///
/// ```
/// # use gimlet_ice::{CandidateKind, candidate_priority};
/// assert_eq!(candidate_priority(CandidateKind::Host, 65_535, 1), 2_130_706_431);
/// ```
pub const fn candidate_priority(kind: CandidateKind, local_preference: u16, component: u16) -> u32 {
    let component = if component > 256 { 256 } else { component as u32 };
    let priority = ((kind.type_preference() as u32) << TYPE_SHIFT)
        + ((local_preference as u32) << 8)
        + (256 - component);
    if priority == 0 { 1 } else { priority }
}

/// The priority of a pair (RFC 8445 §6.1.2.3) from the priorities of the controlling agent's and
/// the controlled agent's candidate. Both agents compute the same number.
pub const fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (min, max) =
        if controlling < controlled { (controlling, controlled) } else { (controlled, controlling) };
    // Priorities beyond 2³¹ − 1 are not legal, yet a peer may write one.
    ((min as u64) << 32).saturating_add(2 * (max as u64) + (controlling > controlled) as u64)
}

/// What a candidate of priority `priority` would have as a peer-reflexive one: the value of the
/// PRIORITY attribute (RFC 8445 §7.1.1).
pub(crate) const fn as_peer_reflexive(priority: u32) -> u32 {
    (CandidateKind::PeerReflexive.type_preference() as u32) << TYPE_SHIFT | without_type(priority)
}

/// The local preference inside a priority.
pub(crate) const fn local_preference(priority: u32) -> u16 {
    (without_type(priority) >> 8) as u16
}

/// A priority without its type preference: how an agent ranks its own addresses among each other.
const fn without_type(priority: u32) -> u32 {
    priority & ((1 << TYPE_SHIFT) - 1)
}

/// Orders pairs of one lane by how well both agents speak of the two addresses, whatever their types.
///
/// It is the same number on both sides even after a reflexive candidate was replaced by its base,
/// which makes [`pair_priority`] differ between the two. So both agents check, and when the list is
/// full keep, the same pairs: a NAT that needs packets from both sides sees both.
///
/// It follows from the pair's priority, out of which it takes the two that this was made of: legal ones, at
/// least, and the illegal ones of a peer harm its own pairs only.
pub(crate) const fn likelihood(pair_priority: u64) -> u64 {
    let (lower, higher) = ((pair_priority >> 32) as u32, pair_priority as u32 >> 1);
    let (one, other) = (without_type(lower) as u64, without_type(higher) as u64);
    if one < other { one << 32 | other } else { other << 32 | one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_18_candidate_priority_weighs_type_then_preference_then_component() {
        assert_eq!(candidate_priority(CandidateKind::Host, 65_535, 1), (126 << 24) + (65_535 << 8) + 255);
        assert_eq!(candidate_priority(CandidateKind::PeerReflexive, 1, 2), (110 << 24) + (1 << 8) + 254);
        assert_eq!(candidate_priority(CandidateKind::ServerReflexive, 0, 256), 100 << 24);
        assert_eq!(candidate_priority(CandidateKind::Relayed, 0, 1), 255);
        assert_eq!(candidate_priority(CandidateKind::Relayed, 0, 256), 1, "0 is no priority");
        assert_eq!(candidate_priority(CandidateKind::Relayed, 0, 257), 1, "no underflow beyond the range");
    }

    #[test]
    fn case_19_pair_priority_is_the_formula_and_its_last_bit_tells_the_larger_side() {
        assert_eq!(pair_priority(5, 3), (3 << 32) + 10 + 1);
        assert_eq!(pair_priority(3, 5), (3 << 32) + 10);
        assert_eq!(pair_priority(4, 4), (4 << 32) + 8);
        assert_eq!(pair_priority(u32::MAX, u32::MAX), u64::MAX, "illegal priorities do not overflow");
    }

    #[test]
    fn a_check_announces_the_same_candidate_with_the_peer_reflexive_type() {
        let host = candidate_priority(CandidateKind::Host, 77, 1);
        assert_eq!(as_peer_reflexive(host), candidate_priority(CandidateKind::PeerReflexive, 77, 1));
        assert_eq!(local_preference(host), 77);
    }

    #[test]
    fn likelihood_is_symmetric_and_blind_to_types() {
        let host = |preference| candidate_priority(CandidateKind::Host, preference, 1);
        let reflexive = |preference| candidate_priority(CandidateKind::ServerReflexive, preference, 1);
        // Our base towards their reflexive candidate, and the same pair as the peer sees it.
        let of = |one, other| likelihood(pair_priority(one, other));
        assert_eq!(of(host(9), reflexive(4)), of(host(4), reflexive(9)));
        assert_eq!(of(host(9), reflexive(4)), of(reflexive(4), host(9)));
        assert!(of(host(9), reflexive(9)) > of(host(9), reflexive(8)));
    }
}
