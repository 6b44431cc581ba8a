//! What follows from every touch of a connection: its events, its deadline, its turn to send.

use gimlet_machine::Instant;
use quinn_proto::{ConnectionError, StreamEvent};
use std::time::Duration;

use crate::event::Cause;
use crate::session::{Origin, Session};
use crate::state::Phase;
use crate::stream::from_dir;
use crate::{ConnectionId, Endpoint, Event, StreamId};

impl Endpoint {
    /// Carries messages between quinn-proto's halves, tells the owner what happened, and arms the
    /// deadline.
    pub(super) fn settle(&mut self, now: Instant, id: ConnectionId) {
        let Some(link) = self.table.get_mut(id).and_then(|session| session.link.as_mut()) else { return };
        let mut drained = false;
        while let Some(event) = link.connection.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(reply) = self.engine.quic.handle_event(link.handle, event) {
                link.connection.handle_event(reply);
            }
        }
        while let Some(event) = self.poll_connection(id) {
            self.on_connection_event(id, event);
        }
        if drained {
            self.on_drained(id);
            return;
        }
        self.follow(id);
        self.rearm(now, id);
        self.wake(id);
    }

    /// Arms the deadline of `id`, strictly after `now`: quinn-proto's pacer may want to wait for less
    /// than a nanosecond, and a deadline that is already due would never let time move on.
    pub(super) fn rearm(&mut self, now: Instant, id: ConnectionId) {
        let Some(session) = self.table.get_mut(id).filter(|session| session.phase != Phase::Drained) else {
            return;
        };
        let Some(link) = session.link.as_mut() else { return };
        let at = link.connection.poll_timeout();
        let soonest = now + Duration::from_nanos(1);
        let at = at.map(|at| self.engine.clock.translate(at).max(soonest));
        self.table.set_deadline(id, at);
    }

    /// Gives `id` a turn to send, if it has a path.
    pub(super) fn wake(&mut self, id: ConnectionId) {
        let Some(session) = self.table.get_mut(id) else { return };
        let can_send = session.link.is_some() && session.phase != Phase::Drained;
        if can_send && !session.queued && session.routes.can_send() {
            session.queued = true;
            self.active.push_back(id);
        }
    }

    fn poll_connection(&mut self, id: ConnectionId) -> Option<quinn_proto::Event> {
        self.table.get_mut(id)?.link.as_mut()?.connection.poll()
    }

    fn on_connection_event(&mut self, id: ConnectionId, event: quinn_proto::Event) {
        match event {
            quinn_proto::Event::HandshakeDataReady => {}
            quinn_proto::Event::Connected => self.on_connected(id),
            quinn_proto::Event::ConnectionLost { reason } => self.on_lost(id, reason),
            quinn_proto::Event::Stream(event) => self.tell(id, stream_event(id, &event)),
            quinn_proto::Event::DatagramReceived => self.tell(id, Event::DatagramReceived { id }),
            quinn_proto::Event::DatagramsUnblocked => self.tell(id, Event::DatagramsWritable { id }),
        }
    }

    fn on_connected(&mut self, id: ConnectionId) {
        let Some(session) = self.table.get_mut(id) else { return };
        let dialed = session.origin == Origin::Dialed;
        // The verifiers accept nothing but an Ed25519 key, so there is always somebody.
        let Some(peer) = session.establish() else {
            debug_assert!(false, "a handshake without an identity");
            return;
        };
        self.lobby.strangers.retain(|stranger| *stranger != id);
        self.events.push_back(Event::Connected { id, peer, dialed });
    }

    fn on_lost(&mut self, id: ConnectionId, error: ConnectionError) {
        let Some(session) = self.table.get_mut(id) else { return };
        let wrong_peer = session.refusal.happened();
        session.end();
        let (announced, peer) = (session.announced, session.peer);
        self.counters.wrong_peer += u64::from(wrong_peer);
        match Cause::from_quinn(error, wrong_peer) {
            Some(cause) if announced => self.events.push_back(Event::Lost { id, peer, cause }),
            Some(_) => self.counters.handshakes_failed += 1,
            None => {}
        }
    }

    fn on_drained(&mut self, id: ConnectionId) {
        let Some(session) = self.table.get_mut(id) else { return };
        session.phase = session.phase.drain().expect("quinn-proto drains a connection once");
        let handle = session.link.as_ref().map(|link| link.handle);
        let announced = session.announced;
        if let Some(handle) = handle {
            self.table.release(handle, id);
        }
        self.table.set_deadline(id, None);
        if announced {
            // The session stays until the owner has polled this, so that it can read what arrived.
            self.events.push_back(Event::Drained { id });
        } else {
            self.forget(id);
        }
    }

    /// Sends where quinn-proto decided that a roaming peer is.
    fn follow(&mut self, id: ConnectionId) {
        let Some(session) = self.table.get_mut(id) else { return };
        let Some(address) = session.link.as_ref().map(|link| link.connection.remote_address()) else {
            return;
        };
        if let Some(path) = session.routes.follow(address) {
            self.tell(id, Event::Moved { id, path });
        }
    }

    /// Tells the owner something about a connection that it knows. Repetitions of what it has not
    /// polled yet are left out: a burst of packets on one stream makes one event.
    fn tell(&mut self, id: ConnectionId, event: Event) {
        let known = self.table.get(id).is_some_and(Session::was_established);
        if known && self.events.back() != Some(&event) {
            self.events.push_back(event);
        }
    }
}

fn stream_event(id: ConnectionId, event: &StreamEvent) -> Event {
    let stream = StreamId::from_quinn;
    match *event {
        StreamEvent::Opened { dir } => Event::StreamOpened { id, direction: from_dir(dir) },
        StreamEvent::Available { dir } => Event::StreamsAvailable { id, direction: from_dir(dir) },
        StreamEvent::Readable { id: of } => Event::Readable { id, stream: stream(of) },
        StreamEvent::Writable { id: of } => Event::Writable { id, stream: stream(of) },
        StreamEvent::Finished { id: of } => Event::Finished { id, stream: stream(of) },
        StreamEvent::Stopped { id: of, error_code } => {
            Event::Stopped { id, stream: stream(of), code: error_code.into_inner() }
        }
    }
}
