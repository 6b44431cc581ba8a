//! Candidate pairs.

use core::fmt;
use core::time::Duration;

use gimlet_machine::{Id, Instant};

use crate::candidates::{Local, Remote};
use crate::priority::likelihood;
use crate::state::{PairState, PairStep};
use crate::{CONSENT_TIMEOUT, Candidate, CandidateKind, Role, pair_priority};

/// A local candidate (standing for its base) and a remote one (RFC 8445 §6.1.2.2). Because an answer
/// counts only when it comes back on the very path of its check, the pair is also the valid pair that
/// its check produces: both name the same base and the same remote address.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) local: Id<Local>,
    pub(crate) remote: Id<Remote>,
    /// RFC 8445 §6.1.2.3: decides nomination.
    pub(crate) priority: u64,
    /// Which session of the agent it belongs to: grows with every restart (RFC 8445 §9).
    pub(crate) generation: u16,
    /// The foundations of both candidates as numbers: equal for pairs that likely share their fate.
    pub(crate) foundation: u32,
    pub(crate) seen: Seen,
    pub(crate) history: History,
    state: PairState,
    crowd: Crowd,
    /// Controlled: the peer asked for this pair (RFC 8445 §7.3.1.5).
    pub(crate) asked: Option<Nominated>,
}

/// When what happened on a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The latest check left.
    pub(crate) checked: Instant,
    /// The latest check was answered with success: the peer's consent (RFC 7675 §5.1).
    pub(crate) answered: Instant,
    /// The latest authenticated request of the peer arrived.
    pub(crate) heard: Instant,
}

/// How a pair was nominated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nominated {
    /// With USE-CANDIDATE alone (RFC 8445 §8.1.1).
    Plainly,
    /// With a number: the highest counts (draft-thatcher-ice-renomination).
    Numbered(u32),
}

/// What became of a pair's checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) checks: u16,
    pub(crate) answers: u16,
    /// Microseconds; 0 means unknown.
    rtt: u32,
    pub(crate) error: Option<PairError>,
    /// The pair was formed while another was selected.
    pub(crate) late: bool,
    /// A valid pair is to be checked once more: under the role that a 487 gave us (RFC 8445 §7.2.5.1), or
    /// because its latest answer is old. It stays valid meanwhile.
    pub(crate) recheck: bool,
}

/// Kinds of pairs, which take turns: without turns, a hundred hopeless host pairs would go before the
/// first reflexive one that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Both candidates are host candidates.
    Host,
    /// One was seen through a NAT.
    Reflexive,
    /// One is on a relay.
    Relayed,
}

impl Lane {
    const fn of(local: CandidateKind, remote: CandidateKind) -> Self {
        match (local, remote) {
            (CandidateKind::Relayed, _) | (_, CandidateKind::Relayed) => Lane::Relayed,
            (CandidateKind::Host, CandidateKind::Host) => Lane::Host,
            (CandidateKind::Host, CandidateKind::ServerReflexive | CandidateKind::PeerReflexive)
            | (
                CandidateKind::ServerReflexive | CandidateKind::PeerReflexive,
                CandidateKind::Host | CandidateKind::ServerReflexive | CandidateKind::PeerReflexive,
            ) => Lane::Reflexive,
        }
    }

    /// The lane whose turn comes after this one's.
    pub(crate) const fn next(self) -> Self {
        match self {
            Lane::Host => Lane::Reflexive,
            Lane::Reflexive => Lane::Relayed,
            Lane::Relayed => Lane::Host,
        }
    }
}

/// Address families, which take turns within a lane (RFC 8421 §4): a family that is broken on the way costs the
/// other one every second check and no more, whatever preferences the peer has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Pairs of one kind and family: a byte, since there are hundreds of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Crowd {
    HostV4,
    HostV6,
    ReflexiveV4,
    ReflexiveV6,
    RelayedV4,
    RelayedV6,
}

impl Crowd {
    pub(crate) const ALL: [Crowd; 6] = [
        Crowd::HostV4,
        Crowd::HostV6,
        Crowd::ReflexiveV4,
        Crowd::ReflexiveV6,
        Crowd::RelayedV4,
        Crowd::RelayedV6,
    ];

    const fn of(lane: Lane, family: Family) -> Self {
        match (lane, family) {
            (Lane::Host, Family::V4) => Crowd::HostV4,
            (Lane::Host, Family::V6) => Crowd::HostV6,
            (Lane::Reflexive, Family::V4) => Crowd::ReflexiveV4,
            (Lane::Reflexive, Family::V6) => Crowd::ReflexiveV6,
            (Lane::Relayed, Family::V4) => Crowd::RelayedV4,
            (Lane::Relayed, Family::V6) => Crowd::RelayedV6,
        }
    }

    const fn lane(self) -> Lane {
        match self {
            Crowd::HostV4 | Crowd::HostV6 => Lane::Host,
            Crowd::ReflexiveV4 | Crowd::ReflexiveV6 => Lane::Reflexive,
            Crowd::RelayedV4 | Crowd::RelayedV6 => Lane::Relayed,
        }
    }

