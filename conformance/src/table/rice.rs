//! rice-proto, librice's agent, under judgement. It is driven as its documentation shows.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_machine::FourTuple;
use rice_proto::agent::{Agent, AgentPoll};
use rice_proto::candidate::{Candidate, CandidateType, TransportType};
use rice_proto::component::ComponentConnectionState;
use rice_proto::stream::{Credentials, StreamMut};
use stun_proto::Instant;
use stun_proto::agent::Transmit;

use super::Finding;
use super::codec::Password;
use super::subject::{Local, Setup, Subject};

/// How often an agent is polled at one instant before time goes on anyway.
const POLLS_MAX: usize = 10_000;

pub(crate) struct Rice {
    agent: Agent,
    stream: usize,
    component: usize,
    events: VecDeque<String>,
    wait: Option<Duration>,
    selected: Option<FourTuple>,
    has_failed: bool,
    /// Candidates that wait for the peer's credentials: what is paired before them is checked with
    /// credentials that it made up.
    early: Option<Vec<Candidate>>,
}

fn at(now: Duration) -> Instant {
    // Zero means "not yet" to parts of it.
    Instant::from_nanos(now.as_nanos() as i64 + 1_000_000_000)
}

fn since(instant: Instant) -> Duration {
    Duration::from_nanos(instant.as_nanos().max(0).cast_unsigned()).saturating_sub(Duration::from_secs(1))
}

impl Rice {
    pub(crate) fn new(setup: Setup) -> Result<Self, Finding> {
        if setup.lite {
            return Err(Finding::not_applicable("rice-proto 0.4 has no lite agent"));
        }
        let mut builder = Agent::builder().trickle_ice(true).controlling(setup.controlling);
        if let Some(ta) = setup.ta {
            builder = builder.timing_advance(ta);
        }
        let mut agent = builder.build();
        let stream = agent.add_stream();
        let (ufrag, pwd) = setup.name.credentials();
        let mut rice = Self {
            agent,
            stream,
            component: 0,
            events: VecDeque::new(),
            wait: None,
            selected: None,
            has_failed: false,
            early: Some(Vec::new()),
        };
        let mut stream = rice.stream();
        stream.set_local_credentials(Credentials::new(ufrag.into(), pwd.into()));
        let component = stream.add_component().map_err(|error| Finding::fails(error.to_string()))?;
        rice.component = component;
        Ok(rice)
    }

    fn stream(&mut self) -> StreamMut<'_> {
        self.agent.mut_stream(self.stream).expect("it was added")
    }

    /// Polls until it has nothing to say at this instant; keeps what has to be sent for `transmit`.
    fn poll(&mut self, now: Duration) {
        for _ in 0..POLLS_MAX {
            match self.agent.poll(at(now)) {
                AgentPoll::WaitUntil(until) => {
                    self.wait = Some(since(until));
                    return;
                }
                AgentPoll::Closed => {
                    self.wait = None;
                    return;
                }
                AgentPoll::SelectedPair(pair) => {
                    let pair = pair.selected.candidate_pair();
                    let path = FourTuple::new(pair.local.base_address, pair.remote.address);
                    self.selected = Some(path);
                    self.events.push_back(format!("SelectedPair {} -> {}", path.local, path.remote));
                }
                AgentPoll::ComponentStateChange(change) => {
                    self.has_failed = change.state == ComponentConnectionState::Failed;
                    self.events.push_back(format!("ComponentStateChange {:?}", change.state));
                }
                other @ (AgentPoll::AllocateSocket(_)
                | AgentPoll::RemoveSocket(_)
                | AgentPoll::GatheredCandidate(_)
                | AgentPoll::GatheringComplete(_)) => self.events.push_back(format!("{other:?}")),
            }
        }
        self.wait = Some(now);
    }
}

/// The owner assigns foundations: one per type and address, as RFC 8445 §5.1.1.3 asks.
fn foundation(kind: &str, ip: IpAddr) -> String {
    let ip = ip.to_string();
    let letters = ip.chars().filter(char::is_ascii_alphanumeric);
    kind.chars().chain(letters).take(32).collect()
}

fn candidate(local: Local) -> Candidate {
    let (kind, name, address, base) = match local {
        Local::Host(address) => (CandidateType::Host, "h", address, address),
        Local::Reflexive { mapped, base, .. } => (CandidateType::ServerReflexive, "s", mapped, base),
        Local::Relayed { address, .. } => (CandidateType::Relayed, "r", address, address),
    };
    Candidate::builder(1, kind, TransportType::Udp, &foundation(name, base.ip()), address)
        .base_address(base)
        .build()
}

fn sdp(line: &str) -> Result<Candidate, String> {
    // It wants the line as in SDP (RFC 8839 §5.1), prefix included.
    let line = if line.starts_with("a=") { line.to_owned() } else { format!("a={line}") };
    line.parse::<Candidate>().map_err(|error| format!("{error:?}"))
}

