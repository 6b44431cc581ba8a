//! Connections that go well, badly and strangely.

use super::frame::steps::{COMMAND, DAMAGED, MADE, RAW, REPLACE, TIMEOUT, WAIT};
use crate::target::Seed;

/// A run that is repeated, with a server that is known and a connection that stands.
const STANDING: u8 = 0x84;
/// From the client and from the server, with all options.
const CLIENT: u8 = 0;
const SERVER: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const FIN: u8 = 1;

/// A segment of the connection at `port`, where the box expects it.
fn made(side: u8, flags: u8, port: u8, length: u8) -> Vec<u8> {
    vec![MADE, side, flags, port, 0, 16, 16, 1, 0, length]
}

fn all(setup: u8, steps: &[Vec<u8>]) -> Vec<u8> {
    [&[setup], &steps.concat()[..]].concat()
}

/// A whole connection at `port`.
fn life(port: u8) -> Vec<u8> {
    [
        made(CLIENT, SYN, port, 0),
        made(CLIENT, ACK, port, 200),
        made(SERVER, SYN | ACK, port, 0),
        made(SERVER, ACK, port, 100),
        made(CLIENT, FIN | ACK, port, 0),
        made(SERVER, FIN | ACK, port, 0),
        vec![WAIT, 0x82],
    ]
    .concat()
}

pub(crate) fn frame() -> Vec<Seed> {
    let roles = |steps: &[Vec<u8>]| (0..4).map(|role| all(STANDING | role, steps)).collect::<Vec<_>>();
    let lives = roles(&[life(2), life(3)]);
    let [single, near, far, upgrade] = &lives[..] else { unreachable!("four roles") };
    let damaged = vec![DAMAGED, CLIENT, ACK, 0, 0, 16, 16, 1, 0, 90, 2, 50, 1, 47, 0x80, 30, 7, 3];
    let damaged_syn = vec![DAMAGED, CLIENT, SYN, 2, 0, 16, 16, 1, 0, 0, 0, 25, 0x40, 0];
    let raw = vec![RAW, 3, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let lost = vec![WAIT, 0x80, WAIT, 120, WAIT, 127, WAIT, 127, WAIT, 127, WAIT, 127];
    vec![
        ("a_life_through_one", single.clone()),
        ("a_life_through_near", near.clone()),
        ("a_life_through_far", far.clone()),
        ("a_life_upgraded", upgrade.clone()),
        ("refused", all(STANDING, &[made(CLIENT, SYN, 2, 0), made(SERVER, RST | ACK, 2, 0)])),
        (
            "a_silent_server",
            all(STANDING, &[made(CLIENT, SYN, 2, 0), made(CLIENT, ACK, 2, 50), lost.clone()]),
        ),
        ("a_silent_client", all(STANDING, &[made(CLIENT, SYN, 2, 0), made(SERVER, SYN | ACK, 2, 0), lost])),
        ("damage", all(STANDING, &[damaged.repeat(4), damaged_syn, made(CLIENT, SYN, 2, 0), raw.repeat(2)])),
        ("ipv6", all(STANDING, &[[MADE, 0, SYN, 2, 1, 16, 16, 1, 0, 0].repeat(2)])),
        ("unfinished_sums", all(STANDING, &[[MADE, 0, ACK, 0, 2, 16, 16, 1, 0, 99].repeat(3)])),
        (
            "replaced",
            all(STANDING, &[vec![REPLACE, 0], life(0), vec![REPLACE, 3, 1, 2, 3, 4, 5, 6, 7, 8], life(2)]),
        ),
        (
            "commanded",
            all(
                STANDING,
                &[
                    vec![COMMAND, 0, COMMAND, 1, COMMAND, 0x2c, TIMEOUT, 0],
                    life(2),
                    vec![COMMAND, 0xfb],
                    life(3),
                ],
            ),
        ),
        (
            "blind_resets",
            all(
                STANDING,
                &[[MADE, 1, RST, 0, 0, 0xf5, 1, 2, 16, 0, 0, 0].repeat(3), made(SERVER, ACK, 0, 9)],
            ),
        ),
    ]
}

pub(crate) fn flow() -> Vec<Seed> {
    let world = |between: u8, seed: u16, restart: [u8; 2], strangers: u8, script: &[u8]| {
        let [high, low] = seed.to_be_bytes();
        [&[between, high, low, restart[0], restart[1], strangers], script].concat()
    };
    let lossy: Vec<u8> = [0, 0, 0x80, 0, 0xa3, 0, 0, 0xc4, 0, 0, 0, 0xe7, 0, 0].repeat(3);
    vec![
        ("one", world(0, 1, [0, 0], 0, &[])),
        ("one_lossy", world(0, 2, [0, 0], 0, &lossy)),
        ("one_replaced", world(0, 3, [1, 60], 2, &[])),
        ("two", world(1, 4, [0, 0], 0, &[])),
        ("two_lossy", world(1, 5, [0, 0], 3, &lossy)),
        ("two_replaced", world(1, 6, [3, 80], 0, &[0xc9, 0xa2, 0])),
        ("two_without_a_table", world(1, 7, [2, 70], 0, &[])),
        ("upgraded", world(2, 8, [0, 0], 0, &[])),
        ("upgraded_lossy", world(2, 9, [0, 0], 4, &lossy)),
        ("overtaken", world(1, 10, [0, 0], 0, &[0xc2, 0xc6, 0, 0xc1, 0, 0, 0xc3, 0xc5].repeat(4))),
    ]
}
