//! Settling: children's events become commands to their siblings until the family is quiet.

use bytes::Bytes;
use gimlet_ice::Event as IceEvent;
use gimlet_machine::{Id, Instant, Machine};
use gimlet_quic::{Cause, ConnectionId, Event as QuicEvent, StreamId};

use crate::error::{ConnectError, Error, LostCause};
use crate::event::{Event, Progress};
use crate::node::Node;
use crate::peer::Ice;
use crate::streams::{Receiving, Sending, Stream};

/// Rounds of settling after one touch. Each round handles everything that is pending, and each event
/// causes only a bounded number of commands; reaching this is a defect of ours.
const SETTLE_ROUNDS_MAX: usize = 1_000;

/// Bytes taken out of QUIC at a time for one stream: what a reader that stops reading keeps here
/// rather than in QUIC's window.
const READ_MAX: usize = 1 << 20;

impl Node {
    pub(crate) fn settle(&mut self, now: Instant) {
        self.streams.touched = now;
        for _ in 0..SETTLE_ROUNDS_MAX {
            if !self.settle_round(now) {
                return;
            }
        }
        debug_assert!(false, "the children of a node never fell quiet");
    }

    fn settle_round(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some(event) = self.children.quic.poll_event() {
            self.on_quic(now, event);
            busy = true;
        }
        while let Some((relay, event)) = self.children.relays.poll_event() {
            self.on_turn(now, relay, event);
            busy = true;
        }
        while let Some(event) = self.children.stun.poll_event() {
            self.on_stun(now, &event);
            busy = true;
        }
        while let Some((id, event)) = self.next_ice_event() {
            self.on_ice(now, id, event);
            busy = true;
        }
        self.finish_closing(now);
        self.tell_relays(now);
        if self.has_said_goodbye() {
            self.stop_sampling();
            self.close_witnesses();
        }
        busy |= self.settle_streams(now);
        self.settle_relay(now) || busy
    }

    fn next_ice_event(&mut self) -> Option<(Id<Ice>, IceEvent)> {
        self.children.ice.iter_mut().find_map(|(id, ice)| ice.agent.poll_event().map(|event| (id, event)))
    }

    fn on_ice(&mut self, now: Instant, id: Id<Ice>, event: IceEvent) {
        match event {
            IceEvent::PathValid { path, rtt } => self.on_path_valid(now, id, path, rtt),
            IceEvent::PathSelected { path } => self.on_path_selected(now, id, path),
            IceEvent::Failed { .. } => {
                let peer = self.children.ice.get(id).map(|ice| ice.peer);
                let attempt = peer.and_then(|peer| self.peers.get(&peer)?.attempt.as_ref());
                let ours =
                    attempt.is_some_and(|attempt| attempt.ice == Some(id)) && !self.awaits_punch(now, id);
                if let (Some(peer), true) = (peer, ours) {
                    self.fail(now, peer, ConnectError::NoPath);
                }
            }
            IceEvent::RemotePeerReflexive { .. } => self.children.relays.mark_stale(),
            // ICE moves if it can, and says so. If it cannot, both ends begin anew; QUIC's idle timeout decides
            // whether the connection outlives that.
            IceEvent::PathSuspect { path } => self.on_path_doubted(now, id, Progress::PathSuspect(path)),
            IceEvent::ConsentExpired { path } => self.on_path_doubted(now, id, Progress::PathLost(path)),
            IceEvent::LocalPeerReflexive { address } => self.on_seen_by_peer(now, id, address),
            IceEvent::Punch(event) => self.on_punch(now, id, event),
            // A node neither hides its addresses nor takes lines with names: it speaks no mDNS.
            IceEvent::PublishName { .. }
            | IceEvent::ResolveName { .. }
            | IceEvent::StateChanged(_)
            | IceEvent::RoleChanged(_) => {}
        }
    }

    pub(crate) fn on_quic(&mut self, now: Instant, event: QuicEvent) {
        match event {
            QuicEvent::Connected { id, peer, dialed } => self.on_connected(now, id, peer, dialed),
            QuicEvent::Lost { id, cause, .. } => self.on_lost(now, id, cause),
            QuicEvent::Moved { id, path } => {
                if let Some(&peer) = self.connections.get(&id) {
                    self.tell(Event::PathChanged { peer, path });
                }
            }
            QuicEvent::Silent { id, .. } => self.on_silence(now, id),
            QuicEvent::StreamOpened { id, .. } => self.accept_streams(now, id),
            QuicEvent::StreamsAvailable { id, .. } => {
                if let Some(&peer) = self.connections.get(&id) {
                    self.flush_control(now, peer);
                    self.tell(Event::StreamsReady { peer });
                }
            }
            QuicEvent::Readable { id, stream } if self.is_control(id, stream) => self.read_control(now, id),
            QuicEvent::Readable { id, stream } => {
                self.tell(Event::Readable { stream: Stream { connection: id, id: stream } });
            }
            QuicEvent::Writable { id, stream } if self.is_control(id, stream) => {
                if let Some(&peer) = self.connections.get(&id) {
                    self.flush_control(now, peer);
                }
            }
            QuicEvent::Writable { id, stream } => {
                self.streams.mark_dirty(Stream { connection: id, id: stream });
            }
            QuicEvent::Finished { id, stream } => self.on_delivered(id, stream),
            QuicEvent::Stopped { id, stream, code } => self.on_stopped(now, id, stream, code),
            QuicEvent::DatagramReceived { id } => {
                if let Some(&peer) = self.connections.get(&id) {
                    self.tell(Event::DatagramReceived { peer });
                }
            }
            QuicEvent::Drained { .. } | QuicEvent::DatagramsWritable { .. } => {}
        }
    }

