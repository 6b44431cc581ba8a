//! What a peer says first: the hello, and the envelopes of the older network.
//!
//! Input: one message, offered to every codec of the room and to the machine.

use std::mem::size_of;

use gimlet_handshake::{
    CandidateType, Capabilities, EnvelopeError, Event, HELLO_MAX, HELLO_WAIT, Handshake, Hello, IceCandidate,
    LegacyHandshake, NetEnvelope, Refusal, Role, State, TransportProtocol,
};
use gimlet_machine::{Buf, Counters as _, Input, Instant, Machine, Verdict};
use gimlet_testkit::Checked;

use crate::Seed;
use crate::target::bounded;

/// Whatever is read is written back byte for byte, a truncated message is never a message, memory
/// stays in proportion to the input, and the handshake always ends in exactly one event.
pub fn envelope(data: &[u8]) {
    check(data, |_| {});
}

/// Writes back one bit of the last byte wrong.
pub(crate) fn planted(data: &[u8]) {
    check(data, |written| {
        if let Some(last) = written.last_mut() {
            *last ^= 1;
        }
    });
}

fn check(data: &[u8], tamper: impl Fn(&mut Vec<u8>)) {
    let data = bounded(data);
    if let Some(envelope) = canonical(data, NetEnvelope::parse, NetEnvelope::write, &tamper) {
        let (held, allowed) = (weight(&envelope), 8 * data.len() + size_of::<NetEnvelope>());
        assert!(held <= allowed, "{} bytes became {held}", data.len());
    }
    canonical(data, LegacyHandshake::parse, LegacyHandshake::write, &tamper);
    if let Ok(hello) = Hello::parse(data) {
        let mut written = Vec::new();
        hello.write(&mut written);
        tamper(&mut written);
        assert!(data.starts_with(&written), "a hello is written as it was read");
        assert!(written.len() <= HELLO_MAX && !hello.agent().chars().any(char::is_control));
    }
    handshake(data);
}

/// Reads; writes; compares. A message without its last byte must not be read.
fn canonical<T: std::fmt::Debug>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Result<(T, usize), EnvelopeError>,
    write: impl Fn(&T, &mut Vec<u8>),
    tamper: impl Fn(&mut Vec<u8>),
) -> Option<T> {
    let (value, length) = parse(data).ok()?;
    let mut written = Vec::new();
    write(&value, &mut written);
    tamper(&mut written);
    assert_eq!(written, data[..length], "{value:?} is written as it was read");
    let short = parse(&data[..length - 1]);
    assert_eq!(short.err(), Some(EnvelopeError::Truncated), "{value:?} without its last byte");
    Some(value)
}

/// How much memory a value holds on the heap.
fn weight(envelope: &NetEnvelope) -> usize {
    let keys = |keys: &Vec<Vec<u8>>| {
        keys.capacity() * size_of::<Vec<u8>>() + keys.iter().map(Vec::capacity).sum::<usize>()
    };
    match envelope {
        NetEnvelope::HoneyBadger(bytes)
        | NetEnvelope::RelayOffer { allocation_token: bytes, .. }
        | NetEnvelope::RelayedData { payload: bytes, .. } => bytes.capacity(),
        NetEnvelope::IceCandidates { ufrag, pwd, candidates } => {
            let foundations: usize = candidates.iter().map(|candidate| candidate.foundation.capacity()).sum();
            let table = candidates.capacity() * size_of::<IceCandidate>();
            ufrag.capacity() + pwd.capacity() + table + foundations
        }
        NetEnvelope::ConnectivityCheck { ufrag, .. } => ufrag.capacity(),
        NetEnvelope::NodeListResponse(list) | NetEnvelope::ClientListFull(list) => keys(list),
        NetEnvelope::ClientListDigest { digest, node_digest, .. } => {
            digest.capacity() + node_digest.capacity()
        }
        NetEnvelope::Handshake { .. }
        | NetEnvelope::PunchRequest { .. }
        | NetEnvelope::PunchAck { .. }
        | NetEnvelope::RelayRequest { .. }
        | NetEnvelope::Heartbeat { .. }
        | NetEnvelope::NodeListRequest => 0,
    }
}

