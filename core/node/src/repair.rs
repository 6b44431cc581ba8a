//! Keeping a link alive: what is said about it while it stands.
//!
//! Both ends of a link keep its ICE agents. When the addresses of one end change it says so with an *update*: the
//! list of all its candidates. When nothing works any more, either end says *restart* through a common peer:
//! fresh credentials and all candidates (RFC 8445 §9), which the other one answers with its own. QUIC notices
//! nothing but a pause, as long as its idle timeout allows.
//!
//! ```text
//!   A ── update ──────────────► B      on the link itself if it works, else through an introducer
//!   A ── restart ── P ────────► B      B restarts too
//!   A ◄──────────── P ─ restarted ─ B  or: both say restart at once, and each is the other's answer
//! ```

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use gimlet_ice::CandidateKind;
use gimlet_machine::{Id, Instant, Path, PeerId};
use gimlet_quic::{ConnectionId, PathMtu};

use crate::control::Control;
use crate::description::{Description, Kind};
use crate::event::{Event, Progress};
use crate::node::Node;
use crate::peer::{Ice, Link, Peer};
use crate::state::{RepairState, RepairStep};
use crate::timer::Timer;

/// How long ICE may look for another path among those that it knows, once the one in use is in doubt.
const SEARCH: Duration = Duration::from_millis(500);

/// The wait before a restart that nobody has answered is said again, through the next introducer if there are
/// several; doubles each time.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(16);

/// How long the candidates of a restart are checked before another one is tried: a whole transaction of STUN
/// at the default timers takes no longer than this with a quarter of its sends (RFC 8489 §6.2.1).
const CHECKING: Duration = Duration::from_secs(10);

/// Whether a link's path is in doubt, and what is done about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repair {
    state: RepairState,
    /// How often a restart was said since a path last worked.
    tries: u32,
}

impl Repair {
    pub(crate) fn state(self) -> RepairState {
        self.state
    }

    /// Takes `step` if it is legal here; says whether it was.
    fn step(&mut self, step: RepairStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    fn wait(self) -> Duration {
        AGAIN_MIN.saturating_mul(1 << self.tries.saturating_sub(1).min(8)).min(AGAIN_MAX)
    }
}

impl Node {
    /// Three answers are late on the path of a link, or the right to send there is over.
    pub(crate) fn on_path_doubted(&mut self, now: Instant, id: Id<Ice>, step: Progress) {
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let peer = ice.peer;
        let of_link =
            self.peers.get(&peer).and_then(|it| it.link.as_ref()).is_some_and(|it| it.ice == Some(id));
        if of_link && ice.repair.step(RepairStep::Doubt) {
            self.timers.set(Timer::Repair(peer), now + SEARCH);
            // A NAT may have forgotten us: what it gives us next, the peer has to know.
            self.children.gathering.doubt();
            self.refresh_gathering(now);
            self.break_silence(now, id);
        }
        self.progress(peer, step);
    }

    /// A path works: the one that was in doubt, or the one that took its place.
    pub(crate) fn on_path_found(&mut self, id: Id<Ice>) {
        if let Some(ice) = self.children.ice.get_mut(id)
            && ice.repair.step(RepairStep::PathFound)
        {
            ice.repair.tries = 0;
            self.timers.clear(Timer::Repair(ice.peer));
        }
    }

    /// The agent of a link found a path that works. It is for ICE to decide about sending, unless what it had
    /// decided on is gone: data may flow on any valid path (RFC 8445 §12.1).
    pub(crate) fn on_link_path(&mut self, now: Instant, id: Id<Ice>, connection: ConnectionId, path: Path) {
        self.children.quic.admit(now, connection, path);
        let used = self.children.quic.path(connection);
        let Some(ice) = self.children.ice.get(id) else { return };
        let (peer, agreed) = (ice.peer, ice.agent.selected_path());
        if used == Some(path) {
            return self.on_path_found(id);
        }
        let works = |used: Path| self.is_ours(used) && ice.agent.valid_paths().any(|valid| valid == used);
        if agreed.is_none_or(|agreed| !self.is_ours(agreed)) && !used.is_some_and(works) {
            self.send_on(now, connection, path, PathMtu::MayShrink);
            if self.peers.get(&peer).and_then(Peer::open_link).is_some() {
                self.tell(Event::PathChanged { peer, path });
            }
        }
    }

