//! Gimlet's agent under judgement.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_ice::{Agent, Candidate, Config, Credentials, Event, Role, State, TA_MIN};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng};
use gimlet_testkit::Checked;

use super::Finding;
use super::subject::{Local, Setup, Subject};

/// The agent, kept to the laws of all machines while it is judged.
pub(crate) struct Ours {
    agent: Checked<Agent>,
    /// The relay's server, where there is a relayed candidate.
    relay: Option<(FourTuple, SocketAddr)>,
    is_deaf: bool,
}

fn at(now: Duration) -> Instant {
    Instant::from_nanos(now.as_nanos() as u64)
}

impl Ours {
    pub(crate) fn new(setup: Setup) -> Self {
        let (ufrag, pwd) = setup.name.credentials();
        let config = Config {
            role: if setup.controlling { Role::Controlling } else { Role::Controlled },
            ta: setup.ta.unwrap_or(TA_MIN),
            tiebreaker: setup.tiebreaker,
            credentials: Some(Credentials { ufrag: ufrag.into(), pwd: pwd.into() }),
            lite: setup.lite,
            ..Config::default()
        };
        let agent = Agent::new(Instant::ZERO, Rng::from_u64(setup.seed), config);
        Self { agent: Checked::new(agent), relay: None, is_deaf: false }
    }

    /// An agent whose socket is not connected to anything.
    pub(crate) fn deaf(setup: Setup) -> Self {
        Self { is_deaf: true, ..Self::new(setup) }
    }

    /// The path as the socket sees it.
    fn on_wire(&self, path: Path) -> FourTuple {
        match (path, self.relay) {
            (Path::Relayed { relay, peer }, Some((known, address))) if relay == known => {
                FourTuple::new(address, peer)
            }
            (path, _) => path.on_wire(),
        }
    }
}

impl Subject for Ours {
    fn add_local(&mut self, now: Duration, local: Local) -> Result<(), String> {
        let candidate = match local {
            Local::Host(address) => Candidate::host(address),
            Local::Reflexive { mapped, base, server } => {
                Candidate::server_reflexive(mapped, base, Some(server))
            }
            Local::Relayed { address, base, server } => {
                let relay = FourTuple::new(base, server);
                self.relay = Some((relay, address));
                Candidate::relayed(address, relay, None)
            }
        };
        let add = |agent: &mut Agent| agent.add_local_candidate(at(now), candidate);
        self.agent.command(at(now), add).map_err(|error| error.to_string())
    }

    fn add_remote(&mut self, now: Duration, line: &str) -> Result<(), String> {
        let candidate: Candidate = line.parse().map_err(|error| format!("{error}"))?;
        let add = |agent: &mut Agent| agent.add_remote_candidate(at(now), candidate);
        self.agent.command(at(now), add).map_err(|error| error.to_string())
    }

    fn set_remote_credentials(&mut self, now: Duration, ufrag: &str, pwd: &str) {
        let credentials = Credentials { ufrag: ufrag.into(), pwd: pwd.into() };
        let set = |agent: &mut Agent| agent.set_remote_credentials(at(now), credentials);
        let set = self.agent.command(at(now), set);
        assert_eq!(set, Ok(()), "these credentials are well-formed");
    }

    fn end_of_candidates(&mut self, now: Duration) -> Result<(), Finding> {
        self.agent.command(at(now), |agent| agent.end_of_local_candidates(at(now)));
        self.agent.command(at(now), |agent| agent.end_of_remote_candidates(at(now)));
        Ok(())
    }

    fn restart(&mut self, now: Duration) -> Result<(String, String), Finding> {
        let fresh = self.agent.command(at(now), |agent| agent.restart(at(now)));
        Ok((fresh.ufrag.clone(), fresh.pwd.clone()))
    }

    fn hear(&mut self, now: Duration, path: FourTuple, bytes: &[u8]) {
        if self.is_deaf {
            return;
        }
        let path = match self.relay {
            Some((relay, address)) if path.local == address => Path::Relayed { relay, peer: path.remote },
            Some(_) | None => Path::Direct(path),
        };
        self.agent.handle_input(at(now), Input::new(path, &mut bytes.to_vec()));
    }

    fn wake(&mut self, now: Duration) {
        self.agent.handle_timeout(at(now));
    }

    fn deadline(&mut self, _now: Duration) -> Option<Duration> {
        self.agent.poll_timeout().map(|deadline| Duration::from_nanos(deadline.at.as_nanos()))
    }

    fn transmit(&mut self, now: Duration) -> Option<(FourTuple, Vec<u8>)> {
        let mut storage = Vec::new();
        let transmit = self.agent.poll_transmit(at(now), &mut Buf::new(&mut storage))?;
        if self.is_deaf {
            return None;
        }
        Some((self.on_wire(transmit.path), storage))
    }

    fn event(&mut self) -> Option<String> {
        self.agent.poll_event().map(|event: Event| format!("{event:?}"))
    }

    fn is_controlling(&self) -> bool {
        self.agent.inner().role() == Role::Controlling
    }

    fn selected(&self) -> Option<FourTuple> {
        self.agent.inner().selected_path().map(|path| self.on_wire(path))
    }

    fn has_failed(&self) -> bool {
        self.agent.inner().state() == State::Failed
    }

    fn remote_candidates(&self) -> usize {
        self.agent.inner().remote_candidates().count()
    }

    fn local_lines(&self) -> Vec<String> {
        self.agent.inner().local_candidates().map(ToString::to_string).collect()
    }

    fn pair_priorities(&self) -> Result<Vec<u64>, Finding> {
        Ok(self.agent.inner().pairs().map(|pair| pair.priority).collect())
    }
}
