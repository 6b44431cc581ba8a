//! A TURN client and a TURN server whose owner opens sockets.

use std::net::SocketAddr;

use gimlet_conformance::laws::{Side, Subject};
use gimlet_machine::{
    Buf, Counters as _, Deadline, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict,
};
use gimlet_turn::{Client, ClientConfig, Families, LongTerm, Server, ServerConfig, ServerEvent};

/// One of the two ends of a relay.
enum End {
    Asks(Box<Client>),
    Relays(Box<Owned>),
}

/// A server, and an owner that opens every socket it is asked for.
struct Owned {
    server: Server,
    opened: u16,
    now: Instant,
}

/// Paths of the outer edge for a machine that knows no others.
fn direct(verdict: Verdict<FourTuple>) -> Verdict<Path> {
    match verdict {
        Verdict::Consumed => Verdict::Consumed,
        Verdict::NotMine => Verdict::NotMine,
        Verdict::Pass { path, range } => Verdict::Pass { path: Path::Direct(path), range },
    }
}

impl Machine for End {
    type Path = Path;
    type Event = String;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        match self {
            End::Asks(client) => client.handle_input(now, input),
            End::Relays(owned) => {
                owned.now = now;
                let Input { path, ecn, bytes } = input;
                direct(owned.server.handle_input(now, Input { path: path.on_wire(), ecn, bytes }))
            }
        }
    }
    fn handle_timeout(&mut self, now: Instant) {
        match self {
            End::Asks(client) => client.handle_timeout(now),
            End::Relays(owned) => {
                owned.now = now;
                owned.server.handle_timeout(now);
            }
        }
    }
    fn poll_event(&mut self) -> Option<String> {
        match self {
            End::Asks(client) => client.poll_event().map(|event| format!("{event:?}")),
            End::Relays(owned) => {
                let event = owned.server.poll_event()?;
                if let ServerEvent::OpenRelay { id, .. } = event {
                    owned.opened = owned.opened.wrapping_add(2);
                    let local = SocketAddr::from(([198, 51, 100, 2], 10_000 + owned.opened % 20_000));
                    owned.server.relay_opened(owned.now, id, local, local);
                }
                Some(format!("{event:?}"))
            }
        }
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        match self {
            End::Asks(client) => client.poll_transmit(now, out),
            End::Relays(owned) => {
                let Transmit { path, ecn, segment } = owned.server.poll_transmit(now, out)?;
                Some(Transmit { path: Path::Direct(path), ecn, segment })
            }
        }
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            End::Asks(client) => client.poll_timeout(),
            End::Relays(owned) => owned.server.poll_timeout(),
        }
    }
}

impl Subject for End {
    type Machine = Self;
    /// Two megabytes that wait to be sent, in buffers that are kept, and the client.
    const HEAP_MAX: usize = 5 * 1024 * 1024;

    fn build(seed: u64, side: Side) -> Self {
        let alice = LongTerm::new(b"alice", b"her password").expect("short enough");
        let rng = Rng::from_u64(seed).fork("turn");
        match side {
            Side::A => {
                let flow = super::flow(Side::A, 0);
                End::Asks(Box::new(Client::new(rng, flow, alice, ClientConfig::default())))
            }
            Side::B => {
                let config = ServerConfig { users: vec![alice], ..ServerConfig::default() };
                let server = Server::new(rng, config);
                End::Relays(Box::new(Owned { server, opened: 0, now: Instant::ZERO }))
            }
        }
    }
    fn path(side: Side, n: u8) -> Path {
        Path::Direct(super::flow(side, n))
    }
    fn arrives(_: Side, path: Path) -> Option<Path> {
        super::arrives(path.on_wire()).map(Path::Direct)
    }
    fn introduce(now: Instant, a: &mut Self, _: &mut Self) {
        if let End::Asks(client) = a {
            client.allocate(now, Families::Both).expect("the first");
        }
    }
    fn command(now: Instant, machine: &mut Self, _: Side, which: u16) {
        let End::Asks(client) = machine else { return };
        let n = which / 16;
        let peer = SocketAddr::from(([192, 0, 2, n as u8], 4_000));
        match which % 16 {
            0..=3 => drop(client.permit(now, peer.ip())),
            4..=7 => drop(client.bind_channel(now, peer).ok()),
            8 => client.forbid(now, peer.ip()),
            9 | 10 => client.unbind_channel(now, peer),
            11 => client.reconnected(now, client.relay()),
            12 | 13 => drop(client.allocate(now, Families::V4)),
            // Seldom: most lives should go on for a while.
            _ if n.is_multiple_of(16) => client.release(now),
            _ => {}
        }
    }
    fn has_arrived(machine: &Self) -> bool {
        match machine {
            End::Asks(client) => client.state().is_allocated(),
            End::Relays(owned) => owned.server.allocations() > 0,
        }
    }
    fn counted(machine: &Self) -> u64 {
        match machine {
            End::Asks(client) => client.counters().total(),
            End::Relays(owned) => owned.server.counters().total(),
        }
    }
}

#[test]
fn a_turn_client_and_a_turn_server_keep_the_laws() {
    super::assert_lawful::<End>();
}
