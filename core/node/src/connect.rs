//! Starting, moving and ending attempts to reach a peer.

use alloc::collections::BTreeSet;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_ice::{Agent, Candidate, Role};
use gimlet_machine::{FourTuple, Id, Instant, Machine, Path, PeerId};
use gimlet_quic::{ConnectionId, PathMtu};

use crate::config::Paths;
use crate::error::{ConnectError, Error, LostCause};
use crate::event::{Event, Progress, Via};
use crate::gather::can_reach;
use crate::node::Node;
use crate::peer::{Attempt, Ice, Peer};
use crate::punch::Hole;
use crate::repair::Repair;
use crate::state::{AttemptState, AttemptStep, LinkState};
use crate::ticket::{Ticket, TicketError};
use crate::timer::Timer;

/// The first wait before a lost or failed peer is tried again; doubles with every failure.
pub const RETRY_MIN: Duration = Duration::from_millis(500);

/// How long the QUIC handshake towards one address of a ticket may take before the next address is
/// tried. Three initial probe time-outs of QUIC fit (RFC 9002 §6.2.2).
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// By how much an attempt is extended, again and again, while a punch may still help.
const PUNCH_EXTENSION: Duration = Duration::from_secs(2);

/// ICE agents at once; beyond, connecting is refused until one ends.
pub const ICE_AGENTS_MAX: usize = 256;

/// Attempts at once that peers began and we answer, each with an ICE agent that checks addresses of
/// the peer's choice; beyond, offers are refused, and counted. What is left of [`ICE_AGENTS_MAX`] is
/// for our own attempts and for links.
pub const ANSWERS_MAX: usize = 64;

impl Node {
    /// Learns where a public node listens and keeps a connection to it from here on.
    pub fn add_ticket(&mut self, now: Instant, ticket: &Ticket) -> Result<PeerId, TicketError> {
        ticket.check(self.unix_seconds(now))?;
        let peer = ticket.peer();
        if peer != self.peer_id()
            && self.peer_entry(peer).is_ok_and(|entry| {
                entry.addresses = ticket.addresses().to_vec();
                true
            })
        {
            // Ourselves and a full table are the two errors; both are excluded here.
            let _ = self.connect_to(now, peer);
        }
        Ok(peer)
    }

    /// The verb behind [`gimlet_machine::Session::connect`].
    pub(crate) fn connect_to(&mut self, now: Instant, peer: PeerId) -> Result<(), Error> {
        if self.closing.node {
            return Err(Error::Closing);
        }
        if peer == self.peer_id() {
            return Err(Error::Myself);
        }
        let entry = self.peer_entry(peer)?;
        entry.wanted = true;
        if entry.link.as_ref().is_some_and(|link| link.state() == LinkState::AwaitDelivery) {
            // The close goes on; when it is done, the peer is missed at once.
            entry.failures = 0;
        }
        if entry.link.is_none() && entry.attempt.is_none() {
            entry.failures = 0;
            entry.ended = None;
            entry.last_agent = None;
            self.start_attempt(now, peer);
        }
        self.settle(now);
        Ok(())
    }