    const fn family(self) -> Family {
        match self {
            Crowd::HostV4 | Crowd::ReflexiveV4 | Crowd::RelayedV4 => Family::V4,
            Crowd::HostV6 | Crowd::ReflexiveV6 | Crowd::RelayedV6 => Family::V6,
        }
    }
}

/// Why the latest check of a pair did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairError {
    /// Nothing came back.
    NoAnswer,
    /// The connection could not be opened, or broke off (RFC 6544 §7.1).
    NoConnection,
    /// The answer came from another address, or to another of ours (RFC 8445 §7.2.5.2.1).
    Asymmetric,
    /// The peer answered with this error code.
    Refused(u16),
    /// The answer lacked the mapped address, or demanded what we do not understand.
    Malformed,
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PairError::NoAnswer => f.write_str("no answer"),
            PairError::NoConnection => f.write_str("no connection"),
            PairError::Asymmetric => f.write_str("the answer took another way"),
            PairError::Refused(code) => write!(f, "refused with error {code}"),
            PairError::Malformed => f.write_str("the answer was malformed"),
        }
    }
}

impl History {
    pub(crate) fn sample(&mut self, rtt: Duration) {
        self.rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
    }

    pub(crate) const fn rtt(&self) -> Option<Duration> {
        if self.rtt == 0 { None } else { Some(Duration::from_micros(self.rtt as u64)) }
    }
}

impl Pair {
    /// A frozen pair.
    pub(crate) fn new(ends: Ends<'_>, role: Role, generation: u16) -> Self {
        let mut pair = Self {
            local: ends.local.0,
            remote: ends.remote.0,
            priority: 0,
            generation,
            foundation: 0,
            seen: Seen { checked: Instant::ZERO, answered: Instant::ZERO, heard: Instant::ZERO },
            history: History::default(),
            state: PairState::Frozen,
            crowd: Crowd::HostV4,
            asked: None,
        };
        pair.rank(ends, role);
        pair
    }

    /// Computes what follows from the two candidates and the role; called again when one of them
    /// changes.
    pub(crate) fn rank(&mut self, ends: Ends<'_>, role: Role) {
        let (local, remote) = (&ends.local.1.candidate, &ends.remote.1.candidate);
        self.local = ends.local.0;
        self.remote = ends.remote.0;
        self.priority = ends.priority(role);
        self.foundation = u32::from(ends.local.1.foundation) << 16 | u32::from(ends.remote.1.foundation);
        let family = if remote.address.is_ipv4() { Family::V4 } else { Family::V6 };
        self.crowd = Crowd::of(Lane::of(local.kind, remote.kind), family);
    }

    /// Decides, lane by lane, the order of checks.
    pub(crate) const fn likelihood(&self) -> u64 {
        likelihood(self.priority)
    }

    pub(crate) const fn state(&self) -> PairState {
        self.state
    }

    pub(crate) const fn lane(&self) -> Lane {
        self.crowd.lane()
    }

    /// Which pairs it competes with for a place in the list.
    pub(crate) const fn crowd(&self) -> Crowd {
        self.crowd
    }

    pub(crate) const fn family(&self) -> Family {
        self.crowd.family()
    }

    /// Until when the peer's latest answer allows data (RFC 7675 §5.1).
    pub(crate) fn consent_until(&self) -> Instant {
        self.seen.answered + CONSENT_TIMEOUT
    }

    /// Whether data may leave on the pair: it is valid, and the peer said so lately.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.is(PairState::Succeeded) && self.consent_until() > now
    }

    /// Takes `step`, if the graph allows it here.
    pub(crate) fn step(&mut self, step: PairStep) -> bool {
        let Some(next) = self.state.after(step) else { return false };
        self.state = next;
        true
    }

    /// Whether no check of the pair is under way or has been decided.
    pub(crate) const fn is_unchecked(&self) -> bool {
        match self.state {
            PairState::Frozen | PairState::Waiting => true,
            PairState::InProgress | PairState::Succeeded | PairState::Failed => false,
        }
    }

    pub(crate) fn is(&self, state: PairState) -> bool {
        self.state == state
    }
}

/// The two candidates of a pair, with their ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) local: (Id<Local>, &'a Local),
    pub(crate) remote: (Id<Remote>, &'a Remote),
}

impl Ends<'_> {
    /// RFC 8445 §6.1.2.3: G is the controlling agent's candidate.
    pub(crate) fn priority(&self, role: Role) -> u64 {
        let (ours, theirs) = (self.local.1.candidate.priority, self.remote.1.candidate.priority);
        match role {
            Role::Controlling => pair_priority(ours, theirs),
            Role::Controlled => pair_priority(theirs, ours),
        }
    }

    pub(crate) fn candidates(&self) -> (&Candidate, &Candidate) {
        (&self.local.1.candidate, &self.remote.1.candidate)
    }
}
