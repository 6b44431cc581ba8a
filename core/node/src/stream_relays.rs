//! Relays over TCP and TLS: what they send and what they are sent.
//!
//! A datagram that ICE or QUIC writes for such a relay leaves by [`Request::Write`] and not by `poll_transmit`. So
//! both are asked for their output when the driver asks for requests; what turns out to leave over UDP is held until
//! the driver asks for that.

use gimlet_machine::{
    Answer, Buf, Deadline, Ecn, FourTuple, Input, Instant, Machine, Path, Request, SocketId, Transmit,
};
use gimlet_turn::AllocationState;

use crate::config::Outside;
use crate::event::Progress;
use crate::node::{Node, Outbox};
use crate::relay::Relay;
use crate::relay_stream::{RelayStream, StreamFailure, stream_flow};
use crate::relays::Relays;
use crate::requests::Requests;

/// How much of a stream the TURN client is given at a time. Its events are drained after each piece, so that what
/// one piece brings fits among them, unless datagrams are nearly empty. Bytes.
const PIECE: usize = 4_096;

/// A datagram over UDP that waits for the driver to ask for one.
#[derive(Debug)]
pub(crate) struct Held {
    transmit: Transmit<FourTuple>,
    bytes: Vec<u8>,
}

impl Outbox {
    /// The datagram that waits, if any. It is no train, and as long as a datagram may be; if there is no room
    /// even so, there is none for anything, and it is lost as the network loses datagrams.
    pub(crate) fn take_held(&mut self, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let held = self.held.take()?;
        out.put(&held.bytes).then_some(held.transmit)
    }
}

impl Relays {
    fn with_socket(&mut self, id: SocketId) -> Option<&mut Relay> {
        let has = |relay: &&mut Relay| relay.stream.as_ref().is_some_and(|it| it.socket() == Some(id));
        self.clients.iter_mut().find(has)
    }

    fn streams(&self) -> impl Iterator<Item = &RelayStream> {
        self.clients.iter().filter_map(|relay| relay.stream.as_deref())
    }

    /// Asks the driver for connections, and hands requests of clients to those that stand; whether anything
    /// happened that others may mind.
    fn settle_streams(&mut self, now: Instant, requests: &mut Requests) -> bool {
        let mut busy = false;
        for relay in self.clients.iter_mut().filter(|relay| relay.stream.is_some()) {
            relay.write_requests(now);
            busy |= relay.stream.as_mut().is_some_and(|stream| stream.settle(now, requests));
        }
        busy
    }

    /// Why a connection ended, and to which relay. Whoever takes it has the client know.
    fn poll_stream_failure(&mut self) -> Option<(FourTuple, StreamFailure)> {
        self.clients.iter_mut().find_map(|relay| {
            let failure = relay.stream.as_mut()?.poll_failure()?;
            relay.hopeless |= failure.is_final();
            relay.client.disconnected();
            Some((relay.client.relay(), failure))
        })
    }

    /// What became of a connection. Returns what the relay said, and which.
    fn on_stream_answer(
        &mut self,
        now: Instant,
        outside: &Outside,
        answer: &Answer<'_>,
    ) -> Option<(FourTuple, Vec<u8>)> {
        let relay = self.with_socket(answer.id())?;
        let stream = relay.stream.as_mut()?;
        let before = stream.is_open();
        let said = stream.on_answer(now, outside, answer);
        if !before && stream.is_open() {
            relay.client.reconnected(now, stream_flow(relay.client.relay().remote));
            relay.ask_first(now);
        }
        Some((relay.client.relay(), said))
    }

    /// A piece of what the relay on `flow` said.
    fn on_piece(&mut self, now: Instant, flow: FourTuple, bytes: &mut [u8]) {
        if let Some(relay) = self.on_flow(flow) {
            let path = Path::Direct(flow);
            relay.client.handle_input(now, Input { path, ecn: Ecn::NotEct, bytes });
        }
    }

    /// Writes datagrams, framed, to the relay on `flow`; `false`: they are lost.
    pub(crate) fn write_datagrams(&mut self, flow: FourTuple, frames: &[u8]) -> bool {
        let stream = self.on_flow(flow).and_then(|relay| relay.stream.as_mut());
        stream.is_some_and(|stream| stream.write_datagrams(frames))
    }

    /// What the driver is to write next.
    pub(crate) fn poll_write(&mut self) -> Option<Request> {
        self.clients.iter_mut().find_map(|relay| relay.stream.as_mut()?.poll_write())
    }

    /// Whether there is something to write that the driver has not heard of.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.streams().any(RelayStream::has_unwritten)
    }

    /// Has the driver ask again for requests, where something to write turned up after it had asked.
    pub(crate) fn poll_write_timeout(&self, now: Instant) -> Option<Deadline> {
        self.has_unwritten().then_some(Deadline { at: now, why: "relay connection" })
    }
}

impl Relay {
    /// There is a connection, and there was none before.
    fn ask_first(&mut self, now: Instant) {
        if matches!(self.client.state(), AllocationState::Idle | AllocationState::Released) {
            self.ask(now);
        }
    }
}

impl Node {
    /// Does what connections to relays need; whether there was anything.
    pub(crate) fn settle_streams(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some((flow, why)) = self.children.relays.poll_stream_failure() {
            self.progress(self.peer_id(), Progress::RelayUnreachable { server: flow.remote, why });
            self.trickle_all(now);
            busy = true;
        }
        self.children.relays.settle_streams(now, &mut self.out.requests) || busy
    }

    /// What became of a connection to a relay.
    pub(crate) fn on_stream_answer(&mut self, now: Instant, answer: &Answer<'_>) {
        let outside = &self.config.outside;
        let said = self.children.relays.on_stream_answer(now, outside, answer);
        let Some((flow, mut said)) = said else { return };
        for piece in said.chunks_mut(PIECE) {
            self.children.relays.on_piece(now, flow, piece);
            while let Some((relay, event)) = self.children.relays.poll_event() {
                self.on_turn(now, relay, event);
            }
        }
    }

    /// Has ICE and QUIC write what they have for relays over streams.
    pub(crate) fn fill_streams(&mut self) {
        if !self.children.relays.is_streaming() || self.out.held.is_some() {
            return;
        }
        let now = self.streams.touched;
        let mut bytes = Vec::new();
        loop {
            let mut out = Buf::new(&mut bytes);
            let transmit = self.poll_ice(now, &mut out);
            let Some(transmit) = transmit.or_else(|| self.poll_quic(now, &mut out)) else {
                if self.settle_written(now) {
                    continue;
                }
                break;
            };
            if let Some(transmit) = self.put_on_wire(now, transmit, &mut out) {
                self.out.held = Some(Held { transmit, bytes });
                return;
            }
        }
        self.let_relays_go(now);
    }
}

impl Relays {
    /// Whether a relay is connected over a stream.
    fn is_streaming(&self) -> bool {
        self.streams().any(RelayStream::is_open)
    }
}
