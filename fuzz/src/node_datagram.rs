//! Up to three nodes, one of them public, and a network that does as the input says.
//!
//! Input: the set-up (1 byte: how many nodes, whether they meet in peace first, whether the public one relays,
//! whether the others want nothing but relays or know one over TCP, whether the run is repeated), then steps: a
//! byte that says what happens and a byte that says how. Datagrams are made up, delivered, lost, doubled,
//! damaged, or delivered from a stranger's address; sockets and connections that nodes ask for are opened late,
//! refused, or break; a relay over TCP lies; hosts move; the application on each node connects, opens, sends,
//! receives and closes. TLS draws its numbers from a seed, so a run repeats itself.

mod outside;
mod seeds;
mod world;

use self::world::World;
use crate::tape::Tape;
use crate::target::replayed;

pub(crate) use seeds::seeds;

/// The most steps that one input may take.
const STEPS_MAX: usize = 256;

/// Whatever the network does: the laws hold on every call, only our own nodes are ever connected,
/// every message that arrives was sent there, once and in order; a stranger gets back little more than
/// it sent; and when everybody closes, everybody gets closed.
pub fn node_datagram(data: &[u8]) {
    check(data, |_| {});
}

/// Changes the last byte of every message on its way to the application.
pub(crate) fn planted(data: &[u8]) {
    check(data, |received| {
        if let Some(last) = received.last_mut() {
            *last ^= 1;
        }
    });
}

fn check(data: &[u8], tamper: fn(&mut Vec<u8>)) {
    replayed(data, |setup, tape| play(setup, tape, tamper));
}

fn play(setup: u8, mut tape: Tape<'_>, tamper: fn(&mut Vec<u8>)) -> u64 {
    let mut world = World::new(setup, tamper);
    for _ in 0..STEPS_MAX {
        if tape.is_empty() {
            break;
        }
        step(&mut world, &mut tape);
    }
    world.close_everything();
    world.trace()
}

/// What happens in a step, by the byte that asks for it.
pub(crate) mod steps {
    pub(crate) const WAIT: u8 = 0;
    pub(crate) const DELIVER: u8 = 1;
    pub(crate) const LOSE: u8 = 2;
    pub(crate) const DOUBLE: u8 = 3;
    pub(crate) const DAMAGE: u8 = 4;
    pub(crate) const PEACE: u8 = 5;
    pub(crate) const GARBAGE: u8 = 6;
    pub(crate) const AS_STUN: u8 = 7;
    pub(crate) const TIMEOUT: u8 = 8;
    pub(crate) const CONNECT: u8 = 9;
    pub(crate) const ACCEPT: u8 = 10;
    pub(crate) const OPEN: u8 = 11;
    pub(crate) const SEND: u8 = 12;
    pub(crate) const RECEIVE: u8 = 13;
    pub(crate) const FINISH: u8 = 14;
    pub(crate) const ABANDON: u8 = 15;
    pub(crate) const DATAGRAM: u8 = 16;
    pub(crate) const CLOSE: u8 = 17;
    pub(crate) const CLOSE_ALL: u8 = 18;
    pub(crate) const HOLD: u8 = 19;
    pub(crate) const ANSWER: u8 = 20;
    pub(crate) const RELAY_SAYS: u8 = 21;
    pub(crate) const BREAK: u8 = 22;
    pub(crate) const MOVE: u8 = 23;
    pub(crate) const COUNT: u8 = 24;
}

/// The low half of `how` names the node, the high half whatever else there is to name.
fn step(world: &mut World, tape: &mut Tape<'_>) {
    let (what, how) = (tape.u8() % steps::COUNT, tape.u8());
    let (node, other) = (usize::from(how & 0xf) % world.len(), usize::from(how >> 4));
    match what {
        steps::WAIT => world.wait(u64::from(how) * 8),
        steps::DELIVER => world.deliver(how & 1 == 1),
        steps::LOSE => world.lose(),
        steps::DOUBLE => world.double(),
        steps::DAMAGE => world.damage(usize::from(how), tape.u8()),
        steps::PEACE => world.peace(u64::from(how) * 4),
        steps::GARBAGE => {
            let length = usize::from(tape.u8()) * 6;
            world.hear(node, other, tape.take(length).to_vec());
        }
        steps::AS_STUN => {
            let length = usize::from(tape.u8());
            world.hear(node, other, crate::stun_message::with_header(tape.take(length)));
        }
        steps::TIMEOUT => world.timeout(node),
        steps::CONNECT => world.connect(node, other),
        steps::ACCEPT => world.accept(node, other),
        steps::OPEN => world.open(node, other, how & 0x40 == 0),
        steps::SEND => world.send(node, other, usize::from(tape.u16())),
        steps::RECEIVE => world.receive(node, other),
        steps::FINISH => world.finish(node, other),
        steps::ABANDON => world.abandon(node, other),
        steps::DATAGRAM => world.datagram(node, other, usize::from(tape.u8())),
        steps::CLOSE => world.close(node, other),
        steps::CLOSE_ALL => world.close_all(node),
        steps::HOLD => world.hold(how & 1 == 1),
        steps::ANSWER => _ = world.answer(how & 1 == 0),
        steps::RELAY_SAYS => world.relay_says(node, other, tape),
        steps::BREAK => world.breaks(node, other),
        steps::MOVE => world.moves(node, other),
        _ => unreachable!("a remainder is below its divisor"),
    }
}
