//! From candidates to pairs: signalled, and learned from the peer's checks.

use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_machine::{Id, Instant, Path};

use super::Agent;
use crate::answers::Heard;
use crate::candidate::stream_of;
use crate::candidates::{Added, Local, Remote};
use crate::check::Request;
use crate::checklist::{Checklist, Formed};
use crate::pair::{Lane, Nominated, Pair};
use crate::role::Ruling;
use crate::state::{PairState, PairStep, State, Step};
use crate::{Event, Role};

impl Agent {
    /// Forms the pairs of a new local candidate. One whose base another candidate stands for adds none:
    /// it was signalled, and that is its whole use (RFC 8445 §6.1.2.4).
    pub(super) fn pair_local(&mut self, id: Id<Local>) {
        if !self.candidates.is_representative(id) {
            return;
        }
        self.take_over_base(id);
        if self.explores() {
            let before = self.checklist.len();
            self.form_pairs_of(id);
            self.on_pairs_formed(before);
        }
    }

    /// Forms the pairs of a local candidate that are not there.
    fn form_pairs_of(&mut self, id: Id<Local>) {
        let role = self.role.role();
        let late = self.nominating.selected().is_some();
        for (remote, _) in self.candidates.remotes().filter(|(_, remote)| !remote.learned) {
            let Some(ends) = self.candidates.ends(id, remote) else { continue };
            let (ours, theirs) = ends.candidates();
            // A less preferred candidate with this base may have left its pairs.
            if ours.begins_with(theirs) && self.checklist.find(id, remote).is_none() {
                let formed = self.checklist.form(ends, role, false);
                self.counters.pairs_dropped += note(formed, &mut self.checks);
                mark_late(&mut self.checklist, formed, late);
            }
        }
    }

    /// Forms the pairs that a selection made unnecessary.
    pub(super) fn form_missing_pairs(&mut self) {
        let locals: Vec<_> = self.candidates.representatives().map(|(id, _)| id).collect();
        for id in locals {
            self.form_pairs_of(id);
        }
    }

    /// There is something to check, if there was not before.
    fn on_pairs_formed(&mut self, before: usize) {
        if self.session.peer.is_some() && self.checklist.len() > before {
            self.step(Step::Start);
        }
    }

    /// Pairs of a less preferred candidate with the base of `id` become pairs of `id`.
    fn take_over_base(&mut self, id: Id<Local>) {
        let Some(local) = self.candidates.local(id) else { return };
        for (_, pair) in self.checklist.iter_mut() {
            let former = self.candidates.local(pair.local);
            let shares = former.is_some_and(|former| former.candidate.shares_base_with(&local.candidate));
            if let (true, Some(ends)) = (shares, self.candidates.ends(id, pair.remote)) {
                pair.rank(ends, self.role.role());
            }
        }
    }

    /// Forms the pairs of a remote candidate, or ranks those that it took over.
    pub(super) fn pair_remote(&mut self, added: Added) {
        let id = match added {
            Added::Known => return,
            Added::New(id) => id,
            Added::TookOver(id) => {
                self.rank_pairs_of(id);
                id
            }
        };
        if !self.explores() {
            return;
        }
        let late = self.nominating.selected().is_some();
        let (role, before) = (self.role.role(), self.checklist.len());
        for (local, _) in self.candidates.representatives() {
            let Some(ends) = self.candidates.ends(local, id) else { continue };
            let (ours, theirs) = ends.candidates();
            // What was learned has a pair with the base that heard it.
            let fresh = matches!(added, Added::New(_)) || self.checklist.find(local, id).is_none();
            if fresh && ours.begins_with(theirs) {
                let formed = self.checklist.form(ends, role, false);
                self.counters.pairs_dropped += note(formed, &mut self.checks);
                mark_late(&mut self.checklist, formed, late);
            }
        }
        self.on_pairs_formed(before);
    }

    fn rank_pairs_of(&mut self, remote: Id<Remote>) {
        for (_, pair) in self.checklist.iter_mut().filter(|(_, pair)| pair.remote == remote) {
            if let Some(ends) = self.candidates.ends(pair.local, remote) {
                pair.rank(ends, self.role.role());
            }
        }
    }

    pub(super) fn remove_pairs_of(&mut self, remote: Id<Remote>) {
        let next = |checklist: &Checklist| checklist.of_remote(remote).next().map(|(id, _)| id);
        while let Some(id) = next(&self.checklist) {
            self.checklist.remove(id);
            self.checks.forget(id);
        }
    }

    /// The roles changed: every pair has another priority (RFC 8445 §7.3.1.1).
    pub(super) fn on_role_changed(&mut self) {
        let role = self.role.role();
        for (_, pair) in self.checklist.iter_mut() {
            if let Some(ends) = self.candidates.ends(pair.local, pair.remote) {
                pair.rank(ends, role);
            }
            // The peer has no longer the right to ask for it.
            pair.asked = pair.asked.filter(|_| role == Role::Controlled);
        }
        self.abandon_request();
        self.tell(Event::RoleChanged(role));
    }

