//! Punching holes through hard NATs: two peers tell each other what their NATs do, and begin together.
//!
//! ```text
//!   leader ── ask, what my NAT does ───────────► follower       no direct path works after a second or so
//!          ◄─ answer, what mine does ───────────
//!          ── begin ────────────────────────────►               both agents punch ([`gimlet_ice::Agent::punch`])
//! ```
//!
//! If both NATs look easy, the one or the other is taken for hard first, and the leader says which when it begins; see
//! `suppose.rs`. If that was no help, both are left alone for a while (`Part::Meet`).
//!
//! The peer with the smaller id leads. What they say is signed, and travels through a common public node if there is
//! one, because that adds where it sees the sender: only there is anything sprayed (RFC 8445 §19.5.1), or where the
//! peer was heard. Whatever a peer names by itself is no target.
//!
//! A punch goes on beside a relayed connection, which moves to the new path when there is one. An attempt without
//! any path waits for it.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_ice::{Declined, OUTSIDE_MAX, Part, Profile, PunchEvent, PunchState, plan};
use gimlet_machine::{Answer, Id, Instant, PeerId, SocketId};
use gimlet_stun::PortModel;
use serde::{Deserialize, Serialize};

use crate::config::Paths;
use crate::control::Control;
use crate::description::{Description, Kind};
use crate::event::{Progress, PunchProgress};
use crate::node::Node;
use crate::peer::{Ice, Link, Peer};
use crate::requests::Owner;
use crate::state::{AttemptState, HoleState, HoleStep, RepairState};
use crate::suppose::{End, profiles, suspects};
use crate::timer::Timer;

/// Punches under way at once, each with up to [`gimlet_ice::PUNCH_SOCKETS_MAX`] sockets. Further ones wait their turn.
pub const PUNCHES_MAX: usize = 2;

/// How long ordinary checks have before a punch is thought of: two retransmissions fit.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How long two NATs that look easy get before one of them is taken for hard: in so long, four checks of each side
/// are sent.
const GUESS_PATIENCE: Duration = Duration::from_millis(3_600);

/// Between two guesses, or the last one and leaving both alone. Fresh sockets need no longer.
const GUESS_AGAIN: Duration = Duration::from_millis(200);

/// How long two easy NATs get before both are left alone, which stops ordinary checks for a while.
const MEET_PATIENCE: Duration = Duration::from_secs(8);

/// How long the peer may take to answer; it has to sample its own NAT, and signalling may be slow.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How soon the peer may ask again; a sooner question goes unanswered, and is counted.
const ASK_AGAIN_MIN: Duration = Duration::from_secs(2);

/// How often we look whether it is our turn.
const TURN: Duration = Duration::from_millis(500);

/// How long an agent that was told to punch may wait for what it needs.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// The first wait after a punch that hit nothing, and the longest; it doubles each time. No shorter: NATs remember
/// early packets for half a minute.
const AGAIN_MIN: Duration = Duration::from_secs(45);
const AGAIN_MAX: Duration = Duration::from_secs(3_600);

/// How long an attempt waits for a punch at most: two NATs that look easy are guessed at twice and left alone once,
/// for half a minute. Whoever has a relay waits longer, and does not notice.
const ATTEMPT_MAX: Duration = Duration::from_secs(90);

/// What one peer has to say to the other about a punch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) say: Say,
    /// Milliseconds between the question and this answer to it.
    held: u32,
    dependent: Option<bool>,
    ports: Option<Ports>,
    newest: Option<u16>,
    pub(crate) outside: Vec<IpAddr>,
    /// Whether only one server's address has seen what `dependent` says.
    doubtful: bool,
    /// The end that is taken for hard, if both look easy: for [`Say::Begin`].
    supposed: Option<End>,
}

/// What a [`Word`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Say {
    /// "This is my NAT. What does yours do?"
    Ask,
    /// "This is mine. I am ready."
    Answer,
    /// "It would be of no use."
    Decline,
    /// "We begin."
    Begin,
}

