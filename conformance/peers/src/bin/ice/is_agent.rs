//! The agent of `is`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gimlet_peers::{Endpoint, Signal};
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};

/// The agent and what it has told.
pub(crate) struct Is {
    pub(crate) agent: IceAgent,
    /// What its clock shows at the beginning: it takes no other.
    pub(crate) origin: Instant,
    may_send: bool,
}

impl Endpoint for Is {
    fn new(controlling: bool) -> Self {
        let mut agent = IceAgent::new(IceCreds::new());
        agent.set_controlling(controlling);
        // It tells no deadline before it has been woken.
        let origin = Instant::now();
        agent.handle_timeout(origin);
        Self { agent, origin, may_send: false }
    }

    fn add_socket(&mut self, _: Duration, address: SocketAddr) {
        self.agent.add_local_candidate(Candidate::host(address, "udp").expect("a candidate"));
    }

    fn signal(&self) -> Signal {
        let IceCreds { ufrag, pass: pwd } = self.agent.local_credentials().clone();
        let candidates = self.agent.local_candidates().map(|candidate| candidate.to_sdp_string()).collect();
        Signal { ufrag, pwd, candidates }
    }

    fn hear_signal(&mut self, now: Duration, signal: &Signal) {
        let (ufrag, pass) = (signal.ufrag.clone(), signal.pwd.clone());
        self.agent.set_remote_credentials(IceCreds { ufrag, pass });
        for line in &signal.candidates {
            self.agent.add_remote_candidate(Candidate::from_sdp_string(line).expect("a candidate"));
        }
        // Or it would sleep on until it is woken for something else.
        self.wake(now);
    }

    fn hear(&mut self, now: Duration, local: SocketAddr, remote: SocketAddr, bytes: &mut [u8]) {
        let Ok(message) = StunMessage::parse(bytes) else { return };
        let packet = StunPacket { proto: Protocol::Udp, source: remote, destination: local, message };
        self.agent.handle_packet(self.origin + now, packet);
    }

    fn wake(&mut self, now: Duration) {
        self.agent.handle_timeout(self.origin + now);
    }

    fn deadline(&mut self) -> Option<Duration> {
        self.agent.poll_timeout().map(|at| at - self.origin)
    }

    fn say(&mut self, _: Duration, out: &mut Vec<u8>) -> Option<(SocketAddr, SocketAddr)> {
        while let Some(event) = self.agent.poll_event() {
            self.may_send |= matches!(event, IceAgentEvent::NominatedSend { .. });
        }
        let transmit = self.agent.poll_transmit()?;
        out.extend_from_slice(&transmit.contents);
        Some((transmit.source, transmit.destination))
    }

    fn may_send(&mut self) -> bool {
        self.may_send
    }

    fn has_selected(&mut self) -> bool {
        self.may_send
    }
}
