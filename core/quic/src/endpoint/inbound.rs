//! A datagram arrived: whose is it?

use std::net::SocketAddr;

use gimlet_machine::{Ecn, Input, Instant, Path, PeerId, Verdict};
use quinn_proto::{ConnectionEvent, ConnectionHandle, DatagramEvent, Incoming};

use crate::lobby::Held;
use crate::session::{Origin, Routes, Session};
use crate::shape::{INITIAL_LEN_MIN, Shape};
use crate::state::Phase;
use crate::tls::Refusal;
use crate::{ConnectionId, Endpoint};

/// A datagram, and the synthetic address under which quinn-proto was shown it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    now: Instant,
    path: Path,
    ecn: Ecn,
    bytes: &'a [u8],
    address: SocketAddr,
}

impl Endpoint {
    pub(super) fn on_datagram(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        let Input { path, ecn, bytes } = input;
        let Some(shape) = Shape::of(bytes) else {
            self.counters.not_quic += 1;
            return Verdict::NotMine;
        };
        if self.table.on_path(&path).is_empty() && !self.welcomes(shape, bytes.len()) {
            let early = self.lobby.expecting > 0 && shape == Shape::Initial && bytes.len() >= INITIAL_LEN_MIN;
            if !early {
                self.counters.unknown_path += 1;
                return Verdict::NotMine;
            }
            let kept = self.lobby.hold(Held { path, ecn, bytes: bytes.to_vec() });
            self.counters.held_evicted += u64::from(!kept);
            return Verdict::Consumed;
        }
        self.hear(now, path, ecn, bytes, shape == Shape::Initial);
        Verdict::Consumed
    }

