//! What `--punch` adds: finding out what our NAT does, telling it, and punching once both sides know.
//!
//! ```text
//!   Idle ── a NAT shows ──► Opening ── sockets bound ──► Asking ── mapping learnt ──► Known
//! ```
//!
//! There is no line for it. What is known rides on the `cand` line of a reflexive candidate, said once more, as an
//! extension that everybody else ignores (RFC 8839 §5.1). Lines come from whoever introduces the two sides, and
//! who asks for a punch vouches for them: probes leave to the reflexive addresses that they name
//! (RFC 8445 §19.5.1). Two NATs of which neither is hard are left to ordinary checks, for the two sides have no
//! common clock to fall silent by.

#[cfg(test)]
mod tests;
mod word;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_ice::{Agent, OUTSIDE_MAX, Part, Profile, PunchEvent, PunchLimits, plan};
use gimlet_machine::{
    Answer, Buf, Deadline, FourTuple, Input, Instant, Machine, Queue, Request, Rng, SocketId, Transmit,
    Verdict,
};
use gimlet_stun::{Discovery, DiscoveryConfig, DiscoveryEvent, LOCALS_MAX, Step};

pub(super) use self::word::{read, write};

/// How long ordinary checks get before a punch begins: two of them, half a second apart, and the way back.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sockets that are open or asked for at once, and requests about them. A punch takes 256.
const SOCKETS_MAX: usize = 512;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Sample,
    Punch,
}

/// What is known of our NAT.
#[derive(Debug)]
enum Stage {
    /// Nobody has seen a NAT.
    Idle,
    /// Sockets to ask from are being bound.
    Opening,
    Asking(Box<Discovery>),
    Known(Profile),
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Punching {
    rng: Rng,
    servers: Vec<SocketAddr>,
    /// The socket whose NAT it is about.
    base: Option<SocketAddr>,
    stage: Stage,
    theirs: Option<Profile>,
    /// When a punch may begin; `None`: not introduced yet, or begun already.
    begins: Option<Instant>,
    sockets: BTreeMap<SocketId, (Purpose, Option<SocketAddr>)>,
    named: u64,
    requests: Queue<Request>,
}

impl Punching {
    pub(super) fn new(rng: Rng, servers: Vec<SocketAddr>) -> Self {
        Self {
            rng,
            servers,
            base: None,
            stage: Stage::Idle,
            theirs: None,
            begins: None,
            sockets: BTreeMap::new(),
            named: 0,
            requests: Queue::new(2 * SOCKETS_MAX),
        }
    }

    /// A server saw `base` at another address: there is a NAT, and it is worth knowing.
    pub(super) fn on_reflexive(&mut self, base: SocketAddr) {
        if matches!(self.stage, Stage::Idle) {
            (self.base, self.stage) = (Some(base), Stage::Opening);
            self.open(Purpose::Sample, LOCALS_MAX);
        }
    }

    /// Whether something about our NAT is still being found out.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Asking(_))
    }

    /// What is known of our NAT, and of which socket.
    pub(super) fn ours(&self) -> Option<(SocketAddr, &Profile)> {
        match &self.stage {
            Stage::Known(profile) => Some((self.base?, profile)),
            Stage::Idle | Stage::Opening | Stage::Asking(_) => None,
        }
    }

    /// The other side's line told this.
    pub(super) fn learn(&mut self, theirs: Profile) {
        let mut outside = self.theirs.take().map(|known| known.outside).unwrap_or_default();
        for ip in theirs.outside {
            if !outside.contains(&ip) && outside.len() < OUTSIDE_MAX {
                outside.push(ip);
            }
        }
        self.theirs = Some(Profile { outside, ..theirs });
    }

    /// Checks have begun.
    pub(super) fn on_start(&mut self, now: Instant) {
        self.begins = Some(now + PATIENCE);
    }

    /// Begins the punch when its time has come and both NATs are known; says why there is none.
    pub(super) fn consider(&mut self, now: Instant, agent: &mut Agent) -> Option<String> {
        let (Stage::Known(ours), Some(theirs)) = (&self.stage, &self.theirs) else { return None };
        self.begins.filter(|at| *at <= now)?;
        self.begins = None;
        if agent.has_direct_path() {
            return None;
        }
        match plan(ours, theirs, &PunchLimits::default()) {
            Ok(plan) if plan.part == Part::Meet => return None,
            Ok(_) => {}
            Err(declined) => return Some(format!("no punch: {declined}")),
        }
        for ip in &theirs.outside {
            agent.vouch(now, *ip);
        }
        agent.punch(now, ours, theirs).err().map(|declined| format!("no punch: {declined}"))
    }

