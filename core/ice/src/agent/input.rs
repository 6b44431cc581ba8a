//! What arrives: requests of the peer, answers to our checks.

use core::net::SocketAddr;

use gimlet_machine::{Id, Instant, Path, Verdict};
use gimlet_stun::{Class, IntegrityAlgorithm, IntegrityError, Message, Method, error_code, is_stun};

use super::Agent;
use crate::answers::{Answer, AnswerKind, Heard};
use crate::check::{BadRequest, Request};
use crate::checks::Check;
use crate::credentials::Era;
use crate::pair::{Pair, PairError};
use crate::state::{PairState, PairStep, State, Step};
use crate::timer::TimerKey;
use crate::{Event, KEEPALIVE_INTERVAL, Role};

impl Agent {
    pub(super) fn on_datagram(&mut self, now: Instant, path: Path, bytes: &[u8]) -> Verdict<Path> {
        if self.state == State::Closed || !is_stun(bytes) {
            return Verdict::NotMine;
        }
        let Ok(message) = Message::parse(bytes) else {
            self.counters.malformed += 1;
            return Verdict::NotMine;
        };
        if message.method() != Method::BINDING {
            return Verdict::NotMine;
        }
        match message.class() {
            Class::Request => self.on_request(now, path, &message),
            Class::Indication => self.on_indication(&path),
            Class::Success | Class::Error => self.on_answer(now, path, &message),
        }
    }

    /// A keepalive of the peer. It carries no name, so only its path says whose it is.
    fn on_indication(&mut self, path: &Path) -> Verdict<Path> {
        if !self.is_path_of_pair(path) {
            return Verdict::NotMine;
        }
        self.counters.indications += 1;
        Verdict::Consumed
    }

    /// RFC 8445 §7.3. Our own password is all it takes, so a request is answered even before the
    /// peer's credentials are known.
    fn on_request(&mut self, now: Instant, path: Path, message: &Message<'_>) -> Verdict<Path> {
        let Some((era, sender)) = message.username().and_then(|username| self.session.sender(username))
        else {
            return Verdict::NotMine;
        };
        if self.session.is_shared && !self.has_base(&path) {
            return Verdict::NotMine;
        }
        if let Err(error) = message.verify(self.session.key(era)) {
            self.on_unauthenticated(now, path, message, error);
            return Verdict::Consumed;
        }
        if self.is_surplus(&path) {
            self.counters.hits_ignored += 1;
            return Verdict::Consumed;
        }
        let algorithm = message.integrity_algorithm().unwrap_or(IntegrityAlgorithm::Sha1);
        let request = match Request::read(message) {
            Ok(request) => request,
            Err(bad) => {
                self.counters.requests_refused += 1;
                let kind = match bad {
                    BadRequest::Unknown(kinds) => AnswerKind::UnknownAttributes(algorithm, kinds),
                    BadRequest::Attributes => AnswerKind::Error(algorithm, error_code::BAD_REQUEST),
                };
                self.answer(path, message, era, kind);
                return Verdict::Consumed;
            }
        };
        if era == Era::Retired {
            // RFC 8445 §9: the peer may not have heard of the restart. It keeps its consent, and learns
            // and changes nothing.
            let answered = self.answer(path, message, era, AnswerKind::Success(algorithm));
            self.counters.requests_answered += u64::from(answered);
            self.counters.nominations_ignored += u64::from(request.nominates.is_some());
            return Verdict::Consumed;
        }
        if !self.settle_roles(&request, sender) {
            self.counters.role_conflicts_refused += 1;
            self.answer(path, message, era, AnswerKind::Error(algorithm, error_code::ROLE_CONFLICT));
            self.on_request_refused(&path);
            return Verdict::Consumed;
        }
        if self.answer(path, message, era, AnswerKind::Success(algorithm)) {
            self.counters.requests_answered += 1;
        }
        let Request { priority, nominates, claim: _ } = request;
        self.on_request_answered(now, &Heard { path, priority, nominates, sender });
        Verdict::Consumed
    }

    /// Whether `path` ends on a socket or a relay of ours.
    fn has_base(&self, path: &Path) -> bool {
        let punched = |socket| {
            self.checks.punching.punch.as_deref().is_some_and(|punch| punch.sockets.contains(socket))
        };
        let of_punch = match path {
            Path::Direct(tuple) => punched(tuple.local),
            Path::Relayed { .. } => false,
        };
        of_punch || self.candidates.base_of(path).is_some()
    }

    /// RFC 8489 §9.1.3: 400 without integrity, 401 with a wrong one. Nothing changes but a counter.
    fn on_unauthenticated(&mut self, now: Instant, path: Path, message: &Message<'_>, error: IntegrityError) {
        let code = match error {
            IntegrityError::Missing => {
                self.counters.requests_unsigned += 1;
                error_code::BAD_REQUEST
            }
            IntegrityError::Mismatch => {
                self.counters.requests_forged += 1;
                error_code::UNAUTHENTICATED
            }
        };
        let (id, kind) = (message.transaction_id(), AnswerKind::Unsigned(code));
        let answer = Answer { path, id, kind, era: Era::Current };
        if !self.answers.push_unsigned(now, answer) {
            self.counters.answers_withheld += 1;
        }
    }

    fn answer(&mut self, path: Path, message: &Message<'_>, era: Era, kind: AnswerKind) -> bool {
        let queued = self.answers.push(Answer { path, id: message.transaction_id(), kind, era });
        self.counters.answers_withheld += u64::from(!queued);
        queued
    }

