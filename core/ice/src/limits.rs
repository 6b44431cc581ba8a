//! Every limit of the agent, with what happens beyond it.

use core::time::Duration;

/// How much one agent holds. Each field says what happens when it is reached; every such event
/// moves a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Local candidates of each type. Further ones are refused ([`crate::CandidateError::TooMany`]).
    pub local_candidates_max: usize,
    /// Signalled remote candidates of each type. Further ones are refused.
    pub remote_candidates_max: usize,
    /// Remote peer-reflexive candidates. A new one evicts the oldest that never had a valid pair; if all
    /// have, the new one is answered and not learned.
    pub peer_reflexive_max: usize,
    /// Candidate pairs (RFC 8445 §6.1.2.5 recommends 100). Beyond it, the least likely pair of the
    /// fullest kind and family that has not been checked yet gives way, or the new pair is not formed. More than
    /// 65,535 are taken for so many.
    pub pairs_max: usize,
    /// Checks awaiting an answer, cancelled ones included. Cancelled ones give way first; otherwise
    /// no new check leaves before one ends. A request for consent always has a place, at most one more.
    pub checks_max: usize,
    /// Requests remembered before the peer's credentials are known. All are answered; beyond it the
    /// oldest is forgotten.
    pub early_requests_max: usize,
    /// Answers waiting for the driver to take them. Further requests go unanswered; the peer
    /// retransmits.
    pub answers_max: usize,
    /// Answers per second to requests that prove nothing. Further ones go unanswered.
    pub unauthenticated_answers_max: u32,
    /// Events waiting for the owner. The oldest that the owner can also read from a getter gives way.
    pub events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            local_candidates_max: 16,
            remote_candidates_max: 32,
            peer_reflexive_max: 16,
            pairs_max: 100,
            checks_max: 128,
            early_requests_max: 8,
            answers_max: 32,
            unauthenticated_answers_max: 10,
            events_max: 64,
        }
    }
}

/// The shortest pacing interval (RFC 8445 §14.2). Shorter configured values are raised to it.
pub const TA_MIN: Duration = Duration::from_millis(5);

/// How long an agent waits for a peer-reflexive candidate before it may fail: a whole transaction at
/// the default timers (RFC 8863 §4).
pub const PAC_TIMEOUT: Duration = Duration::from_millis(39_500);

/// How long the peer's latest answer allows data on the selected path (RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest and the longest time between two requests for consent: 5 seconds, less or more by up to a
/// fifth, so that the agents of many peers do not fall into step (RFC 7675 §5.1).
pub const CONSENT_INTERVAL_MIN: Duration = Duration::from_secs(4);
/// See [`CONSENT_INTERVAL_MIN`].
pub const CONSENT_INTERVAL_MAX: Duration = Duration::from_secs(6);

/// Tr, the shortest keepalive interval (RFC 8445 §11): 15 seconds. Lite agents send keepalives; full ones
/// ask for consent, which keeps NATs open just as well.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The longest username fragment (RFC 8445 §5.3). Longer ones are refused.
pub const UFRAG_MAX: usize = 256;

/// The longest password (RFC 8445 §5.3). Longer ones are refused.
pub const PASSWORD_MAX: usize = 256;

/// The longest foundation (RFC 8839 §5.1). Longer ones are refused.
pub const FOUNDATION_MAX: usize = 32;

/// The longest candidate attribute that is parsed, in bytes. Longer ones are refused. The longest
/// meaningful line is a third of this; the rest is room for extensions.
pub const CANDIDATE_LINE_MAX: usize = 1024;

/// Names of the peer's candidates that wait for the owner's answer. Further ones are refused
/// ([`crate::CandidateError::TooManyNames`]), as is everything beyond [`Limits::remote_candidates_max`] names in one
/// generation: each is a multicast to everybody on the link.
pub const MDNS_QUERIES_MAX: usize = 8;

/// How long a name waits for the owner's answer: the four queries of RFC 6762 §5.2, which leave after 0, 1, 3 and
/// 7 seconds, and one more second for the last.
pub const MDNS_TIMEOUT: Duration = Duration::from_secs(8);

/// The largest message the agent writes: a check between two agents with fragments of [`UFRAG_MAX`].
/// A smaller buffer holds checks and answers back.
pub const MESSAGE_MAX: usize = 640;
