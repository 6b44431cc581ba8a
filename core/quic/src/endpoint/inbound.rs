//! A datagram arrived: whose is it?

use std::net::SocketAddr;

use gimlet_machine::{Ecn, Input, Instant, Path, Verdict};
use quinn_proto::{ConnectionEvent, DatagramEvent};

use crate::lobby::Held;
use crate::session::{Origin, Routes};
use crate::shape::{INITIAL_LEN_MIN, Shape};
use crate::state::Phase;
use crate::{ConnectionId, Endpoint};

/// The first probe timeout, in round trips that were assumed (RFC 9002 §6.2.2: the round trip, and four times half
/// of it). An answer that takes longer is no measure of the path: what it answers was sent again meanwhile, and
/// the probe timeout has doubled already, which suits a path that is as slow as that.
const FIRST_PROBE: u32 = 3;

/// A datagram, and how quinn-proto is shown it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) now: Instant,
    pub(super) path: Path,
    pub(super) ecn: Ecn,
    pub(super) bytes: &'a [u8],
    /// The synthetic address that it seems to come from.
    pub(super) address: SocketAddr,
    /// The connection whose address that is; it listens on the path.
    pub(super) tenant: Option<ConnectionId>,
}

impl Endpoint {
    pub(super) fn on_datagram(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        let Input { path, ecn, bytes } = input;
        let Some(shape) = Shape::of(bytes) else {
            self.counters.not_quic += 1;
            return Verdict::NotMine;
        };
        let first = self.table.first_on_path(&path);
        if first.is_none() && !self.welcomes(shape, bytes.len()) {
            let early = self.lobby.expecting > 0 && shape == Shape::Initial && bytes.len() >= INITIAL_LEN_MIN;
            if !early {
                self.counters.unknown_path += 1;
                return Verdict::NotMine;
            }
            let kept = self.lobby.hold(Held { path, ecn, bytes: bytes.to_vec() });
            self.counters.held_evicted += u64::from(!kept);
            return Verdict::Consumed;
        }
        let (tenant, address) = self.presume(&path, first, shape == Shape::Initial);
        self.hear(Seen { now, path, ecn, bytes, address, tenant });
        Verdict::Consumed
    }

    /// Shows connections the packets that came before `path` was admitted.
    pub(super) fn hear_held(&mut self, now: Instant, path: &Path) {
        for held in self.lobby.take_held(path) {
            let first = self.table.first_on_path(path);
            let (tenant, address) = self.presume(path, first, true);
            self.hear(Seen { now, path: *path, ecn: held.ecn, bytes: &held.bytes, address, tenant });
        }
    }

    /// Whether a datagram on a path that nobody admitted may have an effect.
    fn welcomes(&self, shape: Shape<'_>, len: usize) -> bool {
        match shape {
            Shape::Initial => self.listening && len >= INITIAL_LEN_MIN,
            Shape::Long => false,
            // A peer that came to us while we listened may have moved; or it remembers us from
            // before we were restarted, and is owed a stateless reset.
            Shape::Short(cid) => self.listening && self.engine.cids.recognises(cid),
        }
    }

    /// quinn-proto must be told an address before it says whose packet it is. Usually the
    /// connection that was heard on the path last is meant, and a first packet is for a reservation.
    fn presume(
        &self,
        path: &Path,
        first: Option<ConnectionId>,
        initial: bool,
    ) -> (Option<ConnectionId>, SocketAddr) {
        let awaited = if initial { self.reservation_on(path) } else { None };
        let presumed =
            awaited.or(first).and_then(|id| Some((id, self.table.get(id)?.routes.address_from(path)?)));
        match presumed {
            Some((id, address)) => (Some(id), address),
            None => (None, self.addresses.of_path(path)),
        }
    }