    /// Data brings nothing back: the agent asks whether the path still works before its consent is due.
    fn on_silence(&mut self, now: Instant, connection: ConnectionId) {
        let ours = |(_, ice): &(Id<Ice>, &mut Ice)| ice.connection == Some(connection);
        if let Some((_, ice)) = self.children.ice.iter_mut().find(ours) {
            ice.agent.report_silence(now);
        }
    }

    fn on_lost(&mut self, now: Instant, id: ConnectionId, cause: Cause) {
        let Some(peer) = self.connections.remove(&id) else { return };
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.link.as_ref().is_some_and(|link| link.connection == id) {
            return self.on_link_lost(now, peer, lost_cause(cause));
        }
        if let Some(attempt) = entry.attempt.as_mut().filter(|attempt| attempt.connection == Some(id)) {
            attempt.connection = None;
            self.fail(now, peer, connect_error(cause));
        }
    }

    fn on_delivered(&mut self, connection: ConnectionId, id: StreamId) {
        let stream = Stream { connection, id };
        if let Ok(state) = self.streams.get_mut(stream) {
            state.sending = Sending::Delivered;
            self.streams.keep_if_over(stream);
            self.tell(Event::Writable { stream });
        }
    }

    /// RFC 9000 §3.5: a stream that the peer stopped is reset, and only then is it over for QUIC.
    fn on_stopped(&mut self, now: Instant, connection: ConnectionId, id: StreamId, code: u64) {
        let stream = Stream { connection, id };
        // An error means that our half was reset already.
        let _ = self.children.quic.reset(now, connection, id, u32::try_from(code).unwrap_or(u32::MAX));
        if let Ok(state) = self.streams.get_mut(stream) {
            state.sending = Sending::Closed(Error::Abandoned(code));
            self.streams.keep_if_over(stream);
            self.tell(Event::Writable { stream });
        }
    }

    /// Hands queued bytes of streams to QUIC, in pieces as large as they are. Runs when the owner
    /// begins to drain, so that many small messages share a write.
    pub(crate) fn flush(&mut self, now: Instant) {
        while let Some(stream) = self.streams.next_dirty() {
            self.flush_stream(now, stream);
        }
    }

    fn flush_stream(&mut self, now: Instant, stream: Stream) {
        let buffer_max = self.config.limits.stream_buffer_max;
        let quic = &mut self.children.quic;
        let Ok(state) = self.streams.get_mut(stream) else { return };
        let finishing = matches!(state.sending, Sending::Finishing(_));
        let (Sending::Open(out) | Sending::Finishing(out)) = &mut state.sending else { return };
        let mut failed = None;
        while out.pending() > 0 {
            let mut chunk = [out.take()];
            if let Err(error) = quic.write(now, stream.connection, stream.id, &mut chunk) {
                failed = Some(stream_error(&error));
                break;
            }
            let [rest] = chunk;
            if !rest.is_empty() {
                out.put_back(rest);
                break;
            }
        }
        let wakes = out.has_made_room(buffer_max) || failed.is_some();
        if let Some(error) = failed {
            // What QUIC will not take is not delivered: the peer stopped the stream or is gone, and the
            // event that says so follows.
            state.sending = Sending::Closed(error);
            self.streams.keep_if_over(stream);
        } else if finishing && state.pending() == 0 {
            // The end is marked; a stream that is gone already has told why by its own event.
            let _ = quic.finish(now, stream.connection, stream.id);
            state.sending = Sending::Finished;
        }
        if wakes {
            self.tell(Event::Writable { stream });
        }
    }

    /// The next chunk of a stream. What QUIC has is taken out in one go.
    pub(crate) fn next_chunk(&mut self, now: Instant, stream: Stream) -> Result<Option<Bytes>, Error> {
        let state = self.streams.get_mut(stream)?;
        let incoming = match &mut state.receiving {
            Receiving::Open(incoming) => incoming,
            Receiving::Closed(error) => return Err(error.clone()),
        };
        if incoming.arrived.is_empty() && incoming.end.is_none() {
            let quic = &mut self.children.quic;
            let read = quic.read_chunks(now, stream.connection, stream.id, READ_MAX, &mut incoming.scratch);
            incoming.end = match read {
                Ok(ended) => ended.then_some(Error::Finished),
                Err(error) => Some(stream_error(&error)),
            };
            incoming.arrived.extend(incoming.scratch.drain(..));
        }
        if let Some(chunk) = incoming.arrived.pop_front() {
            return Ok(Some(chunk));
        }
        let Some(end) = incoming.end.take() else { return Ok(None) };
        state.receiving = Receiving::Closed(end.clone());
        Err(end)
    }
}

pub(crate) fn stream_error(error: &gimlet_quic::StreamError) -> Error {
    use gimlet_quic::StreamError as E;
    match error {
        E::Stopped(code) | E::Reset(code) => Error::Abandoned(*code),
        E::WrongDirection => Error::AlreadyFinished,
        other => Error::Lost(LostCause::Broken(other.to_string())),
    }
}

fn lost_cause(cause: Cause) -> LostCause {
    match cause {
        Cause::Closed { code, reason } => {
            LostCause::ClosedByPeer { code, reason: String::from_utf8_lossy(&reason).into_owned() }
        }
        Cause::TimedOut => LostCause::TimedOut,
        other => LostCause::Broken(other.to_string()),
    }
}

fn connect_error(cause: Cause) -> ConnectError {
    match cause {
        Cause::WrongPeer => ConnectError::WrongPeer,
        Cause::TimedOut => ConnectError::HandshakeTimeout,
        other => ConnectError::Handshake(other.to_string()),
    }
}
