//! Introductions: offers and answers between two peers, carried by a third that both know.
//!
//! ```text
//!   A ── Introduce{to B, offer} ──► P ── Introduced{from A, offer} ──► B
//!   A ◄─ Introduced{from B, answer} P ◄── Introduce{to A, answer} ──── B      then both trickle
//!   A ── Introduce{to B, began} ────► P ── Introduced{from A, began} ──► B
//! ```
//!
//! B checks A as soon as it has the offer, A checks B when it has the answer. What B sent before that may have come
//! to a NAT that A had not opened, so A says when it begins, unless it has heard B by then, and B checks once more.
//!
//! The offerer is the controlling ICE agent (RFC 8445 §6.1.1) and dials QUIC. When two offers cross,
//! the one from the smaller peer id stands and the other is forgotten.

use core::net::SocketAddr;
use core::time::Duration;

use gimlet_ice::{CandidateKind, Role};
use gimlet_machine::{Id, Instant, Path, PeerId};

use crate::config::Paths;
use crate::connect::ANSWERS_MAX;
use crate::control::{Control, Unreachable};
use crate::description::{DESCRIPTION_CANDIDATES_MAX, Description, DescriptionError, Kind};
use crate::error::ConnectError;
use crate::event::{Event, Progress, Via};
use crate::node::Node;
use crate::peer::{Attempt, Ice, Link, Peer};
use crate::punch::Word;
use crate::state::{AttemptState, AttemptStep};
use crate::timer::Timer;

/// The waits before all introducers are asked again for a peer that none of them knows. After the
/// last, the attempt fails: the peer is not there.
const OFFER_AGAIN: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

impl Node {
    /// Sends our offer through the first introducer that has not refused; waits if there is none.
    pub(crate) fn offer(&mut self, now: Instant, peer: PeerId) {
        let attempt = self.peers.get(&peer).and_then(|entry| entry.attempt.as_ref());
        let Some(attempt) = attempt.filter(|attempt| attempt.state() == AttemptState::AwaitIntroducer) else {
            return;
        };
        let (number, ice) = (attempt.number, attempt.ice);
        let introducers =
            self.peers.iter().filter(|(_, entry)| entry.link.as_ref().is_some_and(Link::introduces));
        let via = introducers.map(|(id, _)| *id).find(|id| *id != peer && !attempt.tried.contains(id));
        let Some(via) = via else {
            return self.offer_later(now, peer);
        };
        self.refresh_gathering(now);
        let role = Role::Controlling;
        let Some(ice) = ice.or_else(|| self.new_agent(now, peer, (number, via), role)) else {
            return self.fail(now, peer, ConnectError::TooManyPeers);
        };
        if let Some(ice) = self.children.ice.get_mut(ice) {
            ice.via = via;
        }
        if let Some(attempt) = self.peers.get_mut(&peer).and_then(|entry| entry.attempt.as_mut()) {
            attempt.ice = Some(ice);
            attempt.via = Via::Introducer(via);
            let legal = attempt.step(AttemptStep::Offered);
            debug_assert!(legal, "an offer is sent while waiting for an introducer");
        }
        let candidates = self.describe(now, ice, Kind::Offer);
        self.progress(peer, Progress::OfferSent { via, candidates });
    }

    /// No introducer can help right now. One that refused may do better soon: the peer may be on its
    /// way there. Without any, their coming is awaited.
    fn offer_later(&mut self, now: Instant, peer: PeerId) {
        let Some(attempt) = self.peers.get_mut(&peer).and_then(|entry| entry.attempt.as_mut()) else {
            return;
        };
        let Some(why) = attempt.refusal else { return self.progress(peer, Progress::WaitingForIntroducer) };
        let Some(wait) = OFFER_AGAIN.get(attempt.rounds) else {
            return self.fail(now, peer, ConnectError::Unreachable(why));
        };
        attempt.rounds += 1;
        attempt.tried.clear();
        self.timers.set(Timer::Offer(peer), now + *wait);
    }