/// [`PortModel`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ports {
    Preserving,
    Sequential { delta: i32 },
    Block { first: u16, last: u16 },
    Random,
}

impl Word {
    fn new(say: Say, held: Duration, ours: &View) -> Self {
        let profile = &ours.profile;
        Self {
            say,
            held: u32::try_from(held.as_millis()).unwrap_or(u32::MAX),
            dependent: profile.dependent,
            ports: profile.port_model.map(|model| match model {
                PortModel::Preserving => Ports::Preserving,
                PortModel::Sequential { delta } => Ports::Sequential { delta },
                PortModel::Block { first, last } => Ports::Block { first, last },
                PortModel::Random => Ports::Random,
            }),
            newest: profile.newest_port,
            outside: profile.outside.iter().copied().take(OUTSIDE_MAX).collect(),
            doubtful: ours.doubtful,
            supposed: None,
        }
    }

    fn view(&self) -> View {
        let profile = Profile {
            dependent: self.dependent,
            supposed: false,
            port_model: self.ports.map(|ports| match ports {
                Ports::Preserving => PortModel::Preserving,
                Ports::Sequential { delta } => PortModel::Sequential { delta },
                Ports::Block { first, last } => PortModel::Block { first, last },
                Ports::Random => PortModel::Random,
            }),
            newest_port: self.newest,
            outside: self.outside.clone(),
        };
        View { profile, doubtful: self.doubtful }
    }

    fn held(&self) -> Duration {
        Duration::from_millis(self.held.into())
    }
}

/// What one side knows of its NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) profile: Profile,
    /// Only one server's address has seen it: a NAT that minds addresses looks easy from there.
    pub(crate) doubtful: bool,
}

impl View {
    /// Whether all who saw it saw one port.
    pub(crate) fn is_easy(&self) -> bool {
        self.profile.dependent == Some(false)
    }
}

/// How far one agent's punch is arranged.
#[derive(Debug, Default)]
pub(crate) struct Hole {
    state: HoleState,
    /// When checks began.
    since: Option<Instant>,
    /// When we last asked, or were asked.
    asked: Option<Instant>,
    /// From the peer to us, by way of whoever carries what is said.
    one_way: Duration,
    theirs: Option<Box<View>>,
    part: Option<Part>,
    /// The end that is taken for hard in this punch, and those that were before in vain.
    supposed: Option<End>,
    guessed: BTreeSet<End>,
    /// Punches that hit nothing since a direct path last worked.
    fruitless: u32,
    /// Sockets that the agent asked for; `None`: not bound yet.
    sockets: BTreeMap<SocketId, Option<SocketAddr>>,
}

impl Hole {
    /// Takes `step` if it is legal here; says whether it was.
    fn step(&mut self, step: HoleStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    /// Whether `local` is a socket of this punch.
    pub(crate) fn has_socket(&self, local: SocketAddr) -> bool {
        self.sockets.values().any(|socket| *socket == Some(local))
    }

    fn wait(&self) -> Duration {
        AGAIN_MIN.saturating_mul(1 << self.fruitless.saturating_sub(1).min(8)).min(AGAIN_MAX)
    }
}

impl Ice {
    /// Whether a punch is being arranged or under way, so that it is too early to give up.
    fn awaits_punch(&self) -> bool {
        match self.hole.state {
            // The next guess follows.
            HoleState::Idle => !self.hole.guessed.is_empty(),
            HoleState::AwaitProfile
            | HoleState::AwaitPeer
            | HoleState::AwaitTurn
            | HoleState::AwaitMoment => true,
            HoleState::AwaitHit => {
                self.agent.awaits_punch() || self.agent.punch_state() == Some(PunchState::Planned)
            }
        }
    }

