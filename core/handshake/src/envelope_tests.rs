use super::*;
use crate::{CandidateType, LegacyHandshake, TransportProtocol};
use alloc::vec;
use core::net::{SocketAddrV4, SocketAddrV6};
use proptest::prelude::*;

fn wire(envelope: &NetEnvelope) -> Vec<u8> {
    let mut out = Vec::new();
    envelope.write(&mut out);
    out
}

/// The front of an envelope: its variant's number, then `rest`.
fn numbered(number: u32, rest: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), rest].concat()
}

#[test]
fn a_number_from_fourteen_on_is_unknown() {
    for number in [14, 15, u32::MAX] {
        let error = EnvelopeError::UnknownVariant { of: "envelope", number };
        assert_eq!(NetEnvelope::parse(&numbered(number, &[0; 64])), Err(error));
    }
}

#[test]
fn a_flag_other_than_zero_or_one_is_refused() {
    let check = NetEnvelope::ConnectivityCheck {
        transaction_id: 777,
        is_response: true,
        use_candidate: false,
        ufrag: "u".into(),
    };
    let mut bytes = wire(&check);
    bytes[12] = 2;
    assert_eq!(NetEnvelope::parse(&bytes), Err(EnvelopeError::NotAFlag(2)));
}

#[test]
fn trailing_bytes_are_reported_and_do_no_harm() {
    let bytes = [numbered(10, &[]), vec![1, 2, 3]].concat();
    assert_eq!(NetEnvelope::parse(&bytes), Ok((NetEnvelope::NodeListRequest, 4)));
}

#[test]
fn an_absurd_length_is_short_of_bytes_and_never_allocated() {
    // A list of 2^64 − 1 byte strings, and a byte string of 2^64 − 1 bytes: allocating either would
    // end the process.
    for number in [1, 11, 13] {
        let bytes = numbered(number, &[0xff; 8]);
        assert_eq!(NetEnvelope::parse(&bytes), Err(EnvelopeError::Truncated), "variant {number}");
    }
    let bytes = numbered(2, &[&[0; 16][..], &[0xff; 8], &[0; 64]].concat());
    assert_eq!(NetEnvelope::parse(&bytes), Err(EnvelopeError::Truncated));
}

#[test]
fn a_string_is_utf8_or_refused() {
    let bytes = numbered(2, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(NetEnvelope::parse(&bytes), Err(EnvelopeError::NotUtf8));
}

#[test]
fn flow_label_and_scope_have_no_place_on_this_wire() {
    let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 5000, 7, 3);
    let request =
        |target_address| NetEnvelope::PunchRequest { transaction_id: 1, target_address, delay_ms: 0 };
    let (read, _) = NetEnvelope::parse(&wire(&request(scoped.into()))).unwrap();
    assert_eq!(read, request(SocketAddrV6::new(*scoped.ip(), 5000, 0, 0).into()));
}

#[test]
fn the_two_generations_share_a_number_and_nothing_else() {
    let mut bytes = Vec::new();
    LegacyHandshake { role: LegacyHandshake::CLIENT.into(), id: 42 }.write(&mut bytes);
    assert_eq!(NetEnvelope::parse(&bytes), Ok((NetEnvelope::Handshake { id: 6 }, 12)));
}

#[test]
fn every_truncation_of_every_variant_is_named_so() {
    for envelope in [
        NetEnvelope::IceCandidates {
            ufrag: "u".into(),
            pwd: "p".into(),
            candidates: vec![relay_candidate()],
        },
        NetEnvelope::NodeListResponse(vec![vec![1, 2, 3], vec![]]),
        NetEnvelope::RelayOffer {
            relay_address: relay_candidate().address,
            allocation_token: vec![9; 5],
            for_party_id: 7,
        },
    ] {
        let bytes = wire(&envelope);
        for cut in 0..bytes.len() {
            assert_eq!(
                NetEnvelope::parse(&bytes[..cut]),
                Err(EnvelopeError::Truncated),
                "{envelope:?} at {cut}"
            );
        }
    }
}

