//! Our client, coturn's server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict};
use gimlet_stun::AddressFamily;
use gimlet_turn::{
    AllocationState, Client, ClientConfig, ClientEvent, Failure, Families, LongTerm, Transport,
};

use crate::{Coturn, SOON};

/// The way to the server.
enum Wire {
    Datagrams(UdpSocket),
    Stream(TcpStream),
}

/// A client on a real socket, and a peer that echoes.
struct Rig {
    client: Client,
    wire: Wire,
    relay: FourTuple,
    peer: UdpSocket,
    begun: Clock,
    /// Everything that was told, and everything that came through the relay.
    told: Vec<ClientEvent>,
    received: Vec<(SocketAddr, Vec<u8>)>,
}

impl Rig {
    fn new(coturn: &Coturn, transport: Transport, credentials: LongTerm) -> Self {
        let wire = match transport {
            Transport::Datagram => Wire::Datagrams(UdpSocket::bind("127.0.0.1:0").expect("a socket")),
            Transport::Stream => Wire::Stream(TcpStream::connect(coturn.address).expect("a connection")),
        };
        let wait = Some(Duration::from_millis(5));
        let local = match &wire {
            Wire::Datagrams(socket) => socket.set_read_timeout(wait).and_then(|()| socket.local_addr()),
            Wire::Stream(stream) => stream.set_read_timeout(wait).and_then(|()| stream.local_addr()),
        };
        let relay = FourTuple::new(local.expect("an address"), coturn.address);
        let keepalive = Some(Duration::from_secs(1));
        let config = ClientConfig { transport, keepalive, ..ClientConfig::default() };
        let peer = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        peer.set_nonblocking(true).expect("a socket that does not wait");
        Self {
            client: Client::new(Rng::from_u64(7), relay, credentials, config),
            wire,
            relay,
            peer,
            begun: Clock::now(),
            told: Vec::new(),
            received: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.begun.elapsed().as_micros() as u64)
    }

    fn peer(&self) -> SocketAddr {
        self.peer.local_addr().expect("an address")
    }

    fn write(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Datagrams(socket) => drop(socket.send_to(bytes, self.relay.remote)),
            Wire::Stream(stream) => stream.write_all(bytes).expect("the connection stands"),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match &mut self.wire {
            Wire::Datagrams(socket) => socket.recv(buffer).ok(),
            Wire::Stream(stream) => stream.read(buffer).ok().filter(|len| *len > 0),
        }
    }

    /// One turn: out, in, echo, time.
    fn turn(&mut self) {
        let (mut storage, mut buffer) = (Vec::new(), [0; 2048]);
        let now = self.now();
        self.client.handle_timeout(now);
        while self.client.poll_transmit(now, &mut Buf::new(&mut storage)).is_some() {
            self.write(&storage);
        }
        if let Some(len) = self.read(&mut buffer) {
            let (now, input) = (self.now(), Input::new(Path::Direct(self.relay), &mut buffer[..len]));
            if let Verdict::Pass { path, range } = self.client.handle_input(now, input) {
                self.received.push((path.peer_address(), buffer[range].to_vec()));
            }
        }
        while let Ok((len, from)) = self.peer.recv_from(&mut buffer) {
            self.peer.send_to(&buffer[..len], from).expect("the echo is sent");
        }
        while let Some(event) = self.client.poll_event() {
            if let ClientEvent::Received { peer, datagram } = event {
                self.received.push((peer, datagram));
            } else {
                self.told.push(event);
            }
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Clock::now();
        while !done(self) {
            assert!(begun.elapsed() < SOON, "{what}: {:?}, {:?}", self.told, self.client.counters());
            self.turn();
        }
    }

    fn has(&self, wanted: impl Fn(&ClientEvent) -> bool) -> bool {
        self.told.iter().any(wanted)
    }

    fn send(&mut self, payload: &[u8]) {
        let mut storage = Vec::new();
        let mut out = Buf::new(&mut storage);
        out.put(payload);
        let path = Path::Relayed { relay: self.relay, peer: self.peer() };
        self.client.wrap(self.now(), Transmit::new(path), &mut out).expect("the peer is permitted");
        self.write(&storage);
    }

    /// The whole life of an allocation.
    fn relays(mut self) {
        let (now, peer) = (self.now(), self.peer());
        self.client.allocate(now, Families::V4).expect("the first");
        let number = self.client.bind_channel(now, peer).expect("the first");
        self.until("an allocation", |rig| rig.has(|event| matches!(event, ClientEvent::Allocated(_))));
        let relayed = self.client.relayed(AddressFamily::V4).expect("an IPv4 address");
        assert_eq!(relayed.ip(), self.relay.remote.ip());
        assert_eq!(self.client.mapped(), Some(self.relay.local));

        // Before the channel is there: the requests leave first, the data right behind them.
        self.turn();
        self.send(b"as an indication");
        self.until("the first echo", |rig| !rig.received.is_empty());
        let bound = ClientEvent::ChannelBound { peer, number };
        self.until("a channel", |rig| rig.told.contains(&bound));
        for len in [0, 1, 2, 3, 4, 1200] {
            self.send(&vec![b'c'; len]);
            let count = self.received.len();
            self.until("an echo", |rig| rig.received.len() > count);
        }
        let lens: Vec<usize> = self.received.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lens, [16, 0, 1, 2, 3, 4, 1200]);
        assert!(self.received.iter().all(|(from, _)| *from == peer));

        let (again, begun) = (Duration::from_millis(2500), Clock::now());
        while begun.elapsed() < again {
            self.turn();
        }
        assert_eq!(self.client.state(), AllocationState::Allocated, "refreshed twice: {:?}", self.told);
        let now = self.now();
        self.client.release(now);
        self.until("the release", |rig| rig.told.contains(&ClientEvent::Released));
        assert_eq!(self.client.counters().unauthentic, 0);
    }
}

