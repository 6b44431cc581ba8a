//! Sessions that go well, badly and strangely.

use super::steps::{
    CLOSE, CREDENTIALS, DAMAGE, DELIVER, DOUBLE, END, FORGE_ANSWER, FORGE_REQUEST, GARBAGE, GATHER, LOSE,
    MAKE_UP, PUNCH, SIGNAL, TIMEOUT, VOUCH, WAIT,
};
use crate::target::Seed;

/// The first side controls, the second is controlled, and the run is repeated.
const ROLES: u8 = 0x82;

/// Both sides gather a host and a reflexive candidate, signal everything, and say that this is all.
const SIGNALLED: [u8; 28] = [
    GATHER,
    0,
    GATHER,
    8,
    GATHER,
    1,
    GATHER,
    9,
    CREDENTIALS,
    0,
    CREDENTIALS,
    1,
    SIGNAL,
    0,
    SIGNAL,
    2,
    SIGNAL,
    1,
    SIGNAL,
    3,
    END,
    0,
    END,
    1,
    END,
    2,
    END,
    3,
];

/// A session of `ROLES` that was signalled and goes on with `steps`.
fn signalled(setup: u8, steps: &[u8]) -> Vec<u8> {
    [&[setup], &SIGNALLED[..], steps].concat()
}

pub(crate) fn seeds() -> Vec<Seed> {
    let meets = [WAIT, 5, DELIVER, 0, DELIVER, 0, DELIVER, 0, DELIVER, 0].repeat(6);
    let behind_nats = [WAIT, 5, DELIVER, 1, DELIVER, 1, DELIVER, 1].repeat(6);
    let lossy = [WAIT, 20, LOSE, 0, DELIVER, 0, DOUBLE, 0, DELIVER, 1, DAMAGE, 30, 7, DELIVER, 0].repeat(6);
    let line = b"candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host";
    let made_up = [&[MAKE_UP, (line.len() as u8) << 1][..], line, &[WAIT, 50, TIMEOUT, 0]].concat();
    let forged_request = [FORGE_REQUEST, 0, 2, 0, 1, 2].repeat(2);
    let forged_answer = [WAIT, 5, FORGE_ANSWER, 0, 0, 0, FORGE_ANSWER, 1, 0, 0, DELIVER, 0];
    let early = [GATHER, 0, FORGE_REQUEST, 0, 2, 0, 1, 2, CREDENTIALS, 0, WAIT, 90];
    let garbage = [GARBAGE, 0, 4, 0, 1, 0, 0, GARBAGE, 3, 1, 255];
    // The second side's NAT is hard: it opens, the first side probes.
    let both_punch = [VOUCH, 0, VOUCH, 1, PUNCH, 0b100, 0x23, 0x28, PUNCH, 0b011, 0x23, 0x28];
    let punch = [&both_punch[..], &[WAIT, 5, DELIVER, 1, LOSE, 0, DELIVER, 1].repeat(8)].concat();
    let alone = [PUNCH, 0b100, 0x23, 0x28, WAIT, 90, VOUCH, 0, WAIT, 200, PUNCH, 0b110_0000, 0, 0, WAIT, 20];
    let stranger = [PUNCH, 0b100, 0x23, 0x28, FORGE_REQUEST, 0, 2, 4, 1, 2, WAIT, 90, WAIT, 200];
    vec![
        ("punches", signalled(ROLES, &punch)),
        ("punches_alone", signalled(ROLES, &alone)),
        ("punches_after_a_lie", signalled(ROLES, &stranger)),
        ("silence_and_a_common_beginning", signalled(ROLES, &[PUNCH, 0, 0, 0, PUNCH, 1, 0, 0, WAIT, 250])),
        ("meets", signalled(ROLES, &meets)),
        ("behind_nats", signalled(ROLES, &behind_nats)),
        ("both_control", signalled(0x80, &meets)),
        ("neither_controls", signalled(0x83, &meets)),
        ("small_limits", signalled(ROLES | 4, &lossy)),
        ("lossy", signalled(ROLES, &lossy)),
        ("silence", signalled(ROLES, &[WAIT, 250, WAIT, 250])),
        ("made_up_candidate", signalled(ROLES, &made_up)),
        ("forged_requests", signalled(ROLES, &forged_request)),
        ("forged_answers", signalled(ROLES, &forged_answer)),
        ("request_before_credentials", [&[ROLES], &early[..]].concat()),
        ("garbage", signalled(ROLES, &garbage)),
        ("closed_midway", signalled(ROLES, &[WAIT, 5, DELIVER, 0, CLOSE, 0, DELIVER, 0, WAIT, 200])),
        (
            "wrong_password",
            [&[ROLES, GATHER, 0, CREDENTIALS, 6 | 24 << 3][..], &[b'x'; 24], &[WAIT, 99]].concat(),
        ),
        ("nothing_to_pair", vec![ROLES, CREDENTIALS, 0, END, 0, END, 2, WAIT, 255]),
    ]
}
