//! The machine: commands, getters and the contract. Its reactions are in the files beside.

use std::collections::VecDeque;
use std::time::Duration;

use gimlet_machine::{
    Buf, Bytes, Deadline, Input, Instant, Machine, Path, PeerId, Queue, Rng, Transmit, Verdict,
};
use quinn_proto::{EndpointEvent, VarInt};

use crate::address::Addresses;
use crate::engine::{Engine, from_codepoint};
use crate::lobby::Lobby;
use crate::session::{Origin, Routes, Session};
use crate::silence::Silence;
use crate::state::Phase;
use crate::table::Table;
use crate::tls::Refusal;
use crate::{Config, ConfigError, ConnectionId, DialError, Event, Limits, Transport};

mod attempts;
mod inbound;
mod settle;
mod streams;

/// Answers of the endpoint itself (Retry, refusals, stateless resets) waiting for their turn. On
/// overflow the newest is dropped: whoever asked asks again.
const RESPONSES_MAX: usize = 64;

/// How many timers of a connection expire early when it is moved.
const PROBE_TIMERS: usize = 2;

gimlet_machine::counters! {
    /// What became of datagrams and attempts that nobody wanted.
    pub struct EndpointCounters {
        /// Not QUIC version 1 by its first bytes; left to the owner.
        not_quic,
        /// QUIC by its looks, on a path that nobody admitted and that may not open a connection;
        /// left to the owner.
        unknown_path,
        /// Belongs to no connection, or cannot be parsed.
        undeliverable,
        /// Belongs to a connection that does not listen on that path.
        foreign_path,
        /// Packets on a connection that do not decrypt: forged, damaged, or too late for their keys.
        undecryptable,
        /// Came from where the peer of a listening connection was never seen, and did not prove
        /// that it moved: forged, replayed or overtaken.
        strayed,
        /// A first packet on a path where nobody is expected.
        uninvited,
        /// First packets kept for an unknown path and pushed out by newer ones.
        held_evicted,
        /// Answers to the path of a datagram that may not be answered, or past the limit.
        responses_withheld,
        /// Strangers asked to prove their address first.
        retried,
        /// Strangers turned away because there was no room.
        refused,
        /// Strangers forgotten in mid-handshake because there was no room.
        evicted,
        /// Handshakes of strangers that failed.
        handshakes_failed,
        /// Handshakes that failed because somebody else answered.
        wrong_peer,
        /// Datagrams that quinn-proto addressed to a path that the connection has left.
        unroutable,
    }
}

/// Whether the datagrams that fit the old path also fit the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMtu {
    /// The new path takes datagrams at least as large, and is of the same kind: keep what was
    /// learned.
    Same,
    /// Start over with 1,200 bytes and unknown bandwidth, as from a direct path to a relay. Otherwise
    /// oversize datagrams vanish until QUIC finds out by itself.
    MayShrink,
}

/// All QUIC connections of a node. See the [crate documentation](crate).
#[derive(Debug)]
pub struct Endpoint {
    engine: Engine,
    addresses: Addresses,
    limits: Limits,
    transport: Transport,
    listening: bool,
    table: Table,
    lobby: Lobby,
    /// Connections that may have something to send, in turn.
    active: VecDeque<ConnectionId>,
    responses: Queue<(Path, Vec<u8>)>,
    events: VecDeque<Event>,
    counters: EndpointCounters,
}

impl Endpoint {
    /// An endpoint without connections, not listening. All its choices come from `rng`.
    #[expect(clippy::needless_pass_by_value, reason = "every machine owns its entropy and its configuration")]
    pub fn new(rng: Rng, config: Config) -> Result<Self, ConfigError> {
        let engine = Engine::new(&rng, &config)?;
        Ok(Self {
            engine,
            addresses: Addresses::new(rng.fork("address").bytes()),
            limits: config.limits,
            transport: config.transport,
            listening: false,
            table: Table::new(&mut rng.fork("table")),
            lobby: Lobby::new(config.limits.held_max),
            active: VecDeque::new(),
            responses: Queue::new(RESPONSES_MAX),
            events: VecDeque::new(),
            counters: EndpointCounters::default(),
        })
    }

    /// Whether to accept connections from paths that nobody announced: what a public node does. Such
    /// connections appear with `Connected`, and are answered on the path they came on.
    pub fn listen(&mut self, yes: bool) {
        self.listening = yes;
    }

