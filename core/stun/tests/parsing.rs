//! Cases 2 to 7: what is not a message, and what of a message counts.

use std::net::SocketAddr;

use gimlet_stun::{
    ATTRIBUTES_MAX, Class, HEADER_LEN, Key, Message, MessageWriter, Method, ParseError, TransactionId,
    attribute, is_stun,
};

const ID: TransactionId = TransactionId(*b"abcdefghijkl");

fn address() -> SocketAddr {
    "192.0.2.1:32853".parse().unwrap()
}

fn key() -> Key {
    Key::short_term(b"password")
}

fn request(out: &mut Vec<u8>) -> MessageWriter<'_> {
    MessageWriter::new(out, Class::Request, Method::BINDING, ID)
}

/// Appends an attribute as an attacker would: behind whatever is there, with the length made right.
fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = (message.len() - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// A signed request of a controlled agent.
fn signed() -> Vec<u8> {
    let mut out = Vec::new();
    request(&mut out).username(b"remote:local").priority(7).ice_controlled(1).integrity(&key()).finish();
    out
}

#[test]
fn case_02_every_length_but_the_right_one_is_refused() {
    let mut whole = Vec::new();
    request(&mut whole).username(b"user").fingerprint();
    for len in 0..whole.len() {
        let error = Message::parse(&whole[..len]).unwrap_err();
        let expected = if len < HEADER_LEN {
            ParseError::TooShort { len }
        } else {
            ParseError::WrongLength { declared: whole.len() - HEADER_LEN, actual: len - HEADER_LEN }
        };
        assert_eq!(error, expected, "{len} bytes");
        assert!(!is_stun(&whole[..len]), "{len} bytes");
    }
    assert!(is_stun(&whole) && Message::parse(&whole).is_ok());
    whole.push(0);
    assert!(matches!(Message::parse(&whole), Err(ParseError::WrongLength { .. })));
    assert!(!is_stun(&whole));
}

#[test]
fn case_02_a_length_that_is_no_multiple_of_four_is_refused() {
    let mut bytes = Vec::new();
    request(&mut bytes).finish();
    for length in 1u8..4 {
        bytes[3] = length;
        bytes.push(0);
        let expected = ParseError::WrongLength { declared: length.into(), actual: length.into() };
        assert_eq!(Message::parse(&bytes).unwrap_err(), expected);
    }
}

#[test]
fn case_02_top_bits_or_a_wrong_cookie_mean_another_protocol() {
    let good = signed();
    for bit in [0x40, 0x80, 0xc0] {
        let mut bytes = good.clone();
        bytes[0] |= bit;
        assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::NotStun);
    }
    for at in 4..8 {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::NotStun);
    }
}

#[test]
fn case_03_an_attribute_past_the_end_is_refused_and_so_is_its_padding() {
    let mut bytes = Vec::new();
    request(&mut bytes).attribute(attribute::USERNAME, b"12345678").finish();
    let overrun = ParseError::AttributeOverrun { kind: attribute::USERNAME };
    for length in [9u8, 12, 13, 255] {
        bytes[23] = length;
        assert_eq!(Message::parse(&bytes).unwrap_err(), overrun, "{length}");
    }
    // Five bytes of value and three of padding fit in eight bytes.
    bytes[23] = 5;
    assert_eq!(Message::parse(&bytes).unwrap().username(), Some(&b"12345"[..]));
}

#[test]
fn case_03_addresses_of_every_wrong_length_or_family_are_no_addresses() {
    let mut right = Vec::new();
    request(&mut right).xor_mapped_address(address()).finish();
    let value = Message::parse(&right).unwrap().attribute(attribute::XOR_MAPPED_ADDRESS).unwrap().to_vec();
    for family in [1, 2, 3, 0] {
        for len in 0..=24 {
            let mut changed = value.clone();
            changed.resize(len, 0);
            if let Some(byte) = changed.get_mut(1) {
                *byte = family;
            }
            let mut bytes = Vec::new();
            request(&mut bytes)
                .attribute(attribute::XOR_MAPPED_ADDRESS, &changed)
                .attribute(attribute::SOFTWARE, &[0xff; 20])
                .finish();
            let found = Message::parse(&bytes).unwrap().xor_mapped_address();
            assert_eq!(
                found.is_some(),
                (family, len) == (1, 8) || (family, len) == (2, 20),
                "{family} {len}"
            );
        }
    }
}