/// A NAT gives the flow another port, and tells nobody: to coturn the client is a stranger, whose requests it
/// answers with 438 and then with 400. The trace in `conformance/README.md` shows the same for permissions.
#[test]
fn our_client_finds_out_that_a_nat_has_moved_its_flow_although_coturn_calls_that_a_bad_request() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    let mut rig = Rig::new(&coturn, Transport::Datagram, alice());
    let now = rig.now();
    rig.client.allocate(now, Families::V4).expect("the first");
    rig.until("an allocation", |rig| rig.has(|event| matches!(event, ClientEvent::Allocated(_))));
    let moved = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    moved.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    rig.wire = Wire::Datagrams(moved);
    rig.told.clear();

    let (now, peer) = (rig.now(), rig.peer());
    let number = rig.client.bind_channel(now, peer).expect("the first");
    rig.until("a channel", |rig| rig.told.contains(&ClientEvent::ChannelBound { peer, number }));
    // Found out by asking, long before the next keepalive.
    assert!(matches!(rig.told[..2], [ClientEvent::Expired, ClientEvent::Allocated(_)]), "{:?}", rig.told);
    assert!(!rig.has(|event| matches!(event, ClientEvent::ChannelRefused { .. })), "{:?}", rig.told);
    rig.send(b"on the new flow");
    rig.until("an echo", |rig| rig.received.iter().any(|(_, bytes)| bytes == b"on the new flow"));
}

fn alice() -> LongTerm {
    LongTerm::new(b"alice", b"her password").expect("short enough")
}

const ALICE: [&str; 2] = ["--lt-cred-mech", "--user=alice:her password"];

#[test]
fn case_67_our_client_relays_through_coturn_over_udp() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    Rig::new(&coturn, Transport::Datagram, alice()).relays();
}

#[test]
fn case_67_our_client_relays_through_coturn_over_tcp() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    Rig::new(&coturn, Transport::Stream, alice()).relays();
}

#[test]
fn our_client_relays_with_a_password_of_limited_time() {
    let Some(coturn) = Coturn::start(&["--use-auth-secret", "--static-auth-secret=north"]) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let credentials = LongTerm::until(b"north", now + 600, "alice").expect("short enough");
    Rig::new(&coturn, Transport::Datagram, credentials).relays();
}

#[test]
fn a_wrong_password_is_told_as_one() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    let wrong = LongTerm::new(b"alice", b"a guess").expect("short enough");
    let mut rig = Rig::new(&coturn, Transport::Datagram, wrong);
    let now = rig.now();
    rig.client.allocate(now, Families::V4).expect("the first");
    let failed = ClientEvent::Failed { cause: Failure::BadCredentials };
    rig.until("the failure", |rig| rig.told.contains(&failed));
}

#[test]
fn a_dual_allocation_gets_what_coturn_has() {
    let Some(coturn) = Coturn::start(&ALICE) else { return };
    let mut rig = Rig::new(&coturn, Transport::Datagram, alice());
    let now = rig.now();
    rig.client.allocate(now, Families::Both).expect("the first");
    rig.until("an allocation", |rig| {
        rig.has(|event| matches!(event, ClientEvent::Allocated(it) if it.relayed_v4.is_some()))
    });
}