    /// Prepares a connection to `peer`, as the TLS client. Nothing is sent before
    /// [`Endpoint::set_path`].
    pub fn dial(&mut self, now: Instant, peer: PeerId) -> Result<ConnectionId, DialError> {
        self.check_room(peer)?;
        let then = self.engine.clock.advance(now);
        let address = self.addresses.of_next_peer();
        let (handle, connection, refusal) = self.engine.connect(then, peer, address)?;
        let mut session = Session::new(Origin::Dialed, Some(peer), Routes::pinned(address), refusal);
        session.begin(handle, connection);
        let id = self.table.insert(session);
        self.table.bind(handle, id);
        self.settle(now, id);
        Ok(id)
    }

    /// Reserves a connection for `peer`, who will dial. It is accepted on an admitted path, once,
    /// and only if it proves to be `peer`.
    pub fn expect(&mut self, now: Instant, peer: PeerId) -> Result<ConnectionId, DialError> {
        self.check_room(peer)?;
        self.engine.clock.advance(now);
        let routes = Routes::pinned(self.addresses.of_next_peer());
        let session = Session::new(Origin::Expected, Some(peer), routes, Refusal::default());
        self.lobby.expecting += 1;
        Ok(self.table.insert(session))
    }

    /// Datagrams that arrive on `path` may belong to connection `id` from here on. Nothing is sent
    /// there. A connection listens on 16 paths; one more pushes out the oldest.
    pub fn admit(&mut self, now: Instant, id: ConnectionId, path: Path) {
        self.table.admit(id, path, self.addresses.of_path(&path));
        self.hear_held(now, &path);
    }

    /// Sends the datagrams of connection `id` on `path` from here on, and listens there. Whoever
    /// calls this vouches for the path: ICE has checked it.
    pub fn set_path(&mut self, now: Instant, id: ConnectionId, path: Path, mtu: PathMtu) {
        self.table.admit(id, path, self.addresses.of_path(&path));
        let then = self.engine.clock.advance(now);
        let Some(session) = self.table.get_mut(id) else { return };
        let before = session.routes.send_path();
        session.routes.pin(path);
        if before != Some(path) {
            session.silence = Silence::default();
        }
        if let Some(link) = session.link.as_mut() {
            if mtu == PathMtu::MayShrink && before.is_some() {
                link.connection.path_changed(then);
            }
            if session.phase == Phase::Established && before != Some(path) {
                // What was lost with the old path is noticed a round trip after this is
                // acknowledged, not when a backed-off timer expires.
                link.connection.ping();
                let idle = then + (session.heard + self.transport.idle_timeout).since(now);
                probe(&mut link.connection, then, idle);
            }
        }
        self.settle(now, id);
        self.hear_held(now, &path);
    }

    /// Closes a connection at once: what was not acknowledged may be lost (RFC 9000 §10.2). To deliver
    /// everything first, finish the streams and wait until [`Endpoint::has_unacknowledged`]
    /// says no. `Drained` follows; `Lost` does not.
    pub fn close(&mut self, now: Instant, id: ConnectionId, code: u32, reason: &[u8]) {
        let then = self.engine.clock.advance(now);
        let Some(session) = self.table.get_mut(id) else { return };
        let was = session.phase;
        if !session.end() {
            return;
        }
        if let Some(link) = session.link.as_mut() {
            link.connection.close(then, VarInt::from_u32(code), Bytes::copy_from_slice(reason));
            self.settle(now, id);
        } else {
            debug_assert_eq!(was, Phase::AwaitingInitial, "only a reservation has no connection");
            self.lobby.cease_expecting();
            self.events.push_back(Event::Drained { id });
        }
    }

    /// Closes every connection with code 0, and stops listening. Done when
    /// [`Endpoint::is_idle`].
    pub fn close_all(&mut self, now: Instant) {
        self.listening = false;
        for id in self.table.ids() {
            self.close(now, id, 0, b"");
        }
    }

    /// Our own id: the public key of our identity.
    pub fn peer_id(&self) -> PeerId {
        self.engine.tls.ourselves()
    }

    /// Whether datagrams on `path` belong to some connection.
    pub fn is_admitted(&self, path: &Path) -> bool {
        !self.table.on_path(path).is_empty()
    }

    /// Where connection `id` sends, if anywhere yet.
    pub fn path(&self, id: ConnectionId) -> Option<Path> {
        self.table.get(id)?.routes.send_path()
    }

    /// Who is, or is to be, at the other end. Proven only after `Connected`.
    pub fn peer(&self, id: ConnectionId) -> Option<PeerId> {
        self.table.get(id)?.peer
    }