#[test]
fn case_04_a_wrong_fingerprint_is_not_stun() {
    let mut good = Vec::new();
    request(&mut good).username(b"user").fingerprint();
    assert!(Message::parse(&good).unwrap().has_fingerprint());
    // Not the header's length and cookie (another error), nor FINGERPRINT's own type (without which
    // there is none).
    let type_at = good.len() - 8;
    for at in (0..good.len()).filter(|at| !(2..8).contains(at) && !(type_at..type_at + 2).contains(at)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        assert!(Message::parse(&bytes).is_err(), "byte {at}");
    }
    let mut truncated = good[..good.len() - 8].to_vec();
    append(&mut truncated, attribute::FINGERPRINT, &[]);
    assert_eq!(Message::parse(&truncated).unwrap_err(), ParseError::WrongFingerprint);
}

#[test]
fn case_04_a_fingerprint_that_is_not_last_is_refused() {
    let mut bytes = Vec::new();
    request(&mut bytes).username(b"user").fingerprint();
    append(&mut bytes, attribute::SOFTWARE, b"late");
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::FingerprintNotLast);
}

#[test]
fn case_05_attributes_after_integrity_are_ignored() {
    let mut bytes = signed();
    let before = Message::parse(&bytes).unwrap().attributes().count();
    append(&mut bytes, attribute::USE_CANDIDATE, &[]);
    append(&mut bytes, attribute::ICE_CONTROLLING, &[0xff; 8]);
    append(&mut bytes, attribute::XOR_MAPPED_ADDRESS, &[0, 1, 0, 0, 1, 2, 3, 4]);
    append(&mut bytes, attribute::NONCE, b"nonce");
    append(&mut bytes, 0x7fff, b"unknown and required");
    append(&mut bytes, attribute::MESSAGE_INTEGRITY, &[0; 20]);
    let message = Message::parse(&bytes).unwrap();
    assert!(!message.use_candidate());
    assert_eq!((message.ice_controlling(), message.ice_controlled()), (None, Some(1)));
    assert_eq!((message.xor_mapped_address(), message.nonce()), (None, None));
    assert_eq!(message.unknown_required().count(), 0);
    assert_eq!(message.required_outside(&[]).count(), 2, "USERNAME and PRIORITY are in front");
    assert_eq!(message.attributes().count(), before);
    assert_eq!(message.attribute(attribute::USE_CANDIDATE), None);
    assert_eq!(message.verify(&key()), Ok(()), "the signature covers what is in front of it");
}

#[test]
fn case_05_after_integrity_only_sha256_and_fingerprint_count() {
    let mut out = Vec::new();
    request(&mut out).username(b"user").integrity(&key()).integrity_sha256(&key()).fingerprint();
    let kinds: Vec<u16> = Message::parse(&out).unwrap().attributes().map(|a| a.kind).collect();
    let [username, sha1, sha256, fingerprint] = [0x0006, 0x0008, 0x001c, 0x8028];
    assert_eq!(kinds, [username, sha1, sha256, fingerprint]);

    // The other way round, MESSAGE-INTEGRITY is one of the ignored.
    let mut out = Vec::new();
    request(&mut out).username(b"user").integrity_sha256(&key()).finish();
    append(&mut out, attribute::MESSAGE_INTEGRITY, &[0; 3]);
    let message = Message::parse(&out).unwrap();
    assert_eq!(message.attributes().map(|a| a.kind).collect::<Vec<_>>(), [username, sha256]);
    assert_eq!(message.verify(&key()), Ok(()));
}

#[test]
fn case_06_the_first_of_two_counts() {
    let other = "198.51.100.9:9".parse().unwrap();
    let mut out = Vec::new();
    request(&mut out)
        .username(b"first")
        .username(b"second")
        .xor_mapped_address(address())
        .xor_mapped_address(other)
        .finish();
    let message = Message::parse(&out).unwrap();
    assert_eq!(message.username(), Some(&b"first"[..]));
    assert_eq!(message.xor_mapped_address(), Some(address()));
    assert_eq!(message.all(attribute::USERNAME).count(), 2);
}