    /// Sends everything the agent knows about itself; returns the number of candidates.
    fn describe(&mut self, now: Instant, id: Id<Ice>, kind: Kind) -> usize {
        let Some((description, count)) = self.write_description(now, id, kind) else { return 0 };
        self.send_description(now, id, description);
        count
    }

    /// Everything that the agent knows about itself, signed, and the number of candidates in it.
    pub(crate) fn write_description(
        &mut self,
        now: Instant,
        id: Id<Ice>,
        kind: Kind,
    ) -> Option<(Vec<u8>, usize)> {
        let ice = self.children.ice.get(id)?;
        let candidates: Vec<String> = ice.agent.local_candidates().map(ToString::to_string).collect();
        self.seal_description(now, id, kind, candidates, None)
    }

    /// If the introducer does not read, the attempt ends by its timer or with the introducer.
    fn send_description(&mut self, now: Instant, id: Id<Ice>, description: Vec<u8>) {
        let Some(ice) = self.children.ice.get(id) else { return };
        let (to, via) = (ice.peer.0, ice.via);
        self.send_control(now, via, &Control::Introduce { to, description });
    }

    pub(crate) fn seal_description(
        &mut self,
        now: Instant,
        id: Id<Ice>,
        kind: Kind,
        mut candidates: Vec<String>,
        punch: Option<Word>,
    ) -> Option<(Vec<u8>, usize)> {
        candidates.truncate(DESCRIPTION_CANDIDATES_MAX);
        let count = candidates.len();
        let unix_nanos =
            (self.config.outside.unix_time_at_origin + now.since(Instant::ZERO)).as_nanos() as u64;
        let sequence = self.sequences.next(unix_nanos);
        // The candidates of a link have no end: its ends may move.
        let has_end = matches!(kind, Kind::Offer | Kind::Answer | Kind::Trickle);
        let end_of_candidates = has_end && !self.is_gathering();
        let from = self.peer_id().0;
        let ice = self.children.ice.get_mut(id)?;
        // What is said about a punch, or about checks, says nothing about candidates.
        ice.told_end = match kind {
            Kind::Punch | Kind::Began => ice.told_end,
            Kind::Offer
            | Kind::Answer
            | Kind::Trickle
            | Kind::Update
            | Kind::Moved
            | Kind::Restart
            | Kind::Restarted => end_of_candidates,
        };
        if end_of_candidates {
            ice.agent.end_of_local_candidates(now);
        }
        let credentials = ice.agent.local_credentials();
        let description = Description {
            kind,
            from,
            to: ice.peer.0,
            attempt: ice.attempt,
            sequence,
            ufrag: credentials.ufrag.clone(),
            pwd: credentials.pwd.clone(),
            candidates,
            end_of_candidates,
            renomination: true,
            punch,
        };
        Some((description.seal(&self.config.identity), count))
    }

    /// Tells the peer about candidates found since the last description (RFC 8838 §4.1), if there
    /// are any or if this is the end of them.
    pub(crate) fn trickle(&mut self, now: Instant, id: Id<Ice>) {
        let lines = self.add_gathered(now, id);
        let ended = !self.is_gathering();
        let Some(ice) = self.children.ice.get(id) else { return };
        let attempt = self.peers.get(&ice.peer).and_then(|entry| entry.attempt.as_ref());
        // Until the connection stands: what the peer hears from a relay that it was not told of looks as if we had
        // moved.
        let listening = match attempt.filter(|attempt| attempt.ice == Some(id)).map(Attempt::state) {
            Some(AttemptState::AwaitAnswer | AttemptState::AwaitPath | AttemptState::AwaitConnection) => true,
            Some(AttemptState::AwaitIntroducer) | None => false,
        };
        if listening && (!lines.is_empty() || (ended && !ice.told_end)) {
            if let Some((description, _)) = self.seal_description(now, id, Kind::Trickle, lines, None) {
                self.send_description(now, id, description);
            }
        } else if !lines.is_empty() {
            self.update(now, id, Kind::Update);
        }
    }

