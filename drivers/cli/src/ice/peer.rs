//! An ICE agent that gathers for itself and carries datagrams: `gimlet ice-peer` at the socket.
//!
//! Four things share the sockets: the agent's checks, a STUN client that asks servers for reflexive
//! addresses, clients of relays, and the application's datagrams; a fifth finds out what the NAT does, from sockets
//! of its own, if holes are to be punched. What a relay forwards is unwrapped
//! first. Then, what looks like STUN is the client's, or else the agent's; everything else is the
//! application's, if it comes on a path of one of our pairs. Commands are lines ([`Peer::hear`]), and so is
//! what the owner learns ([`Peer::take_lines`]).

mod punching;
mod relays;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_ice::{Agent, Candidate, CandidateError, CandidateKind, Config, Event, Profile};
use gimlet_machine::{
    Answer, Buf, Deadline, FourTuple, Input, Instant, Machine, Path, Queue, Request, Rng, Transmit, Verdict,
};
use gimlet_stun::{Client, ClientConfig, ClientEvent, RequestId, is_stun};

use self::punching::Punching;
use self::relays::{News, Relays};
use super::lines::Line;
use super::word::{candidate, credentials, datagram, hex};

pub(crate) use self::relays::Relay;

/// How a server is asked. RFC 8489 §6.2.1 listens for 39.5 s, and people do not wait that long for `end`:
/// this sends at 0, 0.5, 1.5 and 3.5 s and gives up after 5.5 s.
const PATIENCE: (Duration, u32, u32) = (Duration::from_millis(500), 4, 4);

/// Datagrams of the application that wait to leave. Further ones are refused.
const OUTGOING_MAX: usize = 256;

/// Lines that wait to be taken. Beyond it, received datagrams are dropped and counted; other lines still
/// have [`LINES_RESERVED`] places, and then the oldest line makes room.
const LINES_MAX: usize = 1_024;

/// Places that no received datagram takes.
const LINES_RESERVED: usize = 256;

gimlet_machine::counters! {
    /// What a [`Peer`] dropped.
    pub(crate) struct PeerCounters {
        /// Datagrams from where no pair of ours leads.
        strangers,
        /// Datagrams received while the owner read no lines.
        received_dropped,
        /// Lines lost because the owner read none.
        lines_dropped,
        /// STUN that neither the agent nor the client knew.
        stun_not_mine,
        /// Written for a relay that has no allocation, or does not let the peer through.
        relay_unsent,
    }
}

/// There is something to read with [`Peer::take_lines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spoke;

/// What was heard of the other side before `start`.
#[derive(Debug, Default)]
struct Introduction {
    ufrag: Option<String>,
    pwd: Option<String>,
}

/// How the meeting goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// The other side's lines are awaited.
    #[default]
    Introducing,
    /// Checks are under way.
    Started,
    /// A path is selected.
    Connected,
    /// No path works.
    Failed,
}

/// Whom a [`Peer`] asks for addresses.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    /// STUN servers, each asked from every socket of its family.
    pub(crate) stun: Vec<SocketAddr>,
    /// TURN servers, each asked from the first socket of its family.
    pub(crate) turn: Vec<Relay>,
    /// Offer nothing but what the relays give.
    pub(crate) relay_only: bool,
    /// Find out from all of them what our NAT does, and punch where it takes that.
    pub(crate) punch: bool,
}