    /// The agent's punch asks for sockets, or needs them no more.
    pub(super) fn on_punch(&mut self, event: PunchEvent) {
        match event {
            PunchEvent::OpenSockets { count } => self.open(Purpose::Punch, count),
            PunchEvent::CloseSockets { but } => self.close(Purpose::Punch, but),
            PunchEvent::StateChanged(_) => {}
        }
    }

    fn open(&mut self, purpose: Purpose, count: usize) {
        let Some(base) = self.base else { return };
        for _ in 0..count.min(SOCKETS_MAX.saturating_sub(self.sockets.len())) {
            let id = SocketId(self.named);
            let local = SocketAddr::new(base.ip(), 0);
            if self.requests.push(Request::Bind { id, local }).is_err() {
                return;
            }
            self.named += 1;
            self.sockets.insert(id, (purpose, None));
        }
    }

    fn close(&mut self, of: Purpose, but: Option<SocketAddr>) {
        let requests = &mut self.requests;
        self.sockets.retain(|id, (purpose, local)| {
            let kept = *purpose != of || (local.is_some() && *local == but);
            // There is room: what is closed was asked for once.
            kept || requests.push(Request::Close { id: *id }).is_err()
        });
    }

    pub(super) fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop()
    }

    pub(super) fn handle_answer(&mut self, now: Instant, answer: Answer<'_>, agent: &mut Agent) {
        match answer {
            Answer::Bound { id, local } => {
                let Some((purpose, bound)) = self.sockets.get_mut(&id) else { return };
                *bound = Some(local);
                if *purpose == Purpose::Punch && agent.add_punch_socket(now, local).is_err() {
                    // The round is over.
                    self.sockets.remove(&id);
                    let room = self.requests.push(Request::Close { id });
                    debug_assert!(room.is_ok(), "what is closed was asked for once");
                }
            }
            Answer::Closed { id, .. } => {
                if let Some((Purpose::Punch, Some(local))) = self.sockets.remove(&id) {
                    agent.remove_local_candidate(now, local);
                }
            }
            Answer::Connected { .. } | Answer::Received { .. } | Answer::Written { .. } => {}
        }
        self.consider_asking(now);
    }

    /// Begins to ask when every socket that can be had is there.
    fn consider_asking(&mut self, now: Instant) {
        let samples = self.sockets.values().filter(|(purpose, _)| *purpose == Purpose::Sample);
        let bound: Option<Vec<SocketAddr>> = samples.map(|(_, local)| *local).collect();
        let (Stage::Opening, Some(locals), Some(base)) = (&self.stage, bound, self.base) else { return };
        let of_family = |server: &&SocketAddr| server.is_ipv4() == base.is_ipv4();
        let servers: Vec<_> = self.servers.iter().filter(of_family).copied().collect();
        let (rng, config) = (self.rng.fork("discovery"), DiscoveryConfig::default());
        match Discovery::new(now, rng, config, &locals, &servers) {
            Ok(discovery) => self.stage = Stage::Asking(Box::new(discovery)),
            Err(_) => self.conclude(Profile::default()),
        }
    }

    fn conclude(&mut self, profile: Profile) {
        self.stage = Stage::Known(profile);
        self.close(Purpose::Sample, None);
    }

    /// Takes what the discovery has learnt; says whether our profile is new.
    pub(super) fn settle(&mut self) -> bool {
        while let Stage::Asking(discovery) = &mut self.stage {
            let known = match discovery.poll_event() {
                // Filtering and hairpinning take seconds, and no plan asks for them.
                Some(DiscoveryEvent::Learnt { step: Step::Mapping, so_far }) => so_far,
                Some(DiscoveryEvent::Finished(behaviour)) => behaviour,
                Some(DiscoveryEvent::Learnt { .. }) => continue,
                None => return false,
            };
            self.conclude(Profile::of(&known));
            return true;
        }
        false
    }

    /// Offers what came on one of our sockets to the discovery.
    pub(super) fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        match &mut self.stage {
            Stage::Asking(discovery) => discovery.handle_input(now, input),
            Stage::Idle | Stage::Opening | Stage::Known(_) => Verdict::NotMine,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Stage::Asking(discovery) = &mut self.stage {
            discovery.handle_timeout(now);
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        match &mut self.stage {
            Stage::Asking(discovery) => discovery.poll_transmit(now, out),
            Stage::Idle | Stage::Opening | Stage::Known(_) => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        match &self.stage {
            Stage::Asking(discovery) => discovery.poll_timeout(),
            Stage::Known(_) => {
                let at = self.begins.filter(|_| self.theirs.is_some())?;
                Some(Deadline { at, why: "punch" })
            }
            Stage::Idle | Stage::Opening => None,
        }
    }
}
