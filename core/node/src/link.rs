//! Links: from an authenticated connection to an open one, and to its end.

use gimlet_handshake::{Event as Greeted, HELLO_WAIT};
use gimlet_machine::{Buf, Direction, Input, Instant, Machine, PeerId};
use gimlet_quic::{ConnectionId, StreamError, StreamId};

use crate::close;
use crate::control::Control;
use crate::error::{ConnectError, Error, LostCause};
use crate::event::{Event, Progress};
use crate::node::Node;
use crate::peer::{Link, Outlet};
use crate::state::{LinkState, LinkStep};
use crate::streams::{Sending, Stream, StreamState};
use crate::timer::Timer;

/// How long two nodes that dial each other at once may take to notice: within it, the connection
/// dialled by the smaller peer id stands; later, a new connection replaces the old one, because the
/// peer has most likely restarted.
const GLARE: core::time::Duration = core::time::Duration::from_secs(5);

impl Node {
    /// QUIC finished a handshake; `peer` is proven.
    pub(crate) fn on_connected(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: PeerId,
        dialed: bool,
    ) {
        let ours = self.connections.get(&connection) == Some(&peer);
        let wanted = self.peers.get(&peer).is_some_and(|entry| entry.wanted);
        if !ours && !wanted && !self.config.allow.admits(peer) {
            self.counters.refused_peers += 1;
            return self.children.quic.close(now, connection, close::REFUSED, b"not admitted");
        }
        if self.closing.node || self.peer_entry(peer).is_err() {
            return self.children.quic.close(now, connection, close::REFUSED, b"no room");
        }
        if !self.takes_over(now, peer, dialed) {
            self.forget_connection(now, peer, connection);
            return self.children.quic.close(now, connection, close::REPLACED, b"another connection stands");
        }
        self.close_link(now, peer, close::REPLACED, b"replaced", LostCause::Replaced);
        let rate = self.config.limits.introductions_per_second_max;
        let mut link = Link::new(now, connection, dialed, self.hello.clone(), rate);
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let attempt = entry.attempt.take_if(|attempt| attempt.connection == Some(connection));
        if let Some(attempt) = attempt {
            link.via = attempt.via;
            link.ice = attempt.ice;
            if let Some(ice) = attempt.ice.and_then(|id| self.children.ice.get_mut(id)) {
                ice.agent.reopen_candidates(now);
                ice.told_end = false;
            }
        } else if let Some(superseded) = entry.attempt.take() {
            self.drop_attempt(now, &superseded);
        }
        self.clear_attempt_timers(peer);
        self.timers.clear(Timer::Retry(peer));
        self.timers.set(Timer::Hello(peer), now + HELLO_WAIT);
        self.connections.insert(connection, peer);
        self.progress(peer, Progress::Authenticated);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.link = Some(link);
        }
        self.say_hello(now, peer);
    }

    /// Whether a new connection to `peer` stands, given the link that may exist.
    fn takes_over(&self, now: Instant, peer: PeerId, dialed: bool) -> bool {
        let Some(link) = self.peers.get(&peer).and_then(|entry| entry.link.as_ref()) else { return true };
        let fresh = now.since(link.since) < GLARE;
        // Each side computes the dialler of both connections; the smaller id's stands.
        let dialer = |we_dialed: bool| if we_dialed { self.peer_id() } else { peer };
        !fresh || dialer(dialed) <= dialer(link.dialed)
    }

    /// Drops an attempt whose connection lost the race.
    fn forget_connection(&mut self, now: Instant, peer: PeerId, connection: ConnectionId) {
        self.connections.remove(&connection);
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if let Some(mut attempt) = entry.attempt.take_if(|attempt| attempt.connection == Some(connection)) {
            attempt.connection = None;
            self.clear_attempt_timers(peer);
            self.drop_attempt(now, &attempt);
        }
    }

    fn say_hello(&mut self, now: Instant, peer: PeerId) {
        let mut hello = Vec::new();
        let link = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut());
        if link.is_some_and(|link| link.greeting.poll_transmit(now, &mut Buf::new(&mut hello)).is_some()) {
            self.queue_control(now, peer, &hello);
        }
    }

    /// Queues a control message for a connected peer; says whether it will leave. A peer that does not
    /// read loses new ones beyond the buffer, as it would on any lossy signalling; so does one that we
    /// are closing.
    pub(crate) fn send_control(&mut self, now: Instant, peer: PeerId, message: &Control) -> bool {
        self.queue_control(now, peer, &message.encode())
    }

    fn queue_control(&mut self, now: Instant, peer: PeerId, bytes: &[u8]) -> bool {
        let link = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut());
        let queued = link.is_some_and(|link| match link.control.outgoing {
            Outlet::Unopened | Outlet::Open(_) => {
                link.control.queue.push_message(bytes, CONTROL_QUEUE_MAX) == Ok(true)
            }
            Outlet::Ended(_) => false,
        });
        self.counters.control_dropped += u64::from(!queued);
        self.flush_control(now, peer);
        queued
    }

    /// Hands queued control messages to QUIC.
    pub(crate) fn flush_control(&mut self, now: Instant, peer: PeerId) {
        let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut()) else { return };
        let quic = &mut self.children.quic;
        if link.control.outgoing == Outlet::Unopened
            && let Ok(Some(stream)) = quic.open(now, link.connection, Direction::Unidirectional)
        {
            link.control.outgoing = Outlet::Open(stream);
        }
        let Outlet::Open(stream) = link.control.outgoing else { return };
        while link.control.queue.pending() > 0 {
            let mut chunk = [link.control.queue.take()];
            // An error means that the connection is gone; its own event follows.
            let written = quic.write(now, link.connection, stream, &mut chunk);
            let [rest] = chunk;
            if written.is_ok() && !rest.is_empty() {
                link.control.queue.put_back(rest);
                return;
            }
        }
    }

    /// The peer opened streams: the first unidirectional one is its control stream.
    pub(crate) fn accept_streams(&mut self, now: Instant, connection: ConnectionId) {
        let Some(&peer) = self.connections.get(&connection) else { return };
        let mut told = false;
        while let Ok(Some((id, direction))) = self.children.quic.accept(now, connection) {
            let Some(entry) = self.peers.get_mut(&peer) else { return };
            let Some(link) = entry.link.as_mut().filter(|link| link.connection == connection) else { return };
            if direction == Direction::Unidirectional && link.control.incoming.is_none() {
                link.control.incoming = Some(id);
                self.read_control(now, connection);
                continue;
            }
            let stream = Stream { connection, id };
            told = link.hello().is_some();
            let closing = link.state() == LinkState::AwaitDelivery;
            let forgotten = entry.unaccepted.push_evicting(stream);
            self.streams.insert(stream, StreamState::new(direction, false, self.config.limits.message_max));
            if closing {
                // The close finished all streams that there were; this one came too late.
                self.finish_stream(stream);
            }
            if let Some(forgotten) = forgotten {
                self.drop_stream(now, forgotten, close::REFUSED);
                self.counters.unaccepted_streams_dropped += 1;
            }
        }
        if told {
            self.tell(Event::StreamsReady { peer });
        }
    }

    /// Reads the peer's control stream: a hello first, then messages.
    pub(crate) fn read_control(&mut self, now: Instant, connection: ConnectionId) {
        let Some(&peer) = self.connections.get(&connection) else { return };
        loop {
            let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut()) else { return };
            let Some(stream) = link.control.incoming.filter(|_| link.connection == connection) else {
                return;
            };
            match link.control.decoder.poll() {
                Some(Ok(message)) if link.hello().is_some() => match Control::decode(&message) {
                    Some(control) => self.on_control(now, peer, control),
                    None => self.counters.unknown_control += 1,
                },
                Some(Ok(message)) => self.on_hello(now, peer, &message),
                Some(Err(_)) => {
                    let cause = LostCause::Broken("the control stream lost its framing".into());
                    return self.close_link(now, peer, close::CONTROL, b"control framing", cause);
                }
                None => match self.children.quic.read(now, connection, stream, CONTROL_QUEUE_MAX) {
                    Ok(Some(chunk)) if !chunk.is_empty() => link.control.decoder.push(chunk),
                    Ok(_) | Err(_) => return,
                },
            }
        }
    }

    /// The first message on the peer's control stream.
    fn on_hello(&mut self, now: Instant, peer: PeerId, bytes: &[u8]) {
        if let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut()) {
            link.greeting.handle_input(now, Input::new((), &mut bytes.to_vec()));
        }
        self.on_greeting(now, peer);
    }

    /// Acts on how the greeting ended, if it has.
    pub(crate) fn on_greeting(&mut self, now: Instant, peer: PeerId) {
        let link = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut());
        match link.and_then(|link| link.greeting.poll_event()) {
            Some(Greeted::Known(_)) => self.on_known(now, peer),
            Some(Greeted::Refused(refusal)) => self.refuse_hello(now, peer, &refusal.to_string()),
            None => {}
        }
    }

    fn on_known(&mut self, now: Instant, peer: PeerId) {
        self.timers.clear(Timer::Hello(peer));
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(link) = entry.link.as_mut() else { return };
        if !link.step(LinkStep::Hello) {
            return;
        }
        let (connection, via, dialed) = (link.connection, link.via, link.dialed);
        let introduces = link.introduces();
        let unasked = !entry.wanted && !dialed;
        entry.failures = 0;
        entry.ended = None;
        let streams = !entry.unaccepted.is_empty();
        if let Some(path) = self.children.quic.path(connection) {
            self.tell(Event::Connected { peer, path, via, dialed });
        }
        if unasked {
            // A peer that comes back before it was accepted has its place already.
            if !self.out.accepted.iter().any(|waiting| *waiting == peer) {
                let dropped = self.out.accepted.push_evicting(peer);
                self.counters.accepts_dropped += u64::from(dropped.is_some());
            }
            self.tell(Event::Incoming { peer });
        }
        if streams {
            self.tell(Event::StreamsReady { peer });
        }
        self.hand_out_pass(now, peer);
        self.name_witness(now, peer);
        if introduces {
            if let Some(server) = self.address_of(peer) {
                self.gather_from(now, server);
            }
            self.on_introducer(now);
        }
    }

    fn refuse_hello(&mut self, now: Instant, peer: PeerId, why: &str) {
        self.counters.refused_hellos += 1;
        self.close_link(now, peer, close::HELLO, why.as_bytes(), LostCause::Broken(why.into()));
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.ended = Some(Error::Connect(ConnectError::Hello(why.into())));
        }
    }

    /// The application closes the link: deliver what was accepted, then say goodbye.
    pub(crate) fn close_peer(&mut self, now: Instant, peer: PeerId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let waits = core::mem::replace(&mut entry.wanted, false);
        let attempt = self.take_attempt(peer);
        self.timers.clear(Timer::Retry(peer));
        if let Some(attempt) = &attempt {
            self.drop_attempt(now, attempt);
        }
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(link) = entry.link.as_mut() else {
            if waits || attempt.is_some() {
                entry.ended = Some(Error::Connect(ConnectError::Cancelled));
                self.tell(Event::Failed { peer, cause: ConnectError::Cancelled });
            }
            return;
        };
        if !link.step(LinkStep::Close) {
            return;
        }
        let connection = link.connection;
        self.timers.set(Timer::Close(peer), now + self.config.limits.close_timeout);
        self.closing.links.insert(peer);
        for stream in self.streams.of(connection) {
            self.finish_stream(stream);
        }
        // No more streams can be opened: whoever waits for that learns it.
        self.tell(Event::StreamsReady { peer });
    }

    /// Ends links whose last byte was acknowledged.
    pub(crate) fn finish_closing(&mut self, now: Instant) {
        if self.closing.links.is_empty() {
            return;
        }
        for peer in self.closing.links.iter().copied().collect::<Vec<_>>() {
            if self.is_delivered_to(now, peer) {
                self.close_link(now, peer, close::GOODBYE, b"goodbye", LostCause::ClosedByUs);
            }
        }
    }

    /// Whether the peer has acknowledged everything. Its control stream ends last, once nothing else
    /// is queued.
    fn is_delivered_to(&mut self, now: Instant, peer: PeerId) -> bool {
        let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.link.as_mut()) else {
            return false;
        };
        if link.control.queue.pending() > 0 || self.streams.has_pending(link.connection) {
            return false;
        }
        if let Outlet::Open(stream) = link.control.outgoing {
            link.control.outgoing = Outlet::Ended(stream);
            // An error means that the connection is gone; its own event follows.
            let _ = self.children.quic.finish(now, link.connection, stream);
        }
        !self.children.quic.has_unacknowledged(link.connection)
    }

    /// Ends the link at once; what had arrived stays readable.
    pub(crate) fn close_link(
        &mut self,
        now: Instant,
        peer: PeerId,
        code: u32,
        reason: &[u8],
        cause: LostCause,
    ) {
        let Some(link) = self.peers.get(&peer).and_then(|entry| entry.link.as_ref()) else { return };
        let connection = link.connection;
        self.on_link_lost(now, peer, cause);
        self.children.quic.close(now, connection, code, reason);
    }

    /// The link is gone, whoever ended it.
    pub(crate) fn on_link_lost(&mut self, now: Instant, peer: PeerId, cause: LostCause) {
        let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.link.take()) else { return };
        let (was_open, introduced) = (link.hello().is_some(), link.introduces());
        self.connections.remove(&link.connection);
        self.rescue_streams(now, link.connection, &cause);
        if let Some(id) = link.ice {
            self.remove_agent(id);
        }
        self.timers.clear(Timer::Close(peer));
        self.timers.clear(Timer::Hello(peer));
        self.timers.clear(Timer::Pass(peer));
        self.children.nat.forget_witness(peer);
        self.timers.clear(Timer::Repair(peer));
        self.closing.links.remove(&peer);
        let reconnecting = self.is_missed(peer, &cause, was_open);
        self.children.relays.on_link_lost(peer, reconnecting || cause == LostCause::Replaced);
        let replaced = cause == LostCause::Replaced;
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let connect_error = ConnectError::Handshake(cause.to_string());
        entry.ended = Some(if was_open || reconnecting || replaced {
            Error::Lost(cause.clone())
        } else {
            Error::Connect(connect_error.clone())
        });
        entry.wanted &= reconnecting || replaced;
        entry.failures = entry.failures.saturating_add(1);
        let wait = entry.retry_wait(crate::connect::RETRY_MIN, self.config.limits.retry_max);
        let retry = reconnecting && entry.attempt.is_none();
        if was_open {
            self.tell(Event::Lost { peer, cause, reconnecting });
        } else if !replaced {
            self.tell(Event::Failed { peer, cause: connect_error });
        }
        if retry {
            self.timers.set(Timer::Retry(peer), now + wait);
            self.progress(peer, Progress::RetryIn(wait));
        }
        if introduced {
            self.on_introducer_lost(now, peer);
        }
    }

    /// Whether a lost link is to be brought back: the application still asks for the peer (after its own
    /// close: again), and neither has the peer dismissed us nor was it a stranger to begin with.
    fn is_missed(&self, peer: PeerId, cause: &LostCause, was_open: bool) -> bool {
        let Some(entry) = self.peers.get(&peer) else { return false };
        if !entry.wanted || self.closing.node {
            return false;
        }
        let listens = !entry.addresses.is_empty();
        match cause {
            LostCause::Replaced => false,
            LostCause::ClosedByUs => true,
            // Each side kept another connection than the other: neither meant to leave.
            LostCause::ClosedByPeer { code, .. } if *code == u64::from(close::REPLACED) => true,
            LostCause::ClosedByPeer { .. } => listens,
            LostCause::TimedOut | LostCause::Broken(_) => {
                was_open || listens || matches!(entry.ended, Some(Error::Lost(_)))
            }
        }
    }

    /// Takes everything that had arrived out of QUIC, and wakes whoever waits on a stream.
    fn rescue_streams(&mut self, now: Instant, connection: ConnectionId, cause: &LostCause) {
        for stream in self.streams.of(connection) {
            let mut rescued = Vec::new();
            let read = self.children.quic.read_chunks(now, connection, stream.id, usize::MAX, &mut rescued);
            let end = match read {
                Ok(true) => Some(Error::Finished),
                Err(StreamError::Reset(code)) => Some(Error::Abandoned(code)),
                // It ends where the connection did.
                Ok(false) | Err(_) => None,
            };
            self.counters.ended_streams_forgotten += self.streams.end(stream, cause, rescued, end);
            self.tell(Event::Readable { stream });
            self.tell(Event::Writable { stream });
        }
    }

    /// Ends our half of a stream: what is queued still leaves.
    pub(crate) fn finish_stream(&mut self, stream: Stream) {
        let Ok(state) = self.streams.get_mut(stream) else { return };
        match core::mem::replace(&mut state.sending, Sending::Finished) {
            Sending::Open(out) => state.sending = Sending::Finishing(out),
            other => state.sending = other,
        }
        self.streams.mark_dirty(stream);
    }

    /// Opens an application stream on an open link.
    pub(crate) fn open_stream(
        &mut self,
        now: Instant,
        peer: PeerId,
        direction: Direction,
    ) -> Result<Option<Stream>, Error> {
        let connection = self.link_of(peer)?;
        let Ok(Some(id)) = self.children.quic.open(now, connection, direction) else { return Ok(None) };
        let stream = Stream { connection, id };
        self.streams.insert(stream, StreamState::new(direction, true, self.config.limits.message_max));
        Ok(Some(stream))
    }

    /// The connection of an open link, or why there is none.
    pub(crate) fn link_of(&self, peer: PeerId) -> Result<ConnectionId, Error> {
        let Some(entry) = self.peers.get(&peer) else { return Err(Error::NotConnected(peer)) };
        match entry.open_link() {
            Some(link) => Ok(link.connection),
            None => Err(entry.ended.clone().unwrap_or(Error::NotConnected(peer))),
        }
    }

    /// The stream that carries the peer's control messages, so that its events are not told.
    pub(crate) fn is_control(&self, connection: ConnectionId, stream: StreamId) -> bool {
        let link = self.connections.get(&connection).and_then(|peer| self.peers.get(peer)?.link.as_ref());
        link.is_some_and(|link| link.control.includes(stream))
    }
}

/// Bytes of control messages queued for one peer; beyond, new ones are dropped.
pub const CONTROL_QUEUE_MAX: usize = 64 * 1_024;
