//! The application's verbs: [`Session`] for nodes.

use bytes::Bytes;
use gimlet_machine::{Direction, Instant, Interest, PeerId, Session};
use gimlet_quic::DatagramError;

use crate::error::{Error, LostCause};
use crate::event::Event;
use crate::node::Node;
use crate::streams::{Receiving, Sending, Stream};

impl Session for Node {
    type Peer = PeerId;
    type Stream = Stream;
    type Error = Error;

    fn connect(&mut self, now: Instant, peer: PeerId) -> Result<(), Error> {
        self.connect_to(now, peer)
    }

    fn is_connected(&self, peer: PeerId) -> Result<bool, Error> {
        let Some(entry) = self.peers.get(&peer) else { return Err(Error::NotConnected(peer)) };
        let under_way = entry.attempt.is_some()
            || entry.link.as_ref().is_some_and(|link| link.hello().is_none())
            || entry.wanted;
        match (entry.open_link().is_some(), under_way) {
            (true, _) => Ok(true),
            (false, true) => Ok(false),
            (false, false) => Err(entry.ended.clone().unwrap_or(Error::NotConnected(peer))),
        }
    }

    fn accept(&mut self, _now: Instant) -> Option<PeerId> {
        self.out.accepted.pop()
    }

    fn open(&mut self, now: Instant, peer: PeerId, direction: Direction) -> Result<Option<Stream>, Error> {
        self.open_stream(now, peer, direction)
    }

    fn accept_stream(&mut self, _now: Instant, peer: PeerId) -> Result<Option<Stream>, Error> {
        let entry = self.peers.get_mut(&peer).ok_or(Error::NotConnected(peer))?;
        let greeted = entry.link.as_ref().is_none_or(|link| link.hello().is_some());
        if greeted && let Some(stream) = entry.unaccepted.pop() {
            return Ok(Some(stream));
        }
        if entry.link.is_some() {
            return Ok(None);
        }
        Err(entry.ended.clone().unwrap_or(Error::NotConnected(peer)))
    }

    fn send(&mut self, now: Instant, stream: Stream, message: &[u8]) -> Result<bool, Error> {
        self.streams.touched = now;
        let (length, max) = (message.len(), self.config.limits.message_max);
        if length > max {
            return Err(Error::MessageTooLong { length, max });
        }
        let taken =
            self.streams.outgoing(stream)?.push_message(message, self.config.limits.stream_buffer_max)?;
        self.streams.mark_dirty(stream);
        Ok(taken)
    }

    fn receive(&mut self, now: Instant, stream: Stream) -> Result<Option<Bytes>, Error> {
        loop {
            if let Receiving::Open(incoming) = &mut self.streams.get_mut(stream)?.receiving
                && let Some(message) = incoming.decoder.poll()
            {
                return message.map(Some).map_err(|error| self.break_framing(now, stream, &error));
            }
            let cut_off = self.is_cut_off(stream);
            match self.next_chunk(now, stream) {
                Ok(Some(chunk)) => {
                    if let Receiving::Open(incoming) = &mut self.streams.get_mut(stream)?.receiving {
                        incoming.decoder.push(chunk);
                    }
                }
                Ok(None) => return Ok(None),
                Err(Error::Finished) if cut_off => {
                    self.streams.keep_if_over(stream);
                    return Err(Error::Framing("the stream ended inside a message".into()));
                }
                Err(error) => {
                    self.streams.keep_if_over(stream);
                    return Err(error);
                }
            }
        }
    }

    fn write(&mut self, now: Instant, stream: Stream, bytes: &[u8]) -> Result<usize, Error> {
        self.streams.touched = now;
        let buffer_max = self.config.limits.stream_buffer_max;
        let taken = self.streams.outgoing(stream)?.push_bytes(bytes, buffer_max);
        self.streams.mark_dirty(stream);
        Ok(taken)
    }

    fn read(&mut self, now: Instant, stream: Stream, max: usize) -> Result<Option<Bytes>, Error> {
        // An empty chunk means the end, so nobody gets one for asking for nothing.
        let max = max.max(1);
        match self.next_chunk(now, stream) {
            Ok(Some(mut chunk)) => {
                if chunk.len() > max {
                    self.streams.put_back(stream, chunk.split_off(max));
                }
                Ok(Some(chunk))
            }
            Ok(None) => Ok(None),
            Err(Error::Finished) => {
                self.streams.keep_if_over(stream);
                Ok(Some(Bytes::new()))
            }
            Err(error) => {
                self.streams.keep_if_over(stream);
                Err(error)
            }
        }
    }