fn relay_candidate() -> IceCandidate {
    IceCandidate {
        foundation: "f".into(),
        component: 1,
        protocol: TransportProtocol::Udp,
        priority: 0x0102_0304,
        address: "192.168.1.100:5000".parse().unwrap(),
        candidate_type: CandidateType::Relay,
        related_address: Some("[2001:db8::1]:5000".parse().unwrap()),
        stun_server: None,
    }
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port).into()),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddrV6::new(ip.into(), port, 0, 0).into()),
    ]
}

fn candidate() -> impl Strategy<Value = IceCandidate> {
    let kind = prop_oneof![
        Just(CandidateType::Host),
        Just(CandidateType::ServerReflexive),
        Just(CandidateType::PeerReflexive),
        Just(CandidateType::Relay),
    ];
    let optional = || proptest::option::of(address());
    (".{0,8}", any::<(u32, u32)>(), address(), kind, optional(), optional()).prop_map(
        |(foundation, (component, priority), address, candidate_type, related_address, stun_server)| {
            IceCandidate {
                foundation,
                component,
                protocol: TransportProtocol::Udp,
                priority,
                address,
                candidate_type,
                related_address,
                stun_server,
            }
        },
    )
}

fn envelope() -> impl Strategy<Value = NetEnvelope> {
    use NetEnvelope::*;
    let keys = || proptest::collection::vec(octets(), 0..6);
    let candidates = proptest::collection::vec(candidate(), 0..5);
    prop_oneof![
        any::<u64>().prop_map(|id| Handshake { id }),
        octets().prop_map(HoneyBadger),
        (".{0,9}", ".{0,30}", candidates).prop_map(|(ufrag, pwd, candidates)| IceCandidates {
            ufrag,
            pwd,
            candidates
        }),
        (any::<(u64, u64)>(), address()).prop_map(|((transaction_id, delay_ms), target_address)| {
            PunchRequest { transaction_id, target_address, delay_ms }
        }),
        any::<(u64, u64)>()
            .prop_map(|(transaction_id, timestamp_ms)| PunchAck { transaction_id, timestamp_ms }),
        (any::<(u64, bool, bool)>(), ".{0,9}").prop_map(
            |((transaction_id, is_response, use_candidate), ufrag)| {
                ConnectivityCheck { transaction_id, is_response, use_candidate, ufrag }
            }
        ),
        any::<u64>().prop_map(|target_party_id| RelayRequest { target_party_id }),
        (address(), octets(), any::<u64>()).prop_map(|(relay_address, allocation_token, for_party_id)| {
            RelayOffer { relay_address, allocation_token, for_party_id }
        }),
        (any::<(u64, u64)>(), octets()).prop_map(|((target_party_id, source_party_id), payload)| {
            RelayedData { target_party_id, source_party_id, payload }
        }),
        any::<u64>().prop_map(|timestamp_ms| Heartbeat { timestamp_ms }),
        Just(NodeListRequest),
        keys().prop_map(NodeListResponse),
        (octets(), octets(), any::<(u64, u64)>()).prop_map(
            |(digest, node_digest, (client_count, node_count))| {
                ClientListDigest { digest, client_count, node_digest, node_count }
            }
        ),
        keys().prop_map(ClientListFull),
    ]
}

proptest! {
    #[test]
    fn an_envelope_survives_the_wire(envelope in envelope(), trailing in octets()) {
        let bytes = wire(&envelope);
        let length = bytes.len();
        let with_trailing = [bytes, trailing].concat();
        prop_assert_eq!(NetEnvelope::parse(&with_trailing), Ok((envelope, length)));
    }

    #[test]
    fn what_was_read_is_written_back_as_it_was(
        envelope in envelope(),
        change in (any::<proptest::sample::Index>(), any::<u8>()),
    ) {
        let mut bytes = wire(&envelope);
        let at = change.0.index(bytes.len());
        bytes[at] = change.1;
        if let Ok((read, length)) = NetEnvelope::parse(&bytes) {
            prop_assert_eq!(wire(&read), &bytes[..length]);
        }
    }
}
