//! Published bytes of both network generations: what they mean, and that we write them the same.
//!
//! `vectors/envelope.txt` and `vectors/legacy.txt` hold, per case, the bytes in hexadecimal and the
//! meaning that this crate reads from them. `UPDATE=1 cargo test -p gimlet-handshake` rewrites the
//! meanings; the bytes come from the networks themselves and are never rewritten.

#![allow(clippy::disallowed_methods)] // a test may look at UPDATE; protocol code may not look at anything

use std::fmt::{Debug, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use gimlet_handshake::{
    CandidateType, EnvelopeError, IceCandidate, LegacyHandshake, NetEnvelope, TransportProtocol,
};

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Reads each `bytes` line of the file, and compares the `means` line below it.
fn check<T: Debug>(
    name: &str,
    parse: impl Fn(&[u8]) -> Result<(T, usize), EnvelopeError>,
    write: impl Fn(&T) -> Vec<u8>,
) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let (recorded, mut actual, mut cases) = (std::fs::read_to_string(&file).unwrap(), String::new(), 0);
    for line in recorded.lines() {
        let Some(hex) = line.strip_prefix("bytes") else {
            if !line.starts_with("means") {
                writeln!(actual, "{line}").unwrap();
            }
            continue;
        };
        let bytes = unhex(hex.trim());
        let meaning = match parse(&bytes) {
            Ok((value, length)) => {
                assert_eq!(write(&value), bytes[..length], "{value:?} is written as it was read");
                format!("{value:?}, {} trailing", bytes.len() - length)
            }
            Err(error) => format!("error: {error}"),
        };
        writeln!(actual, "{line}\nmeans {meaning}").unwrap();
        cases += 1;
    }
    assert!(cases > 0, "{name} holds no cases");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, actual).unwrap();
        return;
    }
    assert_eq!(actual, recorded, "{name} differs; if that is right, UPDATE=1 rewrites it");
}

#[test]
fn every_published_envelope_means_what_is_recorded() {
    check("envelope.txt", NetEnvelope::parse, |envelope| {
        let mut out = Vec::new();
        envelope.write(&mut out);
        out
    });
}

#[test]
fn every_published_legacy_handshake_means_what_is_recorded() {
    check("legacy.txt", LegacyHandshake::parse, |handshake| {
        let mut out = Vec::new();
        handshake.write(&mut out);
        out
    });
}

/// The same bytes the other way round, from values written here by hand: a recorded meaning that
/// was wrong from the start cannot agree with both.
#[test]
fn values_made_by_hand_are_written_as_published() {
    let published =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/envelope.txt")).unwrap();
    for envelope in by_hand() {
        let mut out = Vec::new();
        envelope.write(&mut out);
        let hex = out.iter().fold(String::from("bytes "), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        assert!(published.lines().any(|line| line == hex), "{envelope:?} is written as {hex}");
    }
    let numbers: Vec<u32> = by_hand().iter().map(NetEnvelope::number).collect();
    assert!((0..14).all(|number| numbers.contains(&number)), "every variant has a case by hand");
}

fn by_hand() -> Vec<NetEnvelope> {
    use NetEnvelope::*;
    let v4: SocketAddr = "192.168.1.100:5000".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
    let of_one =
        |candidate| IceCandidates { ufrag: "u".into(), pwd: "p".into(), candidates: vec![candidate] };
    vec![
        Handshake { id: 42 },
        HoneyBadger(vec![1, 2, 3, 4, 5]),
        IceCandidates { ufrag: "abcd".into(), pwd: "secret_password_long_enough".into(), candidates: vec![] },
        of_one(host("73262878ebd6a78d", 2_130_706_431, v4)),
        of_one(host("1450505958a396bb", 2_130_706_175, v6)),
        of_one(reflexive(v4)),
        PunchRequest { transaction_id: 0x1122_3344_5566_7788, target_address: v4, delay_ms: 50 },
        PunchRequest { transaction_id: 1, target_address: v6, delay_ms: 50 },
        PunchAck { transaction_id: 99_999, timestamp_ms: 1_700_000_000_000 },
        ConnectivityCheck {
            transaction_id: 777,
            is_response: true,
            use_candidate: false,
            ufrag: "testufrag".into(),
        },
        RelayRequest { target_party_id: 3 },
        RelayOffer { relay_address: v4, allocation_token: vec![0xde, 0xad, 0xbe, 0xef], for_party_id: 7 },
        RelayedData { target_party_id: 1, source_party_id: 2, payload: vec![10, 20, 30] },
        Heartbeat { timestamp_ms: 1_700_000_000_000 },
        NodeListRequest,
        NodeListResponse(vec![vec![1, 2, 3], vec![4, 5, 6, 7]]),
        ClientListDigest {
            digest: vec![0xab; 32],
            client_count: 5,
            node_digest: vec![0xcd; 32],
            node_count: 3,
        },
        ClientListFull(vec![vec![10, 20]]),
    ]
}

fn host(foundation: &str, priority: u32, address: SocketAddr) -> IceCandidate {
    IceCandidate {
        foundation: foundation.into(),
        component: 1,
        protocol: TransportProtocol::Udp,
        priority,
        address,
        candidate_type: CandidateType::Host,
        related_address: None,
        stun_server: None,
    }
}

fn reflexive(base: SocketAddr) -> IceCandidate {
    IceCandidate {
        candidate_type: CandidateType::ServerReflexive,
        related_address: Some(base),
        stun_server: Some("8.8.8.8:3478".parse().unwrap()),
        ..host("fc6f3ef60a3a736", 1_694_498_815, "203.0.113.50:12345".parse().unwrap())
    }
}
