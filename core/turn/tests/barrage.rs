//! A hundred thousand forged, replayed, damaged and random datagrams against the client and the server; and as
//! many genuine requests of one user from ten thousand ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Buf, Counters as _, FourTuple, Input, Instant, Machine, Path, Rng, Verdict};
use gimlet_stun::{Class, Key, Message, MessageWriter, Method, PasswordAlgorithm, TransactionId, error_code};
use gimlet_testkit::{Barrage, Checked};
use gimlet_turn::{
    Client, ClientConfig, Families, LongTerm, STRANGERS_PER_SECOND, Server, ServerConfig, ServerEvent,
    ServerLimits,
};

const DATAGRAMS: u32 = 100_000;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn flow() -> FourTuple {
    FourTuple::new(addr("198.51.100.7:61000"), addr("192.0.2.1:3478"))
}

fn relay() -> SocketAddr {
    addr("192.0.2.1:50000")
}

fn peer() -> SocketAddr {
    addr("203.0.113.5:9")
}

fn alice() -> LongTerm {
    LongTerm::new(b"alice", b"her password").unwrap()
}

fn server() -> Checked<Server> {
    let config = ServerConfig { users: vec![alice()], ..ServerConfig::default() };
    Checked::new(Server::new(Rng::from_u64(2), config))
}

/// A client with a channel, its server, and everything that went from one to the other.
struct Talk {
    now: Instant,
    client: Checked<Client>,
    server: Checked<Server>,
    requests: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

impl Talk {
    fn new() -> Self {
        let client = Client::new(Rng::from_u64(1), flow(), alice(), ClientConfig::default());
        let now = Instant::from_millis(5_000);
        let mut talk = Self {
            now,
            client: Checked::new(client),
            server: server(),
            requests: Vec::new(),
            answers: Vec::new(),
        };
        talk.client.command(now, |client| {
            client.allocate(now, Families::V4).unwrap();
            client.bind_channel(now, peer()).unwrap();
        });
        while talk.client.inner().channel(now, peer()).is_none() {
            talk.exchange();
        }
        talk.exchange();
        talk
    }

    fn exchange(&mut self) {
        let (now, mut bytes) = (self.now, Vec::new());
        while self.client.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
            self.requests.push(bytes.clone());
            self.server.handle_input(now, Input::new(flow().flipped(), &mut bytes));
        }
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::OpenRelay { id, .. } = event {
                self.server.command(now, |server| server.relay_opened(now, id, relay(), relay()));
            }
        }
        while self.server.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
            self.answers.push(bytes.clone());
            self.client.handle_input(now, Input::new(Path::Direct(flow()), &mut bytes));
        }
        while self.client.poll_event().is_some() {}
    }

    /// The server is asked for everything once more, at this very moment.
    fn ask_again(&mut self) {
        let (now, mut bytes) = (self.now, Vec::new());
        for request in self.requests.clone() {
            self.server.handle_input(now, Input::new(flow().flipped(), &mut request.clone()));
        }
        while self.server.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {}
        assert!(self.server.poll_event().is_none(), "what is repeated is answered again, and no more");
    }
}

/// Any address but those of the talk.
fn anybody(rng: &mut Rng) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2 + rng.below(250) as u8], 1 + rng.below(60_000) as u16))
}

/// Signs with a made-up password, or not at all.
fn seal(rng: &mut Rng, writer: MessageWriter<'_>) {
    let key = Key::short_term(&rng.bytes::<16>());
    match rng.below(4) {
        0 => writer.fingerprint(),
        1 => writer.finish(),
        2 => writer.integrity_sha256(&key).finish(),
        _ => writer.integrity(&key).fingerprint(),
    };
}

const METHODS: [Method; 5] =
    [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND, Method::BINDING];