    /// A control message from a connected peer.
    pub(crate) fn on_control(&mut self, now: Instant, from: PeerId, message: Control) {
        match message {
            Control::Introduce { to, description } => self.on_introduce(now, from, PeerId(to), description),
            Control::Introduced { from: sender, description, seen } => {
                self.on_introduced(now, (from, seen), PeerId(sender), &description);
            }
            Control::Unreachable { peer, why } => self.on_unreachable(now, from, PeerId(peer), why),
            Control::Relay(pass) => self.on_pass(now, from, &pass),
            Control::Witness { port } => self.on_witness(from, port),
        }
    }

    /// We are the introducer: carry the description on, unread.
    fn on_introduce(&mut self, now: Instant, from: PeerId, to: PeerId, description: Vec<u8>) {
        let refuse = |why| Control::unreachable(to, why);
        let within_rate = self
            .peers
            .get_mut(&from)
            .and_then(|entry| entry.link.as_mut())
            .is_some_and(|link| link.introductions.take(now));
        let answer = if !self.config.public {
            Some(refuse(Unreachable::NotAnIntroducer))
        } else if !within_rate {
            self.counters.introductions_over_rate += 1;
            Some(refuse(Unreachable::TooMany))
        } else if !self.peers.get(&to).and_then(|entry| entry.link.as_ref()).is_some_and(Link::can_be_told) {
            // A link whose hello is still on its way will do: our own hello went first.
            self.counters.introductions_undeliverable += 1;
            Some(refuse(Unreachable::NotConnected))
        } else {
            None
        };
        let answer = answer.or_else(|| {
            let seen = self.seen_at(from);
            let carried =
                self.send_control(now, to, &Control::Introduced { from: from.0, description, seen });
            (!carried).then_some(refuse(Unreachable::TooMany))
        });
        if let Some(answer) = answer {
            self.send_control(now, from, &answer);
        }
    }

    /// Where we see a connected peer.
    fn seen_at(&self, peer: PeerId) -> Option<SocketAddr> {
        match self.path(peer)? {
            Path::Direct(flow) => Some(flow.remote),
            Path::Relayed { .. } => None,
        }
    }

    /// A description for us, carried by `via`, which sees the sender at `seen` if it says so.
    fn on_introduced(
        &mut self,
        now: Instant,
        (via, seen): (PeerId, Option<SocketAddr>),
        from: PeerId,
        bytes: &[u8],
    ) {
        let description = match Description::open(bytes, from, self.peer_id()) {
            Ok(description) => description,
            Err(DescriptionError::Forged) => return self.counters.forged_descriptions += 1,
            Err(DescriptionError::Malformed | DescriptionError::Misdirected) => {
                return self.counters.malformed_descriptions += 1;
            }
        };
        if description.kind == Kind::Offer && !self.takes_offers_from(from) {
            return self.counters.refused_offers += 1;
        }
        if !self.sequences.accept(from, description.sequence) {
            return self.counters.replayed_descriptions += 1;
        }
        match description.kind {
            Kind::Offer => self.on_offer(now, via, from, &description),
            Kind::Answer => self.on_answer(now, from, &description),
            Kind::Trickle => self.on_trickle(now, from, &description),
            Kind::Update | Kind::Moved => self.on_update(now, from, &description),
            Kind::Restart => self.on_restart(now, via, from, &description),
            Kind::Restarted => self.on_restarted(now, from, &description),
            Kind::Punch => self.on_word(now, (via, seen), from, &description),
            Kind::Began => self.on_began(now, from, &description),
        }
    }

    /// Whether the policy lets `from` make offers to us.
    fn takes_offers_from(&self, from: PeerId) -> bool {
        let asked = self.peers.get(&from).is_some_and(|entry| entry.wanted);
        !self.closing.node && from != self.peer_id() && (asked || self.config.allow.admits(from))
    }