    /// Tells every peer that a link leads to where we are.
    pub(crate) fn update_all(&mut self, now: Instant, kind: Kind) {
        let links: Vec<Id<Ice>> = self.peers.values().filter_map(|entry| entry.link.as_ref()?.ice).collect();
        for id in links {
            self.update(now, id, kind);
        }
    }

    /// Tells the peer of a link where we are. While a restart awaits its answer, that is what is said again.
    pub(crate) fn update(&mut self, now: Instant, id: Id<Ice>, kind: Kind) {
        let Some(ice) = self.children.ice.get(id) else { return };
        let (peer, repair) = (ice.peer, ice.repair);
        let Some(link) = self.peers.get(&peer).and_then(|entry| entry.link.as_ref()) else { return };
        if link.ice != Some(id) {
            return;
        }
        match repair.state() {
            RepairState::AwaitAnswer => self.say_restart(now, id),
            RepairState::Idle | RepairState::AwaitPath => {
                let works = repair.state() == RepairState::Idle
                    && ice.agent.selected_path().is_some_and(|path| self.is_ours(path));
                let carrier = self.carrier(id).filter(|_| !works);
                let Some((description, _)) = self.write_description(now, id, kind) else { return };
                if let Some(via) = carrier {
                    self.send_control(now, via, &Control::Introduce { to: peer.0, description });
                } else {
                    // Without anybody to carry it, it arrives with whatever the link still delivers.
                    let from = self.peer_id().0;
                    self.send_control(now, peer, &Control::Introduced { from, description, seen: None });
                }
            }
        }
    }

    /// The time for a path to turn up is over: begin anew, or say so again.
    pub(crate) fn repair(&mut self, now: Instant, peer: PeerId) {
        let Some(id) = self.link_agent(peer) else { return };
        let (carrier, Some(ice)) = (self.carrier(id), self.children.ice.get_mut(id)) else { return };
        match ice.repair.state() {
            RepairState::Idle => return,
            RepairState::AwaitPath | RepairState::AwaitAnswer if carrier.is_none() => {
                // The next introducer that appears is asked at once.
                return self.progress(peer, Progress::WaitingForIntroducer);
            }
            RepairState::AwaitPath => {
                ice.repair.step(RepairStep::Restart);
                ice.agent.restart(now);
                self.children.gathering.doubt();
                self.refresh_gathering(now);
            }
            RepairState::AwaitAnswer => {}
        }
        self.say_restart(now, id);
    }

    fn say_restart(&mut self, now: Instant, id: Id<Ice>) {
        let Some(via) = self.carrier(id) else { return };
        let Some((description, candidates)) = self.write_description(now, id, Kind::Restart) else { return };
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let peer = ice.peer;
        ice.via = via;
        ice.repair.tries = ice.repair.tries.saturating_add(1);
        self.timers.set(Timer::Repair(peer), now + ice.repair.wait());
        self.send_control(now, via, &Control::Introduce { to: peer.0, description });
        self.progress(peer, Progress::RestartSent { via, candidates });
    }

    /// Who may carry a description: the introducer of before first, another one with each try.
    pub(crate) fn carrier(&self, id: Id<Ice>) -> Option<PeerId> {
        let ice = self.children.ice.get(id)?;
        let introduces = |entry: &Peer| entry.link.as_ref().is_some_and(Link::introduces);
        let all = self.peers.iter().filter(|(peer, entry)| **peer != ice.peer && introduces(entry));
        let mut all: Vec<PeerId> = all.map(|(peer, _)| *peer).collect();
        all.sort_by_key(|peer| (*peer != ice.via, *peer));
        let tries = ice.repair.tries as usize;
        all.get(tries.checked_rem(all.len())?).copied()
    }

    /// An introducer is there: links that wait for one go on.
    pub(crate) fn resume_repairs(&mut self, now: Instant) {
        let broken = self.children.ice.iter().filter(|(_, ice)| ice.repair.state() != RepairState::Idle);
        let peers: Vec<PeerId> = broken.map(|(_, ice)| ice.peer).collect();
        for peer in peers {
            self.repair(now, peer);
        }
    }