/// Where our candidates come from.
#[derive(Debug)]
struct Gathering {
    client: Client,
    /// Which STUN server was asked from where.
    asked: BTreeMap<RequestId, FourTuple>,
    relays: Relays,
    punching: Option<Box<Punching>>,
    /// What relays tell us about our own addresses is not offered.
    relay_only: bool,
    /// Whether we said `end`.
    ended: bool,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Peer {
    agent: Agent,
    gathering: Gathering,
    introduction: Introduction,
    meeting: Meeting,
    /// Whether `quit` was heard.
    over: bool,
    outgoing: Queue<(Path, Vec<u8>)>,
    lines: Queue<String>,
    /// Whether the owner was told that there are lines.
    spoke: bool,
    counters: PeerCounters,
}

impl Peer {
    /// A peer with a host candidate for each of `sockets`, which asks `servers` for more.
    ///
    /// # Errors
    ///
    /// A socket's address cannot be a candidate, or there are too many.
    pub(crate) fn new(
        now: Instant,
        rng: &Rng,
        config: Config,
        sockets: &[SocketAddr],
        servers: &Servers,
    ) -> Result<Self, CandidateError> {
        let (rto, rc, rm) = PATIENCE;
        let asking = ClientConfig { rto, rc, rm, ..ClientConfig::default() };
        // Relays answer what STUN servers are asked.
        let all =
            servers.stun.iter().copied().chain(servers.turn.iter().map(|relay| relay.address)).collect();
        let punching = servers.punch.then(|| Box::new(Punching::new(rng.fork("punch"), all)));
        let mut peer = Self {
            agent: Agent::new(now, rng.fork("ice"), config),
            gathering: Gathering {
                client: Client::new(rng.fork("stun"), asking),
                asked: BTreeMap::new(),
                relays: Relays::new(now, rng, sockets, &servers.turn),
                punching,
                relay_only: servers.relay_only,
                ended: false,
            },
            introduction: Introduction::default(),
            meeting: Meeting::default(),
            over: false,
            outgoing: Queue::new(OUTGOING_MAX),
            lines: Queue::new(LINES_MAX),
            spoke: false,
            counters: PeerCounters::default(),
        };
        let ours = peer.agent.local_credentials().clone();
        peer.say(format!("ufrag {}", ours.ufrag));
        peer.say(format!("pwd {}", ours.pwd));
        for socket in sockets.iter().filter(|_| !servers.relay_only) {
            peer.offer(now, Candidate::host(*socket))?;
        }
        for server in servers.stun.iter().filter(|_| !servers.relay_only) {
            for socket in sockets.iter().filter(|socket| socket.is_ipv4() == server.is_ipv4()) {
                let path = FourTuple::new(*socket, *server);
                match peer.gathering.client.binding(now, path) {
                    Ok(id) => drop(peer.gathering.asked.insert(id, path)),
                    Err(error) => peer.say(format!("error {server} is not asked from {socket}: {error}")),
                }
            }
        }
        peer.consider_end(now);
        Ok(peer)
    }

    /// Does what `line` says. What is wrong with it is said in a line.
    pub(crate) fn hear(&mut self, now: Instant, line: &Line) {
        let refused = match line {
            Line::Text(text) => self.obey(now, text.trim()).err(),
            Line::Damaged(what) => Some((*what).to_owned()),
        };
        if let Some(what) = refused {
            self.say(format!("error {what}"));
        }
        self.settle(now);
    }

    /// Gives back what relays hold for us.
    pub(crate) fn release(&mut self, now: Instant) {
        self.gathering.relays.release(now);
    }

    /// Every line that was not taken yet, oldest first.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.spoke = false;
        std::iter::from_fn(|| self.lines.pop()).collect()
    }

    /// How the meeting goes.
    pub(crate) fn meeting(&self) -> Meeting {
        self.meeting
    }

    /// Whether `quit` was heard.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether every datagram of the application has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// What was dropped.
    pub(crate) fn counters(&self) -> &PeerCounters {
        &self.counters
    }

