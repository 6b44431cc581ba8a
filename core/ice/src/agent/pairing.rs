//! From candidates to pairs: signalled, and learned from the peer's checks.

use core::net::SocketAddr;

use gimlet_machine::{Id, Path};

use super::Agent;
use crate::answers::Heard;
use crate::candidates::{Added, Local, Remote};
use crate::check::Request;
use crate::checklist::{Checklist, Formed};
use crate::pair::Pair;
use crate::role::Ruling;
use crate::state::{PairState, PairStep, Step};
use crate::{Event, Role};

impl Agent {
    /// Forms the pairs of a new local candidate. One whose base another candidate stands for adds none:
    /// it was signalled, and that is its whole use (RFC 8445 §6.1.2.4).
    pub(super) fn pair_local(&mut self, id: Id<Local>) {
        if !self.candidates.is_representative(id) || self.nominating.selected().is_some() {
            return;
        }
        self.take_over_base(id);
        let role = self.role.role();
        let signalled = self.candidates.remotes().filter(|(_, remote)| !remote.learned);
        let before = self.checklist.len();
        for (remote, _) in signalled {
            let Some(ends) = self.candidates.ends(id, remote) else { continue };
            let (ours, theirs) = ends.candidates();
            // A less preferred candidate with this base may have left its pairs.
            if ours.pairs_with(theirs) && self.checklist.find(id, remote).is_none() {
                let formed = self.checklist.form(ends, role, false);
                self.counters.pairs_dropped += note(formed, &mut self.checks);
            }
        }
        self.on_pairs_formed(before);
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
        if self.nominating.selected().is_some() {
            return;
        }
        let (role, before) = (self.role.role(), self.checklist.len());
        for (local, _) in self.candidates.representatives() {
            let Some(ends) = self.candidates.ends(local, id) else { continue };
            let (ours, theirs) = ends.candidates();
            // What was learned has a pair with the base that heard it.
            let fresh = matches!(added, Added::New(_)) || self.checklist.find(local, id).is_none();
            if fresh && ours.pairs_with(theirs) {
                let formed = self.checklist.form(ends, role, false);
                self.counters.pairs_dropped += note(formed, &mut self.checks);
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
            pair.nominated &= role == Role::Controlled;
        }
        self.abandon_request();
        self.tell(Event::RoleChanged(role));
    }

    /// Settles the roles before a request is acted on; `false` if it is to be refused. There is no role
    /// towards somebody who is not our peer.
    pub(super) fn settle_roles(&mut self, request: &Request, sender: &[u8]) -> bool {
        let Some(claim) = request.claim.filter(|_| !self.session.is_stranger(sender)) else { return true };
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
            self.trigger(id, false);
        }
    }

    /// Acts on an answered request of the peer (RFC 8445 §7.3.1.3–7.3.1.5), or remembers it.
    pub(super) fn on_request_answered(&mut self, heard: &Heard<'_>) {
        if self.session.peer.is_none() {
            self.remember(heard);
            return;
        }
        if self.session.is_stranger(heard.sender) {
            self.counters.requests_from_strangers += 1;
            return;
        }
        let Some(local) = self.candidates.base_of(&heard.path) else {
            self.counters.unknown_bases += 1;
            self.remember(heard);
            return;
        };
        let nominates = heard.use_candidate && self.role.role() == Role::Controlled;
        self.counters.nominations_ignored += u64::from(heard.use_candidate && !nominates);
        if let Some(pair) = self.pair_heard(local, heard) {
            self.trigger(pair, nominates);
        }
    }

    fn remember(&mut self, heard: &Heard<'_>) {
        self.counters.early_requests_forgotten += u64::from(self.answers.remember(heard));
    }

    /// Acts on the requests that came too early.
    pub(super) fn act_on_early_requests(&mut self) {
        if self.session.peer.is_some() {
            for early in self.answers.take_early() {
                self.on_request_answered(&early.heard());
            }
        }
    }

    /// The pair on which the peer was heard; learned if it is news. After selection nothing is learned.
    fn pair_heard(&mut self, local: Id<Local>, heard: &Heard<'_>) -> Option<Id<Pair>> {
        let address = heard.path.peer_address();
        let known = self.candidates.remote_at(address);
        let known_pair = known.and_then(|remote| self.checklist.find(local, remote));
        if known_pair.is_some() || self.nominating.selected().is_some() {
            return known_pair;
        }
        let remote = match known {
            Some(remote) => remote,
            None => self.learn(address, heard.priority)?,
        };
        let ends = self.candidates.ends(local, remote)?;
        let formed = self.checklist.form(ends, self.role.role(), true);
        self.counters.pairs_dropped += note(formed, &mut self.checks);
        match formed {
            Formed::New(id) | Formed::Replaced(id, _) => Some(id),
            Formed::Refused => None,
        }
    }

    /// Takes a peer-reflexive remote candidate (RFC 8445 §7.3.1.3).
    fn learn(&mut self, address: SocketAddr, priority: u32) -> Option<Id<Remote>> {
        if self.candidates.count_learned() >= self.config.limits.peer_reflexive_max {
            self.counters.peer_reflexive_dropped += 1;
            let valid =
                |remote| self.checklist.of_remote(remote).any(|(_, pair)| pair.is(PairState::Succeeded));
            let evicted = self.candidates.oldest_learned(|remote| !valid(remote))?;
            self.remove_pairs_of(evicted);
            self.candidates.remove_remote(evicted);
        }
        self.tell(Event::RemotePeerReflexive { address });
        Some(self.candidates.add_peer_reflexive(address, priority))
    }

    /// A triggered check (RFC 8445 §7.3.1.4), and what a nomination means for the pair (§7.3.1.5).
    fn trigger(&mut self, id: Id<Pair>, nominates: bool) {
        let Some(pair) = self.checklist.get_mut(id) else { return };
        if pair.is(PairState::Succeeded) {
            if nominates {
                self.accept_nomination(id);
            }
            return;
        }
        pair.nominated |= nominates;
        if self.nominating.selected().is_some() {
            return;
        }
        if self.checklist.step(id, PairStep::Trigger) {
            self.checks.cancel(|check| check.pair == id);
            self.checklist.trigger(id);
            self.step(Step::Start);
        }
    }

    /// Records what the peer sees of us (RFC 8445 §7.2.5.3.1).
    pub(super) fn on_mapped_address(&mut self, base: Id<Local>, mapped: SocketAddr) {
        if self.candidates.add_local_peer_reflexive(mapped, base, &self.config.limits) {
            self.tell(Event::LocalPeerReflexive { address: mapped });
        }
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