    /// Shows connections the packets that came before `path` was admitted.
    pub(super) fn hear_held(&mut self, now: Instant, path: &Path) {
        for held in self.lobby.take_held(path) {
            self.hear(now, held.path, held.ecn, &held.bytes, true);
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

    fn hear(&mut self, now: Instant, path: Path, ecn: Ecn, bytes: &[u8], initial: bool) {
        let address = self.presume(&path, initial);
        let seen = Seen { now, path, ecn, bytes, address };
        let mut response = Vec::new();
        match self.decode(&seen, &mut response) {
            None => self.counters.undeliverable += 1,
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.on_packet(seen, handle, event),
            Some(DatagramEvent::NewConnection(incoming)) => self.on_incoming(seen, incoming),
            Some(DatagramEvent::Response(_)) => self.respond(path, response),
        }
    }

    /// quinn-proto must be told an address before it says whose packet it is. Usually the
    /// connection that was heard on the path last is meant, and a first packet is for a reservation.
    fn presume(&self, path: &Path, initial: bool) -> SocketAddr {
        let tenants = self.table.on_path(path);
        let awaited = tenants.iter().find(|id| initial && self.awaits_initial(**id));
        let tenant = awaited.or(tenants.first()).and_then(|id| self.table.get(*id));
        tenant
            .and_then(|tenant| tenant.routes.address_from(path))
            .unwrap_or_else(|| self.addresses.of_path(path))
    }

    fn awaits_initial(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|session| session.phase == Phase::AwaitingInitial)
    }

    fn decode(&mut self, seen: &Seen<'_>, response: &mut Vec<u8>) -> Option<DatagramEvent> {
        let then = self.engine.clock.advance(seen.now);
        self.engine.decode(then, seen.address, seen.ecn, seen.bytes, response)
    }

    /// The packet names a connection. It counts only if that connection listens on the path, or if
    /// its peer roams: then quinn-proto is shown the path's own address, and follows only if the
    /// packet is authentic and the highest-numbered so far (RFC 9000 §9.3).
    fn on_packet(&mut self, mut seen: Seen<'_>, handle: ConnectionHandle, mut event: ConnectionEvent) {
        let Some(id) = self.table.by_handle(handle) else {
            self.counters.undeliverable += 1;
            return;
        };
        let Some(session) = self.table.get(id) else { return };
        let known = session.routes.address_from(&seen.path);
        let roams = session.phase == Phase::Established && matches!(session.routes, Routes::Roaming { .. });
        if known.is_none() && !roams {
            self.counters.foreign_path += 1;
            return;
        }
        let address = known.unwrap_or_else(|| self.addresses.of_path(&seen.path));
        if address != seen.address {
            seen.address = address;
            match self.decode(&seen, &mut Vec::new()) {
                Some(DatagramEvent::ConnectionEvent(same, again)) if same == handle => event = again,
                _ => return,
            }
        }
        if known.is_none() {
            self.table.admit(id, seen.path, address);
        }
        if let Some(link) = self.table.get_mut(id).and_then(|session| session.link.as_mut()) {
            link.connection.handle_event(event);
        }
        self.counters.undecryptable = self.engine.undecryptable.count();
        self.settle(seen.now, id);
        if known.is_none() && self.path(id) != Some(seen.path) {
            self.counters.strayed += 1;
            self.table.dismiss(id, &seen.path);
        } else {
            self.table.heard(&seen.path, id);
        }
    }

    /// A first packet that belongs to no connection.
    fn on_incoming(&mut self, mut seen: Seen<'_>, incoming: Incoming) {
        let reservation = self.table.on_path(&seen.path).iter().copied().find(|id| self.awaits_initial(*id));
        if let Some((id, peer)) = reservation.and_then(|id| Some((id, self.peer(id)?))) {
            debug_assert_eq!(
                self.table.get(id).and_then(|session| session.routes.address_from(&seen.path)),
                Some(incoming.remote_address()),
                "a first packet is presumed to be for a reservation"
            );
            self.accept_expected(seen, (id, peer), incoming);
            return;
        }
        if !self.listening || seen.bytes.len() < INITIAL_LEN_MIN {
            self.engine.quic.ignore(incoming);
            self.counters.uninvited += 1;
            return;
        }
        // A stranger's address is the one of its path: a retry token holds it, and must fit when the
        // stranger comes back.
        let address = self.addresses.of_path(&seen.path);
        if incoming.remote_address() == address {
            self.on_stranger(seen, incoming);
            return;
        }
        self.engine.quic.ignore(incoming);
        seen.address = address;
        let mut response = Vec::new();
        match self.decode(&seen, &mut response) {
            Some(DatagramEvent::NewConnection(incoming)) => self.on_stranger(seen, incoming),
            Some(DatagramEvent::Response(_)) => self.respond(seen.path, response),
            Some(DatagramEvent::ConnectionEvent(..)) | None => self.counters.undeliverable += 1,
        }
    }

    fn accept_expected(&mut self, seen: Seen<'_>, (id, peer): (ConnectionId, PeerId), incoming: Incoming) {
        let Ok((server, refusal)) = self.engine.server_for(peer) else {
            debug_assert!(false, "the provider was tried when the endpoint was made");
            self.engine.quic.ignore(incoming);
            return;
        };
        let then = self.engine.clock.advance(seen.now);
        let mut response = Vec::new();
        match self.engine.quic.accept(incoming, then, &mut response, Some(server)) {
            Ok((handle, connection)) => {
                if let Some(session) = self.table.get_mut(id) {
                    session.refusal = refusal;
                    session.begin(handle, connection);
                }
                self.table.bind(handle, id);
                self.lobby.cease_expecting();
                self.settle(seen.now, id);
            }
            Err(_) => self.on_failed_accept(seen.path, response),
        }
    }

    fn on_stranger(&mut self, seen: Seen<'_>, incoming: Incoming) {
        let mut response = Vec::new();
        let unproven = !incoming.remote_address_validated() && incoming.may_retry();
        if self.lobby.strangers.len() >= self.limits.retry_above && unproven {
            if self.engine.quic.retry(incoming, &mut response).is_ok() {
                self.counters.retried += 1;
                self.respond(seen.path, response);
            }
            return;
        }
        if !self.make_room_for_stranger() {
            let _ = self.engine.quic.refuse(incoming, &mut response);
            self.counters.refused += 1;
            self.respond(seen.path, response);
            return;
        }
        let then = self.engine.clock.advance(seen.now);
        match self.engine.quic.accept(incoming, then, &mut response, None) {
            Ok((handle, connection)) => {
                let routes =
                    Routes::Roaming { current: seen.address, known: vec![(seen.address, seen.path)] };
                let mut session = Session::new(Origin::Stranger, None, routes, Refusal::default());
                session.begin(handle, connection);
                let id = self.table.insert(session);
                self.table.bind(handle, id);
                self.lobby.strangers.push_back(id);
                self.settle(seen.now, id);
            }
            Err(_) => self.on_failed_accept(seen.path, response),
        }
    }

    /// Forgets the oldest stranger in mid-handshake if there are too many. False: everybody
    /// else has a connection already.
    fn make_room_for_stranger(&mut self) -> bool {
        let crowded = self.lobby.strangers.len() >= self.limits.strangers_max;
        if !crowded && self.table.len() < self.limits.connections_max {
            return true;
        }
        let Some(oldest) = self.lobby.strangers.front().copied() else { return false };
        self.forget(oldest);
        self.counters.evicted += 1;
        self.table.len() < self.limits.connections_max
    }

    /// The first packet was forged, or its TLS message makes no sense. A reservation stays.
    fn on_failed_accept(&mut self, path: Path, response: Vec<u8>) {
        self.counters.handshakes_failed += 1;
        self.respond(path, response);
    }

    /// Answers a datagram that no connection answers, on the path it came on: only if some
    /// connection sends there anyway, or if strangers are welcome.
    fn respond(&mut self, path: Path, response: Vec<u8>) {
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