    /// Settles the roles before a request is acted on; `false` if it is to be refused. There is no role
    /// towards somebody who is not our peer.
    pub(super) fn settle_roles(&mut self, request: &Request, sender: &[u8]) -> bool {
        let Some(claim) = request.claim.filter(|_| !self.session.is_stranger(sender)) else { return true };
        if self.config.lite && !self.session.peer_is_lite {
            // Whoever checks is full, and controls a lite agent whatever the tiebreakers (RFC 8445 §6.1.1).
            if self.role.role() == Role::Controlling {
                self.role.switch();
                self.on_role_changed();
            }
            return claim.role == Role::Controlling;
        }
        match self.role.judge(claim) {
            Ruling::Fits => true,
            Ruling::Refuse => false,
            Ruling::Switch => {
                self.role.switch();
                self.on_role_changed();
                true
            }
        }
    }

    /// The peer claims our role, and we keep it. The request says nothing about the pair (RFC 8445
    /// §7.3.1.1), but it got through: if our own check of the pair is still unanswered, another one may
    /// settle the conflict sooner than its retransmission.
    pub(super) fn on_request_refused(&mut self, path: &Path) {
        let in_progress = |(_, pair): &(Id<Pair>, &Pair)| {
            pair.is(PairState::InProgress) && self.candidates.path(pair.local, pair.remote) == Some(*path)
        };
        let pair = self.checklist.iter().find(in_progress).map(|(id, _)| id);
        if let Some(id) = pair {
            self.trigger(id);
        }
    }

    /// Acts on an answered request of the peer (RFC 8445 §7.3.1.3–7.3.1.5), or remembers it.
    pub(super) fn on_request_answered(&mut self, now: Instant, heard: &Heard<'_>) {
        if self.session.peer.is_none() {
            self.remember(heard);
            return;
        }
        if self.session.is_stranger(heard.sender) {
            self.counters.requests_from_strangers += 1;
            return;
        }
        self.checks.punching.attested.hear(heard.path.peer_address().ip());
        let Some(local) = self.candidates.base_of(&heard.path).or_else(|| self.promote(&heard.path)) else {
            self.counters.unknown_bases += 1;
            self.remember(heard);
            return;
        };
        self.note_hit(now, &heard.path);
        let nominates = heard.nominates.filter(|_| self.role.role() == Role::Controlled);
        self.counters.nominations_ignored += u64::from(heard.nominates.is_some() && nominates.is_none());
        let Some(id) = self.pair_heard(local, heard, nominates.is_some()) else { return };
        if let Some(pair) = self.checklist.get_mut(id) {
            pair.seen.heard = now;
            pair.asked = newest(pair.asked, nominates);
        }
        match (nominates.is_some(), self.config.lite) {
            (true, true) => self.believe(now, id),
            (false, true) => return,
            (_, false) => self.trigger(id),
        }
        let valid = self.checklist.get(id).filter(|pair| pair.is(PairState::Succeeded));
        let Some(pair) = valid.filter(|_| nominates.is_some()) else { return };
        if self.config.lite || pair.is_fresh(now) {
            self.accept_nomination(now, id);
        } else if let Some(pair) = self.checklist.get_mut(id) {
            // It worked long ago: data may follow once the peer has answered there again.
            pair.history.recheck = true;
            self.checklist.trigger(id);
        }
    }

    fn remember(&mut self, heard: &Heard<'_>) {
        self.counters.early_requests_forgotten += u64::from(self.answers.remember(heard));
    }

    /// Acts on the requests that came too early.
    pub(super) fn act_on_early_requests(&mut self, now: Instant) {
        if self.session.peer.is_some() {
            for early in self.answers.take_early() {
                self.on_request_answered(now, &early.heard());
            }
        }
    }

    /// The pair on which the peer was heard; learned if it is news. After selection, what was signalled is
    /// left alone unless the peer asks for it: the peer's last checks are still on their way. An address
    /// that nobody signalled may be where the peer went.
    pub(super) fn pair_heard(
        &mut self,
        local: Id<Local>,
        heard: &Heard<'_>,
        nominates: bool,
    ) -> Option<Id<Pair>> {
        let known = self.candidates.remote_of(&heard.path);
        let known_pair = known.and_then(|remote| self.checklist.find(local, remote));
        let late = self.nominating.selected().is_some();
        if known_pair.is_some() || (known.is_some() && late && !nominates && !self.explores()) {
            return known_pair;
        }
        let remote = match known {
            Some(remote) => remote,
            None => self.learn(&heard.path, heard.priority)?,
        };
        let ends = self.candidates.ends(local, remote)?;
        let formed = self.checklist.form(ends, self.role.role(), true);
        self.counters.pairs_dropped += note(formed, &mut self.checks);
        mark_late(&mut self.checklist, formed, late);
        match formed {
            Formed::New(id) | Formed::Replaced(id, _) => Some(id),
            Formed::Refused => None,
        }
    }

