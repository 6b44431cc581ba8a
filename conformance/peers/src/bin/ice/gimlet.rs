//! Gimlet's agent.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_ice::{Agent, Candidate, Config, Credentials, Event, Role};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine as _, Path, Rng};
use gimlet_peers::{Endpoint, Signal};

/// The agent and what it has told.
pub(crate) struct Gimlet {
    pub(crate) agent: Agent,
    may_send: bool,
    has_selected: bool,
}

fn instant(now: Duration) -> Instant {
    Instant::ZERO + now
}

impl Endpoint for Gimlet {
    fn new(controlling: bool) -> Self {
        let role = if controlling { Role::Controlling } else { Role::Controlled };
        let config = Config { role, ..Config::default() };
        let agent = Agent::new(Instant::ZERO, Rng::from_u64(u64::from(controlling)), config);
        Self { agent, may_send: false, has_selected: false }
    }

    fn add_socket(&mut self, now: Duration, address: SocketAddr) {
        self.agent.add_local_candidate(instant(now), Candidate::host(address)).expect("room");
    }

    fn signal(&self) -> Signal {
        let Credentials { ufrag, pwd } = self.agent.local_credentials().clone();
        let candidates = self.agent.local_candidates().map(ToString::to_string).collect();
        Signal { ufrag, pwd, candidates }
    }

    fn hear_signal(&mut self, now: Duration, signal: &Signal) {
        let Signal { ufrag, pwd, candidates } = signal.clone();
        for line in candidates {
            let candidate = line.parse().expect("a candidate");
            self.agent.add_remote_candidate(instant(now), candidate).expect("room");
        }
        self.agent.set_remote_credentials(instant(now), Credentials { ufrag, pwd }).expect("credentials");
    }

    fn hear(&mut self, now: Duration, local: SocketAddr, remote: SocketAddr, bytes: &mut [u8]) {
        let path = Path::Direct(FourTuple::new(local, remote));
        self.agent.handle_input(instant(now), Input::new(path, bytes));
    }

    fn wake(&mut self, now: Duration) {
        self.agent.handle_timeout(instant(now));
    }

    fn deadline(&mut self) -> Option<Duration> {
        self.agent.poll_timeout().map(|deadline| deadline.at.since(Instant::ZERO))
    }

    fn say(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<(SocketAddr, SocketAddr)> {
        while let Some(event) = self.agent.poll_event() {
            self.may_send |= matches!(event, Event::PathValid { .. });
            self.has_selected |= matches!(event, Event::PathSelected { .. });
        }
        let transmit = self.agent.poll_transmit(instant(now), &mut Buf::new(out))?;
        let FourTuple { local, remote } = transmit.path.on_wire();
        Some((local, remote))
    }

    fn may_send(&mut self) -> bool {
        self.may_send
    }

    fn has_selected(&mut self) -> bool {
        self.has_selected
    }
}