    /// Whether this punch takes one of [`PUNCHES_MAX`] places.
    fn is_punching(&self) -> bool {
        match self.hole.state {
            HoleState::AwaitMoment => true,
            HoleState::AwaitHit => match self.agent.punch_state() {
                Some(PunchState::Planned | PunchState::Spraying | PunchState::Hit) => true,
                Some(PunchState::Backoff | PunchState::Ended) | None => false,
            },
            HoleState::Idle | HoleState::AwaitProfile | HoleState::AwaitPeer | HoleState::AwaitTurn => false,
        }
    }
}

impl Node {
    /// Checks begin, or a relay carries data: a punch follows if no direct path works in time.
    pub(crate) fn expect_punch(&mut self, now: Instant, id: Id<Ice>) {
        if !self.punches() || self.closing.node {
            return;
        }
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let peer = ice.peer;
        ice.hole.since.get_or_insert(now);
        let idle = ice.hole.state == HoleState::Idle && !ice.agent.has_direct_path();
        if idle && self.leads(peer) && self.timers.at(Timer::Punch(peer)).is_none() {
            self.timers.set(Timer::Punch(peer), now + PATIENCE);
        }
    }

    /// What is known of our NAT.
    fn our_nat(&self) -> View {
        self.children.nat.known().map(|known| known.view.clone()).unwrap_or_default()
    }

    /// Whether we punch at all.
    fn punches(&self) -> bool {
        self.config.limits.punch.is_some() && self.config.paths != Paths::RelayedOnly
    }

    /// Which of the two asks: both know.
    fn leads(&self, peer: PeerId) -> bool {
        self.peer_id() < peer
    }

    /// The agent that works towards `peer`: the attempt's, or else the link's.
    fn punching_agent(&self, peer: PeerId) -> Option<Id<Ice>> {
        let attempt = self.peers.get(&peer)?.attempt.as_ref();
        let attempt = attempt.filter(|attempt| match attempt.state() {
            AttemptState::AwaitPath | AttemptState::AwaitConnection => true,
            AttemptState::AwaitIntroducer | AttemptState::AwaitAnswer => false,
        });
        attempt.and_then(|attempt| attempt.ice).or_else(|| self.link_agent(peer))
    }

    /// Whether the attempt of this agent should go on although nothing works yet.
    pub(crate) fn awaits_punch(&self, now: Instant, id: Id<Ice>) -> bool {
        let Some(ice) = self.children.ice.get(id) else { return false };
        let early = ice.hole.since.is_some_and(|since| now.since(since) < ATTEMPT_MAX);
        early && ice.awaits_punch()
    }

    pub(crate) fn on_punch_timer(&mut self, now: Instant, peer: PeerId) {
        let Some(id) = self.punching_agent(peer) else { return };
        let Some(ice) = self.children.ice.get(id) else { return };
        match ice.hole.state {
            HoleState::Idle => self.want_punch(now, id),
            // The peer does not want to, or cannot be told.
            HoleState::AwaitProfile | HoleState::AwaitPeer => {
                self.stop_guessing(id);
                self.end_hole(now, id);
            }
            HoleState::AwaitTurn => self.take_turn(now, id),
            HoleState::AwaitMoment => self.begin_punch(now, id),
            HoleState::AwaitHit if ice.agent.punch_state() == Some(PunchState::Planned) => {
                // No socket, or nothing that the peer could be hit at.
                self.give_up_punch(now, id);
            }
            HoleState::AwaitHit => {}
        }
    }

    /// No direct path works: we lead, and ask.
    fn want_punch(&mut self, now: Instant, id: Id<Ice>) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let (peer, since) = (ice.peer, ice.hole.since);
        let Some(since) = since.filter(|_| !ice.agent.has_direct_path()) else { return };
        if now < since + PATIENCE {
            // The timer was an earlier attempt's.
            return self.timers.set(Timer::Punch(peer), since + PATIENCE);
        }
        if ice.repair.state() != RepairState::Idle {
            // First any path, then a better one.
            return self.timers.set(Timer::Punch(peer), now + PATIENCE);
        }
        if ice.hole.step(HoleStep::Want) {
            self.timers.set(Timer::Punch(peer), now + ANSWER_PATIENCE);
            self.learn_nat(now);
        }
    }

