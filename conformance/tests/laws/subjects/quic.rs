use std::time::Duration;

use gimlet_conformance::laws::{Side, Subject};
use gimlet_machine::{
    Buf, Bytes, Counters as _, Deadline, Direction, Input, Instant, Machine, Path, Rng, Transmit, Verdict,
};
use gimlet_quic::{Config, ConnectionId, Endpoint, Event, PathMtu, StreamId};
use gimlet_sim::seeded_provider;

/// An endpoint with one connection that it was told of, and one stream on it.
struct Host {
    endpoint: Endpoint,
    connection: Option<ConnectionId>,
    stream: Option<StreamId>,
}

impl Machine for Host {
    type Path = Path;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        self.endpoint.handle_input(now, input)
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
    }
    fn poll_event(&mut self) -> Option<Event> {
        self.endpoint.poll_event()
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        self.endpoint.poll_transmit(now, out)
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        self.endpoint.poll_timeout()
    }
}

impl Host {
    fn use_stream(&mut self, now: Instant, connection: ConnectionId, which: u16) -> Option<()> {
        match which % 8 {
            0 => self.stream = self.endpoint.open(now, connection, Direction::Bidirectional).ok()?,
            1 => self.stream = Some(self.endpoint.accept(now, connection).ok()??.0),
            2 | 3 => {
                let mut chunks = [Bytes::from(vec![which as u8; usize::from(which)])];
                self.endpoint.write(now, connection, self.stream?, &mut chunks).ok()?;
            }
            4 | 5 => drop(self.endpoint.read(now, connection, self.stream?, usize::from(which)).ok()?),
            6 => self.endpoint.finish(now, connection, self.stream?).ok()?,
            _ => self.endpoint.reset(now, connection, self.stream?, u32::from(which)).ok()?,
        }
        Some(())
    }
}

impl Subject for Host {
    type Machine = Self;
    /// Some strangers in mid-handshake and what QUIC keeps for each: far less than a flood brings.
    const HEAP_MAX: usize = 2 << 20;

    fn build(seed: u64, side: Side) -> Self {
        let rng = Rng::from_u64(seed);
        let (origin, epoch) = (std::time::Instant::now(), Duration::from_secs(1_700_000_000));
        let identity = [if side == Side::A { 1 } else { 2 }; 32];
        let config = Config::new(origin, epoch, seeded_provider(rng.fork("tls")), identity);
        let endpoint = Endpoint::new(rng.fork("quic"), config).expect("a good configuration");
        Host { endpoint, connection: None, stream: None }
    }
    fn path(side: Side, n: u8) -> Path {
        Path::Direct(super::flow(side, n))
    }
    fn arrives(_: Side, path: Path) -> Option<Path> {
        super::arrives(path.on_wire()).map(Path::Direct)
    }
    fn introduce(now: Instant, a: &mut Self, b: &mut Self) {
        let (id_a, id_b) = (a.endpoint.peer_id(), b.endpoint.peer_id());
        a.connection = a.endpoint.dial(now, id_b).ok();
        b.connection = b.endpoint.expect(now, id_a).ok();
        for (host, side) in [(a, Side::A), (b, Side::B)] {
            host.endpoint.listen(side == Side::B);
            let connection = host.connection.expect("the first connection");
            host.endpoint.set_path(now, connection, Self::path(side, 0), PathMtu::Same);
        }
    }
    fn command(now: Instant, host: &mut Self, side: Side, which: u16) {
        let Some(connection) = host.connection else { return };
        match which % 16 {
            // Strangers may come in from here on.
            0 => host.endpoint.listen(which.is_multiple_of(32)),
            1 => host.endpoint.set_path(
                now,
                connection,
                Self::path(side, (which / 16 % 3) as u8),
                PathMtu::MayShrink,
            ),
            2 => drop(host.endpoint.send_datagram(
                now,
                connection,
                Bytes::from(vec![0; usize::from(which % 1_000)]),
            )),
            3 => drop(host.endpoint.receive_datagram(now, connection)),
            4 if which > 60_000 => host.endpoint.close(now, connection, 7, b"enough"),
            _ => drop(host.use_stream(now, connection, which / 16)),
        }
    }
    fn has_arrived(host: &Self) -> bool {
        host.connection.is_some_and(|connection| host.endpoint.is_connected(connection))
    }
    fn counted(host: &Self) -> u64 {
        host.endpoint.counters().total()
    }
}

#[test]
fn the_quic_endpoint_keeps_the_laws() {
    super::assert_lawful::<Host>();
}