    /// Takes a peer-reflexive remote candidate (RFC 8445 §7.3.1.3).
    fn learn(&mut self, path: &Path, priority: u32) -> Option<Id<Remote>> {
        let address = path.peer_address();
        if self.candidates.count_learned() >= self.config.limits.peer_reflexive_max {
            self.counters.peer_reflexive_dropped += 1;
            let valid =
                |remote| self.checklist.of_remote(remote).any(|(_, pair)| pair.is(PairState::Succeeded));
            let evicted = self.candidates.oldest_learned(|remote| !valid(remote))?;
            self.remove_pairs_of(evicted);
            self.candidates.remove_remote(evicted);
        }
        self.tell(Event::RemotePeerReflexive { address });
        Some(self.candidates.add_peer_reflexive(address, stream_of(path).is_some(), priority))
    }

    /// A triggered check (RFC 8445 §7.3.1.4). After selection only what the peer cannot have sent before it,
    /// what it asks for and what may have come back is worth one.
    pub(super) fn trigger(&mut self, id: Id<Pair>) {
        let Some(pair) = self.checklist.get(id) else { return };
        let settled = self.nominating.selected().is_some() && !self.explores();
        let news = pair.history.late || pair.asked.is_some() || pair.is(PairState::Failed);
        if settled && !news {
            return;
        }
        if self.checklist.step(id, PairStep::Trigger) {
            self.checks.cancel(|check| check.is_of(id));
            self.checklist.trigger(id);
            self.step(Step::Start);
        }
    }

    /// The peer has begun to check: it has what we told it, and says so. A check of ours that left before that may
    /// have come to a NAT, or to a relay, that lets in only whom it was asked to, and was not asked yet. The NAT in
    /// front of us may keep the peer's checks out likewise, if it gives every destination another port; then nothing
    /// would happen until the retransmission. So what awaits its answer and crosses a NAT or a relay is checked anew
    /// at once, as if the peer's check had come through (RFC 8445 §7.3.1.4), and paced as ever. Once in a generation:
    /// whoever says it again makes nobody send more.
    pub fn recheck(&mut self, now: Instant) {
        if self.state == State::Closed || self.nominating.has_chosen() {
            return;
        }
        for id in self.checklist.take_early() {
            self.trigger(id);
        }
        self.settle(now);
    }

    /// Whether a check of the peer arrived in this generation, without a relay between.
    pub fn has_heard_directly(&self) -> bool {
        let heard = |pair: &Pair| pair.seen.heard > Instant::ZERO && pair.lane() != Lane::Relayed;
        let generation = self.checklist.generation();
        self.checklist.iter().any(|(_, pair)| pair.generation == generation && heard(pair))
    }

    /// Records what the peer sees of us (RFC 8445 §7.2.5.3.1).
    pub(super) fn on_mapped_address(&mut self, base: Id<Local>, mapped: SocketAddr) {
        // What a connection looks like to the peer is the connection's, and nobody is reached there.
        let is_tcp = self.candidates.local(base).is_some_and(|base| base.candidate.transport.is_tcp());
        if !is_tcp && self.candidates.add_local_peer_reflexive(mapped, base, &self.config.limits) {
            self.tell(Event::LocalPeerReflexive { address: mapped });
        }
    }
}

/// Of two nominations of one pair, the one that counts.
fn newest(known: Option<Nominated>, heard: Option<Nominated>) -> Option<Nominated> {
    match (known, heard) {
        (Some(Nominated::Numbered(known)), Some(Nominated::Numbered(heard))) => {
            Some(Nominated::Numbered(known.max(heard)))
        }
        (Some(Nominated::Numbered(_)), Some(Nominated::Plainly)) => known,
        (_, heard) => heard.or(known),
    }
}

/// Notes that a pair was formed after a selection. There are few of those, and none has to wait for another one
/// of its foundation, which may be of an address that its NAT has forgotten.
fn mark_late(checklist: &mut Checklist, formed: Formed, late: bool) {
    match formed {
        Formed::New(id) | Formed::Replaced(id, _) => {
            if let Some(pair) = checklist.get_mut(id) {
                pair.history.late = late;
                if late {
                    pair.step(PairStep::Unfreeze);
                }
            }
        }
        Formed::Refused => {}
    }
}

/// Forgets the checks of a pair that gave way; returns how many pairs were dropped.
fn note(formed: Formed, checks: &mut crate::checks::Checks) -> u64 {
    match formed {
        Formed::New(_) => 0,
        Formed::Replaced(_, evicted) => {
            checks.forget(evicted);
            1
        }
        Formed::Refused => 1,
    }
}