    /// What our NAT does is known, as far as it can be: everybody who waits for that is told.
    pub(crate) fn on_profile(&mut self, now: Instant) {
        let waits = |(_, ice): &(Id<Ice>, &Ice)| ice.hole.state == HoleState::AwaitProfile;
        let waiting: Vec<Id<Ice>> = self.children.ice.iter().filter(waits).map(|(id, _)| id).collect();
        let ours = self.our_nat();
        let Some(limits) = self.config.limits.punch else { return };
        for id in waiting {
            let Some(ice) = self.children.ice.get_mut(id) else { continue };
            ice.hole.step(HoleStep::Sampled);
            let peer = ice.peer;
            let Some(theirs) = ice.hole.theirs.as_deref() else {
                // We lead. The peer cannot plan with less than we have.
                if ours.profile.dependent.is_none() {
                    self.decline(now, id, Declined::Unknown);
                } else {
                    ice.hole.asked = Some(now);
                    self.timers.set(Timer::Punch(peer), now + ANSWER_PATIENCE);
                    self.say(now, id, Say::Ask, Duration::ZERO);
                }
                continue;
            };
            let held = ice.hole.asked.map_or(Duration::ZERO, |asked| now.since(asked));
            match plan(&ours.profile, &theirs.profile, &limits) {
                Ok(_) => {
                    self.timers.set(Timer::Punch(peer), now + ANSWER_PATIENCE + MEET_PATIENCE);
                    self.say(now, id, Say::Answer, held);
                }
                Err(why) => {
                    self.say(now, id, Say::Decline, held);
                    self.decline(now, id, why);
                }
            }
        }
    }

    /// Tells the peer, through an introducer if there is one: it adds where it sees us.
    fn say(&mut self, now: Instant, id: Id<Ice>, say: Say, held: Duration) {
        let ours = self.our_nat();
        let supposed = self.children.ice.get(id).and_then(|ice| ice.hole.supposed);
        let supposed = supposed.filter(|_| say == Say::Begin);
        let word = Word { supposed, ..Word::new(say, held, &ours) };
        let carrier = self.carrier(id);
        let sealed = self.seal_description(now, id, Kind::Punch, Vec::new(), Some(word));
        let (Some((description, _)), Some(ice)) = (sealed, self.children.ice.get(id)) else { return };
        let to = ice.peer;
        if let Some(via) = carrier {
            self.send_control(now, via, &Control::Introduce { to: to.0, description });
        } else {
            let from = self.peer_id().0;
            self.send_control(now, to, &Control::Introduced { from, description, seen: None });
        }
    }

    /// The peer says something about a punch. `seen`: where `via`, which carried it, sees the peer.
    pub(crate) fn on_word(
        &mut self,
        now: Instant,
        (via, seen): (PeerId, Option<SocketAddr>),
        from: PeerId,
        description: &Description,
    ) {
        let Some(word) = &description.punch else { return self.counters.malformed_descriptions += 1 };
        let of = |(_, ice): &(Id<Ice>, &Ice)| ice.peer == from && ice.attempt == description.attempt;
        let Some(id) = self.children.ice.iter().find(of).map(|(id, _)| id) else {
            return self.counters.stale_descriptions += 1;
        };
        if !self.punches() {
            return self.counters.punches_refused += 1;
        }
        if let Some(seen) = seen.filter(|_| via != from && self.is_trusted(via))
            && let Some(ice) = self.children.ice.get_mut(id)
        {
            ice.agent.vouch(now, seen.ip());
        }
        match word.say {
            Say::Ask => self.on_asked(now, id, word),
            Say::Answer => self.on_answered(now, id, word),
            Say::Decline => self.on_declined(now, id),
            Say::Begin => self.on_begin(now, id, word.supposed),
        }
    }

    /// Whether we rely on what this node says of others: the application gave us its ticket.
    fn is_trusted(&self, via: PeerId) -> bool {
        let introduces = |entry: &Peer| entry.link.as_ref().is_some_and(Link::introduces);
        self.peers.get(&via).is_some_and(|entry| !entry.addresses.is_empty() && introduces(entry))
    }