/// The machine hears `data` as the peer's first message: one event comes of it, and agreement is
/// mutual.
fn handshake(data: &[u8]) {
    let ours =
        Hello::new(Role::Peer, Capabilities::all(), "fuzz").and_then(|hello| hello.with_versions(1, 3));
    let ours = ours.expect("a hello of our own");
    let (now, mut storage) = (Instant::ZERO, Vec::new());
    let mut machine = Checked::new(Handshake::new(now, ours.clone()));
    assert!(machine.poll_transmit(now, &mut Buf::new(&mut storage)).is_some(), "the hello comes first");
    assert_eq!(machine.handle_input(now, Input::new((), &mut data.to_vec())), Verdict::Consumed);
    match machine.poll_event().expect("the first message decides") {
        Event::Known(agreed) => {
            let theirs = agreed.hello();
            assert!(agreed.version() <= ours.version() && agreed.version() <= theirs.version());
            assert!(agreed.version() >= ours.oldest() && agreed.version() >= theirs.oldest());
            assert!(ours.capabilities().contains(agreed.capabilities()));
            assert_eq!(Hello::parse(data).as_ref(), Ok(theirs));
            let mut other = Handshake::new(now, theirs.clone());
            other.handle_input(now, Input::new((), &mut storage));
            let mutual = other.agreed().map(|other| (other.version(), other.capabilities()));
            assert_eq!(mutual, Some((agreed.version(), agreed.capabilities())));
        }
        Event::Refused(refusal) => {
            assert_ne!(refusal, Refusal::Silent, "it spoke");
            assert_eq!(machine.inner().counters().total(), 1, "a refusal is counted");
        }
    }
    assert_eq!(machine.poll_event(), None);
    machine.handle_timeout(now + HELLO_WAIT);
    assert_eq!(machine.poll_event(), None, "what is decided stays so");
    assert!(machine.poll_transmit(now + HELLO_WAIT, &mut Buf::new(&mut storage)).is_none());
    assert!(!matches!(machine.inner().state(), State::AwaitHello { .. }));
}

/// Every variant of the envelope, the older handshake, and hellos of several ages.
pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, envelope) in envelopes() {
        let mut bytes = Vec::new();
        envelope.write(&mut bytes);
        seeds.push((name, bytes));
    }
    let mut legacy = Vec::new();
    LegacyHandshake { role: LegacyHandshake::SERVER.into(), id: 42 }.write(&mut legacy);
    seeds.push(("legacy_handshake", legacy));
    for (name, versions, tail) in [
        ("hello", (1, 1), &b""[..]),
        ("hello_of_a_later_version", (2, 9), b"fields to come"),
        ("hello_from_too_far_ahead", (7, 9), b""),
    ] {
        let hello = Hello::new(Role::Public, Capabilities::STUN | Capabilities::INTRODUCER, "gimlet/0.1")
            .and_then(|hello| hello.with_versions(versions.0, versions.1))
            .expect("a sound hello");
        let mut bytes = Vec::new();
        hello.write(&mut bytes);
        bytes.extend_from_slice(tail);
        seeds.push((name, bytes));
    }
    seeds
}

fn envelopes() -> Vec<(&'static str, NetEnvelope)> {
    use NetEnvelope as E;
    let v4 = "192.168.1.100:5000".parse().expect("an address");
    let v6 = "[2001:db8::1]:5000".parse().expect("an address");
    let candidate = IceCandidate {
        foundation: "1450505958a396bb".into(),
        component: 1,
        protocol: TransportProtocol::Udp,
        priority: 1_694_498_815,
        address: v6,
        candidate_type: CandidateType::ServerReflexive,
        related_address: Some(v4),
        stun_server: Some(v4),
    };
    let keys = || vec![vec![1, 2, 3], vec![], vec![4; 91]];
    vec![
        ("handshake", E::Handshake { id: 42 }),
        ("honey_badger", E::HoneyBadger(vec![1, 2, 3, 4, 5])),
        (
            "ice_candidates",
            E::IceCandidates {
                ufrag: "abcd".into(),
                pwd: "secret_password".into(),
                candidates: vec![candidate],
            },
        ),
        ("punch_request", E::PunchRequest { transaction_id: 1, target_address: v6, delay_ms: 50 }),
        ("punch_ack", E::PunchAck { transaction_id: 99_999, timestamp_ms: 1_700_000_000_000 }),
        (
            "connectivity_check",
            E::ConnectivityCheck {
                transaction_id: 7,
                is_response: true,
                use_candidate: false,
                ufrag: "u".into(),
            },
        ),
        ("relay_request", E::RelayRequest { target_party_id: 3 }),
        (
            "relay_offer",
            E::RelayOffer { relay_address: v4, allocation_token: vec![0xde, 0xad], for_party_id: 7 },
        ),
        (
            "relayed_data",
            E::RelayedData { target_party_id: 1, source_party_id: 2, payload: vec![10, 20, 30] },
        ),
        ("heartbeat", E::Heartbeat { timestamp_ms: 1_700_000_000_000 }),
        ("node_list_request", E::NodeListRequest),
        ("node_list_response", E::NodeListResponse(keys())),
        (
            "client_list_digest",
            E::ClientListDigest {
                digest: vec![0xab; 32],
                client_count: 5,
                node_digest: vec![0xcd; 32],
                node_count: 3,
            },
        ),
        ("client_list_full", E::ClientListFull(keys())),
    ]
}
