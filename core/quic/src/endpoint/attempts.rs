//! A first packet that belongs to no connection: from somebody expected, or from a stranger.

use gimlet_machine::{Path, PeerId};
use quinn_proto::{DatagramEvent, Incoming};

use super::inbound::Seen;
use crate::session::{Origin, Routes, Session};
use crate::shape::INITIAL_LEN_MIN;
use crate::tls::Refusal;
use crate::{ConnectionId, Endpoint};

impl Endpoint {
    #[cold]
    pub(super) fn on_incoming(&mut self, mut seen: Seen<'_>, incoming: Incoming) {
        let reservation = self.reservation_on(&seen.path);
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
}
