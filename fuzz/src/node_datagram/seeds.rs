//! Meetings, conversations and interruptions.

use super::steps::{
    ABANDON, ACCEPT, ANSWER, AS_STUN, BREAK, CLOSE, CLOSE_ALL, CONNECT, DAMAGE, DATAGRAM, DELIVER, DOUBLE,
    FINISH, GARBAGE, HOLD, LOSE, MOVE, OPEN, PEACE, RECEIVE, RELAY_SAYS, SEND, TIMEOUT, WAIT,
};
use super::world::{RELAYED_ONLY, RELAYS, STREAM_RELAY};
use crate::target::Seed;

/// A public node alone; with a peer connected; with two peers connected; with two that have met.
const ALONE: u8 = 1;
const PAIR: u8 = 2 | 4;
const THREE: u8 = 3 | 4;
const MET: u8 = 3 | 4 | 8;
/// The run is repeated.
const TWICE: u8 = 0x80;

/// A conversation on one stream, opened by node 1 with the node in the high half of `to`.
fn conversation(to: u8) -> Vec<u8> {
    let (opener, other) = (to << 4 | 1, 1 << 4 | to);
    let ask = [OPEN, opener, SEND, 1, 0, 64, SEND, 1, 0, 0, SEND, 1, 40, 0, PEACE, 20, ACCEPT, other];
    let hear = [RECEIVE, to, RECEIVE, to, RECEIVE, to, SEND, to, 0, 9, PEACE, 20, RECEIVE, 1];
    let end = [FINISH, 1, FINISH, to, PEACE, 20, RECEIVE, to];
    [&ask[..], &hear, &end].concat()
}

pub(crate) fn seeds() -> Vec<Seed> {
    let with = |setup: u8, steps: &[u8]| [&[setup], steps].concat();
    let initial = [&[GARBAGE, 0x50, 200, 0xc3, 0, 0, 0, 1, 8][..], &[7; 8], &[0; 1_183]].concat();
    let version = [&[GARBAGE, 0x50, 200, 0xc0, 0xba, 0xba, 0xba, 0xba, 8][..], &[7; 8], &[0; 1_183]].concat();
    let short = [&[GARBAGE, 0x50, 10, 0x40][..], &[9; 59]].concat();
    let garbage =
        [&short[..], &[GARBAGE, 0x51, 2], b"GET / HTTP/1", &[GARBAGE, 0x10, 1, 255, 0, 1, 2, 3, 4]].concat();
    let stun = [&[AS_STUN, 0x50, 15, 0, 1, 1][..], b"twelve bytes"].concat();
    let lossy = [DELIVER, 0, DELIVER, 0, LOSE, 0, DOUBLE, 0, DELIVER, 0, DAMAGE, 40, 3, DELIVER, 0, WAIT, 9]
        .repeat(8);
    let met = [OPEN, 0x01, OPEN, 0x21, SEND, 1, 0, 200];
    let mut seeds = vec![
        ("initial_from_a_stranger", with(ALONE | TWICE, &initial)),
        ("unknown_version", with(ALONE | TWICE, &version)),
        ("garbage", with(ALONE | TWICE, &garbage)),
        ("stun_request", with(ALONE | TWICE, &stun)),
        ("garbage_to_a_pair", with(PAIR | TWICE, &[&garbage[..], &initial, &stun].concat())),
        ("conversation", with(PAIR | TWICE, &conversation(0))),
        ("lossy_handshake", with(2 | TWICE, &lossy)),
        ("lossy_conversation", with(PAIR, &[&met[..], &lossy, &[ACCEPT, 0x10, RECEIVE, 0]].concat())),
        (
            "moved_by_a_nat",
            with(PAIR, &[OPEN, 1, SEND, 1, 0, 99, DELIVER, 1, DELIVER, 1, DELIVER, 0, PEACE, 30]),
        ),
        ("introduced", with(THREE | TWICE, &[CONNECT, 0x21, PEACE, 250, PEACE, 250, CLOSE, 0x21, PEACE, 50])),
        ("met_and_talking", with(MET | TWICE, &conversation(2))),
        ("introduction_under_loss", with(THREE, &[&[CONNECT, 0x21][..], &lossy, &[PEACE, 250]].concat())),
        (
            "datagrams",
            with(PAIR, &[DATAGRAM, 1, 40, DATAGRAM, 1, 250, PEACE, 9, DATAGRAM, 0x10, 4, DATAGRAM, 0x10, 4]),
        ),
        (
            "abandoned",
            with(
                PAIR,
                &[OPEN, 1, SEND, 1, 0, 9, PEACE, 9, ACCEPT, 0x10, ABANDON, 0, PEACE, 9, SEND, 1, 0, 9],
            ),
        ),
        (
            "closed_midway",
            with(PAIR, &[OPEN, 1, SEND, 1, 9, 9, CLOSE_ALL, 1, DELIVER, 0, LOSE, 0, TIMEOUT, 0, WAIT, 250]),
        ),
        ("nobody_there", with(1, &[CONNECT, 0x90, WAIT, 250, WAIT, 250, WAIT, 250, ACCEPT, 0])),
    ];
    seeds.extend(outside());
    seeds
}

/// What nodes ask of their driver: relays, refusals, lies, and hosts that move.
fn outside() -> Vec<Seed> {
    let with = |setup: u8, steps: &[u8]| [&[setup], steps].concat();
    vec![
        ("met_at_a_relay", with(MET | RELAYS | RELAYED_ONLY | TWICE, &conversation(2))),
        (
            "relay_refuses",
            with(
                THREE | RELAYS | RELAYED_ONLY | TWICE,
                &[HOLD, 1, CONNECT, 0x21, PEACE, 1, ANSWER, 1, DELIVER, 0, ANSWER, 1, HOLD, 0, PEACE, 250],
            ),
        ),
        (
            "relay_breaks",
            with(
                MET | RELAYS | RELAYED_ONLY,
                &[&[OPEN, 0x21, SEND, 1, 0, 200, BREAK, 0, PEACE, 99][..], &conversation(2)].concat(),
            ),
        ),
        (
            "stream_relay_lies",
            with(
                PAIR | STREAM_RELAY | TWICE,
                &[
                    &[RELAY_SAYS, 1, 0, 2, 8, 3, PEACE, 9, RELAY_SAYS, 1, 0, 0x20, 7, 9, RELAY_SAYS, 1, 9][..],
                    b"none",
                    &[BREAK, 1, PEACE, 250],
                ]
                .concat(),
            ),
        ),
        ("moved_host", with(PAIR | TWICE, &[&[MOVE, 0x11, PEACE, 250][..], &conversation(0)].concat())),
        (
            "both_moved_and_relayed",
            with(MET | RELAYS, &[&[MOVE, 0x11, MOVE, 0x22, PEACE, 250][..], &conversation(2)].concat()),
        ),
    ]
}
