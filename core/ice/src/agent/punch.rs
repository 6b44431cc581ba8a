//! Hole punching: what the agent does about a hard NAT (see `punch.rs`).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use gimlet_machine::{FourTuple, Id, Instant, Path, Verdict};
use gimlet_stun::{Message, TransactionId};

use super::Agent;
use crate::answers::Heard;
use crate::candidate::is_near;
use crate::candidates::Local;
use crate::pair::{Lane, Pair};
use crate::priority::as_peer_reflexive;
use crate::punch::{Declined, Part, Plan, Profile, Punch, PunchSocketError, PunchState, is_host, plan};
use crate::state::{PairState, PairStep, State};
use crate::{Candidate, CandidateKind, Event, PunchEvent, Role, candidate_priority};

/// Addresses of the peer to which the side that opens sends from every socket; less likely ones are left out.
const TARGETS_MAX: usize = 2;

/// Punch sockets that the peer hit and that take part in pairs; further hits are answered and not acted on.
const PROMOTED_MAX: usize = 4;

/// A probe that may leave.
struct Probe {
    path: FourTuple,
    id: TransactionId,
    priority: u32,
}

/// What the cursor of a punch points at.
enum Place {
    Path(FourTuple),
    /// The socket and the target are of different families.
    Unfit,
    /// The pass is over.
    End,
}

impl Agent {
    /// Begins to punch a hole, with what both sides know of their NATs. The peer has to do the same at about
    /// the same time; where both plans say [`Part::Meet`], the two calls should be less than the packets'
    /// one-way time apart. Events tell how it goes and which sockets are wanted. Probes leave only to addresses
    /// from which the peer was heard, or for which the owner vouches ([`Agent::vouch`]). A further call takes
    /// the place of the one before; what was spent of the hour's budget stays spent.
    pub fn punch(&mut self, now: Instant, ours: &Profile, theirs: &Profile) -> Result<Plan, Declined> {
        if self.state == State::Closed {
            return Err(Declined::Closed);
        }
        if self.config.lite || self.session.peer_is_lite {
            return Err(Declined::Lite);
        }
        if self.direct_pair().is_some() {
            return Err(Declined::Connected);
        }
        let (known_here, known_there) = self.known_ports(ours, theirs);
        let plan =
            plan(&ours.clone().beside(known_here), &theirs.clone().beside(known_there), &self.config.punch)?;
        let punch = match self.checks.punching.punch.take() {
            Some(punch) => punch,
            None => Box::new(Punch::new(now, self.checks.fork("spray", 0), plan, &self.config.punch)),
        };
        self.checks.punching.punch.insert(punch).replan(now, plan, ours, theirs);
        self.tell_punch_state();
        self.ask_for_sockets(now);
        self.settle(now);
        Ok(plan)
    }

    /// A socket that was opened because [`PunchEvent::OpenSockets`] asked for it: fresh, bound to one address
    /// and port, and used for nothing else. It is no candidate; what arrives there goes to
    /// `handle_input` as everything else does.
    pub fn add_punch_socket(&mut self, now: Instant, local: SocketAddr) -> Result<(), PunchSocketError> {
        let is_base = self.candidates.base_of(&Path::Direct(FourTuple::new(local, local))).is_some();
        if is_base || !is_host(local.ip()) || local.port() == 0 {
            return Err(PunchSocketError::Unusable(local));
        }
        let punch = self.checks.punching.punch.as_deref_mut();
        let punch = punch.filter(|punch| match punch.state() {
            PunchState::Planned | PunchState::Spraying | PunchState::Hit => true,
            PunchState::Backoff | PunchState::Ended => false,
        });
        let Some(punch) = punch else { return Err(PunchSocketError::NotWanted) };
        if !punch.sockets.contains(local) {
            if punch.sockets.len() >= punch.wanted() {
                return Err(PunchSocketError::NotWanted);
            }
            if !punch.sockets.insert(local) {
                return Err(PunchSocketError::Unusable(local));
            }
            punch.on_socket(now);
        }
        self.settle(now);
        Ok(())
    }

    /// The owner knows, from somebody whom it trusts, that the peer is at `ip`: a server to which both are
    /// connected sees the peer there. Probes may then leave to that address (RFC 8445 §19.5.1).
    pub fn vouch(&mut self, now: Instant, ip: IpAddr) {
        if self.state != State::Closed {
            self.checks.punching.attested.vouch(ip);
            self.settle(now);
        }
    }