    /// Whether the handshake is over and neither end has closed.
    pub fn is_connected(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|session| session.phase == Phase::Established)
    }

    /// The smoothed round-trip time; before it is measured, what is assumed.
    pub fn rtt(&self, id: ConnectionId) -> Option<Duration> {
        self.table.get(id)?.link.as_ref().map(|link| link.connection.rtt())
    }

    /// The largest UDP payload that is known to fit the path, bytes.
    pub fn mtu(&self, id: ConnectionId) -> Option<u16> {
        self.table.get(id)?.link.as_ref().map(|link| link.connection.current_mtu())
    }

    /// Connections of all kinds, draining ones included.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no connection left, not even a draining one.
    pub fn is_idle(&self) -> bool {
        self.table.len() == 0
    }

    /// What became of datagrams that nobody wanted.
    pub fn counters(&self) -> &EndpointCounters {
        &self.counters
    }

    fn check_room(&self, peer: PeerId) -> Result<(), DialError> {
        if peer == self.peer_id() {
            Err(DialError::Ourselves)
        } else if self.table.len() >= self.limits.connections_max {
            Err(DialError::Full)
        } else {
            Ok(())
        }
    }

    /// Forgets a session of which quinn-proto has forgotten its half, or is told to here.
    fn forget(&mut self, id: ConnectionId) {
        let Some(session) = self.table.remove(id) else { return };
        self.lobby.strangers.retain(|stranger| *stranger != id);
        if let Some(link) = session.link.filter(|_| session.phase != Phase::Drained) {
            self.engine.quic.handle_event(link.handle, EndpointEvent::drained());
        }
    }
}

/// Lets quinn-proto's probe timeout (RFC 9002 §6.2) expire at once, if one is armed. What was in flight on the
/// path that was left fills the congestion window, which holds back everything but a probe, and the timeout has
/// been doubling since that path died. `idle` is when the connection would be given up: that timer is not touched.
fn probe(connection: &mut quinn_proto::Connection, now: std::time::Instant, idle: std::time::Instant) {
    // A delayed acknowledgement, or the pacer, may come before it.
    for _ in 0..PROBE_TIMERS {
        match connection.poll_timeout() {
            Some(at) if at < idle => connection.handle_timeout(at.max(now)),
            Some(_) | None => return,
        }
    }
}

impl Machine for Endpoint {
    type Path = Path;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        self.on_datagram(now, input)
    }

    fn handle_timeout(&mut self, now: Instant) {
        let then = self.engine.clock.advance(now);
        // Ends: settling arms deadlines later than `now` only.
        while let Some(id) = self.table.pop_due(now) {
            if let Some(session) = self.table.get_mut(id)
                && let Some(link) = session.link.as_mut()
            {
                let rtt = link.connection.rtt();
                link.connection.handle_timeout(then);
                let established = session.phase == Phase::Established;
                let silent = session.silence.on_timeout(now, rtt).filter(|_| established);
                self.events.extend(silent.map(|since| Event::Silent { id, since }));
            }
            self.settle(now, id);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Drained { id } = event {
            self.forget(id);
        }
        Some(event)
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        while let Some((path, bytes)) = self.responses.pop() {
            if out.put(&bytes) {
                return Some(Transmit::new(path));
            }
            self.counters.responses_withheld += 1;
        }
        let segments = out.segments_max().min(out.remaining() / usize::from(self.transport.mtu_max()));
        if segments == 0 {
            return None;
        }
        let then = self.engine.clock.advance(now);
        while let Some(id) = self.active.pop_front() {
            let Some(session) = self.table.get_mut(id) else { continue };
            session.queued = false;
            let Some(link) = session.link.as_mut() else { continue };
            let Some(transmit) = link.connection.poll_transmit(then, segments, out.vec()) else {
                self.rearm(now, id);
                continue;
            };
            let path = session.routes.path_to(transmit.destination);
            let established = session.phase == Phase::Established;
            let silent = session.silence.on_sent(now, link.connection.rtt()).filter(|_| established);
            self.events.extend(silent.map(|since| Event::Silent { id, since }));
            // It goes to the end of the queue: everybody gets a turn.
            self.settle(now, id);
            if let Some(path) = path {
                let segment = transmit.segment_size.map(|size| size as u16);
                return Some(Transmit { path, ecn: from_codepoint(transmit.ecn), segment });
            }
            self.counters.unroutable += 1;
            out.truncate(0);
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.table.deadline()
    }
}
