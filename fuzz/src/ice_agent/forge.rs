//! Well-made lies: messages signed with passwords that the liar knows.

use gimlet_stun::attribute::PRIORITY;
use gimlet_stun::{Class, Key, Message, MessageWriter, Method, TransactionId};

use super::world::{World, mapped, socket};
use crate::tape::Tape;

/// A check of `side`, signed with its password: any role, any tiebreaker, from anywhere.
pub(super) fn request(world: &mut World, side: usize, how: u8, tape: &mut Tape<'_>) {
    let (what, from, tiebreaker) = (tape.u8(), tape.u8(), u64::from(tape.u16()) << 48);
    let ours = world.sides[side].agent.inner().local_credentials().clone();
    let theirs = world.sides[1 - side].agent.inner().local_credentials().ufrag.clone();
    let sender = if how & 2 == 0 { theirs } else { "stranger".into() };
    let mut bytes = Vec::new();
    let id = TransactionId([from; 12]);
    let mut writer = MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, id)
        .username(format!("{}:{sender}", ours.ufrag).as_bytes());
    if what & 1 == 0 {
        writer = writer.priority(u32::from(from) << 16 | 1);
    }
    if what & 2 != 0 {
        writer = writer.use_candidate();
    }
    writer = match what >> 2 & 3 {
        0 => writer.ice_controlling(tiebreaker),
        1 => writer.ice_controlled(tiebreaker),
        2 => writer,
        _ => writer.ice_controlling(tiebreaker).ice_controlled(tiebreaker),
    };
    if what & 0x10 != 0 {
        // An attribute that nobody knows, or a second PRIORITY.
        writer = writer.attribute(if what & 0x20 != 0 { 0x7abc } else { PRIORITY }, tape.take(4));
    }
    let key = Key::short_term(ours.pwd.as_bytes());
    if what & 0x40 == 0 {
        writer.integrity(&key).fingerprint()
    } else {
        writer.integrity_sha256(&key).fingerprint()
    };
    world.hear(side, usize::from(from), bytes, true);
}

/// An answer to the request in front, signed with the password of the side it goes to: success with
/// any address, or any error.
pub(super) fn answer(world: &mut World, how: u8, tape: &mut Tape<'_>) {
    let Some(packet) = world.front() else { return };
    let (asker, request) = (packet.from, packet.bytes.clone());
    let Ok(message) = Message::parse(&request) else { return };
    let class = if how & 1 == 0 { Class::Success } else { Class::Error };
    let key = Key::short_term(world.sides[1 - asker].agent.inner().local_credentials().pwd.as_bytes());
    let (n, from, mut bytes) = (tape.u8(), tape.u8(), Vec::new());
    let writer = MessageWriter::new(&mut bytes, class, Method::BINDING, message.transaction_id());
    let writer = match (class, how >> 1 & 3) {
        (Class::Success, 0) => writer.xor_mapped_address(socket(asker, usize::from(n))),
        (Class::Success, 1) => writer.xor_mapped_address(mapped(asker, usize::from(n))),
        (Class::Success, 2) => writer.xor_mapped_address(([198, 51, 100, n], 1).into()),
        (Class::Error, 0) => writer.error_code(487, "Role Conflict"),
        (Class::Error, 1) => writer.error_code(300 + u16::from(n), ""),
        _ => writer,
    };
    writer.integrity(&key).fingerprint();
    world.hear(asker, usize::from(from), bytes, true);
}
