//! A hundred thousand forged, replayed, damaged and random datagrams against the client, the server and the
//! discovery; and what a server keeps of those who may ask.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Buf, Counters as _, FourTuple, Input, Instant, Machine, Rng};
use gimlet_stun::{
    Class, Client, ClientConfig, Credentials, Discovery, DiscoveryConfig, Key, MessageWriter, Method,
    REPLIES_MAX, REPLY_GROWTH_MAX, Server, ServerConfig, TransactionId,
};
use gimlet_testkit::{Barrage, Checked, snapshot};

const DATAGRAMS: u32 = 100_000;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn flow() -> FourTuple {
    FourTuple::new(addr("10.0.0.2:5000"), addr("192.0.2.1:3478"))
}

fn alice() -> Credentials {
    Credentials::short_term(b"alice", b"her password").unwrap()
}

/// What a machine has to say.
fn said<M: Machine<Path = FourTuple>>(machine: &mut Checked<M>, now: Instant) -> Vec<(FourTuple, Vec<u8>)> {
    let (mut said, mut out) = (Vec::new(), Vec::new());
    while let Some(transmit) = machine.poll_transmit(now, &mut Buf::new(&mut out)) {
        said.push((transmit.path, out.clone()));
    }
    said
}

/// A well-made Binding message of any class, signed by nobody who matters: from where a genuine one would
/// come, or from anywhere.
fn forged(rng: &mut Rng, path: FourTuple, id: Option<TransactionId>) -> (FourTuple, Vec<u8>) {
    let mut out = Vec::new();
    let id = id.unwrap_or_else(|| TransactionId::random(rng));
    let class = [Class::Request, Class::Indication, Class::Success, Class::Error][rng.below(4) as usize];
    let mut writer = MessageWriter::new(&mut out, class, Method::BINDING, id);
    writer = match class {
        Class::Success => writer.xor_mapped_address(addr("203.0.113.66:666")),
        Class::Error => writer.error_code(300 + rng.below(400) as u16, ""),
        Class::Request | Class::Indication => writer.username(b"alice"),
    };
    let key = Key::short_term(&rng.bytes::<16>());
    match rng.below(4) {
        0 => writer.fingerprint(),
        1 => writer.finish(),
        2 => writer.integrity_sha256(&key).fingerprint(),
        _ => writer.integrity(&key).fingerprint(),
    };
    let remote = match rng.below(2) {
        0 => path.remote,
        _ => SocketAddr::from(([203, 0, 113, rng.u32() as u8], rng.u32() as u16 | 1)),
    };
    (FourTuple::new(path.local, remote), out)
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_a_client_that_waits() {
    let now = Instant::ZERO;
    let config = ClientConfig { credentials: Some(alice()), ..ClientConfig::default() };
    let mut client = Checked::new(Client::new(Rng::from_u64(1), config));
    let server = ServerConfig { credentials: vec![alice()], ..ServerConfig::default() };
    let mut server = Checked::new(Server::new(server));
    // One request was answered, another awaits its answer.
    client.command(now, |client| client.binding(now, flow())).unwrap();
    let (_, mut request) = said(&mut client, now).remove(0);
    server.handle_input(now, Input::new(flow().flipped(), &mut request));
    let (_, answer) = said(&mut server, now).remove(0);
    client.handle_input(now, Input::new(flow(), &mut answer.clone()));
    assert!(client.poll_event().is_some());
    client.command(now, |client| client.binding(now, flow())).unwrap();
    let (_, request) = said(&mut client, now).remove(0);
    let id = gimlet_stun::Message::parse(&request).unwrap().transaction_id();

    let barrage = Barrage::new(1).recorded(flow(), &answer).recorded(flow(), &request);
    let mut forging = barrage.forging(|rng| {
        let id = rng.chance(800_000).then_some(id);
        forged(rng, flow(), id)
    });
    // That somebody answered wrongly is remembered, to be told when nobody answers rightly.
    let echo = forging.assert_harmless(&mut client, now, DATAGRAMS, &["forged"]);
    assert_eq!(echo.answers, 0);
    let counters = client.inner().counters();
    assert!(counters.unauthentic > 1_000 && counters.wrong_path > 1_000, "{counters:?}");
    assert!(counters.unknown_transaction > 1_000 && counters.not_stun > 1_000, "{counters:?}");
    assert_eq!(client.inner().requests(), 1);
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_a_discovery() {
    let (now, locals) = (Instant::ZERO, [flow().local, addr("10.0.0.2:5011")]);
    let servers = [flow().remote, addr("198.51.100.1:3478")];
    let discovery =
        Discovery::new(now, Rng::from_u64(1), DiscoveryConfig::default(), &locals, &servers).unwrap();
    let mut discovery = Checked::new(discovery);
    let asked = said(&mut discovery, now);
    let mut server = Checked::new(Server::new(ServerConfig::default()));
    let mut barrage = Barrage::new(2);
    for (path, request) in &asked {
        barrage = barrage.recorded(*path, request);
    }
    // The first answer is used; the others are lost.
    let (path, mut request) = asked[0].clone();
    server.handle_input(now, Input::new(path.flipped(), &mut request));
    let (_, answer) = said(&mut server, now).remove(0);
    discovery.handle_input(now, Input::new(path, &mut answer.clone()));
    assert!(said(&mut discovery, now).is_empty() && discovery.poll_event().is_none());
    let mut barrage = barrage.recorded(path, &answer).forging(|rng| forged(rng, path, None));
    let counted = discovery.inner().counters().total();
    let echo = barrage.assert_harmless(&mut discovery, now, DATAGRAMS, &[]);
    assert_eq!(echo.answers, 0);
    let moved = discovery.inner().counters().total() - counted;
    assert!(moved > 1_000 && moved + echo.not_mine >= u64::from(DATAGRAMS), "{moved}, {echo:?}");
}

#[test]
fn a_hundred_thousand_hostile_datagrams_leave_nothing_at_a_server() {
    for credentials in [vec![], vec![alice()]] {
        let (now, path) = (Instant::ZERO, flow().flipped());
        let mut client = Client::new(
            Rng::from_u64(1),
            ClientConfig { credentials: Some(alice()), ..ClientConfig::default() },
        );
        client.binding(now, flow()).unwrap();
        let (_, signed) = said(&mut Checked::new(client), now).remove(0);
        let mut server = Checked::new(Server::new(ServerConfig { credentials, ..ServerConfig::default() }));
        let mut barrage = Barrage::new(3).recorded(path, &signed).forging(|rng| forged(rng, path, None));
        let counted = server.inner().counters().total();
        let echo = barrage.assert_harmless(&mut server, now, DATAGRAMS, &[]);
        assert!(echo.growth <= REPLY_GROWTH_MAX, "{echo:?}");
        let moved = server.inner().counters().total() - counted;
        assert!(moved + echo.answers >= u64::from(DATAGRAMS), "each is answered or counted");
    }
}

#[test]
fn of_a_hundred_thousand_genuine_requests_from_ten_thousand_ports_a_server_keeps_nothing() {
    let now = Instant::ZERO;
    let config = ServerConfig { credentials: vec![alice()], ..ServerConfig::default() };
    let mut server = Checked::new(Server::new(config));
    let (empty, mut out) = (snapshot(server.inner(), &[]), Vec::new());
    for number in 0..DATAGRAMS {
        let mut request = Vec::new();
        MessageWriter::new(&mut request, Class::Request, Method::BINDING, TransactionId([number as u8; 12]))
            .username(alice().username())
            .integrity(&Key::short_term(b"her password"))
            .fingerprint();
        let remote = SocketAddr::from(([198, 51, 100, 7], 10_000 + (number % 10_000) as u16));
        server.handle_input(now, Input::new(FourTuple::new(flow().remote, remote), &mut request));
        // The driver listens seldom.
        if number % 1_000 == 999 {
            let mut answers = 0;
            while server.poll_transmit(now, &mut Buf::new(&mut out)).is_some() {
                answers += 1;
                assert!(out.len() <= request.len());
            }
            assert_eq!(answers, REPLIES_MAX);
        }
    }
    assert_eq!(snapshot(server.inner(), &[]), empty);
    let evicted = u64::from(DATAGRAMS) / 1_000 * (1_000 - REPLIES_MAX as u64);
    assert_eq!(server.inner().counters().evicted, evicted);
    assert!(server.poll_timeout().is_none_or(|deadline| deadline.at > now + Duration::from_secs(1)));
}