    fn on_offer(&mut self, now: Instant, via: PeerId, from: PeerId, offer: &Description) {
        if self.is_repeated_offer(now, via, from, offer) || self.stands_against(now, via, from) {
            return self.counters.stale_descriptions += 1;
        }
        let answered = |peer: &Peer| peer.attempt.as_ref().is_some_and(|attempt| !attempt.ours);
        let others = self.peers.iter().filter(|(id, peer)| **id != from && answered(peer)).count();
        if others >= ANSWERS_MAX {
            return self.counters.refused_offers += 1;
        }
        if self.peer_entry(from).is_err() {
            return;
        }
        self.refresh_gathering(now);
        let Some(id) = self.new_agent(now, from, (offer.attempt, via), Role::Controlled) else {
            return self.counters.peers_over_limit += 1;
        };
        let Ok(connection) = self.children.quic.expect(now, from) else {
            self.remove_agent(id);
            return self.counters.peers_over_limit += 1;
        };
        // Only when the new attempt has all it needs does the old one give way.
        if let Some(attempt) = self.take_attempt(from) {
            self.drop_attempt(now, &attempt);
        }
        self.connections.insert(connection, from);
        if let Some(ice) = self.children.ice.get_mut(id) {
            ice.connection = Some(connection);
        }
        if let Some(entry) = self.peers.get_mut(&from) {
            entry.attempt = Some(Attempt::answering(offer.attempt, via, id, connection));
        }
        self.timers.set(Timer::Attempt(from), now + self.config.limits.attempt_timeout);
        let candidates = self.learn(now, id, offer);
        self.expect_punch(now, id);
        self.progress(from, Progress::OfferReceived { via, candidates });
        let candidates = self.describe(now, id, Kind::Answer);
        self.progress(from, Progress::AnswerSent { candidates });
    }

    /// An offer that we are answering already came again, through whichever introducer: our answer may
    /// have been lost with the first one, so it is said again.
    fn is_repeated_offer(&mut self, now: Instant, via: PeerId, from: PeerId, offer: &Description) -> bool {
        let attempt = self.peers.get_mut(&from).and_then(|entry| entry.attempt.as_mut());
        let Some(attempt) = attempt.filter(|attempt| !attempt.ours && attempt.number == offer.attempt) else {
            return false;
        };
        let Some(id) = attempt.ice else { return false };
        let Some(ice) = self.children.ice.get_mut(id) else { return false };
        if ice.agent.set_remote_credentials(now, offer.credentials()).is_err() {
            // The number is the same, the session is not: the peer was restarted.
            return false;
        }
        attempt.via = Via::Introducer(via);
        ice.via = via;
        self.learn(now, id, offer);
        let candidates = self.describe(now, id, Kind::Answer);
        self.progress(from, Progress::AnswerSent { candidates });
        true
    }

    /// Glare: two offers crossed, and ours stands if our id is the smaller one. A peer that was restarted
    /// has not seen ours, so it is said again. Once the peer has answered, a new offer of its means that
    /// it has given up what it answered.
    fn stands_against(&mut self, now: Instant, via: PeerId, from: PeerId) -> bool {
        let ours = self.peer_id();
        let attempt = self.peers.get_mut(&from).and_then(|entry| entry.attempt.as_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.is_unanswered_offer() && ours < from) else {
            return false;
        };
        if attempt.state() == AttemptState::AwaitAnswer
            && let Some(id) = attempt.ice
        {
            attempt.via = Via::Introducer(via);
            if let Some(ice) = self.children.ice.get_mut(id) {
                ice.via = via;
            }
            self.describe(now, id, Kind::Offer);
        }
        true
    }

    fn on_answer(&mut self, now: Instant, from: PeerId, answer: &Description) {
        let attempt = self.peers.get_mut(&from).and_then(|entry| entry.attempt.as_mut());
        let attempt = attempt.filter(|attempt| attempt.ours && attempt.number == answer.attempt);
        let expected =
            attempt.and_then(|attempt| attempt.step(AttemptStep::Described).then_some(attempt.ice)?);
        let Some(id) = expected else { return self.counters.stale_descriptions += 1 };
        let candidates = self.learn(now, id, answer);
        self.say_began(now, id);
        self.expect_punch(now, id);
        self.progress(from, Progress::AnswerReceived { candidates });
    }

    /// We have the peer's answer, and check it: its own checks may come through now, if none has so far.
    pub(crate) fn say_began(&mut self, now: Instant, id: Id<Ice>) {
        if self.children.ice.get(id).is_none_or(|ice| ice.agent.has_heard_directly()) {
            return;
        }
        if let Some((description, _)) = self.seal_description(now, id, Kind::Began, Vec::new(), None) {
            self.send_description(now, id, description);
        }
    }