    fn obey(&mut self, now: Instant, line: &str) -> Result<(), String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (verb, rest.trim()) {
            ("ufrag", ufrag) => self.introduce(|introduction| introduction.ufrag = Some(ufrag.to_owned())),
            ("pwd", pwd) => self.introduce(|introduction| introduction.pwd = Some(pwd.to_owned())),
            ("cand", attribute) => {
                let candidate = candidate(attribute)?;
                let theirs = candidate.address.ip();
                self.learn_nat(attribute, theirs);
                self.agent.add_remote_candidate(now, candidate).map_err(|error| error.to_string())?;
                self.gathering.relays.permit(now, theirs);
                Ok(())
            }
            ("end", "") => {
                self.agent.end_of_remote_candidates(now);
                Ok(())
            }
            ("ice-lite", "") => {
                self.agent.set_remote_lite(now);
                Ok(())
            }
            ("start", "") => self.start(now),
            ("send", digits) => self.send(datagram(digits)?),
            ("quit", "") => {
                self.over = true;
                Ok(())
            }
            _ => Err("a line is ufrag X, pwd Y, ice-lite, cand C, end, start, send HEX or quit".to_owned()),
        }
    }

    fn introduce(&mut self, hear: impl FnOnce(&mut Introduction)) -> Result<(), String> {
        match self.meeting {
            Meeting::Introducing => {
                hear(&mut self.introduction);
                Ok(())
            }
            Meeting::Started | Meeting::Connected | Meeting::Failed => {
                Err("ufrag and pwd come before start".to_owned())
            }
        }
    }

    fn start(&mut self, now: Instant) -> Result<(), String> {
        let Introduction { ufrag: Some(ufrag), pwd: Some(pwd) } = &self.introduction else {
            return Err("ufrag and pwd come before start".to_owned());
        };
        let theirs = credentials(ufrag, pwd)?;
        self.agent.set_remote_credentials(now, theirs).map_err(|error| error.to_string())?;
        if self.meeting == Meeting::Introducing {
            self.meeting = Meeting::Started;
            if let Some(punching) = &mut self.gathering.punching {
                punching.on_start(now);
            }
        }
        Ok(())
    }

    /// What a line tells of the other side's NAT.
    fn learn_nat(&mut self, attribute: &str, outside: IpAddr) {
        if let (Some(punching), Some(profile)) = (&mut self.gathering.punching, punching::read(attribute)) {
            punching.learn(Profile { outside: vec![outside], ..profile });
        }
    }

    /// What is known of our NAT is told, with the candidates that it gave us.
    fn tell_nat(&mut self) {
        let known = self.gathering.punching.as_ref().and_then(|punching| punching.ours());
        let Some((base, profile)) = known else { return };
        let told = punching::write(profile);
        let through_it = |ours: &&Candidate| {
            let base = ours.path_to(ours.address) == Path::Direct(FourTuple::new(base, ours.address));
            ours.kind == CandidateKind::ServerReflexive && base
        };
        let lines: Vec<String> = self
            .agent
            .local_candidates()
            .filter(through_it)
            .map(|ours| format!("cand {ours}{told}"))
            .collect();
        for line in lines {
            self.say(line);
        }
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        if bytes.is_empty() {
            return Err("an empty datagram is not sent".to_owned());
        }
        let path = match (self.meeting, self.agent.selected_path()) {
            (Meeting::Connected, Some(path)) => path,
            (Meeting::Introducing | Meeting::Started | Meeting::Connected | Meeting::Failed, _) => {
                return Err("no path is selected: wait for `state connected`".to_owned());
            }
        };
        let full = |_| format!("{OUTGOING_MAX} datagrams wait already: send slower");
        self.outgoing.push((path, bytes)).map_err(full)
    }

    /// Adds a candidate of ours and says so, unless it tells nothing new.
    fn offer(&mut self, now: Instant, candidate: Candidate) -> Result<(), CandidateError> {
        let (kind, address) = (candidate.kind, candidate.address);
        self.agent.add_local_candidate(now, candidate)?;
        let mut ours = self.agent.local_candidates();
        let line = ours.find(|ours| (ours.kind, ours.address) == (kind, address)).map(ToString::to_string);
        drop(ours);
        if let Some(line) = line {
            self.say(format!("cand {line}"));
        }
        Ok(())
    }

    /// Says `end`, once, when no server and no relay is awaited any more.
    fn consider_end(&mut self, now: Instant) {
        let probing = self.gathering.punching.as_ref().is_some_and(|punching| punching.is_pending());
        let awaited = probing || !self.gathering.asked.is_empty() || self.gathering.relays.is_pending();
        if !awaited && !std::mem::replace(&mut self.gathering.ended, true) {
            self.agent.end_of_local_candidates(now);
            self.say("end".to_owned());
        }
    }

    fn say(&mut self, line: String) {
        self.counters.lines_dropped += u64::from(self.lines.push_evicting(line).is_some());
    }

    /// Hands on what the agent and the client tell.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.gathering.client.poll_event() {
            self.on_server(now, &event);
        }
        while let Some(news) = self.gathering.relays.poll_news() {
            self.on_relay(now, news);
        }
        self.settle_punching(now);
        while let Some(event) = self.agent.poll_event() {
            self.on_agent(now, event);
        }
    }

    fn settle_punching(&mut self, now: Instant) {
        let Some(punching) = &mut self.gathering.punching else { return };
        if punching.settle() {
            self.tell_nat();
            self.consider_end(now);
        }
        let Some(punching) = &mut self.gathering.punching else { return };
        if let Some(why) = punching.consider(now, &mut self.agent) {
            self.say(format!("error {why}"));
        }
    }

    fn on_relay(&mut self, now: Instant, news: News) {
        match news {
            News::Candidates(relayed, reflexive) => {
                for candidate in
                    [Some(relayed), reflexive.filter(|_| !self.gathering.relay_only)].into_iter().flatten()
                {
                    // After `end`, when a relay that was lost gives another address, it is too late.
                    if let Err(error) = self.offer(now, *candidate) {
                        self.say(format!("error a relay's address is not offered: {error}"));
                    }
                }
            }
            News::Failed(what) => self.say(format!("error {what}")),
        }
        self.consider_end(now);
    }

    fn on_server(&mut self, now: Instant, event: &ClientEvent) {
        let (id, mapped) = match *event {
            ClientEvent::Answered { id, mapped, .. } => (id, Ok(mapped)),
            ClientEvent::Failed { id, cause, .. } => (id, Err(cause)),
        };
        let Some(path) = self.gathering.asked.remove(&id) else { return };
        match mapped {
            // No NAT on the way: the host candidate says it all.
            Ok(mapped) if mapped == path.local => {}
            Ok(mapped) => {
                if let Some(punching) = &mut self.gathering.punching {
                    punching.on_reflexive(path.local);
                }
                let reflexive = Candidate::server_reflexive(mapped, path.local, Some(path.remote));
                if let Err(error) = self.offer(now, reflexive) {
                    self.say(format!("error {} told {mapped}: {error}", path.remote));
                }
            }
            Err(cause) => self.say(format!("error {}: {cause}", path.remote)),
        }
        self.consider_end(now);
    }

    fn on_agent(&mut self, now: Instant, event: Event) {
        if let Event::PathSelected { path: Path::Relayed { relay, peer } } = event {
            self.gathering.relays.bind(now, relay, peer);
        }
        match event {
            Event::PathSelected { .. } if self.meeting != Meeting::Connected => {
                self.meeting = Meeting::Connected;
                self.say("state connected".to_owned());
            }
            Event::Failed { cause } => {
                self.meeting = Meeting::Failed;
                self.say(format!("state failed {cause}"));
            }
            // If another path works, it is selected next.
            Event::ConsentExpired { .. } => self.meeting = Meeting::Started,
            // It neither hides its addresses nor takes lines with names: it speaks no mDNS.
            Event::PublishName { .. }
            | Event::ResolveName { .. }
            | Event::PathSelected { .. }
            | Event::StateChanged(_)
            | Event::PathValid { .. }
            | Event::PathSuspect { .. }
            | Event::RoleChanged(_)
            | Event::LocalPeerReflexive { .. } => {}
            Event::Punch(event) => {
                if let Some(punching) = &mut self.gathering.punching {
                    punching.on_punch(event);
                }
            }
            Event::RemotePeerReflexive { address } => self.gathering.relays.permit(now, address.ip()),
        }
    }

    /// A datagram for the application. It may come before our own check is answered (RFC 8445 §12.2), but
    /// never from a stranger.
    fn on_datagram(&mut self, path: Path, bytes: &[u8]) {
        if !self.agent.is_path_of_pair(&path) {
            self.counters.strangers += 1;
        } else if self.lines.len() + LINES_RESERVED >= LINES_MAX {
            self.counters.received_dropped += 1;
        } else {
            self.say(format!("recv {}", hex(bytes)));
        }
    }
}

