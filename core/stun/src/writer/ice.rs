//! The attributes of ICE (RFC 8445 §16.1).

use super::MessageWriter;
use crate::attribute as kind;

impl MessageWriter<'_> {
    /// PRIORITY: what a peer-reflexive candidate found by this check shall get.
    pub fn priority(self, priority: u32) -> Self {
        self.attribute(kind::PRIORITY, &priority.to_be_bytes())
    }

    /// USE-CANDIDATE: nominates the pair.
    pub fn use_candidate(self) -> Self {
        self.attribute(kind::USE_CANDIDATE, &[])
    }

    /// ICE-CONTROLLING with our tiebreaker.
    pub fn ice_controlling(self, tiebreaker: u64) -> Self {
        self.attribute(kind::ICE_CONTROLLING, &tiebreaker.to_be_bytes())
    }

    /// ICE-CONTROLLED with our tiebreaker.
    pub fn ice_controlled(self, tiebreaker: u64) -> Self {
        self.attribute(kind::ICE_CONTROLLED, &tiebreaker.to_be_bytes())
    }
}