    fn on_began(&mut self, now: Instant, from: PeerId, began: &Description) {
        // Of the session that we answered: another one's checks are not ours to repeat.
        let same = |ice: &Ice| ice.agent.remote_credentials() == Some(&began.credentials());
        let meant = |ice: &Ice| ice.peer == from && ice.attempt == began.attempt && same(ice);
        match self.children.ice.iter_mut().find(|(_, ice)| meant(ice)) {
            Some((_, ice)) => ice.agent.recheck(now),
            None => self.counters.stale_descriptions += 1,
        }
    }

    fn on_trickle(&mut self, now: Instant, from: PeerId, more: &Description) {
        // Before the answer there is nothing to add to: the session that it belongs to is not known.
        let attempt = self.peers.get(&from).and_then(|entry| entry.attempt.as_ref());
        let early = attempt.is_some_and(Attempt::is_unanswered_offer);
        let known = self.children.ice.iter().find(|(_, ice)| ice.peer == from && ice.attempt == more.attempt);
        match known.map(|(id, _)| id).filter(|_| !early) {
            Some(id) => {
                // The end was true when it was said; a relay has given the peer another address since.
                if let Some(ice) = self.children.ice.get_mut(id).filter(|_| !more.candidates.is_empty()) {
                    ice.agent.reopen_remote_candidates(now);
                }
                self.learn(now, id, more);
            }
            None => self.counters.stale_descriptions += 1,
        }
    }

    /// Gives the agent what the peer said; returns the number of candidates it could use.
    pub(crate) fn learn(&mut self, now: Instant, id: Id<Ice>, description: &Description) -> usize {
        let Some(ice) = self.children.ice.get_mut(id) else { return 0 };
        let peer = ice.peer;
        let was = (self.path(peer), self.is_relayed(peer));
        let Some(ice) = self.children.ice.get_mut(id) else { return 0 };
        ice.agent.set_renomination(description.renomination);
        if ice.agent.set_remote_credentials(now, description.credentials()).is_err() {
            self.counters.malformed_descriptions += 1;
            return 0;
        }
        let mut usable = 0;
        for candidate in description.usable_candidates() {
            if self.config.paths == Paths::DirectOnly && candidate.kind == CandidateKind::Relayed {
                // As many as the agent would hold; beyond, ICE knows the addresses as strangers'.
                let room = ice.shunned.len() < DESCRIPTION_CANDIDATES_MAX;
                room.then(|| ice.shunned.insert(candidate.address));
                continue;
            }
            usable += usize::from(ice.agent.add_remote_candidate(now, candidate).is_ok());
        }
        if description.end_of_candidates {
            ice.agent.end_of_remote_candidates(now);
        }
        self.children.relays.mark_stale();
        self.tell_if_relayed(peer, was);
        usable
    }

    /// The path to `peer` is the same as it was, and leads to a relay of the peer's, as is known only now.
    fn tell_if_relayed(&mut self, peer: PeerId, was: (Option<Path>, bool)) {
        let open = self.peers.get(&peer).and_then(Peer::open_link).is_some();
        let is = (self.path(peer), self.is_relayed(peer));
        if let (true, Some(path)) = (open && is.0 == was.0 && is.1 != was.1, is.0) {
            self.tell(Event::PathChanged { peer, path });
        }
    }

    fn on_unreachable(&mut self, now: Instant, via: PeerId, peer: PeerId, why: Unreachable) {
        let attempt = self.peers.get_mut(&peer).and_then(|entry| entry.attempt.as_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.ours && attempt.via == Via::Introducer(via))
        else {
            return;
        };
        if attempt.step(AttemptStep::IntroducerLost) {
            attempt.tried.insert(via);
            attempt.refusal = Some(why);
            self.progress(peer, Progress::NotIntroduced(why));
            self.offer(now, peer);
        }
    }

    /// The address of a connected public node: it answers STUN there.
    pub(crate) fn address_of(&self, peer: PeerId) -> Option<SocketAddr> {
        self.path(peer).map(|path| path.peer_address())
    }
}
