//! Messages of STUN, ICE and TURN, signed and unsigned.

use std::net::SocketAddr;

use gimlet_stun::attribute::{LIFETIME, MESSAGE_INTEGRITY, PRIORITY, REQUESTED_TRANSPORT};
use gimlet_stun::{ChangeRequest, Class, Key, MessageWriter, Method, PasswordAlgorithm, TransactionId};

use crate::Seed;

/// One message of each kind that crosses the wire.
pub(crate) fn seeds() -> Vec<Seed> {
    [requests(), answers()].concat()
}

fn write(class: Class, method: Method, build: impl for<'b> Fn(MessageWriter<'b>) -> &'b [u8]) -> Vec<u8> {
    let mut out = Vec::new();
    build(MessageWriter::new(&mut out, class, method, TransactionId(*b"corpus seeds")));
    out
}

fn binding(class: Class, build: impl for<'b> Fn(MessageWriter<'b>) -> &'b [u8]) -> Vec<u8> {
    write(class, Method::BINDING, build)
}

fn short_term() -> Key {
    Key::short_term(b"right")
}

fn long_term() -> Key {
    Key::long_term(b"user", b"realm", b"pass", PasswordAlgorithm::Sha256)
}

fn requests() -> Vec<Seed> {
    let ice_check = binding(Class::Request, |message| {
        let message = message.username(b"remote:local").priority(1_862_270_975).use_candidate();
        message.ice_controlling(7).integrity(&short_term()).fingerprint()
    });
    let both_signatures = binding(Class::Request, |message| {
        let message = message.username(b"user").realm(b"realm").nonce(b"nonce");
        message.integrity(&long_term()).integrity_sha256(&long_term()).fingerprint()
    });
    let allocate = write(Class::Request, Method::ALLOCATE, |message| {
        let message =
            message.attribute(REQUESTED_TRANSPORT, &[17, 0, 0, 0]).attribute(LIFETIME, &[0, 0, 2, 88]);
        message.username(b"user").realm(b"realm").nonce(b"nonce").integrity(&long_term()).finish()
    });
    let hidden = binding(Class::Request, |message| {
        let message = message.username(b"seen").attribute(MESSAGE_INTEGRITY, &[0; 20]);
        message.attribute(PRIORITY, &[0; 4]).fingerprint()
    });
    let change_request = binding(Class::Request, |message| {
        message.change_request(ChangeRequest { address: true, port: true }).fingerprint()
    });
    vec![
        ("change_request", change_request),
        ("binding_request", binding(Class::Request, |message| message.finish())),
        ("ice_check", ice_check),
        ("both_signatures", both_signatures),
        ("allocate", allocate),
        ("hidden_behind_a_signature", hidden),
    ]
}

fn answers() -> Vec<Seed> {
    let v4: SocketAddr = "203.0.113.50:12345".parse().expect("an address");
    let v6: SocketAddr = "[2001:db8::1]:3478".parse().expect("an address");
    let ice_answer = binding(Class::Success, |message| {
        message.xor_mapped_address(v4).integrity(&short_term()).fingerprint()
    });
    let answer_v6 = binding(Class::Success, |message| {
        let message = message.xor_mapped_address(v6).mapped_address(v4).software("gimlet");
        message.integrity_sha256(&long_term()).fingerprint()
    });
    let unknown_attribute = binding(Class::Error, |message| {
        message.error_code(420, "Unknown Attribute").unknown_attributes(&[1, 2, 3]).finish()
    });
    let role_conflict = binding(Class::Error, |message| {
        message.error_code(487, "Role Conflict").integrity(&short_term()).fingerprint()
    });
    let other_address = binding(Class::Success, |message| {
        let other: SocketAddr = "192.0.2.2:3479".parse().expect("an address");
        message.xor_mapped_address(v4).other_address(other).fingerprint()
    });
    vec![
        ("other_address", other_address),
        ("ice_answer", ice_answer),
        ("answer_v6_sha256", answer_v6),
        ("unknown_attribute", unknown_attribute),
        ("role_conflict", role_conflict),
    ]
}
