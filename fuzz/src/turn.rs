//! TURN clients, a server, peers, and a network and owners that do as the input says.
//!
//! Input: the set-up (1 byte), then steps. A step is one byte that says what happens, and one or a few
//! that say how: time passes; the packet in front is delivered, lost, doubled or damaged; an owner asks
//! its client for something; data is sent by a client or a peer; a socket is opened, refused or closed; a
//! stranger sends bytes; somebody who knows a password sends a well-made lie.
//!
//! The two bodies differ in whom the lies are for, and in what is set up: one client and its server, or two
//! clients and a server of little room.

pub(crate) mod forge;
mod ledger;
mod seeds;
mod world;

use self::world::{Target, World};
use crate::tape::Tape;
use crate::target::replayed;

pub(crate) use seeds::{client as client_seeds, server as server_seeds};

/// The most steps that one input may take.
const STEPS_MAX: usize = 512;

/// What a planted bug does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The client's requests leave with their last bit wrong.
    Client,
    /// The server relays to the next address.
    Server,
}

/// Whatever server and network do to a TURN client: the laws hold on every call; it sends what a server
/// reads, only to its server; it hands on only what came from the server, from peers that it permitted;
/// nothing is granted but by an authentic answer; limits hold; a run repeats itself; and after it, on a
/// perfect network, it is not left waiting for nothing.
pub fn turn_client(data: &[u8]) {
    check(data, Target::Client, Fault::None);
}

/// Whatever clients, strangers, peers and its owner do to a TURN server: the laws hold on every call;
/// nothing is relayed without a permission, and none is given without a signature; strangers hear hardly
/// more than they say, and seldom; limits hold; a run repeats itself; in the end nothing is left behind.
pub fn turn_server(data: &[u8]) {
    check(data, Target::Server, Fault::None);
}

pub(crate) fn planted_client(data: &[u8]) {
    check(data, Target::Client, Fault::Client);
}

pub(crate) fn planted_server(data: &[u8]) {
    check(data, Target::Server, Fault::Server);
}

fn check(data: &[u8], target: Target, fault: Fault) {
    replayed(data, |setup, tape| play(setup, tape, target, fault));
}

fn play(setup: u8, mut tape: Tape<'_>, target: Target, fault: Fault) -> u64 {
    let mut world = World::new(setup, target, fault);
    for _ in 0..STEPS_MAX {
        if tape.is_empty() {
            break;
        }
        step(&mut world, &mut tape);
        world.assert_sound();
    }
    world.run_out();
    world.trace()
}

/// What happens in a step, by the byte that asks for it.
pub(crate) mod steps {
    pub(crate) const WAIT: u8 = 0;
    pub(crate) const DELIVER: u8 = 1;
    pub(crate) const LOSE: u8 = 2;
    pub(crate) const DOUBLE: u8 = 3;
    pub(crate) const DAMAGE: u8 = 4;
    pub(crate) const COMMAND: u8 = 5;
    pub(crate) const SEND: u8 = 6;
    pub(crate) const PEER: u8 = 7;
    pub(crate) const OPEN: u8 = 8;
    pub(crate) const GARBAGE: u8 = 9;
    pub(crate) const FORGE: u8 = 10;
    pub(crate) const TIMEOUT: u8 = 11;
    pub(crate) const CLOSE: u8 = 12;
    pub(crate) const COUNT: u8 = 13;
}

fn step(world: &mut World, tape: &mut Tape<'_>) {
    let what = tape.u8() % steps::COUNT;
    let how = tape.u8();
    match what {
        // Milliseconds, or seconds up to half an hour.
        steps::WAIT if how & 0x80 == 0 => world.wait(u64::from(how) * 4),
        steps::WAIT => world.wait(u64::from(how & 0x7f) * 15_000),
        steps::DELIVER => (0..=how % 8).for_each(|_| world.deliver()),
        steps::LOSE => world.lose(),
        steps::DOUBLE => world.double(),
        steps::DAMAGE => world.damage(usize::from(how), tape.u8()),
        steps::COMMAND => world.command(usize::from(how & 1), how >> 1),
        steps::SEND => world.send(usize::from(how & 1), how >> 1 & 7, usize::from(how >> 4) * 97),
        steps::PEER => world.peer_sends(how & 7, usize::from(how >> 3 & 3), usize::from(how >> 5) * 200),
        steps::OPEN => world.answer_owner(how),
        steps::GARBAGE => {
            let length = usize::from(tape.u8());
            let bytes = tape.take(length);
            world.garbage(how, bytes);
        }
        steps::FORGE => world.forge(how, tape),
        steps::TIMEOUT => world.timeout(usize::from(how)),
        steps::CLOSE => world.close(how),
        _ => unreachable!("a remainder is below its divisor"),
    }
}
