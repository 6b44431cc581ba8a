//! Candidates that are known by name: ours that hide behind one, the peer's that wait for an address.

use core::net::IpAddr;

use gimlet_machine::Instant;

use super::Agent;
use crate::candidate::Line;
use crate::mdns::Asked;
use crate::{Candidate, CandidateError, Event, Foundation, MdnsName, MdnsQuery};

impl Agent {
    /// Takes one of the peer's addresses as a `candidate-attribute` (RFC 8839 §5.1), like
    /// [`Agent::add_remote_candidate`]. If it has an mDNS name in place of the address
    /// (draft-ietf-mmusic-mdns-ice-candidates §3.2.1), [`Event::ResolveName`] asks for the address.
    pub fn add_remote_line(&mut self, now: Instant, line: &str) -> Result<(), CandidateError> {
        match Line::read(line)? {
            Line::Addressed(candidate) => self.add_remote_candidate(now, candidate),
            Line::Named(_, candidate) => self.ask_for(now, candidate),
        }
    }

    /// The answer to [`Event::ResolveName`]: the address, or `None` if nobody has the name, or several
    /// addresses have it (draft §3.2.1). What is found is one of the peer's candidates from here on; one that
    /// was refused, and an answer to what is not asked any more, changes nothing but a counter.
    ///
    /// Ask the link only, by multicast DNS (RFC 6762): the peer chooses the name, and the world's DNS would
    /// learn of it.
    pub fn name_resolved(&mut self, now: Instant, query: MdnsQuery, address: Option<IpAddr>) {
        let Some(candidate) = self.candidates.names.take(query) else {
            self.counters.names_late += 1;
            return;
        };
        match address {
            Some(ip) => {
                let taken = self.take_remote(now, candidate.at(ip));
                self.counters.names_refused += u64::from(taken.is_err());
            }
            None => self.counters.names_unresolved += 1,
        }
        self.settle(now);
    }

    /// The names that wait for [`Agent::name_resolved`].
    pub fn unresolved_names(&self) -> impl Iterator<Item = (MdnsQuery, MdnsName)> {
        self.candidates.names.iter()
    }

    fn ask_for(&mut self, now: Instant, candidate: Candidate) -> Result<(), CandidateError> {
        self.admit(&candidate, self.candidates.is_remote_ended())?;
        candidate.validate_port()?;
        self.check_generation(&candidate)?;
        let Some(name) = candidate.mdns_name().copied() else {
            return Err(CandidateError::Unusable(candidate.address));
        };
        if self.candidates.has_namesake_of(&candidate) {
            return Ok(());
        }
        match self.candidates.names.ask(now, candidate, self.config.limits.remote_candidates_max) {
            Asked::New(query) => self.tell(Event::ResolveName { query, name }),
            Asked::Known => {}
            Asked::Refused => {
                self.counters.names_refused += 1;
                return Err(CandidateError::TooManyNames);
            }
        }
        self.settle(now);
        Ok(())
    }

    pub(super) fn on_names_expired(&mut self, now: Instant) {
        self.counters.names_unresolved += self.candidates.names.expire(now) as u64;
    }

    /// Prepares one of our candidates for being shown: draws its name, and takes from its line what would
    /// betray the address all the same.
    pub(super) fn conceal(&mut self, candidate: Candidate) -> Candidate {
        let candidate = if candidate.awaits_name() {
            // One address, one name (draft §3.1.1): else the names would tell how many sockets there are.
            let known = self.candidates.name_of(candidate.address.ip());
            let name = known.unwrap_or_else(|| {
                let nth = self.candidates.names.draw();
                MdnsName::draw(&mut self.checks.fork("mdns name", nth))
            });
            candidate.hidden_as(name)
        } else {
            candidate
        };
        if candidate.mdns_name().is_some() || self.candidates.is_hiding() {
            let veil = self.veil(candidate.foundation);
            candidate.concealed(veil)
        } else {
            candidate
        }
    }

    /// A hidden candidate is in place: whatever was offered before it tells no address of ours any more, and
    /// the owner learns the name, once.
    pub(super) fn on_hidden(&mut self, name: MdnsName, address: IpAddr) {
        for (id, foundation) in self.candidates.unconcealed() {
            let veil = self.veil(foundation);
            self.candidates.conceal(id, veil);
        }
        if self.candidates.count_named(&name) == 1 {
            self.tell(Event::PublishName { name, address });
        }
    }

    /// A foundation in place of `plain`: alike for what was alike, and no help to who guesses addresses. The
    /// plain one is a digest of the address, and there are few private ones.
    fn veil(&self, plain: Foundation) -> Foundation {
        Foundation::from_number(self.checks.fork("foundation", 0).fork(plain.as_str()).u64())
    }
}