    /// Ends the punch: no probe leaves any more.
    pub fn stop_punch(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.end_punch(now);
            self.settle(now);
        }
    }

    /// Where the punch stands, if one was ever asked for.
    pub fn punch_state(&self) -> Option<PunchState> {
        self.checks.punching.state()
    }

    /// The reflexive ports of both sides that were signalled.
    fn known_ports(&self, ours: &Profile, theirs: &Profile) -> (Option<u16>, Option<u16>) {
        let port = |candidate: &Candidate, profile: &Profile| {
            let counts = candidate.kind == CandidateKind::ServerReflexive
                && profile.outside.contains(&candidate.address.ip());
            counts.then_some((candidate.priority, candidate.address.port()))
        };
        let here = self.candidates.locals().filter_map(|(_, local)| port(&local.candidate, ours)).max();
        let there = self.candidates.remotes().filter_map(|(_, remote)| port(&remote.candidate, theirs)).max();
        (here.map(|(_, port)| port), there.map(|(_, port)| port))
    }

    /// Whether data goes, or may go, without a relay of either side: nothing is left to punch for.
    pub fn has_direct_path(&self) -> bool {
        self.direct_pair().is_some()
    }

    /// Whether it is too early to say that no pair works: a punch is under way, or both NATs are being left alone
    /// for the first or the second time. The agent does not fail meanwhile.
    pub fn awaits_punch(&self) -> bool {
        self.checks.punching.is_hopeful()
    }

    fn tell_punch_state(&mut self) {
        if let Some(state) = self.punch_state() {
            self.tell(Event::Punch(PunchEvent::StateChanged(state)));
        }
    }

    /// Asks for what is missing, unless the round has to wait for its budget and asks then.
    fn ask_for_sockets(&mut self, now: Instant) {
        let punch = self.checks.punching.punch.as_deref();
        let Some(punch) = punch.filter(|punch| punch.affordable_at(now) <= now) else { return };
        let count = punch.wanted().saturating_sub(punch.sockets.len());
        if count > 0 {
            self.tell(Event::Punch(PunchEvent::OpenSockets { count }));
        }
    }

    /// The pair on which data goes, or may go, without a relay.
    fn direct_pair(&self) -> Option<Id<Pair>> {
        let direct = |id: &Id<Pair>| self.checklist.get(*id).is_some_and(|pair| pair.lane() != Lane::Relayed);
        self.nominating.selected().or_else(|| self.best_valid()).filter(direct)
    }

    /// Takes every transition that is due.
    pub(super) fn consider_punch(&mut self, now: Instant) {
        // A round ends, waits and begins: no moment has more than a few transitions.
        for _ in 0..4 {
            if !self.step_punch(now) {
                return;
            }
        }
    }

    fn step_punch(&mut self, now: Instant) -> bool {
        let direct = self.direct_pair().is_some();
        let selected = direct && self.nominating.selected().is_some();
        let Some(punch) = self.checks.punching.punch.as_deref_mut() else { return false };
        let due = punch.until().is_some_and(|until| until <= now);
        match punch.state() {
            PunchState::Ended => return false,
            PunchState::Planned | PunchState::Spraying | PunchState::Hit | PunchState::Backoff
                if selected =>
            {
                self.end_punch(now);
                return true;
            }
            PunchState::Planned => return self.consider_round(now),
            PunchState::Spraying | PunchState::Hit | PunchState::Backoff if !due => return false,
            PunchState::Spraying => self.exhaust_punch(now),
            PunchState::Hit if direct => self.end_punch(now),
            PunchState::Hit => {
                punch.resume(now);
                self.tell_punch_state();
            }
            PunchState::Backoff => {
                punch.retry(now);
                self.tell_punch_state();
                self.ask_for_sockets(now);
            }
        }
        true
    }

    /// Begins a round if everything is there; says whether anything changed.
    fn consider_round(&mut self, now: Instant) -> bool {
        if self.session.peer.is_none() {
            return false;
        }
        let has_target = self.has_target();
        let Some(punch) = self.checks.punching.punch.as_deref_mut() else { return false };
        match punch.plan.part {
            Part::Meet if punch.is_rested() => {
                punch.begin(now);
                self.wake();
            }
            Part::Meet => {
                punch.rest(now);
                self.hush();
            }
            Part::Open | Part::Probe if punch.affordable_at(now) > now => {
                punch.rest(now);
                self.close_sockets(None);
            }
            Part::Open | Part::Probe if has_target && punch.has_sockets(now) => punch.begin(now),
            Part::Open | Part::Probe => return false,
        }
        self.tell_punch_state();
        true
    }

    fn exhaust_punch(&mut self, now: Instant) {
        let first = self.role.role() == Role::Controlled;
        if let Some(punch) = self.checks.punching.punch.as_deref_mut() {
            punch.exhaust(now, first);
        }
        self.tell_punch_state();
        self.drop_promoted(now, None);
        self.close_sockets(None);
        self.stop_exploring();
        if self.checks.punching.is_silent() {
            self.hush();
        }
    }

    fn end_punch(&mut self, now: Instant) {
        let used = self.direct_pair().and_then(|id| self.checklist.get(id)).map(|pair| pair.local);
        let socket = used.and_then(|used| self.candidates.punched_socket(used));
        let Some(punch) = self.checks.punching.punch.as_deref_mut() else { return };
        if !punch.end(now) {
            return;
        }
        self.tell_punch_state();
        self.drop_promoted(now, used);
        self.close_sockets(socket);
        self.stop_exploring();
    }

    fn close_sockets(&mut self, but: Option<SocketAddr>) {
        if self.checks.punching.punch.as_deref().is_some_and(|punch| punch.wanted() > 0) {
            self.tell(Event::Punch(PunchEvent::CloseSockets { but }));
        }
    }

    /// Punch sockets that were hit take no part any more, but for `keep`.
    fn drop_promoted(&mut self, now: Instant, keep: Option<Id<Local>>) {
        for gone in self.candidates.remove_punched(keep) {
            self.lose_pairs(now, |pair| pair.local == gone);
        }
    }

    /// Nothing more is sent where a NAT may have taken an early packet for a flow.
    fn hush(&mut self) {
        let (checks, checklist) = (&mut self.checks, &mut self.checklist);
        let loud = |pair: &Pair| pair.lane() == Lane::Reflexive;
        checks.cancel(|check| {
            checklist
                .at(check.place())
                .and_then(|id| checklist.get(id))
                .is_some_and(|pair| loud(pair) && pair.state().is_open())
        });
        let asked = checklist.iter().filter(|(_, pair)| loud(pair) && pair.is(PairState::InProgress));
        let asked: Vec<_> = asked.map(|(id, _)| id).collect();
        for id in asked {
            checklist.dequeue(id);
            checklist.step(id, PairStep::Fail);
        }
        checklist.remove_unchecked(|pair| !loud(pair), |removed| checks.forget(removed));
    }

    /// The silence is over: reflexive pairs are checked before anything else.
    fn wake(&mut self) {
        self.form_missing_pairs();
        let reflexive = self.checklist.iter().filter(|(_, pair)| pair.lane() == Lane::Reflexive);
        let mut ids: Vec<_> = reflexive.map(|(id, pair)| (pair.likelihood(), pair.priority, id)).collect();
        ids.sort_unstable();
        for (.., id) in ids.into_iter().rev() {
            if self.checklist.step(id, PairStep::Trigger) {
                self.checklist.trigger(id);
            }
        }
    }

    /// When the punch next does something by itself.
    pub(super) fn punch_deadline(&self, now: Instant) -> Option<Instant> {
        let punch = self.checks.punching.punch.as_deref()?;
        // What is over is waiting for something else than time.
        let until = punch.until().filter(|until| *until > now);
        let probe = self.session.peer.as_ref().and_then(|_| punch.next_at(now));
        until.into_iter().chain(probe.map(|at| at.max(self.checks.next_slot()))).min()
    }

    /// Writes the probe that leaves now, if one does.
    pub(super) fn write_probe(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Path> {
        let Probe { path, id, priority } = self.next_probe(now)?;
        let peer = self.session.peer.as_ref()?;
        crate::check::write_check(out, id, peer, priority, &self.role, None);
        self.settle(now);
        Some(Path::Direct(path))
    }

    fn next_probe(&mut self, now: Instant) -> Option<Probe> {
        if !self.checks.may_send(now) || self.session.peer.is_none() {
            return None;
        }
        loop {
            self.checks.punching.punch.as_deref()?.next_at(now).filter(|at| *at <= now)?;
            let place = self.place();
            let punch = self.checks.punching.punch.as_deref_mut()?;
            match place {
                Place::Path(path) => {
                    punch.on_sent(now);
                    let id = punch.id(path);
                    self.checks.take_slot(now);
                    self.counters.probes_sent += 1;
                    let base = self.best_base(path.remote).map(|(_, priority)| priority);
                    let priority = as_peer_reflexive(base.unwrap_or_else(|| self.priority()));
                    return Some(Probe { path, id, priority });
                }
                Place::Unfit => punch.skip(),
                Place::End => {
                    punch.end_pass();
                    self.arm_punch(now);
                }
            }
        }
    }

    fn arm_punch(&mut self, now: Instant) {
        let deadline = self.punch_deadline(now);
        self.arm(crate::timer::TimerKey::Punch, deadline);
    }

    fn priority(&self) -> u32 {
        candidate_priority(CandidateKind::PeerReflexive, u16::MAX, self.config.component)
    }

    /// Where the next probe of our part goes.
    fn place(&self) -> Place {
        let Some(punch) = self.checks.punching.punch.as_deref() else { return Place::End };
        let (_, index) = punch.place();
        match punch.plan.part {
            Part::Probe => {
                let target = self.outside_target().zip(punch.next_port());
                let Some(remote) = target.map(|(ip, port)| SocketAddr::new(ip, port)) else {
                    return Place::End;
                };
                self.best_base(remote)
                    .map_or(Place::End, |(local, _)| Place::Path(FourTuple::new(local, remote)))
            }
            Part::Open => {
                let targets = self.targets();
                let Some(count) = u32::try_from(targets.len()).ok().filter(|count| *count > 0) else {
                    return Place::End;
                };
                let remote = targets[(index % count) as usize];
                // First the base that the peer knows, then every socket.
                let local = match (index / count).checked_sub(1) {
                    None => self.best_base(remote).map(|(local, _)| local),
                    Some(nth) => match punch.sockets.nth(nth as usize) {
                        Some(socket) => Some(socket).filter(|socket| socket.is_ipv4() == remote.is_ipv4()),
                        None => return Place::End,
                    },
                };
                local.map_or(Place::Unfit, |local| Place::Path(FourTuple::new(local, remote)))
            }
            Part::Meet => Place::End,
        }
    }

    /// Whether anything may be sprayed.
    fn has_target(&self) -> bool {
        match self.checks.punching.punch.as_deref().map(|punch| punch.plan.part) {
            Some(Part::Open) => !self.targets().is_empty(),
            Some(Part::Probe) => self.outside_target().is_some(),
            Some(Part::Meet) | None => false,
        }
    }

    /// The peer's known addresses, likeliest first: what its NAT shows, or its own if that is public.
    fn targets(&self) -> Vec<SocketAddr> {
        let Some(punch) = self.checks.punching.punch.as_deref() else { return Vec::new() };
        let rank = |kind, ip: IpAddr| match kind {
            CandidateKind::ServerReflexive => Some(2),
            CandidateKind::Host if !is_near(ip) => Some(1),
            CandidateKind::PeerReflexive if punch.theirs.contains(&ip) => Some(0),
            CandidateKind::Host | CandidateKind::PeerReflexive | CandidateKind::Relayed => None,
        };
        let known = self.candidates.remotes().filter_map(|(_, remote)| {
            let (candidate, ip) = (&remote.candidate, remote.candidate.address.ip());
            let rank = rank(candidate.kind, ip).filter(|_| self.may_spray(ip))?;
            Some((rank, candidate.priority, candidate.address))
        });
        let mut known: Vec<_> = known.collect();
        known.sort_unstable();
        known.into_iter().rev().map(|(.., address)| address).take(TARGETS_MAX).collect()
    }

    /// The outside address of the peer whose ports are tried in this round.
    fn outside_target(&self) -> Option<IpAddr> {
        let punch = self.checks.punching.punch.as_deref()?;
        let may = |ip: &IpAddr| self.may_spray(*ip) && self.best_base(SocketAddr::new(*ip, 1)).is_some();
        let count = punch.theirs.iter().filter(|ip| may(ip)).count().max(1);
        punch.theirs.iter().copied().filter(|ip| may(ip)).nth(punch.round() as usize % count)
    }

    /// RFC 8445 §19.5.1: the peer has shown that it is there, or the owner knows; and it is nobody else's.
    fn may_spray(&self, ip: IpAddr) -> bool {
        let punching = &self.checks.punching;
        let ours = punching.punch.as_deref().is_some_and(|punch| punch.ours.contains(&ip))
            || self.candidates.locals().any(|(_, local)| local.candidate.address.ip() == ip);
        is_host(ip) && punching.attested.allows(ip) && !ours && !self.is_relay(ip)
    }

    /// Whether a relay, ours or the peer's, is at this address.
    fn is_relay(&self, ip: IpAddr) -> bool {
        let mut remotes = self.candidates.remotes().map(|(_, remote)| &remote.candidate);
        let mut locals = self.candidates.locals().map(|(_, local)| &local.candidate);
        let relay = |path: Path| !path.is_direct() && path.on_wire().remote.ip() == ip;
        remotes.any(|remote| remote.kind == CandidateKind::Relayed && remote.address.ip() == ip)
            || locals.any(|local| relay(local.path_to(local.address)))
    }

    /// The socket whose outside address the peer knows best, towards `remote`, and its priority.
    fn best_base(&self, remote: SocketAddr) -> Option<(SocketAddr, u32)> {
        let rank = |local: &Local| match local.candidate.kind {
            CandidateKind::ServerReflexive => Some(1),
            CandidateKind::Host if !local.punched => Some(0),
            CandidateKind::Host | CandidateKind::PeerReflexive | CandidateKind::Relayed => None,
        };
        let bases = self.candidates.locals().filter_map(|(_, local)| {
            let path = local.candidate.path_to(remote);
            let fits = path.is_direct() && path.on_wire().local.is_ipv4() == remote.is_ipv4();
            Some((rank(local)?, local.candidate.priority, path.on_wire().local)).filter(|_| fits)
        });
        bases.max().map(|(_, priority, base)| (base, priority))
    }

    /// The peer's request arrived on a punch socket: it takes part in pairs from here on.
    pub(super) fn promote(&mut self, path: &Path) -> Option<Id<Local>> {
        let Path::Direct(FourTuple { local, .. }) = path else { return None };
        let punch = self.checks.punching.punch.as_deref()?;
        if !punch.sockets.contains(*local) {
            return None;
        }
        if self.candidates.count_punched() >= PROMOTED_MAX {
            self.counters.hits_ignored += 1;
            return None;
        }
        Some(self.candidates.add_punched(*local, self.config.component))
    }

    /// Whether the peer hit a punch socket for which there is no room among the pairs. It is not answered: the
    /// peer would take a path for valid, and might choose it, on which we never send.
    pub(super) fn is_surplus(&self, path: &Path) -> bool {
        let Path::Direct(FourTuple { local, .. }) = path else { return false };
        let punched =
            self.checks.punching.punch.as_deref().is_some_and(|punch| punch.sockets.contains(*local));
        let full = self.candidates.count_punched() >= PROMOTED_MAX;
        punched && full && self.candidates.base_of(path).is_none()
    }

    /// The peer got through on `path`, which is one that the punch looked for. The side that opens looks for hits on
    /// its fresh sockets: a filter that minds nothing lets the peer in on any mapping of the others, and what is
    /// answered there leaves from yet another one.
    pub(super) fn note_hit(&mut self, now: Instant, path: &Path) {
        let Path::Direct(FourTuple { local, remote }) = path else { return };
        let Some(punch) = self.checks.punching.punch.as_deref_mut() else { return };
        let counts = match punch.plan.part {
            Part::Open => punch.sockets.contains(*local),
            Part::Probe | Part::Meet => true,
        };
        if counts && punch.theirs.contains(&remote.ip()) && punch.on_hit(now) {
            self.counters.hits += 1;
            self.tell_punch_state();
        }
    }

    /// An answer to no check of ours: perhaps to a probe. Nothing is remembered of those, but only the peer
    /// could have written this on this path (RFC 8489 §6.3.3).
    pub(super) fn on_stray_answer(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
    ) -> Verdict<Path> {
        if !self.is_probe(&path, message.transaction_id()) {
            let late = self.checks.is_ours(message.transaction_id());
            self.counters.answers_late += u64::from(late);
            return if late { Verdict::Consumed } else { Verdict::NotMine };
        }
        let signed = self.session.peer.as_ref().is_some_and(|peer| message.verify(&peer.key).is_ok());
        if !signed {
            self.counters.answers_forged += 1;
            return Verdict::Consumed;
        }
        self.counters.probes_answered += 1;
        let Some(local) = self.candidates.base_of(&path).or_else(|| self.promote(&path)) else {
            return Verdict::Consumed;
        };
        self.note_hit(now, &path);
        let heard = Heard { path, priority: self.priority(), nominates: None, sender: &[] };
        // Whatever it says, the peer was reached: an ordinary check settles the rest.
        if let Some(id) = self.pair_heard(local, &heard, false) {
            self.trigger(id);
        }
        Verdict::Consumed
    }

    fn is_probe(&self, path: &Path, id: TransactionId) -> bool {
        let Path::Direct(tuple) = path else { return false };
        let Some(punch) = self.checks.punching.punch.as_deref() else { return false };
        let awaits = match punch.state() {
            PunchState::Spraying | PunchState::Hit | PunchState::Backoff => true,
            PunchState::Planned | PunchState::Ended => false,
        };
        awaits && punch.theirs.contains(&tuple.remote.ip()) && punch.id(*tuple) == id
    }
}
