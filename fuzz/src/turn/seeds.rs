//! Lives that go well, badly and strangely.

use super::steps::{
    CLOSE, COMMAND, DAMAGE, DELIVER, DOUBLE, FORGE, GARBAGE, LOSE, OPEN, PEER, SEND, TIMEOUT, WAIT,
};
use crate::target::Seed;

/// A run that is repeated, with an owner who opens every socket at once.
const PLAIN: u8 = 0x80;

/// The first client asks for an allocation and a channel, and gets both.
const BOUND: [u8; 14] = [COMMAND, 0, COMMAND, 8, DELIVER, 7, DELIVER, 7, DELIVER, 7, DELIVER, 7, DELIVER, 7];

fn bound(setup: u8, steps: &[u8]) -> Vec<u8> {
    [&[setup], &BOUND[..], steps].concat()
}

fn talk() -> Vec<u8> {
    [SEND, 0x50, DELIVER, 1, PEER, 0x60, DELIVER, 1, WAIT, 20].repeat(4)
}

pub(crate) fn client() -> Vec<Seed> {
    let lossy = [WAIT, 90, LOSE, 0, DELIVER, 0, DOUBLE, 0, DELIVER, 1, DAMAGE, 30, 7, DELIVER, 2].repeat(6);
    let forged = [
        // Success with everything, signed rightly, wrongly and not; then every refusal.
        FORGE, 0, 0, 0x0f, 9, FORGE, 0, 8, 0x0f, 9, FORGE, 0, 12, 0x0f, 9, FORGE, 0, 2, 0, 1, FORGE, 0, 2,
        0x29, 1, FORGE, 0, 2, 0x3b, 1, FORGE, 0, 2, 0x42, 1, FORGE, 0, 2, 3, 1, FORGE, 0, 3, 8, 0x40,
    ];
    let asks = [COMMAND, 0, FORGE, 0, 2, 0x38, 1, WAIT, 9];
    vec![
        ("allocates_and_talks", bound(PLAIN, &talk())),
        ("over_a_stream", bound(PLAIN | 8, &talk())),
        ("both_families", bound(PLAIN | 0x12, &talk())),
        ("an_hour", bound(PLAIN, &[WAIT, 0x81, DELIVER, 7].repeat(40))),
        ("lossy", [&[PLAIN, COMMAND, 0, COMMAND, 8], &lossy[..]].concat()),
        ("forged_while_asking", [&[PLAIN, COMMAND, 0], &forged[..]].concat()),
        ("forged_afterwards", bound(PLAIN, &[&[COMMAND, 16], &forged[..], &talk()].concat())),
        ("challenged_by_a_stranger", [&[PLAIN], &asks.repeat(5)[..]].concat()),
        ("moves", bound(PLAIN, &[&[COMMAND, 10, DELIVER, 7, DELIVER, 7, DELIVER, 7], &talk()[..]].concat())),
        (
            "released",
            bound(PLAIN, &[COMMAND, 12, DELIVER, 1, DELIVER, 1, COMMAND, 0, DELIVER, 7, DELIVER, 7]),
        ),
        ("garbage", bound(PLAIN, &[GARBAGE, 0, 6, 0x40, 0, 0, 2, 1, 2, GARBAGE, 1, 3, 1, 1, 0, TIMEOUT, 0])),
        (
            "a_server_that_starts_again",
            bound(PLAIN, &[CLOSE, 8, WAIT, 0x82, DELIVER, 7, DELIVER, 7, DELIVER, 7]),
        ),
    ]
}

pub(crate) fn server() -> Vec<Seed> {
    let (slow, small) = (4, 1);
    // Somebody who knows alice's password: challenged, then everything.
    let insider = [
        FORGE, 2, 0x20, 1, 1, FORGE, 2, 0, 1, 2, FORGE, 2, 2, 4, 3, FORGE, 2, 3, 0x0c, 1, FORGE, 2, 4, 0x84,
        4, FORGE, 2, 1, 2, 5, FORGE, 2, 1, 2, 0, FORGE, 2, 5, 0, 1,
    ];
    let crowd: Vec<u8> =
        (1..8).flat_map(|n| [FORGE, n * 4 + 2, 0x20, 1, n, FORGE, n * 4 + 2, 0, 0x61, n]).collect();
    let peers = [PEER, 0x20, PEER, 0x21, PEER, 0x29, SEND, 0x10, SEND, 0x12, SEND, 0x1e, DELIVER, 7];
    let both = [
        COMMAND, 0, COMMAND, 1, COMMAND, 8, COMMAND, 9, DELIVER, 7, DELIVER, 7, DELIVER, 7, DELIVER, 7,
        DELIVER, 7, DELIVER, 7,
    ];
    vec![
        ("serves_and_relays", bound(PLAIN, &[&talk()[..], &peers].concat())),
        ("two_clients", [&[PLAIN], &both[..], &peers, &peers].concat()),
        ("little_room", [&[PLAIN | small], &both[..], &crowd, &peers].concat()),
        ("an_insider", bound(PLAIN, &insider)),
        ("an_insider_in_little_room", [&[PLAIN | small], &insider.repeat(3)[..]].concat()),
        ("a_crowd", [&[PLAIN | small], &crowd.repeat(2)[..]].concat()),
        (
            "a_slow_owner",
            bound(PLAIN | slow, &[OPEN, 0, DELIVER, 7, OPEN, 1, WAIT, 0x81, OPEN, 2, DELIVER, 7]),
        ),
        ("an_owner_who_refuses", bound(PLAIN | slow, &[OPEN, 3, DELIVER, 7, OPEN, 4, OPEN, 5, DELIVER, 7])),
        (
            "sockets_that_break",
            bound(PLAIN, &[&[CLOSE, 0, DELIVER, 7], &talk()[..], &[CLOSE, 8, DELIVER, 7]].concat()),
        ),
        (
            "permissions_end",
            bound(PLAIN, &[&[COMMAND, 18, WAIT, 0x94], &peers[..], &[WAIT, 0xbf], &peers].concat()),
        ),
        (
            "garbage",
            bound(PLAIN, &[GARBAGE, 0, 6, 0x40, 0, 0, 2, 1, 2, GARBAGE, 1, 3, 1, 1, 0, GARBAGE, 7, 1, 9]),
        ),
        (
            "damaged",
            bound(PLAIN, &[SEND, 0x50, DAMAGE, 5, 1, DELIVER, 0, SEND, 0x50, DAMAGE, 1, 7, DELIVER, 0]),
        ),
    ]
}
