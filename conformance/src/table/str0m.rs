//! `is`, str0m's agent, under judgement. It is driven as its documentation shows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gimlet_machine::FourTuple;
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceConnectionState, IceCreds, Protocol, Sha1HmacProvider};

use super::Finding;
use super::codec::Password;
use super::subject::{Local, Setup, Subject};

pub(crate) struct Str0m {
    agent: IceAgent,
    /// Std's instant comes only from the clock; what is used of it are differences.
    origin: Instant,
    selected: Option<FourTuple>,
    begun: bool,
}

impl Str0m {
    pub(crate) fn new(setup: Setup) -> Self {
        let (ufrag, pass) = setup.name.credentials();
        let mut agent = IceAgent::new(IceCreds { ufrag: ufrag.into(), pass: pass.into() });
        agent.set_controlling(setup.controlling);
        agent.set_ice_lite(setup.lite);
        // Its documentation leaves the limit to the owner; RFC 8445 §6.1.2.5 recommends this one.
        agent.set_max_candidate_pairs(100);
        if let Some(tiebreaker) = setup.tiebreaker {
            agent.set_control_tie_breaker(tiebreaker);
        }
        if let Some(ta) = setup.ta {
            agent.set_timing_advance(ta);
        }
        Self { agent, origin: Instant::now(), selected: None, begun: false }
    }

    /// `poll_timeout` answers only after the first `handle_timeout`.
    fn begin(&mut self, now: Duration) {
        if !self.begun {
            self.begun = true;
            self.agent.handle_timeout(self.origin + now);
        }
    }
}

fn candidate(local: Local) -> Result<Candidate, is::IceError> {
    match local {
        Local::Host(address) => Candidate::host(address, Protocol::Udp),
        Local::Reflexive { mapped, base, .. } => Candidate::server_reflexive(mapped, base, Protocol::Udp),
        Local::Relayed { address, base, .. } => Candidate::relayed(address, base, Protocol::Udp),
    }
}

fn sdp(line: &str) -> Result<Candidate, String> {
    Candidate::from_sdp_string(line).map_err(|error| error.to_string())
}

/// What becomes of a candidate line that is read and written.
pub(crate) fn rewritten(line: &str) -> Result<String, String> {
    sdp(line).map(|candidate| candidate.to_sdp_string())
}

impl Subject for Str0m {
    fn add_local(&mut self, now: Duration, local: Local) -> Result<(), String> {
        self.begin(now);
        let candidate = candidate(local).map_err(|error| error.to_string())?;
        self.agent.add_local_candidate(candidate);
        Ok(())
    }

    fn add_remote(&mut self, now: Duration, line: &str) -> Result<(), String> {
        self.begin(now);
        self.agent.add_remote_candidate(sdp(line)?);
        Ok(())
    }

    fn set_remote_credentials(&mut self, now: Duration, ufrag: &str, pwd: &str) {
        self.begin(now);
        self.agent.set_remote_credentials(IceCreds { ufrag: ufrag.into(), pass: pwd.into() });
    }

    fn end_of_candidates(&mut self, _now: Duration) -> Result<(), Finding> {
        Err(Finding::not_applicable("`is` knows no end of candidates and never fails for good"))
    }

    fn restart(&mut self, _now: Duration) -> Result<(String, String), Finding> {
        let fresh = IceCreds { ufrag: "ourAgain".into(), pass: "ourSecondPasswordOfManyChars".into() };
        self.agent.ice_restart(fresh.clone(), true);
        Ok((fresh.ufrag, fresh.pass))
    }

    fn hear(&mut self, now: Duration, path: FourTuple, bytes: &[u8]) {
        self.begin(now);
        let Ok(message) = StunMessage::parse(bytes) else { return };
        let (proto, source, destination) = (Protocol::Udp, path.remote, path.local);
        if self.agent.accepts_message(&message) {
            let packet = StunPacket { proto, source, destination, message };
            self.agent.handle_packet(self.origin + now, packet);
        }
    }

    fn wake(&mut self, now: Duration) {
        self.begun = true;
        self.agent.handle_timeout(self.origin + now);
    }

    fn deadline(&mut self, _now: Duration) -> Option<Duration> {
        self.agent.poll_timeout().map(|at| at.saturating_duration_since(self.origin))
    }

    fn transmit(&mut self, _now: Duration) -> Option<(FourTuple, Vec<u8>)> {
        let transmit = self.agent.poll_transmit()?;
        Some((FourTuple::new(transmit.source, transmit.destination), transmit.contents.to_vec()))
    }

    fn event(&mut self) -> Option<String> {
        let event = self.agent.poll_event()?;
        match &event {
            IceAgentEvent::NominatedSend { source, destination, .. } => {
                self.selected = Some(FourTuple::new(*source, *destination));
            }
            IceAgentEvent::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.selected = None;
            }
            IceAgentEvent::IceConnectionStateChange(
                IceConnectionState::New
                | IceConnectionState::Checking
                | IceConnectionState::Connected
                | IceConnectionState::Completed,
            )
            | IceAgentEvent::IceRestart(_)
            | IceAgentEvent::DiscoveredRecv { .. } => {}
        }
        Some(format!("{event:?}"))
    }

    fn is_controlling(&self) -> bool {
        self.agent.controlling()
    }

    fn selected(&self) -> Option<FourTuple> {
        self.selected
    }

    fn has_failed(&self) -> bool {
        // Its documentation: "we never end trickle ice and it's always possible to come back".
        false
    }

    fn remote_candidates(&self) -> usize {
        self.agent.remote_candidates().count()
    }

    fn local_lines(&self) -> Vec<String> {
        self.agent.local_candidates().map(|candidate| candidate.to_sdp_string()).collect()
    }

    fn pair_priorities(&self) -> Result<Vec<u64>, Finding> {
        Err(Finding::not_applicable("`is` does not show the priorities of its pairs"))
    }
}

/// What the message says to `is`, as far as it tells.
pub(crate) fn mapped_address(bytes: &[u8]) -> Result<Option<SocketAddr>, String> {
    StunMessage::parse(bytes).map(|message| message.mapped_address()).map_err(|error| error.to_string())
}

/// Whether it parses the message and finds its signature right.
pub(crate) fn verifies(bytes: &[u8], password: &Password) -> Result<bool, Finding> {
    if password.long_term.is_some() {
        return Err(Finding::not_applicable("`is` has no use for long-term credentials"));
    }
    let hmac = |key: &[u8], parts: &[&[u8]]| is::DefaultSha1HmacProvider.sha1_hmac(key, parts);
    let key = password.password.as_bytes();
    Ok(StunMessage::parse(bytes).is_ok_and(|message| message.verify(key, hmac)))
}
