//! One datagram that may be STUN.
//!
//! Input: the datagram. It is read as it is, and once more as the attributes of a message whose
//! header and checksum are right, because no fuzzer guesses a CRC.

mod machines;
mod seeds;

use std::hint::black_box;

use gimlet_stun::attribute::{FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256};
use gimlet_stun::{
    ATTRIBUTES_MAX, HEADER_LEN, IntegrityError, Key, MAGIC_COOKIE, Message, MessageWriter, is_stun,
};

pub(crate) use seeds::seeds;

use crate::tape::Tape;
use crate::target::bounded;

/// A plain walk over the bytes sees what the parser sees; what is written back reads the same, is
/// authentic under its key and no other, and stops being so with any bit of it changed. A server and a
/// client that get it keep their promises, and so do a server with four faces and a discovery.
pub fn stun_message(data: &[u8]) {
    check(data, |_| {});
}

/// Writes the last bit of the header's transaction id wrong, after signing.
pub(crate) fn planted(data: &[u8]) {
    check(data, |written| written[HEADER_LEN - 1] ^= 1);
}

fn check(data: &[u8], tamper: impl Fn(&mut Vec<u8>)) {
    let data = bounded(data);
    datagram(data, &tamper);
    datagram(&with_header(data), &tamper);
}

fn datagram(bytes: &[u8], tamper: impl Fn(&mut Vec<u8>)) {
    machines::server(bytes);
    machines::client(bytes);
    machines::faces(bytes);
    machines::discovery(bytes);
    let expected = walk(bytes);
    let Ok(message) = Message::parse(bytes) else {
        // The two length rules for signatures are the parser's alone.
        let odd_signature = |(kind, value): &(u16, &[u8])| match *kind {
            MESSAGE_INTEGRITY => value.len() != 20,
            MESSAGE_INTEGRITY_SHA256 => !matches!(value.len(), 16 | 20 | 24 | 28 | 32),
            _ => false,
        };
        assert!(expected.is_none_or(|seen| seen.iter().any(odd_signature)), "refused without a reason");
        return;
    };
    assert!(is_stun(bytes), "what parses is STUN");
    let seen: Vec<_> = message.attributes().map(|attribute| (attribute.kind, attribute.value)).collect();
    assert_eq!(Some(&seen), expected.as_ref(), "the plain walk sees the same attributes");
    read_everything(&message);
    write_back(&message, tamper);
}

/// What a reader may see of a message, by a plain walk; `None` if it is none. Follows RFC 8489 §5,
/// §14 and §14.5–14.7, and the limit on attributes, one sentence at a time.
fn walk(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let (header, mut rest) = bytes.split_at_checked(HEADER_LEN)?;
    let u16_at = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if header[0] >> 6 != 0 || header[4..8] != MAGIC_COOKIE.to_be_bytes() {
        return None;
    }
    if usize::from(u16_at(header, 2)?) != rest.len() || rest.len() % 4 != 0 {
        return None;
    }
    let (mut seen, mut count, mut signed) = (Vec::new(), 0, [false; 2]);
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (kind, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let value = rest.get(4..4 + length)?;
        rest = rest.get(4 + length.div_ceil(4) * 4..)?;
        count += 1;
        if count > ATTRIBUTES_MAX {
            return None;
        }
        let visible = match kind {
            FINGERPRINT => {
                let right = rest.is_empty() && value == (crc32(&bytes[..at]) ^ 0x5354_554e).to_be_bytes();
                if !right {
                    return None;
                }
                true
            }
            MESSAGE_INTEGRITY_SHA256 => !signed[1],
            _ => !signed[0] && !signed[1],
        };
        signed[0] |= kind == MESSAGE_INTEGRITY;
        signed[1] |= kind == MESSAGE_INTEGRITY_SHA256;
        if visible {
            seen.push((kind, value));
        }
    }
    Some(seen)
}

