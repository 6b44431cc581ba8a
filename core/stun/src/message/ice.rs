//! The attributes of ICE (RFC 8445 §16.1).

use super::Message;
use crate::attribute;

impl Message<'_> {
    /// PRIORITY: what the sender would give a peer-reflexive candidate found by this check.
    pub fn priority(&self) -> Option<u32> {
        self.value(attribute::PRIORITY)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// USE-CANDIDATE: the sender nominates this pair. A flag: whatever value it carries is ignored.
    pub fn use_candidate(&self) -> bool {
        self.value(attribute::USE_CANDIDATE).is_some()
    }

    /// ICE-CONTROLLING: the sender's tiebreaker, while it thinks it controls.
    pub fn ice_controlling(&self) -> Option<u64> {
        self.value(attribute::ICE_CONTROLLING)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// ICE-CONTROLLED: the sender's tiebreaker, while it thinks it is controlled.
    pub fn ice_controlled(&self) -> Option<u64> {
        self.value(attribute::ICE_CONTROLLED)?.try_into().ok().map(u64::from_be_bytes)
    }
}
