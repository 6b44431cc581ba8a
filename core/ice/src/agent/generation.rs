//! What changes after the start: generations (RFC 8445 §9), candidates that go, networks, lite peers.

use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_machine::{Id, Instant};

use super::Agent;
use crate::candidates::Local;
use crate::checklist::Checklist;
use crate::consent::Urgency;
use crate::pair::Pair;
use crate::state::{State, Step};
use crate::timer::TimerKey;
use crate::{Credentials, CredentialsError, Role};

impl Agent {
    /// Restarts ICE (RFC 8445 §9): draws the credentials of a new generation, which are to be signalled
    /// together with [`Agent::local_candidates`]; the peer's new ones, and its candidates, follow. Our
    /// candidates stay, and so do role and tiebreaker. The path in use keeps carrying data, and asking for
    /// consent, until the new generation has selected one; the peer's requests of before are answered until
    /// then. A closed agent stays as it is.
    pub fn restart(&mut self, now: Instant) -> Credentials {
        if self.state == State::Closed {
            return self.session.local.clone();
        }
        let kept = self.pair_in_use();
        let retires = kept.filter(|kept| self.session.retired_pair() != Some(*kept));
        let generation = u64::from(self.checklist.generation()) + 1;
        self.session.restart(&mut self.checks.fork("credentials", generation), retires);
        self.checks.retain(|check| kept.is_some_and(|kept| check.is_of(kept)) && check.is_consent());
        self.candidates.restart(kept.and_then(|id| self.checklist.get(id)).map(|pair| pair.remote));
        self.checklist.restart(kept);
        self.answers.forget_early();
        self.nominating.restart();
        self.checks.consent.reset_returns();
        self.timers.clear(TimerKey::Patience);
        self.step(Step::Unselect);
        self.settle(now);
        self.session.local.clone()
    }

    /// Restarts like [`Agent::restart`], with credentials that the owner assigns: those of another agent of the
    /// stream, which restarted first.
    pub fn restart_as(&mut self, now: Instant, credentials: Credentials) -> Result<(), CredentialsError> {
        if self.state == State::Closed {
            return Err(CredentialsError::Closed);
        }
        credentials.validate()?;
        self.restart(now);
        self.session.set_local(credentials);
        Ok(())
    }

    /// Other agents have the same credentials: those of the other components of a stream (RFC 8445 §4), for which
    /// there is an agent each. What tells the peer's checks apart then is where they arrive, so this agent takes
    /// those on its own bases only, and [`gimlet_machine::Verdict::NotMine`] hands the others on. Nothing is
    /// remembered of requests on sockets that nobody has offered yet: offer them first. Give all of them one
    /// [`crate::Config::tiebreaker`], and restart the others with [`Agent::restart_as`].
    ///
    /// ```
    /// # use gimlet_ice::{Agent, Candidate, Config, Role};
    /// # use gimlet_machine::{Buf, Input, Instant, Machine, Path, Rng, Verdict};
    /// # let (now, rng) = (Instant::ZERO, Rng::from_u64(1));
    /// # let address = |text: &str| text.parse().unwrap();
    /// // Two components of one stream, with one fragment and one password.
    /// let mut rtp = Agent::new(now, rng.fork("rtp"), Config::default());
    /// let (credentials, tiebreaker) = (Some(rtp.local_credentials().clone()), Some(rtp.tiebreaker()));
    /// let second = Config { component: 2, credentials, tiebreaker, ..Config::default() };
    /// let mut rtcp = Agent::new(now, rng.fork("rtcp"), second);
    /// for (agent, component, socket) in [(&mut rtp, 1, "192.0.2.1:4000"), (&mut rtcp, 2, "192.0.2.1:4001")] {
    ///     agent.share_credentials();
    ///     let candidate = Candidate::host(address(socket)).with_component(component);
    ///     agent.add_local_candidate(now, candidate).unwrap();
    /// }
    ///
    /// // The peer checks the second component: both agents know the name, and one the socket.
    /// let config = Config { component: 2, role: Role::Controlled, ..Config::default() };
    /// let mut peer = Agent::new(now, rng.fork("peer"), config);
    /// peer.add_local_candidate(now, Candidate::host(address("192.0.2.2:9")).with_component(2)).unwrap();
    /// peer.add_remote_line(now, &rtcp.local_candidates().next().unwrap().to_string()).unwrap();
    /// peer.set_remote_credentials(now, rtcp.local_credentials().clone()).unwrap();
    /// let mut datagram = Vec::new();
    /// let sent = peer.poll_transmit(now, &mut Buf::new(&mut datagram)).unwrap();
    /// let Path::Direct(tuple) = sent.path else { unreachable!("no relay is involved") };
    /// let path = Path::Direct(tuple.flipped());
    /// assert_eq!(rtp.handle_input(now, Input::new(path, &mut datagram)), Verdict::NotMine);
    /// assert_eq!(rtcp.handle_input(now, Input::new(path, &mut datagram)), Verdict::Consumed);
    /// ```
    pub fn share_credentials(&mut self) {
        self.session.is_shared = true;
    }

    /// Counts the restarts: 0 at first.
    pub fn generation(&self) -> u16 {
        self.checklist.generation()
    }