/// CRC-32 bit by bit (ISO 3309, as RFC 8489 §14.7 wants it).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Calls every accessor: none may panic, whatever the values hold.
fn read_everything(message: &Message<'_>) {
    black_box((message.class(), message.method(), message.transaction_id(), format!("{message:?}").len()));
    black_box((message.username(), message.userhash(), message.realm(), message.nonce(), message.software()));
    black_box((message.xor_mapped_address(), message.mapped_address(), message.alternate_server()));
    black_box((message.error_code(), message.unknown_attributes().count(), message.alternate_domain()));
    black_box((message.offered_algorithms().count(), message.password_algorithm()));
    black_box((
        message.priority(),
        message.use_candidate(),
        message.ice_controlling(),
        message.ice_controlled(),
    ));
    black_box((message.change_request(), message.response_origin(), message.other_address()));
    black_box((message.response_port(), message.padding(), message.channel_number(), message.lifetime()));
    black_box((
        message.xor_peer_addresses().count(),
        message.xor_relayed_addresses().count(),
        message.data(),
    ));
    black_box((message.requested_address_family(), message.additional_address_family(), message.even_port()));
    black_box((message.requested_transport(), message.dont_fragment(), message.reservation_token()));
    black_box((message.address_error_code(), message.icmp(), message.unknown_required().count()));
    assert!(message.error_code().is_none_or(|error| (300..700).contains(&error.code)));
    assert_eq!(message.has_integrity(), message.integrity_algorithm().is_some());
}

/// Whether attributes of this type sign or seal a message.
fn signs(kind: u16) -> bool {
    matches!(kind, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 | FINGERPRINT)
}

/// Writes the ordinary attributes back with a signature and a checksum of our own.
fn write_back(message: &Message<'_>, tamper: impl Fn(&mut Vec<u8>)) {
    let ordinary: Vec<_> = message.attributes().filter(|attribute| !signs(attribute.kind)).collect();
    if ordinary.len() + 2 > ATTRIBUTES_MAX {
        return;
    }
    let choice = message.transaction_id().0[0];
    let (key, wrong) = (Key::short_term(b"right"), Key::short_term(b"wrong"));
    let mut out = Vec::new();
    let mut writer =
        MessageWriter::new(&mut out, message.class(), message.method(), message.transaction_id());
    for attribute in &ordinary {
        writer = writer.attribute(attribute.kind, attribute.value);
    }
    let signed = if choice & 1 == 0 {
        writer.integrity(&key).finish()
    } else {
        writer.integrity_sha256(&key).finish()
    };
    let signed_len = signed.len();
    tamper(&mut out);
    let again = Message::parse(&out).expect("what we write is a message");
    assert_eq!((again.class(), again.method()), (message.class(), message.method()));
    assert_eq!(again.transaction_id(), message.transaction_id());
    assert!(again.attributes().filter(|attribute| !signs(attribute.kind)).eq(ordinary));
    assert_eq!(again.verify(&key), Ok(()));
    assert_eq!(again.verify(&wrong), Err(IntegrityError::Mismatch));
    let at = usize::from(choice) * 257 % (signed_len * 8);
    out[at / 8] ^= 1 << (at % 8);
    let forged = Message::parse(&out);
    assert!(forged.is_err() || forged.is_ok_and(|forged| forged.verify(&key).is_err()), "bit {at} is signed");
}

/// `data` as type, transaction id and attributes of a message, with the rest made right.
pub(crate) fn with_header(data: &[u8]) -> Vec<u8> {
    let mut tape = Tape::new(data);
    let (kind, choice) = (tape.u16() & 0x3fff, tape.u8());
    let id = tape.take(12);
    let body = tape.take(usize::MAX);
    let body = &body[..body.len() / 4 * 4];
    let mut message = kind.to_be_bytes().to_vec();
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    message.extend_from_slice(id);
    message.resize(HEADER_LEN, 0);
    message.extend_from_slice(body);
    if choice & 1 == 1 {
        let length = (body.len() as u16 + 8).to_be_bytes();
        message[2..4].copy_from_slice(&length);
        let value = crc32(&message) ^ 0x5354_554e;
        message.extend_from_slice(&FINGERPRINT.to_be_bytes());
        message.extend_from_slice(&[0, 4]);
        message.extend_from_slice(&value.to_be_bytes());
    }
    message
}