#[test]
fn case_06_a_malformed_first_is_not_replaced_by_a_second() {
    let mut out = Vec::new();
    request(&mut out)
        .attribute(attribute::XOR_MAPPED_ADDRESS, &[0, 3, 0, 0])
        .xor_mapped_address(address())
        .mapped_address(address())
        .finish();
    assert_eq!(Message::parse(&out).unwrap().xor_mapped_address(), None);
}

#[test]
fn case_07_error_code_ignores_reserved_bits_and_refuses_what_is_out_of_range() {
    let read = |value: &[u8]| {
        let mut out = Vec::new();
        let writer = MessageWriter::new(&mut out, Class::Error, Method::BINDING, ID);
        writer.attribute(attribute::ERROR_CODE, value).finish();
        Message::parse(&out).unwrap().error_code().map(|error| (error.code, error.reason.to_owned()))
    };
    let role_conflict = Some((487, "Role Conflict".to_owned()));
    assert_eq!(read(b"\0\0\x04\x57Role Conflict"), role_conflict);
    assert_eq!(read(b"\xff\xff\xfc\x57Role Conflict"), role_conflict, "21 reserved bits");
    for (class, number) in [(7, 0), (2, 99), (0, 0), (4, 100), (6, 255)] {
        assert_eq!(read(&[0, 0, class, number]), None, "{class} {number}");
    }
    assert_eq!(read(&[0, 0, 3, 0]), Some((300, String::new())));
    assert_eq!(read(&[0, 0, 6, 99]), Some((699, String::new())));
    assert_eq!(read(&[0, 0, 4]), None);
    assert_eq!(read(b"\0\0\x04\x00ab\xffcd"), Some((400, "ab".to_owned())), "as much as is UTF-8");
}

#[test]
fn an_algorithm_with_parameters_is_somebody_elses_and_padding_may_be_missing() {
    use gimlet_stun::PasswordAlgorithm::{Md5, Sha256};
    let offered = |value: &[u8]| {
        let mut out = Vec::new();
        request(&mut out).attribute(attribute::PASSWORD_ALGORITHMS, value).finish();
        Message::parse(&out).unwrap().offered_algorithms().collect::<Vec<_>>()
    };
    assert_eq!(offered(b"\0\x02\0\0\0\x01\0\0"), [Sha256, Md5]);
    assert_eq!(offered(b"\0\x02\0\x01p\0\0\0\0\x01\0\0"), [Md5], "padded in the middle");
    assert_eq!(offered(b"\0\x01\0\0\0\x02\0\x01p"), [Md5], "unpadded at the end");
    assert_eq!(offered(b"\0\x09\0\0\0\x01\0\0"), [Md5], "unknown ones are passed over");
    assert_eq!(offered(b"\0\x01\0\x09\0"), [], "parameters past the end");
}

#[test]
fn one_attribute_more_than_the_limit_is_refused() {
    let mut bytes = Vec::new();
    request(&mut bytes).finish();
    for _ in 0..ATTRIBUTES_MAX {
        append(&mut bytes, attribute::SOFTWARE, b"x");
    }
    assert_eq!(Message::parse(&bytes).unwrap().attributes().count(), ATTRIBUTES_MAX);
    append(&mut bytes, attribute::SOFTWARE, b"x");
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::TooManyAttributes);
}

#[test]
fn the_largest_message_is_written_and_read() {
    let mut out = Vec::new();
    let datagram = vec![7; 65_528];
    MessageWriter::new(&mut out, Class::Indication, Method::SEND, ID).data(&datagram).finish();
    assert_eq!(out.len(), HEADER_LEN + 65_532);
    assert_eq!(Message::parse(&out).unwrap().data(), Some(&datagram[..]));
}

#[test]
#[should_panic(expected = "does not fit its length field")]
fn a_message_that_cannot_say_its_length_is_the_callers_mistake() {
    let mut out = Vec::new();
    request(&mut out).data(&vec![0; 65_529]).finish();
}