    /// The entry of `peer`, made if there is room. Idle entries make room for new ones.
    pub(crate) fn peer_entry(&mut self, peer: PeerId) -> Result<&mut Peer, Error> {
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= self.config.limits.peers_max {
                self.forget_idle_peers();
            }
            if self.peers.len() >= self.config.limits.peers_max {
                self.counters.peers_over_limit += 1;
                return Err(Error::TooMany("peers"));
            }
        }
        Ok(self.peers.entry(peer).or_insert_with(Peer::new))
    }

    /// Forgets peers that nobody is interested in: those that left nothing behind or else, if that makes
    /// no room, those that left streams which nobody has accepted.
    fn forget_idle_peers(&mut self) {
        let before = self.peers.len();
        self.peers.retain(|_, peer| !peer.is_idle() || !peer.unaccepted.is_empty());
        if self.peers.len() < before {
            return;
        }
        let streams = &mut self.streams;
        let mut forgotten = 0;
        self.peers.retain(|_, peer| {
            let idle = peer.is_idle();
            if idle {
                forgotten += peer.unaccepted.iter().filter(|stream| streams.remove(**stream)).count();
            }
            !idle
        });
        self.counters.ended_streams_forgotten += forgotten as u64;
    }

    pub(crate) fn start_attempt(&mut self, now: Instant, peer: PeerId) {
        self.timers.clear(Timer::Retry(peer));
        let Some(entry) = self.peers.get(&peer).filter(|entry| entry.attempt.is_none()) else { return };
        if entry.addresses.is_empty() {
            let number = self.rng.u64().max(1);
            let ours = self.peer_id();
            let entry = self.peers.entry(peer).or_insert_with(Peer::new);
            entry.attempt = Some(Attempt::offering(number, ours));
            self.timers.set(Timer::Attempt(peer), now + self.config.limits.attempt_timeout);
            self.offer(now, peer);
        } else {
            let address = entry.addresses[entry.failures as usize % entry.addresses.len()];
            self.dial(now, peer, address);
        }
    }

    /// Starts the QUIC handshake towards a known address.
    fn dial(&mut self, now: Instant, peer: PeerId, address: SocketAddr) {
        let local = self.config.local_addresses.iter().copied().find(|local| can_reach(*local, address));
        let Some(local) = local else { return self.fail(now, peer, ConnectError::NoLocalAddress) };
        let Ok(connection) = self.children.quic.dial(now, peer) else {
            return self.fail(now, peer, ConnectError::TooManyPeers);
        };
        let path = Path::Direct(FourTuple::new(local, address));
        self.children.quic.set_path(now, connection, path, PathMtu::Same);
        self.connections.insert(connection, peer);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.attempt = Some(Attempt::dialing(connection));
        }
        self.timers.set(Timer::Attempt(peer), now + DIAL_TIMEOUT);
        self.progress(peer, Progress::Dialing(address));
        self.prepare_detour(now, peer);
    }

    /// Makes an ICE agent that knows our candidates.
    pub(crate) fn new_agent(
        &mut self,
        now: Instant,
        peer: PeerId,
        (attempt, via): (u64, PeerId),
        role: Role,
    ) -> Option<Id<Ice>> {
        if self.children.ice.len() >= ICE_AGENTS_MAX {
            return None;
        }
        // Not from the attempt's number: the peer chose that, and two peers must not share a password.
        let nth = self.rng.u64();
        let rng = self.rng.fork_nth("ice", nth);
        // Data leaves the relay as soon as a direct path works, if the peer follows: its description says so.
        let punch = self.config.limits.punch.unwrap_or_default();
        let config = gimlet_ice::Config { role, renomination: true, punch, ..gimlet_ice::Config::default() };
        let mut agent = Agent::new(now, rng, config);
        agent.expect_restarts();
        for local in self.config.shown_addresses().to_vec() {
            // More sockets than the agent's limit: the first ones are used.
            let _ = agent.add_local_candidate(now, Candidate::host(local));
        }
        let (told, shunned, repair) = (BTreeSet::new(), BTreeSet::new(), Repair::default());
        let (connection, told_end, hole) = (None, false, Hole::default());
        let ice = Ice { peer, agent, attempt, via, connection, told, told_end, shunned, repair, hole };
        let id = self.children.ice.insert(ice);
        self.add_gathered(now, id);
        Some(id)
    }

    /// Gives the agent what STUN servers and relays told us; returns what is new to it, as candidate lines.
    /// The agent has the last word on priorities (RFC 8445 §5.1.2.1).
    pub(crate) fn add_gathered(&mut self, now: Instant, id: Id<Ice>) -> Vec<String> {
        let known: Vec<_> = match self.config.paths {
            Paths::Any | Paths::DirectOnly => self.children.gathering.mapped().collect(),
            Paths::RelayedOnly => Vec::new(),
        };
        let Some(ice) = self.children.ice.get_mut(id) else { return Vec::new() };
        let before: Vec<SocketAddr> = ice.agent.local_candidates().map(|known| known.address).collect();
        // After the end was told, a relay may give another address for one that it has lost.
        if ice.told_end {
            ice.agent.reopen_local_candidates(now);
        }
        for (base, server, mapped) in known {
            if mapped == base || self.config.local_addresses.contains(&mapped) || !ice.told.insert(mapped) {
                continue;
            }
            // Too many, or too late for this agent: it does without.
            let _ =
                ice.agent.add_local_candidate(now, Candidate::server_reflexive(mapped, base, Some(server)));
        }
        for candidate in self.children.relays.offered() {
            if ice.told.insert(candidate.address) {
                let _ = ice.agent.add_local_candidate(now, candidate);
            }
        }
        if ice.told_end {
            ice.agent.end_of_local_candidates(now);
        }
        let new = ice.agent.local_candidates().filter(|known| !before.contains(&known.address));
        new.map(ToString::to_string).collect()
    }

    /// ICE found a path: QUIC may use it.
    pub(crate) fn on_path_valid(&mut self, now: Instant, id: Id<Ice>, path: Path, rtt: Option<Duration>) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let peer = ice.peer;
        let connection = ice.connection;
        self.progress(peer, Progress::PathValid { path, rtt });
        let attempt = self.peers.get_mut(&peer).and_then(|entry| entry.attempt.as_mut());
        let attempt = attempt.filter(|attempt| attempt.ice == Some(id));
        let Some(attempt) = attempt else {
            if let Some(connection) = connection {
                self.on_link_path(now, id, connection, path);
            }
            return;
        };
        let first = attempt.step(AttemptStep::PathValid);
        let ours = attempt.ours;
        match connection {
            Some(connection) if first => self.send_on(now, connection, path, PathMtu::Same),
            Some(connection) => self.children.quic.admit(now, connection, path),
            None if ours && first => self.dial_on(now, peer, id, path),
            None => {}
        }
    }

    /// Data moves to a path that ICE vouches for.
    pub(crate) fn send_on(&mut self, now: Instant, connection: ConnectionId, path: Path, mtu: PathMtu) {
        self.children.quic.set_path(now, connection, path, mtu);
        self.children.relays.mark_stale();
    }

    /// The offerer starts the QUIC handshake on the first valid path.
    fn dial_on(&mut self, now: Instant, peer: PeerId, id: Id<Ice>, path: Path) {
        let Ok(connection) = self.children.quic.dial(now, peer) else {
            return self.fail(now, peer, ConnectError::TooManyPeers);
        };
        self.send_on(now, connection, path, PathMtu::Same);
        self.connections.insert(connection, peer);
        if let Some(ice) = self.children.ice.get_mut(id) {
            ice.connection = Some(connection);
        }
        if let Some(attempt) = self.peers.get_mut(&peer).and_then(|entry| entry.attempt.as_mut()) {
            attempt.connection = Some(connection);
        }
    }

    /// ICE has agreed on a path: data moves there.
    pub(crate) fn on_path_selected(&mut self, now: Instant, id: Id<Ice>, path: Path) {
        let Some(ice) = self.children.ice.get(id) else { return };
        let (peer, connection) = (ice.peer, ice.connection);
        self.progress(peer, Progress::PathSelected(path));
        self.on_path_found(id);
        self.expect_punch(now, id);
        let Some(connection) = connection else { return };
        let before = self.children.quic.path(connection);
        if before == Some(path) {
            return;
        }
        self.send_on(now, connection, path, PathMtu::MayShrink);
        let open =
            self.peers.get(&peer).and_then(Peer::open_link).is_some_and(|link| link.connection == connection);
        if open {
            self.tell(Event::PathChanged { peer, path });
        }
    }

    /// Ends the attempt towards `peer` without a connection. A wanted peer with a known address is
    /// tried again later; so is one that had been connected before. If a link stands, nothing is lost.
    pub(crate) fn fail(&mut self, now: Instant, peer: PeerId, cause: ConnectError) {
        if let Some(mut attempt) = self.take_attempt(peer) {
            let ice = attempt.ice.take().and_then(|id| self.remove_agent(id));
            let Some(entry) = self.peers.get_mut(&peer) else { return };
            let explains = attempt.ours || entry.wanted;
            if let Some(mut ice) = ice.filter(|_| explains) {
                ice.agent.close(now);
                entry.last_agent = Some(Box::new(ice.agent));
            }
            self.drop_attempt(now, &attempt);
        }
        let Some(entry) = self.peers.get_mut(&peer).filter(|entry| entry.link.is_none()) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let was_link = matches!(entry.ended, Some(Error::Lost(_)));
        let again = entry.wanted && !self.closing.node && (!entry.addresses.is_empty() || was_link);
        if !was_link {
            entry.ended = Some(Error::Connect(cause.clone()));
        }
        entry.wanted &= again;
        let wait = entry.retry_wait(RETRY_MIN, self.config.limits.retry_max);
        self.tell(Event::Failed { peer, cause });
        if again {
            self.timers.set(Timer::Retry(peer), now + wait);
            self.progress(peer, Progress::RetryIn(wait));
        }
    }

    /// Ends an agent; what relays let through for it is let go.
    pub(crate) fn remove_agent(&mut self, id: Id<Ice>) -> Option<Ice> {
        self.children.relays.mark_stale();
        let ice = self.children.ice.remove(id)?;
        self.release_hole(&ice);
        Some(ice)
    }

    /// Takes the attempt out of its place, and its timers with it.
    pub(crate) fn take_attempt(&mut self, peer: PeerId) -> Option<Attempt> {
        self.clear_attempt_timers(peer);
        self.peers.get_mut(&peer)?.attempt.take()
    }

    pub(crate) fn clear_attempt_timers(&mut self, peer: PeerId) {
        self.timers.clear(Timer::Attempt(peer));
        self.timers.clear(Timer::Offer(peer));
        self.timers.clear(Timer::Detour(peer));
    }

    /// Releases what an attempt held.
    pub(crate) fn drop_attempt(&mut self, now: Instant, attempt: &Attempt) {
        if let Some(id) = attempt.ice {
            self.remove_agent(id);
        }
        if let Some(connection) = attempt.connection {
            self.connections.remove(&connection);
            self.children.quic.close(now, connection, crate::close::CANCELLED, b"attempt given up");
        }
    }

    pub(crate) fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Attempt(peer) => {
                let attempt = self.peers.get(&peer).and_then(|entry| entry.attempt.as_ref());
                if attempt.and_then(|attempt| attempt.ice).is_some_and(|id| self.awaits_punch(now, id)) {
                    self.timers.set(Timer::Attempt(peer), now + PUNCH_EXTENSION);
                } else if let Some(cause) = attempt.map(Attempt::timeout_cause) {
                    self.fail(now, peer, cause);
                }
            }
            Timer::Offer(peer) => self.offer(now, peer),
            Timer::Detour(peer) => self.detour(now, peer),
            Timer::Pass(peer) => self.hand_out_pass(now, peer),
            Timer::RelayIdle => self.children.relays.release_idle(now),
            Timer::Retry(peer) => {
                if self.peers.get(&peer).is_some_and(|entry| entry.link.is_none()) && !self.closing.node {
                    self.start_attempt(now, peer);
                }
            }
            Timer::Close(peer) => {
                self.counters.closed_undelivered += 1;
                self.close_link(now, peer, crate::close::GOODBYE, b"goodbye", LostCause::ClosedByUs);
            }
            Timer::Repair(peer) => self.repair(now, peer),
            Timer::Punch(peer) => self.on_punch_timer(now, peer),
            Timer::Sample => self.on_sample_timer(now),
            Timer::Hello(peer) => {
                if let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut()) {
                    link.greeting.handle_timeout(now);
                }
                self.on_greeting(now, peer);
            }
        }
    }

    /// An introducer became available: attempts that wait for one go on.
    pub(crate) fn on_introducer(&mut self, now: Instant) {
        let waiting: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, entry)| {
                entry.attempt.as_ref().is_some_and(|attempt| attempt.state() == AttemptState::AwaitIntroducer)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in waiting {
            self.offer(now, peer);
        }
        self.resume_repairs(now);
    }

    /// An introducer is gone, and with it what it had not delivered: offers that nobody has answered go
    /// through another one, or wait for one. Whoever got the offer twice answers it twice.
    pub(crate) fn on_introducer_lost(&mut self, now: Instant, via: PeerId) {
        let mut stranded = Vec::new();
        for (peer, entry) in &mut self.peers {
            let attempt = entry.attempt.as_mut().filter(|attempt| attempt.via == Via::Introducer(via));
            if attempt.is_some_and(|attempt| attempt.ours && attempt.step(AttemptStep::IntroducerLost)) {
                stranded.push(*peer);
            }
        }
        for peer in stranded {
            self.offer(now, peer);
        }
    }
}
