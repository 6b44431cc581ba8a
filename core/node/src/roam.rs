//! Roaming: the addresses of this host change while connections stand.
//!
//! Everything that speaks from an address that is gone finds another at once: connections to public nodes and
//! allocations on relays move there, ICE agents check from there, and peers are told
//! ([`crate::description`]). Nothing waits for a timer.

use alloc::collections::BTreeSet;
use core::net::SocketAddr;

use gimlet_ice::{Candidate, CandidateKind};
use gimlet_machine::{FourTuple, Id, Instant, Path, PeerId};
use gimlet_quic::{ConnectionId, PathMtu};

use crate::description::Kind;
use crate::error::Error;
use crate::event::{Event, Progress};
use crate::gather::can_reach;
use crate::node::Node;
use crate::peer::Ice;
use crate::relay_stream::is_stream_flow;
use crate::timer::Timer;

/// Addresses of sockets that a node speaks from; more are refused.
pub const LOCAL_ADDRESSES_MAX: usize = 64;

impl Node {
    /// The addresses of the driver's sockets from here on, all of them, the best first. Call it when an interface
    /// came or went: after the new sockets are bound, and before the old ones are closed, if that can be told.
    /// None at all means that the host is offline; connections wait as long as their idle timeout allows.
    ///
    /// Within two round trips connections leave the addresses that are gone. What has not changed is left alone.
    pub fn set_local_addresses(&mut self, now: Instant, addresses: Vec<SocketAddr>) -> Result<(), Error> {
        if addresses.len() > LOCAL_ADDRESSES_MAX {
            return Err(Error::TooMany("local addresses"));
        }
        if self.closing.node {
            return Err(Error::Closing);
        }
        let before: BTreeSet<SocketAddr> = self.config.local_addresses.iter().copied().collect();
        let after: BTreeSet<SocketAddr> = addresses.iter().copied().collect();
        self.config.local_addresses = addresses;
        if before == after {
            return Ok(());
        }
        let gone: Vec<SocketAddr> = before.difference(&after).copied().collect();
        let came = after.difference(&before).count();
        self.progress(self.peer_id(), Progress::AddressesChanged { came, gone: gone.len() });
        for id in self.children.gathering.forget_sockets(&gone) {
            self.children.stun.cancel(id);
        }
        // In this order: what is to carry the news is moved before it leaves.
        self.move_dialed(now);
        let lost = self.children.relays.move_from(now, &gone, &self.config.local_addresses);
        self.move_agents(now, &gone, &lost);
        self.drop_stranded_sockets(now);
        self.refresh_gathering(now);
        self.update_all(now, if gone.is_empty() { Kind::Update } else { Kind::Moved });
        self.retry_all(now);
        self.settle(now);
        Ok(())
    }

    /// Connections without ICE, those to the addresses of tickets, leave the sockets that are gone.
    fn move_dialed(&mut self, now: Instant) {
        let links = self.peers.iter().filter_map(|(peer, entry)| {
            let link = entry.link.as_ref().filter(|link| link.ice.is_none() && link.dialed)?;
            Some((*peer, link.connection, entry.open_link().is_some()))
        });
        let attempts = self.peers.iter().filter_map(|(peer, entry)| {
            let attempt = entry.attempt.as_ref().filter(|attempt| attempt.ice.is_none())?;
            Some((*peer, attempt.connection?, false))
        });
        let all: Vec<(PeerId, ConnectionId, bool)> = links.chain(attempts).collect();
        for (peer, connection, open) in all {
            let Some(Path::Direct(FourTuple { local, remote })) = self.children.quic.path(connection) else {
                continue;
            };
            let locals = &self.config.local_addresses;
            let heir = locals.iter().copied().find(|local| can_reach(*local, remote));
            let Some(heir) = heir.filter(|_| !locals.contains(&local)) else { continue };
            let path = Path::Direct(FourTuple::new(heir, remote));
            // RFC 9000 §9: the public node follows, because it listens.
            self.children.quic.set_path(now, connection, path, PathMtu::MayShrink);
            if open {
                self.tell(Event::PathChanged { peer, path });
            }
        }
    }

    /// Agents check from the new addresses and leave those that are gone.
    fn move_agents(&mut self, now: Instant, gone: &[SocketAddr], relayed: &[SocketAddr]) {
        let locals = self.config.shown_addresses();
        for (_, ice) in self.children.ice.iter_mut() {
            ice.agent.reopen_candidates(now);
            ice.told_end = false;
            // First what came, so that what is gone has an heir.
            for local in locals {
                // More sockets than the agent's limit: the first ones are used.
                let _ = ice.agent.add_local_candidate(now, Candidate::host(*local));
            }
            for address in relayed.iter().chain(gone) {
                ice.agent.remove_local_candidate(now, *address);
            }
            let known: BTreeSet<SocketAddr> = ice.agent.local_candidates().map(|it| it.address).collect();
            ice.told.retain(|told| known.contains(told));
            ice.agent.network_changed(now);
        }
        self.children.relays.mark_stale();
    }

    /// A relay has nothing of ours any more: our addresses there are gone.
    pub(crate) fn drop_lost_relays(&mut self, now: Instant) {
        let living: BTreeSet<SocketAddr> =
            self.children.relays.candidates().map(|candidate| candidate.address).collect();
        let mut changed = Vec::new();
        for (id, ice) in self.children.ice.iter_mut() {
            let relayed = |it: &&Candidate| it.kind == CandidateKind::Relayed;
            let dead: Vec<SocketAddr> = ice
                .agent
                .local_candidates()
                .filter(relayed)
                .map(|candidate| candidate.address)
                .filter(|address| !living.contains(address))
                .collect();
            for address in &dead {
                ice.told.remove(address);
                ice.agent.remove_local_candidate(now, *address);
            }
            changed.extend((!dead.is_empty()).then_some(id));
        }
        for id in changed {
            self.update(now, id, Kind::Moved);
        }
    }

    /// A NAT calls a socket of ours by another name, and nobody knows it by `former` any more.
    pub(crate) fn drop_mapping(&mut self, now: Instant, former: SocketAddr) {
        for (_, ice) in self.children.ice.iter_mut() {
            if ice.told.remove(&former) {
                ice.agent.remove_local_candidate(now, former);
            }
        }
    }

    /// The network is another one: whoever waits for the next try need not.
    fn retry_all(&mut self, now: Instant) {
        if self.config.local_addresses.is_empty() {
            return;
        }
        let waits = |(peer, _): &(&PeerId, _)| self.timers.at(Timer::Retry(**peer)).is_some();
        let waiting: Vec<PeerId> = self.peers.iter().filter(waits).map(|(peer, _)| *peer).collect();
        for peer in waiting {
            self.start_attempt(now, peer);
        }
    }

    /// Whether `path` leaves from an address that this host has.
    pub(crate) fn is_ours(&self, path: Path) -> bool {
        let local = path.on_wire().local;
        let punched = || self.children.ice.iter().any(|(_, ice)| ice.hole.has_socket(local));
        is_stream_flow(path.on_wire()) || self.config.local_addresses.contains(&local) || punched()
    }

    /// The agent of the link to `peer`.
    pub(crate) fn link_agent(&self, peer: PeerId) -> Option<Id<Ice>> {
        self.peers.get(&peer)?.link.as_ref()?.ice
    }
}