    fn on_asked(&mut self, now: Instant, id: Id<Ice>, word: &Word) {
        let Some(ice) = self.children.ice.get(id) else { return };
        let peer = ice.peer;
        let soon = ice.hole.asked.is_some_and(|asked| now.since(asked) < ASK_AGAIN_MIN);
        if soon || self.leads(peer) {
            return self.counters.punches_refused += 1;
        }
        self.end_hole(now, id);
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        if !ice.hole.step(HoleStep::Want) {
            return;
        }
        ice.hole.asked = Some(now);
        ice.hole.since.get_or_insert(now);
        ice.hole.theirs = Some(Box::new(word.view()));
        self.timers.set(Timer::Punch(peer), now + ANSWER_PATIENCE);
        self.learn_nat(now);
    }

    fn on_answered(&mut self, now: Instant, id: Id<Ice>, word: &Word) {
        let ours = self.our_nat();
        let (Some(limits), Some(ice)) = (self.config.limits.punch, self.children.ice.get_mut(id)) else {
            return;
        };
        let (peer, theirs) = (ice.peer, word.view());
        let asked = ice.hole.asked.filter(|_| ice.hole.state == HoleState::AwaitPeer);
        let Some(asked) = asked.filter(|_| ice.hole.theirs.is_none()) else {
            return self.counters.stale_descriptions += 1;
        };
        let untried = |end: &End| !ice.hole.guessed.contains(end);
        let supposed = suspects(&ours, &theirs, &limits).into_iter().find(untried);
        let (our_profile, their_profile) = profiles(supposed, End::Leader, &ours, &theirs);
        let part = match plan(&our_profile, &their_profile, &limits) {
            Ok(plan) => plan.part,
            Err(why) => return self.decline(now, id, why),
        };
        ice.hole.supposed = supposed;
        // There and back, less what the peer took to find out.
        ice.hole.one_way = now.since(asked).saturating_sub(word.held()) / 2;
        ice.hole.theirs = Some(Box::new(theirs));
        ice.hole.step(HoleStep::Agreed);
        let patience = match part {
            Part::Open | Part::Probe if supposed.is_none() => Duration::ZERO,
            Part::Open | Part::Probe => GUESS_PATIENCE,
            Part::Meet => MEET_PATIENCE,
        };
        let begins = ice.hole.since.map_or(now, |since| since + patience);
        if begins > now {
            self.timers.set(Timer::Punch(peer), begins);
        } else {
            self.take_turn(now, id);
        }
    }

    fn on_declined(&mut self, now: Instant, id: Id<Ice>) {
        let Some(ice) = self.children.ice.get(id) else { return };
        if ice.hole.state == HoleState::AwaitPeer && self.leads(ice.peer) {
            self.progress(ice.peer, Progress::Punch(PunchProgress::Refused));
            self.end_hole(now, id);
        } else {
            self.counters.stale_descriptions += 1;
        }
    }

    /// The leader begins: so do we.
    fn on_begin(&mut self, now: Instant, id: Id<Ice>, supposed: Option<End>) {
        let leads = self.children.ice.get(id).is_some_and(|ice| self.leads(ice.peer));
        let Some(ice) = self.children.ice.get_mut(id).filter(|_| !leads) else {
            return self.counters.stale_descriptions += 1;
        };
        if ice.hole.step(HoleStep::Agreed) {
            ice.hole.supposed = supposed;
            self.take_turn(now, id);
        } else {
            self.counters.stale_descriptions += 1;
        }
    }