    /// RFC 8445 §7.2.5.
    fn on_answer(&mut self, now: Instant, path: Path, message: &Message<'_>) -> Verdict<Path> {
        let id = message.transaction_id();
        let Some(check) = self.checks.get(now, id, &self.checklist) else {
            return self.on_stray_answer(now, path, message);
        };
        let era = self.era_of(check.pair);
        // RFC 8489 §9.1.4: as if it had never been received, so the check goes on.
        let signed = self.session.peer(era).is_some_and(|peer| message.verify(&peer.key).is_ok());
        if !signed {
            self.counters.answers_forged += 1;
            return Verdict::Consumed;
        }
        self.checks.finish(id);
        let Some(pair) = self.checklist.get_mut(check.pair) else { return Verdict::Consumed };
        pair.history.answers = pair.history.answers.saturating_add(1);
        let expected = self.candidates.path(pair.local, pair.remote);
        if expected != Some(path) {
            // RFC 8445 §7.2.5.2.1.
            self.counters.answers_asymmetric += 1;
            self.on_check_failed(now, &check, PairError::Asymmetric);
        } else if message.class() == Class::Error {
            self.counters.answers_refusing += 1;
            self.on_error_answer(now, &check, message);
        } else if message.unknown_required().next().is_some() {
            self.on_check_failed(now, &check, PairError::Malformed);
        } else {
            match message.xor_mapped_address() {
                Some(_) if era == Era::Retired => self.on_consent(now, check.pair),
                Some(mapped) => self.on_success(now, &check, path, mapped),
                None => self.on_check_failed(now, &check, PairError::Malformed),
            }
        }
        Verdict::Consumed
    }

    /// Which credentials the checks of a pair use.
    pub(super) fn era_of(&self, id: Id<Pair>) -> Era {
        if self.session.retired_pair() == Some(id) { Era::Retired } else { Era::Current }
    }

    fn on_error_answer(&mut self, now: Instant, check: &Check, message: &Message<'_>) {
        match message.error_code() {
            Some(error) if error.code == error_code::ROLE_CONFLICT => self.on_role_conflict(check),
            Some(error) => self.on_check_failed(now, check, PairError::Refused(error.code)),
            None => self.on_check_failed(now, check, PairError::Malformed),
        }
    }

    /// RFC 8445 §7.2.5.1. The role in the request is given up, unless it was given up already; the pair
    /// is checked again under the one we have then. Without that check, two agents that gave up the same
    /// role at once would never learn of it.
    fn on_role_conflict(&mut self, check: &Check) {
        let id = check.pair;
        let current = check.epoch == self.role.epoch();
        if current {
            self.role.yield_to_conflict();
            self.on_role_changed();
            self.checks.cancel(|other| other.is_of(id));
        } else if self.checks.is_pending(id) {
            return;
        }
        let waits = self.nominating.selected().is_none() && self.checklist.step(id, PairStep::Trigger);
        let Some(pair) = self.checklist.get_mut(id) else { return };
        pair.history.recheck = current && pair.is(PairState::Succeeded);
        if waits || pair.history.recheck {
            self.checklist.trigger(id);
        }
    }

    /// The check says that its pair does not work, unless another check of the pair is under way or has
    /// shown that it does.
    fn on_check_failed(&mut self, now: Instant, check: &Check, error: PairError) {
        let succeeded = self.checklist.get(check.pair).is_some_and(|pair| pair.is(PairState::Succeeded));
        let decides = !check.is_cancelled() && (check.nominates || !succeeded);
        if decides && !self.checks.is_pending(check.pair) {
            self.fail_pair(now, check.pair, error);
        }
    }

    /// RFC 8445 §7.2.5.3.
    fn on_success(&mut self, now: Instant, check: &Check, path: Path, mapped: SocketAddr) {
        self.counters.checks_answered += 1;
        let rtt = check.age;
        let Some(pair) = self.checklist.get_mut(check.pair) else { return };
        if let Some(rtt) = rtt {
            pair.history.sample(rtt);
        }
        let (local, foundation, nominated) = (pair.local, pair.foundation, pair.asked.is_some());
        let (was_valid, was_fresh) = (pair.is(PairState::Succeeded), pair.is_fresh(now));
        let became_valid = pair.step(PairStep::Succeed) && !was_valid;
        pair.history.error = None;
        self.on_mapped_address(local, mapped);
        if became_valid {
            if check.epoch == self.role.epoch() {
                self.checks.cancel(|other| other.is_of(check.pair));
                self.checklist.dequeue(check.pair);
            } else if let Some(pair) = self.checklist.get_mut(check.pair) {
                // The path works, but the peer has not agreed to the role that we have since taken: if a
                // check is queued that says so, it still leaves.
                pair.history.recheck = true;
            }
            self.checklist.unfreeze(foundation);
            self.tell(Event::PathValid { path, rtt });
            self.on_pair_valid(now);
        }
        self.on_nomination_answered(now, check);
        if nominated && !was_fresh && self.role.role() == Role::Controlled {
            self.accept_nomination(now, check.pair);
        }
        if became_valid {
            self.reconsider_request(check.pair);
        }
        self.on_consent(now, check.pair);
        self.consider_move(now, check.pair, became_valid);
    }

    pub(super) fn on_pair_valid(&mut self, now: Instant) {
        if self.nominating.on_valid(now) {
            self.step(Step::Validate);
            if self.config.lite {
                self.timers.set_earlier(TimerKey::Keepalive, now + KEEPALIVE_INTERVAL);
            }
        }
    }
}