/// What a listener can make up for the client, knowing the request that awaits its answer.
fn forged_answer(rng: &mut Rng, pending: &Message<'_>) -> (Path, Vec<u8>) {
    let mut out = Vec::new();
    let code = loop {
        let code = 300 + rng.below(400) as u16;
        // These are never signed (RFC 8489 §9.2.4), so whoever hears a request can answer with one.
        if ![error_code::BAD_REQUEST, error_code::UNAUTHENTICATED, error_code::STALE_NONCE].contains(&code) {
            break code;
        }
    };
    match rng.below(6) {
        0 => {
            let number = 0x4000 | rng.below(0x1000) as u16 | 0x0800;
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&[0, 8]);
            out.extend_from_slice(&rng.bytes::<8>());
        }
        1 => {
            let id = TransactionId::random(rng);
            MessageWriter::new(&mut out, Class::Indication, Method::DATA, id)
                .xor_peer_address(anybody(rng))
                .data(b"let me in")
                .finish();
        }
        2 | 3 => {
            let writer =
                MessageWriter::new(&mut out, Class::Success, pending.method(), pending.transaction_id());
            let relayed = anybody(rng);
            seal(rng, writer.xor_relayed_address(relayed).lifetime(Duration::from_secs(1)));
        }
        4 => {
            let writer =
                MessageWriter::new(&mut out, Class::Error, pending.method(), pending.transaction_id());
            seal(rng, writer.error_code(code, "").alternate_server(addr("203.0.113.66:3478")));
        }
        _ => {
            let method = METHODS[rng.below(5) as usize];
            let writer = MessageWriter::new(&mut out, Class::Success, method, TransactionId::random(rng));
            seal(rng, writer.lifetime(Duration::ZERO));
        }
    }
    let relay = if rng.chance(800_000) { flow() } else { FourTuple::new(flow().local, anybody(rng)) };
    (Path::Direct(relay), out)
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_a_client() {
    let mut talk = Talk::new();
    let now = talk.now;
    // A request awaits its answer.
    talk.client.command(now, |client| client.permit(now, addr("203.0.113.77:1").ip())).unwrap();
    let mut pending = Vec::new();
    assert!(talk.client.poll_transmit(now, &mut Buf::new(&mut pending)).is_some());
    let pending = Message::parse(&pending).unwrap();
    let mut barrage = Barrage::new(1);
    for bytes in talk.answers.iter().chain(&talk.requests) {
        barrage = barrage.recorded(Path::Direct(flow()), bytes);
    }
    let mut barrage = barrage.forging(|rng| forged_answer(rng, &pending));
    let counted = talk.client.inner().counters().total();
    let echo = barrage.assert_harmless(&mut talk.client, now, DATAGRAMS, &[]);
    assert_eq!(echo.answers, 0);
    let counters = talk.client.inner().counters();
    assert!(counters.total() - counted >= u64::from(DATAGRAMS), "each is counted: {counters:?}");
    for seen in
        [counters.not_turn, counters.not_an_answer, counters.unknown_transaction, counters.unauthentic]
    {
        assert!(seen > 1_000, "{counters:?}");
    }
    assert!(counters.unknown_channel > 1_000 && counters.unpermitted > 1_000, "{counters:?}");
}

