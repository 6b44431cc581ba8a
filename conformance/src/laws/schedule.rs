//! What may happen to a pair of machines, as a value that proptest can shrink.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::Side;

/// The steps of one schedule.
const STEPS_MAX: usize = 80;
/// The longest garbage. Longer than a header of any protocol here, shorter than a packet.
const GARBAGE_MAX: usize = 200;

/// A seed for the machines, and what happens to them.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Both machines grow from it.
    pub seed: u64,
    /// In order.
    pub steps: Vec<Step>,
}

/// One thing that happens. Indices wrap around what there is.
#[derive(Clone, Debug)]
pub enum Step {
    /// Time passes, and timers fire when they are due.
    Wait(Duration),
    /// Time passes, and timers fire all at once at the end.
    Oversleep(Duration),
    /// The polls are asked again, although nothing has happened.
    PollAgain(Side),
    /// `handle_timeout`, although nothing is due.
    EarlyTimeout(Side),
    /// The datagrams that are under way arrive, oldest first.
    DeliverAll,
    /// One datagram arrives out of turn.
    Deliver(u8),
    /// One datagram arrives and stays under way: it will arrive again.
    Duplicate(u8),
    /// One datagram arrives damaged, and stays under way.
    Damage {
        /// Which datagram.
        which: u8,
        /// Which byte.
        byte: u16,
        /// What is flipped in it; 0 cuts the datagram off there.
        flip: u8,
    },
    /// One datagram arrives on a path that it was not sent on, and stays under way.
    Stray {
        /// Which datagram.
        which: u8,
        /// The path it arrives on.
        path: u8,
    },
    /// One datagram is lost.
    Lose(u8),
    /// Bytes from nobody.
    Garbage {
        /// Who gets them.
        side: Side,
        /// From where.
        path: u8,
        /// What.
        bytes: Vec<u8>,
    },
    /// The owner does something.
    Command {
        /// Whose owner.
        side: Side,
        /// What.
        which: u16,
    },
}

pub(super) fn strategy() -> impl Strategy<Value = Schedule> {
    (any::<u64>(), vec(step(), 1..STEPS_MAX)).prop_map(|(seed, steps)| Schedule { seed, steps })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::A), Just(Side::B)]
}

/// Microseconds to minutes, each decade as likely as the others.
fn duration() -> impl Strategy<Value = Duration> {
    (0u32..8, 1u64..10).prop_map(|(decade, digit)| Duration::from_micros(digit * 10u64.pow(decade)))
}

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..GARBAGE_MAX),
        // What a demultiplexer lets through to STUN (RFC 8489 §5): two zero bits and the magic cookie.
        vec(any::<u8>(), 20..GARBAGE_MAX).prop_map(|mut bytes| {
            bytes[0] &= 0x3f;
            let length = (bytes.len() - 20) as u16 & !3;
            bytes.truncate(20 + usize::from(length));
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            bytes
        }),
        // What looks like QUIC: a long header of version 1 (RFC 9000 §17.2), and a short one (§17.3).
        vec(any::<u8>(), 8..GARBAGE_MAX).prop_map(|mut bytes| {
            bytes[0] |= 0xc0;
            bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
            bytes
        }),
        vec(any::<u8>(), 8..GARBAGE_MAX).prop_map(|mut bytes| {
            bytes[0] = bytes[0] & 0x3f | 0x40;
            bytes
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => duration().prop_map(Step::Wait),
        2 => duration().prop_map(Step::Oversleep),
        1 => side().prop_map(Step::PollAgain),
        1 => side().prop_map(Step::EarlyTimeout),
        6 => Just(Step::DeliverAll),
        3 => any::<u8>().prop_map(Step::Deliver),
        1 => any::<u8>().prop_map(Step::Duplicate),
        2 => (any::<u8>(), any::<u16>(), any::<u8>()).prop_map(|(which, byte, flip)| Step::Damage { which, byte, flip }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(which, path)| Step::Stray { which, path }),
        1 => any::<u8>().prop_map(Step::Lose),
        2 => (side(), any::<u8>(), garbage()).prop_map(|(side, path, bytes)| Step::Garbage { side, path, bytes }),
        4 => (side(), any::<u16>()).prop_map(|(side, which)| Step::Command { side, which }),
    ]
}