    fn finish(&mut self, now: Instant, stream: Stream) -> Result<(), Error> {
        self.streams.touched = now;
        self.streams.outgoing(stream)?;
        self.finish_stream(stream);
        Ok(())
    }

    fn is_delivered(&self, stream: Stream) -> Result<bool, Error> {
        match &self.streams.get(stream)?.sending {
            Sending::Open(_) | Sending::Finishing(_) | Sending::Finished => Ok(false),
            Sending::Delivered => Ok(true),
            Sending::Closed(error) => Err(error.clone()),
        }
    }

    fn abandon(&mut self, now: Instant, stream: Stream, code: u32) {
        if self.drop_stream(now, stream, code) {
            // Whoever waits on it in another task learns that it is gone.
            self.tell(Event::Readable { stream });
            self.tell(Event::Writable { stream });
        }
    }

    fn send_datagram(&mut self, now: Instant, peer: PeerId, bytes: &[u8]) -> Result<bool, Error> {
        let connection = self.link_of(peer)?;
        match self.children.quic.send_datagram(now, connection, Bytes::copy_from_slice(bytes)) {
            Ok(taken) => Ok(taken),
            Err(DatagramError::TooLarge { .. } | DatagramError::Unsupported) => Err(Error::DatagramTooLong),
            Err(other) => Err(Error::Lost(LostCause::Broken(other.to_string()))),
        }
    }

    fn receive_datagram(&mut self, now: Instant, peer: PeerId) -> Result<Option<Bytes>, Error> {
        let connection = self.link_of(peer)?;
        self.children
            .quic
            .receive_datagram(now, connection)
            .map_err(|error| Error::Lost(LostCause::Broken(error.to_string())))
    }

    fn close(&mut self, now: Instant, peer: PeerId) {
        self.close_peer(now, peer);
        self.flush(now);
        self.settle(now);
    }

    fn close_all(&mut self, now: Instant) {
        self.closing.node = true;
        self.stop_gathering();
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.close_peer(now, peer);
        }
        self.flush(now);
        self.settle(now);
    }

    fn is_closed(&self) -> bool {
        // The last goodbye may have to leave through a relay, which is let go after that.
        let relays = &self.children.relays;
        let released = relays.is_released() && !relays.has_unwritten() && !self.out.requests.is_waiting();
        self.has_said_goodbye() && released
    }

    fn wakes(event: &Event) -> Option<Interest<PeerId, Stream>> {
        match event {
            Event::Connected { peer, .. } | Event::Failed { peer, .. } | Event::Lost { peer, .. } => {
                Some(Interest::Peer(*peer))
            }
            Event::Incoming { .. } => Some(Interest::Accept),
            Event::StreamsReady { peer } => Some(Interest::Streams(*peer)),
            Event::Readable { stream } => Some(Interest::Readable(*stream)),
            Event::Writable { stream } => Some(Interest::Writable(*stream)),
            Event::DatagramReceived { peer } => Some(Interest::Datagrams(*peer)),
            Event::PathChanged { .. } | Event::Progress { .. } => None,
        }
    }
}

impl Node {
    /// Abandons both halves of a stream and forgets it; says whether it was there.
    pub(crate) fn drop_stream(&mut self, now: Instant, stream: Stream, code: u32) -> bool {
        let known = self.streams.remove(stream);
        if known {
            // Either half may be over already; then there is nothing to abandon on it.
            let _ = self.children.quic.reset(now, stream.connection, stream.id, code);
            let _ = self.children.quic.stop(now, stream.connection, stream.id, code);
        }
        known
    }

    /// The stream's bytes are not messages: nothing after this point can be understood.
    fn break_framing(&mut self, now: Instant, stream: Stream, error: &gimlet_frame::FrameError) -> Error {
        let error = Error::Framing(error.to_string());
        let _ = self.children.quic.stop(now, stream.connection, stream.id, crate::close::CONTROL);
        if let Ok(state) = self.streams.get_mut(stream) {
            state.receiving = Receiving::Closed(error.clone());
        }
        self.streams.keep_if_over(stream);
        error
    }

    /// Whether the stream stands inside a message.
    fn is_cut_off(&self, stream: Stream) -> bool {
        match self.streams.get(stream).map(|state| &state.receiving) {
            Ok(Receiving::Open(incoming)) => incoming.decoder.end().is_err(),
            Ok(Receiving::Closed(_)) | Err(_) => false,
        }
    }
}