/// What becomes of a candidate line that is read and written.
pub(crate) fn rewritten(line: &str) -> Result<String, String> {
    sdp(line).map(|candidate| candidate.to_sdp_string().trim_start_matches("a=").to_owned())
}

impl Subject for Rice {
    fn add_local(&mut self, now: Duration, local: Local) -> Result<(), String> {
        if matches!(local, Local::Relayed { .. }) {
            return Err("relayed candidates come only from its own TURN client".into());
        }
        self.stream().add_local_candidate(candidate(local));
        self.poll(now);
        Ok(())
    }

    fn add_remote(&mut self, now: Duration, line: &str) -> Result<(), String> {
        let candidate = sdp(line)?;
        match &mut self.early {
            Some(early) => early.push(candidate),
            None => self.stream().add_remote_candidate(candidate),
        }
        self.poll(now);
        Ok(())
    }

    fn set_remote_credentials(&mut self, now: Duration, ufrag: &str, pwd: &str) {
        self.stream().set_remote_credentials(Credentials::new(ufrag.into(), pwd.into()));
        for candidate in self.early.take().into_iter().flatten() {
            self.stream().add_remote_candidate(candidate);
        }
        self.poll(now);
    }

    fn end_of_candidates(&mut self, now: Duration) -> Result<(), Finding> {
        self.stream().end_of_local_candidates();
        self.stream().end_of_remote_candidates();
        self.poll(now);
        Ok(())
    }

    fn restart(&mut self, _now: Duration) -> Result<(String, String), Finding> {
        Err(Finding::not_applicable("rice-proto has no ICE restart"))
    }

    fn hear(&mut self, now: Duration, path: FourTuple, bytes: &[u8]) {
        let transmit = Transmit::new(bytes.to_vec(), TransportType::Udp, path.remote, path.local);
        let component = self.component;
        self.stream().handle_incoming_data(component, transmit, at(now));
        self.poll(now);
    }

    fn wake(&mut self, now: Duration) {
        self.poll(now);
    }

    fn deadline(&mut self, now: Duration) -> Option<Duration> {
        // It may ask to be polled at once for ever: a millisecond is our patience.
        self.wait.map(|wait| if wait <= now { now + Duration::from_millis(1) } else { wait })
    }

    fn transmit(&mut self, now: Duration) -> Option<(FourTuple, Vec<u8>)> {
        if let Some(transmit) = self.agent.poll_transmit(at(now)) {
            let transmit = transmit.transmit;
            return Some((FourTuple::new(transmit.from, transmit.to), transmit.data.to_vec()));
        }
        // "Wait until now" means that something is to be sent; what follows it is known only after.
        if self.wait.is_some_and(|wait| wait <= now) {
            self.poll(now);
        }
        None
    }

    fn event(&mut self) -> Option<String> {
        self.events.pop_front()
    }

    fn is_controlling(&self) -> bool {
        self.agent.controlling()
    }

    fn selected(&self) -> Option<FourTuple> {
        self.selected
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn remote_candidates(&self) -> usize {
        self.agent.stream(self.stream).map_or(0, |stream| stream.remote_candidates().len())
    }

    fn local_lines(&self) -> Vec<String> {
        let Some(stream) = self.agent.stream(self.stream) else { return Vec::new() };
        let line = |candidate: &Candidate| candidate.to_sdp_string().trim_start_matches("a=").to_owned();
        stream.local_candidates().map(line).collect()
    }

    fn pair_priorities(&self) -> Result<Vec<u64>, Finding> {
        Err(Finding::not_applicable("rice-proto does not show the priorities of its pairs"))
    }
}

/// What the message says to stun-types, which rice-proto stands on.
pub(crate) fn mapped_address(bytes: &[u8]) -> Result<Option<SocketAddr>, String> {
    use stun_proto::types::attribute::XorMappedAddress;
    use stun_proto::types::message::Message;

    let message = Message::from_bytes(bytes).map_err(|error| format!("{error:?}"))?;
    let mapped = message.attribute::<XorMappedAddress>().ok();
    Ok(mapped.map(|mapped| mapped.addr(message.transaction_id())))
}

/// Whether it parses the message and finds its signature right.
pub(crate) fn verifies(bytes: &[u8], password: &Password) -> bool {
    use stun_proto::types::message::{
        LongTermKeyCredentials, Message, MessageIntegrityCredentials, ShortTermCredentials,
    };

    let secret = password.password.clone();
    let credentials: MessageIntegrityCredentials = match &password.long_term {
        None => ShortTermCredentials::new(secret).into(),
        Some((username, realm, _)) => {
            LongTermKeyCredentials::new(username.clone(), secret, realm.clone()).into()
        }
    };
    Message::from_bytes(bytes).is_ok_and(|message| message.validate_integrity(&credentials).is_ok())
}
