//! Reaching a public node where UDP is blocked: through a relay that we speak to over TCP or TLS.
//!
//! The direct way comes first, and alone. If it brings nothing, the QUIC handshake starts again on a path
//! through the relay; the public node sees the relay's address and need not know.

use core::time::Duration;

use gimlet_machine::{FourTuple, Instant, Path, PeerId};
use gimlet_quic::{ConnectionId, PathMtu};
use gimlet_stun::AddressFamily;

use crate::connect::DIAL_TIMEOUT;
use crate::event::Progress;
use crate::node::Node;
use crate::relays::Relays;
use crate::state::AttemptState;
use crate::timer::Timer;

/// How long the direct way is tried alone. The first packet of QUIC may be lost and is repeated after a second
/// (RFC 9002 §6.2.2); the answer to that one is still awaited.
const HEAD_START: Duration = Duration::from_secs(2);

impl Relays {
    fn has_streams(&self) -> bool {
        self.clients.iter().any(|relay| relay.stream.is_some())
    }

    /// Our flow to a relay over TCP or TLS that can reach `peer`.
    fn way_around(&self, peer: core::net::SocketAddr) -> Option<FourTuple> {
        let family = AddressFamily::of(peer);
        let mut around = self.clients.iter().filter(|relay| relay.stream.is_some());
        around.find(|relay| relay.client.relayed(family).is_some()).map(|relay| relay.client.relay())
    }
}

impl Node {
    /// A dial begins; it may need a way around.
    pub(crate) fn prepare_detour(&mut self, now: Instant, peer: PeerId) {
        let relays = &mut self.children.relays;
        if relays.has_streams() {
            for relay in relays.clients.iter_mut().filter(|relay| relay.stream.is_some()) {
                relay.ask_again(now);
            }
            self.timers.set(Timer::Detour(peer), now + HEAD_START);
        }
    }

    /// The direct way to `peer` has had its head start. Without a relay it stays as it is, until there is one.
    pub(crate) fn detour(&mut self, now: Instant, peer: PeerId) {
        let Some((direct, FourTuple { remote, .. })) = self.direct_dial(peer) else { return };
        let Some(relay) = self.children.relays.way_around(remote) else { return };
        let Ok(connection) = self.children.quic.dial(now, peer) else { return };
        let Some(attempt) = self.peers.get_mut(&peer).and_then(|entry| entry.attempt.as_mut()) else {
            return;
        };
        attempt.connection = Some(connection);
        self.connections.remove(&direct);
        self.children.quic.close(now, direct, crate::close::CANCELLED, b"another way");
        self.connections.insert(connection, peer);
        self.send_on(now, connection, Path::Relayed { relay, peer: remote }, PathMtu::Same);
        self.timers.set(Timer::Attempt(peer), now + DIAL_TIMEOUT);
        self.progress(peer, Progress::DialingThrough { server: relay.remote, address: remote });
    }

    /// A relay gave us an address: dials that have waited for one go on.
    pub(crate) fn detour_all(&mut self, now: Instant) {
        if !self.children.relays.has_streams() {
            return;
        }
        let early = |peer: &PeerId| self.timers.at(Timer::Detour(*peer)).is_some();
        let waiting: Vec<PeerId> = self.peers.keys().filter(|peer| !early(peer)).copied().collect();
        for peer in waiting {
            self.detour(now, peer);
        }
    }

    /// The connection of a dial that goes straight, and where it goes.
    fn direct_dial(&self, peer: PeerId) -> Option<(ConnectionId, FourTuple)> {
        let attempt = self.peers.get(&peer)?.attempt.as_ref()?;
        let dials = attempt.state() == AttemptState::AwaitConnection && attempt.ice.is_none() && attempt.ours;
        let connection = attempt.connection.filter(|_| dials)?;
        match self.children.quic.path(connection)? {
            Path::Direct(flow) => Some((connection, flow)),
            Path::Relayed { .. } => None,
        }
    }
}