impl Peer {
    /// What came, out of a relay's wrapping.
    fn on_unwrapped(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        if !is_stun(bytes) {
            self.on_datagram(path, bytes);
            return Verdict::Consumed;
        }
        let answers_us = match path {
            Path::Direct(path) => {
                let asked = self.gathering.punching.as_mut().map_or(Verdict::NotMine, |punching| {
                    punching.handle_input(now, Input { path, ecn, bytes: &mut *bytes })
                });
                match asked {
                    Verdict::NotMine => {
                        self.gathering.client.handle_input(now, Input { path, ecn, bytes: &mut *bytes })
                    }
                    Verdict::Consumed | Verdict::Pass { .. } => asked,
                }
            }
            Path::Relayed { .. } => Verdict::NotMine,
        };
        let is_ours = answers_us != Verdict::NotMine
            || self.agent.handle_input(now, Input { path, ecn, bytes }) != Verdict::NotMine;
        self.counters.stun_not_mine += u64::from(!is_ours);
        if is_ours { Verdict::Consumed } else { Verdict::NotMine }
    }

    /// What was written for a path becomes what leaves on a socket.
    fn put_on_wire(
        &mut self,
        now: Instant,
        transmit: Transmit<Path>,
        out: &mut Buf<'_>,
    ) -> Option<Transmit<FourTuple>> {
        let sent = self.gathering.relays.put_on_wire(now, transmit, out);
        self.counters.relay_unsent += u64::from(sent.is_none());
        sent
    }

