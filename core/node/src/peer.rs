//! What a node keeps per peer: at most one attempt and one link.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use gimlet_frame::Decoder;
use gimlet_handshake::{Agreed, Capabilities, Handshake, Hello};
use gimlet_ice::Agent;
use gimlet_machine::{Id, Instant, PeerId, Queue};
use gimlet_quic::{ConnectionId, StreamId};

use crate::control::{CONTROL_MESSAGE_MAX, Unreachable};
use crate::error::{ConnectError, Error, LostCause};
use crate::event::Via;
use crate::punch::Hole;
use crate::repair::Repair;
use crate::state::{AttemptState, AttemptStep, LinkState, LinkStep};
use crate::streams::{Outgoing, Stream};

/// Streams that a peer opened and the application has not accepted; QUIC's own limit on concurrent
/// streams is lower, so reaching this one means a peer that keeps reconnecting: the oldest go.
pub const UNACCEPTED_STREAMS_MAX: usize = 512;

/// A peer we know: connected, being connected, or remembered because the application has an
/// interest in it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) attempt: Option<Attempt>,
    pub(crate) link: Option<Link>,
    /// Where it listens, if a ticket said so.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The application asked for this peer; a lost link is brought back.
    pub(crate) wanted: bool,
    /// Tries since the last success; picks the next address and the wait.
    pub(crate) failures: u32,
    /// How the last attempt or link ended.
    pub(crate) ended: Option<Error>,
    /// The agent of the last attempt that found no path, closed: it can still say what it tried.
    pub(crate) last_agent: Option<Box<Agent>>,
    /// Streams that it opened and nobody has accepted.
    pub(crate) unaccepted: Queue<Stream>,
}

/// Trying to reach a peer.
#[derive(Debug)]
pub(crate) struct Attempt {
    state: AttemptState,
    /// Its number in descriptions; 0 for a dialled address.
    pub(crate) number: u64,
    /// We made the offer, or dialled.
    pub(crate) ours: bool,
    pub(crate) ice: Option<Id<Ice>>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) via: Via,
    /// Introducers that could not help, with the last reason.
    pub(crate) tried: BTreeSet<PeerId>,
    pub(crate) refusal: Option<Unreachable>,
    /// How often all of them were asked again.
    pub(crate) rounds: usize,
}

/// An ICE agent and whom it works for. It serves the attempt first and the link afterwards.
#[derive(Debug)]
pub(crate) struct Ice {
    pub(crate) peer: PeerId,
    pub(crate) agent: Agent,
    /// The attempt's number.
    pub(crate) attempt: u64,
    /// Who carries the descriptions.
    pub(crate) via: PeerId,
    pub(crate) connection: Option<ConnectionId>,
    /// Our server-reflexive and relayed addresses that the peer has been told.
    pub(crate) told: BTreeSet<SocketAddr>,
    /// The peer was told that no more candidates follow.
    pub(crate) told_end: bool,
    /// The peer's relayed addresses, where we use direct paths only: checks from there go unheard.
    pub(crate) shunned: BTreeSet<SocketAddr>,
    pub(crate) repair: Repair,
    pub(crate) hole: Hole,
}

/// An authenticated connection.
#[derive(Debug)]
pub(crate) struct Link {
    state: LinkState,
    pub(crate) connection: ConnectionId,
    pub(crate) ice: Option<Id<Ice>>,
    pub(crate) via: Via,
    pub(crate) dialed: bool,
    pub(crate) since: Instant,
    pub(crate) greeting: Handshake,
    pub(crate) control: ControlStreams,
    pub(crate) introductions: Bucket,
}

/// The two control streams of a link.
#[derive(Debug)]
pub(crate) struct ControlStreams {
    pub(crate) outgoing: Outlet,
    pub(crate) queue: Outgoing,
    /// The peer's; `None` until it opens one.
    pub(crate) incoming: Option<StreamId>,
    pub(crate) decoder: Decoder,
}

/// Our control stream. There is one per link: whatever else we opened would be taken for an
/// application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// QUIC has granted no stream yet.
    Unopened,
    /// In use.
    Open(StreamId),
    /// The link is closing, and everything was said.
    Ended(StreamId),
}

/// Allows a burst of one second's worth, then a steady rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: u32,
    /// Millionths of a token, so that no rate needs a fraction.
    level: u64,
    filled: Instant,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            attempt: None,
            link: None,
            addresses: Vec::new(),
            wanted: false,
            failures: 0,
            ended: None,
            last_agent: None,
            unaccepted: Queue::new(UNACCEPTED_STREAMS_MAX),
        }
    }

    /// The link, if streams may be used on it.
    pub(crate) fn open_link(&self) -> Option<&Link> {
        self.link.as_ref().filter(|link| link.state() == LinkState::Open)
    }

    /// Whether nobody is interested in this peer; it may have left streams that nobody has accepted.
    pub(crate) fn is_idle(&self) -> bool {
        self.attempt.is_none() && self.link.is_none() && !self.wanted
    }

    /// How long to wait before try number `failures`: `first`, doubled each time, at most `max`.
    pub(crate) fn retry_wait(&self, first: Duration, max: Duration) -> Duration {
        first.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(max)
    }
}