    /// The connection that waits for a first packet on `path`.
    pub(super) fn reservation_on(&self, path: &Path) -> Option<ConnectionId> {
        let awaits = |id: &ConnectionId| {
            self.table.get(*id).is_some_and(|session| session.phase == Phase::AwaitingInitial)
        };
        self.table.on_path(path).iter().copied().find(awaits)
    }

    fn hear(&mut self, seen: Seen<'_>) {
        let mut response = Vec::new();
        match self.decode(&seen, &mut response) {
            None => self.counters.undeliverable += 1,
            Some(DatagramEvent::ConnectionEvent(handle, event)) => match self.table.by_handle(handle) {
                Some(id) if seen.tenant == Some(id) => self.deliver(&seen, id, event),
                Some(id) => self.on_misjudged(seen, id),
                None => self.counters.undeliverable += 1,
            },
            Some(DatagramEvent::NewConnection(incoming)) => self.on_incoming(seen, incoming),
            Some(DatagramEvent::Response(_)) => self.respond(seen.path, response),
        }
    }

    pub(super) fn decode(&mut self, seen: &Seen<'_>, response: &mut Vec<u8>) -> Option<DatagramEvent> {
        let then = self.engine.clock.advance(seen.now);
        self.engine.decode(then, seen.address, seen.ecn, seen.bytes, response)
    }

    fn deliver(&mut self, seen: &Seen<'_>, id: ConnectionId, event: ConnectionEvent) {
        let Some(session) = self.table.get_mut(id) else { return };
        let Some(link) = session.link.as_mut() else { return };
        session.silence.on_heard();
        session.heard = seen.now;
        link.connection.handle_event(event);
        let asked = session.origin == Origin::Dialed && session.phase == Phase::AwaitingHandshake;
        if asked && link.connection.rtt() > FIRST_PROBE * self.transport.initial_rtt {
            // The other end may keep a first packet until ICE lets it answer. Taken for a round trip, that wait
            // would put off every probe of the handshake that follows, beyond any patience.
            link.connection.path_changed(self.engine.clock.advance(seen.now));
        }
        self.counters.undecryptable = self.engine.undecryptable.count();
        self.settle(seen.now, id);
    }

    /// The packet is for another connection than its path suggests. It counts only if that connection
    /// listens on the path too, or if its peer roams: then quinn-proto is shown the path's own
    /// address, and follows only if the packet is authentic and the highest-numbered so far
    /// (RFC 9000 §9.3).
    #[cold]
    fn on_misjudged(&mut self, mut seen: Seen<'_>, id: ConnectionId) {
        let Some(session) = self.table.get(id) else { return };
        let known = session.routes.address_from(&seen.path);
        let roams = session.phase == Phase::Established && matches!(session.routes, Routes::Roaming { .. });
        if known.is_none() && !roams {
            self.counters.foreign_path += 1;
            return;
        }
        seen.address = known.unwrap_or_else(|| self.addresses.of_path(&seen.path));
        // quinn-proto only looks its tables up to say whose packet it is: asking twice is harmless.
        let Some(DatagramEvent::ConnectionEvent(_, event)) = self.decode(&seen, &mut Vec::new()) else {
            return;
        };
        if known.is_none() {
            self.table.admit(id, seen.path, seen.address);
        }
        self.deliver(&seen, id, event);
        if known.is_none() && self.path(id) != Some(seen.path) {
            self.counters.strayed += 1;
            self.table.dismiss(id, &seen.path);
        } else {
            self.table.heard(&seen.path, id);
        }
    }

    /// Answers a datagram that no connection answers, on the path it came on: only if some
    /// connection sends there anyway, or if strangers are welcome.
    pub(super) fn respond(&mut self, path: Path, response: Vec<u8>) {
        if response.is_empty() {
            return;
        }
        let sends_there = |id: &ConnectionId| self.path(*id) == Some(path);
        let may = self.listening || self.table.on_path(&path).iter().any(sends_there);
        if !may || self.responses.push((path, response)).is_err() {
            self.counters.responses_withheld += 1;
        }
    }
}
