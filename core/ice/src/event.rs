//! What the owner learns.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::{Path, Queue};

use crate::{MdnsName, MdnsQuery, PunchState, Role, State};

/// Something that happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent moved to this state.
    StateChanged(State),
    /// One of our checks succeeded on `path`: application data may be sent there from here on
    /// (RFC 8445 §12.1).
    PathValid {
        /// The path that works both ways.
        path: Path,
        /// How long the check took, unless it was retransmitted.
        rtt: Option<Duration>,
    },
    /// Use `path`: nomination finished, or what was selected died and this is the best that works.
    PathSelected {
        /// The path to use.
        path: Path,
    },
    /// Three answers in a row are late on the path in use, and nothing better is known to work yet. It
    /// stays in use; when it answers again, [`Event::PathValid`] says so.
    PathSuspect {
        /// The path in use.
        path: Path,
    },
    /// The peer has not answered on the path in use for [`crate::CONSENT_TIMEOUT`]: nothing more may be
    /// sent there (RFC 7675 §5.1). [`Event::PathSelected`] follows if another path works.
    ConsentExpired {
        /// The path that was in use.
        path: Path,
    },
    /// A role conflict was settled by changing our role (RFC 8445 §7.3.1.1, §7.2.5.1).
    RoleChanged(Role),
    /// A check showed that a NAT gave our socket this further address (RFC 8445 §7.2.5.3.1).
    LocalPeerReflexive {
        /// What the peer sees.
        address: SocketAddr,
    },
    /// The peer was heard from an address that nobody had signalled (RFC 8445 §7.3.1.3).
    RemotePeerReflexive {
        /// Where the peer's check came from.
        address: SocketAddr,
    },
    /// Hole punching moves on, or needs sockets ([`crate::Agent::punch`]).
    Punch(PunchEvent),
    /// Publish `name` by multicast DNS on the link of `address`, for as long as the candidates with it are offered
    /// (draft-ietf-mmusic-mdns-ice-candidates §3.1.1): the peer is told the name only.
    PublishName {
        /// What the peer asks for.
        name: MdnsName,
        /// What it stands for.
        address: IpAddr,
    },
    /// Ask the link by multicast DNS which address `name` has, and say so with [`crate::Agent::name_resolved`]
    /// within [`crate::MDNS_TIMEOUT`].
    ResolveName {
        /// Which question this is.
        query: MdnsQuery,
        /// What the peer calls its address.
        name: MdnsName,
    },
    /// No pair works and none can be added any more.
    Failed {
        /// What was tried.
        cause: FailureCause,
    },
}

/// How a punch goes, and what it asks of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PunchEvent {
    /// The punch moved to this state.
    StateChanged(PunchState),
    /// Open so many sockets, each with a port of its own, and hand their addresses to
    /// [`crate::Agent::add_punch_socket`].
    OpenSockets {
        /// How many.
        count: usize,
    },
    /// The sockets opened for the punch are not needed any more and may be closed.
    CloseSockets {
        /// But for this one, which is in use.
        but: Option<SocketAddr>,
    },
}

/// Why an agent failed. [`crate::Agent::pairs`] says what became of each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// The two sides have no candidates that can be paired: for example only IPv4 here and only IPv6
    /// there.
    NoPairs,
    /// Every pair was checked and none worked.
    AllPairsFailed {
        /// How many pairs there were.
        pairs: usize,
        /// How many of them got any authenticated answer.
        answered: usize,
    },
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureCause::NoPairs => f.write_str("no local and remote candidates can be paired"),
            FailureCause::AllPairsFailed { pairs, answered } => {
                write!(f, "none of {pairs} candidate pairs works ({answered} got an answer)")
            }
        }
    }
}

impl Event {
    /// Whether a getter tells the same, so that the event may be dropped when the owner does not drain.
    const fn can_be_dropped(&self) -> bool {
        match self {
            Event::PathValid { .. }
            | Event::PathSuspect { .. }
            | Event::LocalPeerReflexive { .. }
            | Event::RemotePeerReflexive { .. }
            | Event::Punch(PunchEvent::StateChanged(_)) => true,
            Event::StateChanged(_)
            | Event::PathSelected { .. }
            | Event::ConsentExpired { .. }
            | Event::RoleChanged(_)
            | Event::PublishName { .. }
            | Event::ResolveName { .. }
            | Event::Punch(PunchEvent::OpenSockets { .. } | PunchEvent::CloseSockets { .. })
            | Event::Failed { .. } => false,
        }
    }
}

/// The events that wait. When full, the oldest one that a getter also tells makes room, and else the
/// oldest: the latest state is never lost.
#[derive(Debug)]
pub(crate) struct Events(Queue<Event>);

impl Events {
    pub(crate) fn new(max: usize) -> Self {
        Self(Queue::new(max.max(1)))
    }

    /// Appends `event`; returns whether another was dropped for it.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        let Err(event) = self.0.push(event) else { return false };
        let mut victim = self.0.iter().position(Event::can_be_dropped).unwrap_or(0);
        self.0.retain(|_| {
            let keep = victim != 0;
            victim = victim.wrapping_sub(1);
            keep
        });
        let pushed = self.0.push(event).is_ok();
        debug_assert!(pushed, "there is room for it");
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.0.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_what_a_getter_also_tells() {
        let mut events = Events::new(2);
        let address = "192.0.2.1:1".parse().unwrap();
        assert!(!events.push(Event::StateChanged(State::Checking)));
        assert!(!events.push(Event::RemotePeerReflexive { address }));
        assert!(events.push(Event::StateChanged(State::Connected)));
        assert_eq!(events.pop(), Some(Event::StateChanged(State::Checking)));
        assert_eq!(events.pop(), Some(Event::StateChanged(State::Connected)));
        assert_eq!(events.pop(), None);
    }

    #[test]
    fn the_newest_state_survives_any_overflow() {
        let mut events = Events::new(1);
        events.push(Event::StateChanged(State::Checking));
        assert!(events.push(Event::StateChanged(State::Failed)));
        assert_eq!((events.pop(), events.pop()), (Some(Event::StateChanged(State::Failed)), None));
    }
}