    /// The peer's candidates are these from here on.
    pub(crate) fn on_update(&mut self, now: Instant, from: PeerId, update: &Description) {
        let Some((id, ice)) = self.agent_of(from, update.attempt) else {
            return self.counters.stale_descriptions += 1;
        };
        // Before the answer to our restart the peer has not understood that a new generation began.
        let early = ice.repair.state() == RepairState::AwaitAnswer;
        if early || ice.agent.set_remote_credentials(now, update.credentials()).is_err() {
            return self.counters.stale_descriptions += 1;
        }
        ice.agent.reopen_candidates(now);
        let candidates = self.learn(now, id, update);
        self.forget_unnamed(now, id, update);
        self.progress(from, Progress::PeerUpdated { candidates });
    }

    /// Removes what the peer had named and names no more. What data goes to stays, unless the peer has moved.
    fn forget_unnamed(&mut self, now: Instant, id: Id<Ice>, update: &Description) {
        let named: BTreeSet<SocketAddr> = update.usable_candidates().map(|it| it.address).collect();
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        let signalled = ice.agent.remote_candidates().filter(|it| it.kind != CandidateKind::PeerReflexive);
        let used = ice.agent.selected_path().filter(|_| update.kind != Kind::Moved);
        let used = used.map(|path| path.peer_address());
        let unnamed: Vec<SocketAddr> = signalled
            .map(|it| it.address)
            .filter(|address| !named.contains(address) && Some(*address) != used)
            .collect();
        for address in unnamed {
            ice.agent.remove_remote_candidate(now, address);
        }
    }

    /// The peer begins anew: so do we, and say where we are.
    pub(crate) fn on_restart(&mut self, now: Instant, via: PeerId, from: PeerId, restart: &Description) {
        let Some((id, ice)) = self.agent_of(from, restart.attempt) else {
            return self.counters.stale_descriptions += 1;
        };
        ice.via = via;
        self.break_silence(now, id);
        let Some(ice) = self.children.ice.get_mut(id) else { return };
        if ice.repair.step(RepairStep::Answered) {
            // Both said it at once: it has what it needs, with what we have said.
            return self.on_restart_agreed(now, id, restart);
        }
        if ice.agent.set_remote_credentials(now, restart.credentials()).is_ok() {
            // Said again, it may name more, and is answered again: the answer may have been lost.
            self.learn(now, id, restart);
        } else {
            ice.agent.restart(now);
            ice.repair.step(RepairStep::Doubt);
            self.children.gathering.doubt();
            self.refresh_gathering(now);
            self.on_restart_agreed(now, id, restart);
        }
        if let Some((description, candidates)) = self.write_description(now, id, Kind::Restarted) {
            self.send_control(now, via, &Control::Introduce { to: from.0, description });
            self.progress(from, Progress::RestartAnswered { candidates });
        }
    }

    /// The peer has begun anew as we asked.
    pub(crate) fn on_restarted(&mut self, now: Instant, from: PeerId, answer: &Description) {
        let agent = self.agent_of(from, answer.attempt);
        let agreed = agent.and_then(|(id, ice)| ice.repair.step(RepairStep::Answered).then_some(id));
        match agreed {
            Some(id) => {
                self.on_restart_agreed(now, id, answer);
                self.say_began(now, id);
            }
            None => self.counters.stale_descriptions += 1,
        }
    }

    /// Both ends have each other's new credentials: checks begin.
    fn on_restart_agreed(&mut self, now: Instant, id: Id<Ice>, description: &Description) {
        let candidates = self.learn(now, id, description);
        let Some(ice) = self.children.ice.get(id) else { return };
        let peer = ice.peer;
        self.timers.set(Timer::Repair(peer), now + CHECKING);
        self.progress(peer, Progress::RestartAgreed { candidates });
    }

    /// The agent of the link to `peer`, if it came of attempt number `attempt`.
    fn agent_of(&mut self, peer: PeerId, attempt: u64) -> Option<(Id<Ice>, &mut Ice)> {
        let id = self.link_agent(peer)?;
        let ice = self.children.ice.get_mut(id).filter(|ice| ice.attempt == attempt)?;
        Some((id, ice))
    }
}