impl Attempt {
    /// A QUIC handshake towards a known address.
    pub(crate) fn dialing(connection: ConnectionId) -> Self {
        Self {
            connection: Some(connection),
            ..Self::in_state(AttemptState::AwaitConnection, 0, Via::Address, true)
        }
    }

    /// An offer that waits for an introducer.
    pub(crate) fn offering(number: u64, via: PeerId) -> Self {
        Self::in_state(AttemptState::AwaitIntroducer, number, Via::Introducer(via), true)
    }

    /// An answer to the peer's offer.
    pub(crate) fn answering(number: u64, via: PeerId, ice: Id<Ice>, connection: ConnectionId) -> Self {
        let attempt = Self::in_state(AttemptState::AwaitPath, number, Via::Introducer(via), false);
        Self { ice: Some(ice), connection: Some(connection), ..attempt }
    }

    fn in_state(state: AttemptState, number: u64, via: Via, ours: bool) -> Self {
        Self {
            state,
            number,
            ours,
            ice: None,
            connection: None,
            via,
            tried: BTreeSet::new(),
            refusal: None,
            rounds: 0,
        }
    }

    pub(crate) fn state(&self) -> AttemptState {
        self.state
    }

    /// Takes `step` if it is legal here; says whether it was.
    pub(crate) fn step(&mut self, step: AttemptStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    /// Whether the peer has not seen our offer, or we have not seen what it makes of it.
    pub(crate) fn is_unanswered_offer(&self) -> bool {
        let waits = matches!(self.state, AttemptState::AwaitIntroducer | AttemptState::AwaitAnswer);
        self.ours && waits
    }

    /// What a time-out means in this state.
    pub(crate) fn timeout_cause(&self) -> ConnectError {
        match (self.state, self.refusal) {
            (AttemptState::AwaitIntroducer, Some(why)) => ConnectError::Unreachable(why),
            (AttemptState::AwaitIntroducer, None) => ConnectError::NoIntroducer,
            (AttemptState::AwaitAnswer, _) => ConnectError::NoAnswer,
            (AttemptState::AwaitPath, _) => ConnectError::NoPath,
            (AttemptState::AwaitConnection, _) => ConnectError::HandshakeTimeout,
        }
    }
}

impl Link {
    pub(crate) fn new(now: Instant, connection: ConnectionId, dialed: bool, ours: Hello, rate: u32) -> Self {
        Self {
            state: LinkState::AwaitHello,
            connection,
            ice: None,
            via: Via::Address,
            dialed,
            since: now,
            greeting: Handshake::new(now, ours),
            control: ControlStreams {
                outgoing: Outlet::Unopened,
                queue: Outgoing::new(CONTROL_MESSAGE_MAX),
                incoming: None,
                decoder: Decoder::new(CONTROL_MESSAGE_MAX),
            },
            introductions: Bucket { per_second: rate, level: u64::from(rate) * 1_000_000, filled: now },
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    /// Takes `step` if it is legal here; says whether it was.
    pub(crate) fn step(&mut self, step: LinkStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    /// What the peer said of itself; `None` before it said hello.
    pub(crate) fn hello(&self) -> Option<&Hello> {
        self.greeting.agreed().map(Agreed::hello)
    }

    /// Whether a control message to the peer will still leave.
    pub(crate) fn can_be_told(&self) -> bool {
        self.state != LinkState::AwaitDelivery
    }

    /// Whether the peer carries descriptions for others.
    pub(crate) fn introduces(&self) -> bool {
        self.state == LinkState::Open
            && self.hello().is_some_and(|hello| hello.capabilities().contains(Capabilities::INTRODUCER))
    }
}

impl ControlStreams {
    /// Whether `stream` is one of the two.
    pub(crate) fn includes(&self, stream: StreamId) -> bool {
        let ours = match self.outgoing {
            Outlet::Unopened => false,
            Outlet::Open(outgoing) | Outlet::Ended(outgoing) => outgoing == stream,
        };
        ours || self.incoming == Some(stream)
    }
}

impl Bucket {
    /// Takes one token; false if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        const TOKEN: u64 = 1_000_000;
        let rate = u64::from(self.per_second);
        let earned = now.since(self.filled).as_micros().min(1 << 40) as u64;
        self.level = self.level.saturating_add(earned.saturating_mul(rate)).min(rate * TOKEN);
        self.filled = now;
        let enough = self.level >= TOKEN;
        if enough {
            self.level -= TOKEN;
        }
        enough
    }
}

impl From<LostCause> for Error {
    fn from(cause: LostCause) -> Self {
        Error::Lost(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_allows_a_burst_and_then_its_rate() {
        let mut bucket = Bucket { per_second: 4, level: 4_000_000, filled: Instant::ZERO };
        let burst = (0..10).filter(|_| bucket.take(Instant::ZERO)).count();
        let later = (0..10).filter(|_| bucket.take(Instant::from_millis(500))).count();
        assert_eq!((burst, later), (4, 2));
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let mut peer = Peer::new();
        let waits: Vec<u64> = (0..5)
            .map(|_| {
                peer.failures += 1;
                peer.retry_wait(Duration::from_millis(500), Duration::from_secs(3)).as_millis() as u64
            })
            .collect();
        assert_eq!(waits, [500, 1_000, 2_000, 3_000, 3_000]);
    }
}