    /// The agent's messages first: they are paced already.
    fn write_next(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        if let Some(sent) = self.gathering.relays.poll_transmit(now, out) {
            return Some(sent);
        }
        while let Some(written) = self.agent.poll_transmit(now, &mut self.gathering.relays.leave_room(out)) {
            if let Some(sent) = self.put_on_wire(now, written, out) {
                return Some(sent);
            }
        }
        if let Some(sent) = self.gathering.client.poll_transmit(now, out) {
            return Some(sent);
        }
        if let Some(sent) =
            self.gathering.punching.as_mut().and_then(|punching| punching.poll_transmit(now, out))
        {
            return Some(sent);
        }
        while let Some((path, bytes)) = self.outgoing.pop() {
            let fits = out.put(&bytes);
            debug_assert!(fits, "a datagram fits an empty buffer");
            if let Some(sent) = self.put_on_wire(now, Transmit::new(path), out) {
                return Some(sent);
            }
        }
        None
    }
}

impl Machine for Peer {
    type Path = FourTuple;
    type Event = Spoke;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        let unwrapped = self.gathering.relays.handle_input(now, Input { path, ecn, bytes: &mut *bytes });
        let verdict = match unwrapped {
            Verdict::Consumed => Verdict::Consumed,
            Verdict::NotMine => self.on_unwrapped(now, Input { path: Path::Direct(path), ecn, bytes }),
            Verdict::Pass { path, range } => {
                // Ours in any case: the relay's header told.
                if let Some(bytes) = bytes.get_mut(range) {
                    self.on_unwrapped(now, Input { path, ecn, bytes });
                }
                Verdict::Consumed
            }
        };
        self.settle(now);
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.gathering.client.handle_timeout(now);
        if let Some(punching) = &mut self.gathering.punching {
            punching.handle_timeout(now);
        }
        self.gathering.relays.handle_timeout(now);
        self.agent.handle_timeout(now);
        self.settle(now);
    }

    fn poll_event(&mut self) -> Option<Spoke> {
        let has_news = !self.spoke && !self.lines.is_empty();
        self.spoke |= has_news;
        has_news.then_some(Spoke)
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let sent = self.write_next(now, out);
        self.settle(now);
        sent
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let ours = [
            self.agent.poll_timeout(),
            self.gathering.client.poll_timeout(),
            self.gathering.relays.poll_timeout(),
            self.gathering.punching.as_ref().and_then(|punching| punching.poll_timeout()),
        ];
        Deadline::earliest(ours)
    }

    fn poll_request(&mut self) -> Option<Request> {
        self.gathering.punching.as_mut()?.poll_request()
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        if let Some(punching) = &mut self.gathering.punching {
            punching.handle_answer(now, answer, &mut self.agent);
        }
        self.settle(now);
    }
}
