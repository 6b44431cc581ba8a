//! Well-made lies: messages signed with passwords that the liar knows, or does not.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::FourTuple;
use gimlet_stun::{
    AddressFamily, Class, IntegrityAlgorithm, Key, Message, MessageWriter, Method, PasswordAlgorithm,
    TransactionId,
};

use super::ledger::{REALM, USERS, key};
use super::world::peer;
use crate::tape::Tape;

const METHODS: [Method; 6] = [
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::SEND,
    Method::BINDING,
];

/// An answer to `request`, which a client has sent, or an indication: what a server may say that is mad, or
/// somebody who is none.
pub(crate) fn answer(request: &[u8], tape: &mut Tape<'_>) -> Option<Vec<u8>> {
    let request = Message::parse(request).ok()?;
    let (what, how, n) = (tape.u8(), tape.u8(), tape.u8());
    let mut out = Vec::new();
    let (class, method) = match what & 3 {
        0 | 1 => (Class::Success, request.method()),
        2 => (Class::Error, request.method()),
        _ => (Class::Indication, Method::DATA),
    };
    let mut writer = MessageWriter::new(&mut out, class, method, request.transaction_id());
    if class == Class::Error {
        let code = match how & 7 {
            0 => 401,
            1 => 438,
            2 => 300,
            3 => 437,
            4 => 486,
            5 => 440,
            6 => 403,
            _ => 300 + u16::from(n),
        };
        writer = writer.error_code(code, "");
        if how & 8 != 0 {
            let nonce = if how & 0x10 != 0 { "obMatJos2gAAA" } else { "" };
            writer = writer.realm(REALM).nonce(&[nonce.as_bytes(), &[b'a' + n % 26; 9]].concat());
        }
        if how & 0x20 != 0 {
            writer = writer.password_algorithms(&[PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5]);
        }
        if how & 0x40 != 0 {
            writer = writer.alternate_server(SocketAddr::from(([192, 0, 2, n], 3_478)));
        }
    } else {
        if how & 1 != 0 {
            writer = writer.xor_relayed_address(SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(n))));
        }
        if how & 2 != 0 {
            writer = writer.xor_mapped_address(SocketAddr::from(([198, 51, 100, n], 61_000)));
        }
        if how & 4 != 0 {
            writer = writer.lifetime(Duration::from_secs(u64::from(n) << (how >> 5)));
        }
        if how & 8 != 0 {
            writer = writer.xor_peer_address(peer(n & 7)).data(tape.take(usize::from(n >> 3)));
        }
        if how & 0x10 != 0 {
            writer = writer.address_error_code(AddressFamily::V6, 440);
        }
    }
    if what & 0x80 != 0 {
        writer = writer.attribute(0x7abc, &[n; 3]);
    }
    seal(writer, what, request.integrity_algorithm());
    Some(out)
}

/// Signs as the request was signed, otherwise, or not at all.
fn seal(writer: MessageWriter<'_>, what: u8, like: Option<IntegrityAlgorithm>) {
    let algorithm = match like {
        Some(IntegrityAlgorithm::Sha256) => PasswordAlgorithm::Sha256,
        Some(IntegrityAlgorithm::Sha1) | None => PasswordAlgorithm::Md5,
    };
    match what >> 2 & 3 {
        0 | 1 => {
            let signature = like.unwrap_or(IntegrityAlgorithm::Sha1);
            writer.integrity_with(key(0, algorithm), signature).finish();
        }
        2 => {
            writer.integrity(&Key::long_term(b"alice", REALM, b"guess", algorithm)).fingerprint();
        }
        _ => {
            writer.finish();
        }
    }
}

/// A request or an indication on `flow`, of a user who knows the nonce: any method with any attributes.
pub(super) fn request(flow: FourTuple, nonce: Option<&Vec<u8>>, tape: &mut Tape<'_>) -> Vec<u8> {
    let (what, how, n) = (tape.u8(), tape.u8(), tape.u8());
    let mut out = Vec::new();
    let method = METHODS[usize::from(what & 7) % METHODS.len()];
    let class = if method == Method::SEND { Class::Indication } else { Class::Request };
    let id = TransactionId([n ^ flow.remote.port() as u8; 12]);
    let mut writer = MessageWriter::new(&mut out, class, method, id);
    if how & 1 != 0 {
        writer = writer.requested_transport(if n & 0x80 == 0 { 17 } else { 6 });
    }
    if how & 2 != 0 {
        writer = writer.lifetime(Duration::from_secs(u64::from(n) * 9));
    }
    if how & 4 != 0 {
        writer =
            (0..=n & 3).fold(writer, |writer, more| writer.xor_peer_address(peer(n.wrapping_add(more) & 7)));
    }
    if how & 8 != 0 {
        writer = writer.channel_number(0x4000 | u16::from(n) << (n & 7));
    }
    if how & 0x10 != 0 {
        let family = if n & 1 == 0 { AddressFamily::V4 } else { AddressFamily::V6 };
        writer = writer.requested_address_family(family);
    }
    if how & 0x20 != 0 {
        writer = writer.even_port(n & 2 != 0);
    }
    if how & 0x40 != 0 {
        writer = writer.additional_address_family(AddressFamily::V6);
    }
    if how & 0x80 != 0 {
        writer = writer.data(tape.take(usize::from(n & 31)));
    }
    if what & 0x80 != 0 {
        writer = writer.attribute(0x7abc, &[n; 5]);
    }
    let user = usize::from(what >> 6 & 1);
    if let Some(nonce) = nonce.filter(|_| what & 0x20 == 0) {
        writer = writer.username(USERS[user].0).realm(REALM).nonce(nonce);
    }
    if what & 0x10 == 0 {
        writer.integrity(key(user, PasswordAlgorithm::Md5)).finish();
    } else {
        writer.fingerprint();
    }
    out
}