    /// Goes on if not too many others are punching. The leader can wait for that; the follower cannot.
    fn take_turn(&mut self, now: Instant, id: Id<Ice>) {
        let others = self.children.ice.iter().filter(|(other, ice)| *other != id && ice.is_punching());
        let room = others.count() < PUNCHES_MAX;
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let (peer, one_way) = (ice.peer, ice.hole.one_way);
        let leads = self.leads(peer);
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        match (room, leads) {
            (false, true) if !ice.agent.has_direct_path() => {
                self.timers.set(Timer::Punch(peer), now + TURN);
            }
            (false, _) => {
                self.counters.punches_refused += 1;
                self.end_hole(now, id);
            }
            (true, true) => {
                ice.hole.step(HoleStep::Turn);
                self.say(now, id, Say::Begin, Duration::ZERO);
                self.timers.set(Timer::Punch(peer), now + one_way);
            }
            (true, false) => {
                ice.hole.step(HoleStep::Turn);
                self.begin_punch(now, id);
            }
        }
    }

    fn begin_punch(&mut self, now: Instant, id: Id<Ice>) {
        let (ours, ourselves) = (self.our_nat(), self.peer_id());
        let leads = |peer| ourselves < peer;
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let (peer, theirs) = (ice.peer, ice.hole.theirs.as_deref().cloned().unwrap_or_default());
        let we = if leads(peer) { End::Leader } else { End::Follower };
        let (ours, theirs) = profiles(ice.hole.supposed, we, &ours, &theirs);
        match ice.agent.punch(now, &ours, &theirs) {
            Ok(plan) => {
                ice.hole.step(HoleStep::Begin);
                ice.hole.part = Some(plan.part);
                self.timers.set(Timer::Punch(peer), now + START_PATIENCE);
                self.progress(
                    peer,
                    Progress::Punch(PunchProgress::Begun {
                        part: plan.part,
                        sockets: plan.sockets,
                        probes: plan.probes,
                        chance: plan.chance,
                    }),
                );
            }
            // Just in time.
            Err(Declined::Connected) => self.end_hole(now, id),
            Err(why) => self.decline(now, id, why),
        }
    }

    /// The path in use is in doubt: leaving the NATs alone would keep us from finding another one.
    pub(crate) fn break_silence(&mut self, now: Instant, id: Id<Ice>) {
        if self.children.ice.get(id).is_some_and(|ice| ice.hole.part == Some(Part::Meet)) {
            self.end_hole(now, id);
        }
    }

    /// There is no punch, and this is why.
    fn decline(&mut self, now: Instant, id: Id<Ice>, why: Declined) {
        if let Some(ice) = self.children.ice.get(id) {
            self.progress(ice.peer, Progress::Punch(PunchProgress::Declined(why)));
        }
        self.stop_guessing(id);
        self.end_hole(now, id);
    }

    fn stop_guessing(&mut self, id: Id<Ice>) {
        if let Some(ice) = self.children.ice.get_mut(id) {
            ice.hole.guessed.clear();
        }
    }

