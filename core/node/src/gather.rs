//! Learning our addresses from STUN servers, which every public node is, and from relays.

use alloc::collections::BTreeMap;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{FourTuple, Id, Instant};
use gimlet_stun::{ClientEvent, RequestId};

use crate::event::Progress;
use crate::node::Node;
use crate::peer::Ice;

/// Server-reflexive addresses remembered: per socket and server. Beyond, the oldest is forgotten.
pub const REFLEXIVE_MAX: usize = 64;

/// A mapping younger than this is taken as it is when a connection starts; an older one is used too,
/// and asked for again at the same time. NATs forget after 30 s or more in practice (RFC 4787
/// REQ-5 asks for 2 minutes).
const FRESH: Duration = Duration::from_secs(20);

/// What STUN servers told us.
#[derive(Debug)]
pub(crate) struct Gathering {
    mapped: BTreeMap<FourTuple, Mapped>,
    pending: BTreeMap<RequestId, FourTuple>,
}

#[derive(Clone, Copy, Debug)]
struct Mapped {
    address: SocketAddr,
    at: Instant,
    /// The NAT may have forgotten it: to be asked again, however young it is.
    doubted: bool,
}

impl Gathering {
    pub(crate) fn new() -> Self {
        Self { mapped: BTreeMap::new(), pending: BTreeMap::new() }
    }

    /// Socket, server, and our address as that server saw it.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr, SocketAddr)> {
        self.mapped.iter().map(|(flow, mapped)| (flow.local, flow.remote, mapped.address))
    }

    /// What servers have seen of the socket `base` lately, each with what it saw.
    pub(crate) fn views(
        &self,
        now: Instant,
        base: SocketAddr,
        lately: Duration,
    ) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        let of =
            self.mapped.iter().filter(move |(flow, seen)| flow.local == base && now.since(seen.at) < lately);
        of.map(|(flow, seen)| (flow.remote, seen.address))
    }

    /// Whether answers of STUN servers are still expected.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Notes what a server saw; says whether that is news.
    pub(crate) fn remember(&mut self, now: Instant, flow: FourTuple, address: SocketAddr) -> bool {
        let known = self.mapped.insert(flow, Mapped { address, at: now, doubted: false });
        if self.mapped.len() > REFLEXIVE_MAX {
            let oldest = self.mapped.iter().min_by_key(|(_, mapped)| mapped.at).map(|(flow, _)| *flow);
            oldest.map(|flow| self.mapped.remove(&flow));
        }
        known.is_none_or(|known| known.address != address)
    }

    /// Forgets what was seen of sockets that are gone; returns the questions that nobody can answer any more.
    pub(crate) fn forget_sockets(&mut self, gone: &[SocketAddr]) -> Vec<RequestId> {
        self.mapped.retain(|flow, _| !gone.contains(&flow.local));
        let asked = self.pending.iter().filter(|(_, flow)| gone.contains(&flow.local));
        let asked: Vec<RequestId> = asked.map(|(id, _)| *id).collect();
        self.pending.retain(|_, flow| !gone.contains(&flow.local));
        asked
    }

    /// A path died: what NATs gave us may be void, whatever its age.
    pub(crate) fn doubt(&mut self) {
        self.mapped.values_mut().for_each(|mapped| mapped.doubted = true);
    }

    fn wants(&self, now: Instant, flow: FourTuple) -> bool {
        let fresh = self.mapped.get(&flow);
        let fresh = fresh.is_some_and(|mapped| now.since(mapped.at) < FRESH && !mapped.doubted);
        let asked = self.pending.values().any(|asked| *asked == flow);
        // The STUN client limits what is under way (`gimlet_stun::REQUESTS_MAX`).
        !fresh && !asked
    }
}

/// Whether a packet from `local` can reach `remote` at all: same family, both or neither loopback.
pub(crate) fn can_reach(local: SocketAddr, remote: SocketAddr) -> bool {
    local.is_ipv4() == remote.is_ipv4() && local.ip().is_loopback() == remote.ip().is_loopback()
}

impl Node {
    /// Asks the configured servers.
    pub(crate) fn gather_from_configured(&mut self, now: Instant) {
        for server in self.config.stun_servers.clone() {
            self.gather_from(now, server);
        }
    }

    /// Asks `server` from every socket that can reach it and has no fresh answer from it.
    pub(crate) fn gather_from(&mut self, now: Instant, server: SocketAddr) {
        for local in self.config.local_addresses.clone() {
            let flow = FourTuple::new(local, server);
            if !can_reach(local, server) || !self.children.gathering.wants(now, flow) {
                continue;
            }
            // A full transaction table only means that this server is not asked this time.
            if let Ok(id) = self.children.stun.binding(now, flow) {
                self.children.gathering.pending.insert(id, flow);
            }
        }
    }

    /// Asks everyone again whose answer is getting old: a connection starts.
    pub(crate) fn refresh_gathering(&mut self, now: Instant) {
        self.gather_from_configured(now);
        self.children.relays.ask_again(now);
        let introducers: Vec<SocketAddr> = self
            .peers
            .values()
            .filter_map(|peer| peer.link.as_ref().filter(|link| link.introduces()))
            .filter_map(|link| self.children.quic.path(link.connection))
            .map(|path| path.peer_address())
            .collect();
        for server in introducers {
            self.gather_from(now, server);
        }
    }

    /// Asks nobody any more.
    pub(crate) fn stop_gathering(&mut self) {
        while let Some((id, _)) = self.children.gathering.pending.pop_first() {
            self.children.stun.cancel(id);
        }
    }

    pub(crate) fn on_stun(&mut self, now: Instant, event: &ClientEvent) {
        if self.on_sampled(now, event) {
            return;
        }
        match *event {
            ClientEvent::Answered { id, path, mapped, .. } => {
                let gathering = &mut self.children.gathering;
                gathering.pending.remove(&id);
                let former = gathering.mapped.get(&path).map(|former| former.address);
                if gathering.remember(now, path, mapped) {
                    let known =
                        |address: &SocketAddr| gathering.mapped().any(|(_, _, seen)| seen == *address);
                    if let Some(former) = former.filter(|former| !known(former)) {
                        self.drop_mapping(now, former);
                    }
                    self.progress(self.peer_id(), Progress::Reflexive { local: path.local, mapped });
                }
            }
            ClientEvent::Failed { id, .. } => {
                self.children.gathering.pending.remove(&id);
            }
        }
        self.trickle_all(now);
    }

    /// Tells every peer that listens what is new about our addresses.
    pub(crate) fn trickle_all(&mut self, now: Instant) {
        let agents: Vec<Id<Ice>> = self.children.ice.iter().map(|(id, _)| id).collect();
        for ice in agents {
            self.trickle(now, ice);
        }
    }

    /// Whether more of our addresses may become known.
    pub(crate) fn is_gathering(&self) -> bool {
        self.children.gathering.is_pending() || self.children.relays.is_pending()
    }
}