/// What somebody without a password can make up for the server who has heard a nonce, and what anybody can
/// send to an open relay socket.
fn forged_request(rng: &mut Rng, nonce: &[u8]) -> (FourTuple, Vec<u8>) {
    let mut out = Vec::new();
    let from = if rng.chance(500_000) { flow().local } else { anybody(rng) };
    if rng.chance(200_000) {
        // From a peer without a permission: the neighbours of the one that has it.
        out.extend_from_slice(&rng.bytes::<32>());
        return (
            FourTuple::new(relay(), SocketAddr::from(([203, 0, 113, 6], 1 + rng.u32() as u16 % 9_000))),
            out,
        );
    }
    if rng.chance(200_000) {
        // From a flow without an allocation.
        let id = TransactionId::random(rng);
        MessageWriter::new(&mut out, Class::Indication, Method::SEND, id)
            .xor_peer_address(peer())
            .data(b"not mine")
            .finish();
        return (FourTuple::new(flow().remote, anybody(rng)), out);
    }
    let method = METHODS[rng.below(5) as usize];
    let nonce = if rng.chance(700_000) { nonce.to_vec() } else { rng.bytes::<24>().to_vec() };
    let writer = MessageWriter::new(&mut out, Class::Request, method, TransactionId::random(rng))
        .username(b"alice")
        .realm(b"gimlet")
        .nonce(&nonce)
        .requested_transport(17)
        .lifetime(Duration::ZERO)
        .xor_peer_address(anybody(rng))
        .channel_number(0x4001);
    seal(rng, writer);
    (FourTuple::new(flow().remote, from), out)
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_a_server() {
    let mut talk = Talk::new();
    let nonce = Message::parse(talk.requests.last().unwrap()).unwrap().nonce().unwrap().to_vec();
    talk.ask_again();
    let mut barrage = Barrage::new(2);
    for request in &talk.requests {
        barrage = barrage.recorded(flow().flipped(), request);
    }
    let mut barrage = barrage.forging(|rng| forged_request(rng, &nonce));
    let counted = talk.server.inner().counters().total();
    // The ration of strangers moves, and buffers that were used are kept for the next answer.
    let echo = barrage.assert_harmless(&mut talk.server, talk.now, DATAGRAMS, &["rations", "outbox"]);
    let counters = talk.server.inner().counters();
    let moved = counters.total() - counted;
    assert!(moved + echo.answers >= u64::from(DATAGRAMS), "each is answered or counted: {counters:?}");
    // At one moment strangers of one address hear ten challenges, each hardly longer than their request.
    assert!(counters.challenged <= 1 + 251 * u64::from(STRANGERS_PER_SECOND), "{counters:?}");
    assert!(echo.growth <= "gimlet".len() + 64, "{echo:?}");
    assert!(counters.rationed > 1_000 && counters.not_turn > 1_000 && counters.unpermitted > 1_000);
    assert!(counters.no_allocation > 1_000 && counters.other_method > 1_000, "{counters:?}");
    assert_eq!((counters.to_peers, counters.to_clients), (0, 0));
}

/// One user, many flows.
struct Mob {
    now: Instant,
    server: Checked<Server>,
    nonces: BTreeMap<FourTuple, Vec<u8>>,
    opened: u16,
    key: Key,
    rng: Rng,
}

impl Mob {
    /// The flow of member `number` of ten thousand, at one of a hundred addresses.
    fn flow(number: u32) -> FourTuple {
        let remote = SocketAddr::from(([198, 51, 100, (number % 100) as u8], 10_000 + (number / 100) as u16));
        FourTuple::new(flow().remote, remote)
    }

    fn ask(
        &mut self,
        number: u32,
        request: impl FnOnce(MessageWriter<'_>) -> MessageWriter<'_>,
        method: Method,
    ) {
        let (path, mut out) = (Self::flow(number), Vec::new());
        let id = TransactionId::random(&mut self.rng);
        let writer = request(MessageWriter::new(&mut out, Class::Request, method, id));
        match self.nonces.get(&path) {
            None => writer.finish(),
            Some(nonce) => {
                writer.username(b"alice").realm(b"gimlet").nonce(nonce).integrity(&self.key).finish()
            }
        };
        let verdict = self.server.handle_input(self.now, Input::new(path, &mut out));
        assert_eq!(verdict, Verdict::Consumed);
        self.drain();
    }

    fn drain(&mut self) {
        let (now, mut bytes) = (self.now, Vec::new());
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::OpenRelay { id, .. } = event {
                self.opened += 1;
                let local = SocketAddr::new(relay().ip(), 20_000 + self.opened);
                self.server.command(now, |server| server.relay_opened(now, id, local, local));
            }
        }
        while let Some(transmit) = self.server.poll_transmit(now, &mut Buf::new(&mut bytes)) {
            let nonce = Message::parse(&bytes).unwrap().nonce().map(<[u8]>::to_vec);
            nonce.map(|nonce| self.nonces.insert(transmit.path, nonce));
        }
    }
}

#[test]
fn a_hundred_thousand_genuine_requests_from_ten_thousand_ports_get_a_user_its_share_and_no_more() {
    let limits = ServerLimits::default();
    let key = Key::long_term(b"alice", b"gimlet", b"her password", PasswordAlgorithm::Md5);
    let (nonces, rng) = (BTreeMap::new(), Rng::from_u64(3));
    let mut mob = Mob { now: Instant::ZERO, server: server(), nonces, opened: 0, key, rng };
    for number in 0..DATAGRAMS {
        // Ten requests of each address per second, so that each is challenged.
        mob.now += Duration::from_millis(1);
        let member = number % 10_000;
        let peer =
            SocketAddr::from(([203, 0, 113, (number / 20 % 250) as u8], 1_000 + (number / 10_000) as u16));
        match number / 10_000 {
            0 | 1 => mob.ask(member, |writer| writer.requested_transport(17), Method::ALLOCATE),
            2..=5 => mob.ask(member % 20, |writer| writer.xor_peer_address(peer), Method::CREATE_PERMISSION),
            _ => {
                let channel = 0x4000 + (number / 20 % 0x1000) as u16;
                let method = Method::CHANNEL_BIND;
                mob.ask(member % 20, |it| it.channel_number(channel).xor_peer_address(peer), method);
            }
        }
        assert!(mob.server.inner().allocations() <= limits.per_user_max);
    }
    assert_eq!((mob.nonces.len(), usize::from(mob.opened)), (10_000, limits.per_user_max));
    assert_eq!(mob.server.inner().allocations(), limits.per_user_max);
    // 250 peers were asked for on each of 16 allocations, and as many numbers.
    let text = format!("{:?}", mob.server.inner());
    let count = |field: &str| {
        let lists = text.split(field).skip(1).map(|rest| rest.split(']').next().unwrap_or_default());
        lists.map(|list| list.matches("203.0.113.").count()).max()
    };
    assert_eq!(count("permissions: ["), Some(limits.permissions_max));
    assert_eq!(count("channels: ["), Some(limits.channels_max));
    let counters = mob.server.inner().counters();
    assert!(counters.refused > 80_000, "{counters:?}");
}