    /// Nothing is arranged any more.
    fn end_hole(&mut self, now: Instant, id: Id<Ice>) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        if ice.hole.step(HoleStep::End) {
            (ice.hole.theirs, ice.hole.supposed) = (None, None);
            ice.agent.stop_punch(now);
            self.timers.clear(Timer::Punch(ice.peer));
        }
    }

    /// A round hit nothing. The leader tries again later, with a fresh look at both NATs; and soon, if it had only
    /// guessed which of them is hard.
    fn give_up_punch(&mut self, now: Instant, id: Id<Ice>) {
        let guess = self.children.ice.get(id).and_then(|ice| ice.hole.supposed);
        self.end_hole(now, id);
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let wait = if let Some(end) = guess {
            ice.hole.guessed.insert(end);
            GUESS_AGAIN
        } else {
            ice.hole.fruitless = ice.hole.fruitless.saturating_add(1);
            ice.hole.wait()
        };
        let peer = ice.peer;
        let again = self.leads(peer);
        if again {
            self.timers.set(Timer::Punch(peer), now + wait);
        }
        self.progress(peer, Progress::Punch(PunchProgress::Exhausted { again: again.then_some(wait) }));
    }

    /// What an agent's punch does, and asks for.
    pub(crate) fn on_punch(&mut self, now: Instant, id: Id<Ice>, event: PunchEvent) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let peer = ice.peer;
        match event {
            PunchEvent::OpenSockets { count } => self.open_sockets(id, count),
            PunchEvent::CloseSockets { but } => self.close_sockets(id, but),
            PunchEvent::StateChanged(PunchState::Hit) => {
                self.progress(peer, Progress::Punch(PunchProgress::Hit));
            }
            // The agent knows best when two easy NATs have been left alone for long enough.
            PunchEvent::StateChanged(PunchState::Backoff)
                if ice.hole.state == HoleState::AwaitHit && ice.hole.part != Some(Part::Meet) =>
            {
                self.give_up_punch(now, id);
            }
            // What ended while another one is being arranged was the one before.
            PunchEvent::StateChanged(PunchState::Ended) => {
                if ice.hole.state == HoleState::AwaitHit && ice.hole.step(HoleStep::End) {
                    (ice.hole.theirs, ice.hole.supposed) = (None, None);
                    ice.hole.fruitless = 0;
                    ice.hole.guessed.clear();
                    self.timers.clear(Timer::Punch(peer));
                }
            }
            PunchEvent::StateChanged(PunchState::Planned | PunchState::Spraying | PunchState::Backoff) => {}
        }
    }

    fn open_sockets(&mut self, id: Id<Ice>, count: usize) {
        let Some(known) = self.children.nat.known() else { return };
        let any = SocketAddr::new(known.base.ip(), 0);
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        for _ in 0..count {
            // None: there are too many. The agent begins with what it has.
            let Some(socket) = self.out.requests.bind(Owner::Punch(id), any) else { break };
            ice.hole.sockets.insert(socket, None);
        }
    }

    fn close_sockets(&mut self, id: Id<Ice>, but: Option<SocketAddr>) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let requests = &mut self.out.requests;
        ice.hole.sockets.retain(|socket, local| {
            let kept = local.is_some() && *local == but;
            if !kept {
                requests.close(*socket);
            }
            kept
        });
    }

    /// What became of a socket for a punch.
    pub(crate) fn on_punch_answer(&mut self, now: Instant, id: Id<Ice>, answer: &Answer<'_>) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        match *answer {
            Answer::Bound { id: socket, local } => {
                if ice.agent.add_punch_socket(now, local).is_ok() {
                    ice.hole.sockets.insert(socket, Some(local));
                } else {
                    // The round is over, or the address is none that could be reached.
                    ice.hole.sockets.remove(&socket);
                    self.out.requests.close(socket);
                }
            }
            Answer::Closed { id: socket, .. } => {
                if let Some(Some(local)) = ice.hole.sockets.remove(&socket) {
                    ice.agent.remove_local_candidate(now, local);
                }
            }
            Answer::Connected { .. } | Answer::Received { .. } | Answer::Written { .. } => {}
        }
    }

    /// Sockets of punches at addresses that this host has no more are gone, too.
    pub(crate) fn drop_stranded_sockets(&mut self, now: Instant) {
        let (locals, requests) = (&self.config.local_addresses, &mut self.out.requests);
        for (_, ice) in self.children.ice.iter_mut() {
            let stranded = |local: &Option<SocketAddr>| {
                local.filter(|local| !locals.iter().any(|it| it.ip() == local.ip()))
            };
            let gone = ice.hole.sockets.iter().filter_map(|(id, local)| Some((*id, stranded(local)?)));
            for (socket, local) in gone.collect::<Vec<_>>() {
                requests.close(socket);
                ice.hole.sockets.remove(&socket);
                ice.agent.remove_local_candidate(now, local);
            }
        }
    }

    /// An agent is gone, and so are its sockets.
    pub(crate) fn release_hole(&mut self, ice: &Ice) {
        for socket in ice.hole.sockets.keys() {
            self.out.requests.close(*socket);
        }
        if !self.children.ice.iter().any(|(_, other)| other.peer == ice.peer) {
            self.timers.clear(Timer::Punch(ice.peer));
        }
    }
}

#[cfg(test)]
#[path = "punch_tests.rs"]
mod tests;