    /// More candidates may follow after all, of either side: networks change while a connection stands.
    /// Until the ends are declared again the agent does not fail (RFC 8838 §8).
    pub fn reopen_candidates(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.candidates.reopen();
            self.settle(now);
        }
    }

    /// More of our candidates may follow after all: a relay gave us another address, say. The peer's stay as they
    /// were said to be.
    pub fn reopen_local_candidates(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.candidates.reopen_local();
            self.settle(now);
        }
    }

    /// More of the peer's candidates may follow after all; ours stay as they were declared.
    pub fn reopen_remote_candidates(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.candidates.reopen_remote();
            self.settle(now);
        }
    }

    /// The owner restarts when no path works, so that knowing sooner is worth something: an answer that is late is
    /// asked for again twice, each given two round trips, even if there is nowhere else to go.
    pub fn expect_restarts(&mut self) {
        self.checks.consent.urgency = Urgency::Always;
    }

    /// Whether both sides have agreed to renominate, where that was not known when the agent was made: tell it
    /// before the peer's credentials ([`crate::Config::renomination`]).
    pub fn set_renomination(&mut self, agreed: bool) {
        self.config.renomination = agreed;
    }

    /// The peer is lite (`ice-lite`, RFC 8839 §5.3): it only answers. A full agent then controls, whatever
    /// role it began with; two lite ones use the best pair unchecked (RFC 8445 §6.1.1, §8.2).
    pub fn set_remote_lite(&mut self, now: Instant) {
        if self.state == State::Closed || self.session.peer_is_lite {
            return;
        }
        self.session.peer_is_lite = true;
        if !self.config.lite && self.role.role() == Role::Controlled {
            self.role.switch();
            self.on_role_changed();
        }
        self.settle(now);
    }

    /// One of our addresses is gone: an interface, a NAT's mapping, a relay's allocation. With a host's
    /// address goes everything that was sent through it, and punch sockets go the same way. Returns whether the candidate was known. If the
    /// path in use is gone with it, another takes its place at once; add new addresses first.
    pub fn remove_local_candidate(&mut self, now: Instant, address: SocketAddr) -> bool {
        if let Some(punch) = self.checks.punching.punch.as_deref_mut() {
            punch.sockets.remove(address);
        }
        let before = self.candidates.locals().count();
        let void = self.candidates.remove_local(address);
        for (id, heir) in void {
            match heir {
                Some(heir) => self.inherit_pairs(id, heir),
                None => self.lose_pairs(now, |pair| pair.local == id),
            }
        }
        let known = self.candidates.locals().count() < before;
        if known {
            self.settle(now);
        }
        known
    }

    /// The peer says that this address of its is gone. Returns whether the candidate was known.
    pub fn remove_remote_candidate(&mut self, now: Instant, address: SocketAddr) -> bool {
        let at = |is_tcp| self.candidates.remote_at(address, is_tcp);
        let Some(id) = at(false).or_else(|| at(true)) else { return false };
        self.candidates.remove_remote(id);
        self.lose_pairs(now, |pair| pair.remote == id);
        self.settle(now);
        true
    }

    /// The network changed: an interface came or went, a route moved, the host woke up. The path in use is
    /// probed at once and left if it does not answer within two round trips; everything else gets another
    /// chance. Add and remove candidates first.
    pub fn network_changed(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.on_network_changed(now);
            self.settle(now);
        }
    }

    /// The owner sent on the path in use and heard nothing for longer than it should: three probes, each
    /// given two round trips, decide whether the path is left before its consent ends.
    pub fn report_silence(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.doubt();
            self.settle(now);
        }
    }

    /// The pairs of a candidate that is gone go on with another of the same base.
    fn inherit_pairs(&mut self, gone: Id<Local>, heir: Id<Local>) {
        let role = self.role.role();
        for (_, pair) in self.checklist.iter_mut().filter(|(_, pair)| pair.local == gone) {
            if let Some(ends) = self.candidates.ends(heir, pair.remote) {
                pair.rank(ends, role);
            }
        }
    }

    /// Removes the pairs of which `gone` holds. What that means is seen only when all of them are gone.
    pub(super) fn lose_pairs(&mut self, now: Instant, gone: impl Fn(&Pair) -> bool) {
        let next = |checklist: &Checklist| checklist.iter().find(|(_, pair)| gone(pair)).map(|(id, _)| id);
        let mut lost = Vec::new();
        while let Some(id) = next(&self.checklist) {
            self.checklist.remove(id);
            self.checks.forget(id);
            lost.push(id);
        }
        for id in lost {
            self.on_pair_lost(now, id);
        }
    }

    /// Two lite agents use the best pair there is (RFC 8445 §8.2): nobody checks it.
    pub(super) fn choose_without_checks(&mut self, now: Instant) {
        if !self.session.peer_is_lite || self.session.peer.is_none() {
            return;
        }
        let rank = |(id, pair): &(Id<Pair>, &Pair)| (pair.priority, core::cmp::Reverse(*id));
        let Some(best) = self.checklist.iter().max_by_key(rank).map(|(id, _)| id) else { return };
        if self.nominating.selected() != Some(best) {
            self.believe(now, best);
            self.accept_unasked(now, best);
        }
    }
}
