//! Two ICE agents, and a network and a signalling channel that do as the input says.
//!
//! Input: the set-up (1 byte), then steps. A step is one byte that says what happens, and a few that
//! say how: time passes; the packet in front is delivered, lost, doubled or damaged; a candidate is
//! gathered, signalled or made up; credentials arrive, right or wrong; a stranger sends bytes; somebody
//! who knows a password sends a well-made lie.

mod forge;
mod seeds;
mod world;

use gimlet_ice::{Candidate, Credentials};

use self::world::World;
use crate::tape::Tape;
use crate::target::replayed;

pub(crate) use seeds::seeds;

/// The most steps that one input may take.
const STEPS_MAX: usize = 512;

/// Whatever network and signalling do: the laws hold on every call, no path is valid before the peer
/// was heard, checks are paced, nothing is sprayed before its owner vouched or the peer was heard from there, everything sent is a sealed Binding message from a socket of ours,
/// limits hold, a run repeats itself byte for byte, and nobody is left checking for ever.
pub fn ice_agent(data: &[u8]) {
    check(data, |_| {});
}

/// Sends everything with its last bit wrong.
pub(crate) fn planted(data: &[u8]) {
    check(data, |sent| {
        if let Some(last) = sent.last_mut() {
            *last ^= 1;
        }
    });
}

fn check(data: &[u8], tamper: fn(&mut [u8])) {
    replayed(data, |setup, tape| play(setup, tape, tamper));
}

fn play(setup: u8, mut tape: Tape<'_>, tamper: fn(&mut [u8])) -> u64 {
    let mut world = World::new(setup, tamper);
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
    pub(crate) const GATHER: u8 = 5;
    pub(crate) const SIGNAL: u8 = 6;
    pub(crate) const MAKE_UP: u8 = 7;
    pub(crate) const CREDENTIALS: u8 = 8;
    pub(crate) const END: u8 = 9;
    pub(crate) const GARBAGE: u8 = 10;
    pub(crate) const FORGE_REQUEST: u8 = 11;
    pub(crate) const FORGE_ANSWER: u8 = 12;
    pub(crate) const TIMEOUT: u8 = 13;
    pub(crate) const CLOSE: u8 = 14;
    pub(crate) const PUNCH: u8 = 15;
    pub(crate) const VOUCH: u8 = 16;
    pub(crate) const COUNT: u8 = 17;
}

fn step(world: &mut World, tape: &mut Tape<'_>) {
    let what = tape.u8() % steps::COUNT;
    let how = tape.u8();
    let side = usize::from(how & 1);
    match what {
        steps::WAIT => world.wait(u64::from(how) * 4),
        steps::DELIVER => world.deliver(how & 1 == 1),
        steps::LOSE => world.lose(),
        steps::DOUBLE => world.double(),
        steps::DAMAGE => world.damage(usize::from(how), tape.u8()),
        steps::GATHER => world.gather(side, usize::from(how >> 1 & 3), how & 8 != 0, u16::from(how >> 4)),
        steps::SIGNAL => world.signal(side, usize::from(how >> 1)),
        steps::MAKE_UP => {
            let line = String::from_utf8_lossy(tape.take(usize::from(how >> 1))).into_owned();
            match read_line(&line) {
                Some(candidate) => world.add_remote(side, candidate),
                None => world.add_line(side, &line),
            }
        }
        steps::CREDENTIALS => {
            let made_up = || String::from_utf8_lossy(tape.take(usize::from(how >> 3))).into_owned();
            let lie = (how & 6 == 6).then(made_up).map(|pwd| Credentials { ufrag: "liar".into(), pwd });
            world.set_credentials(side, lie);
        }
        steps::END => world.end_of_candidates(side, how & 2 != 0),
        steps::GARBAGE => {
            let length = usize::from(tape.u8());
            let bytes = tape.take(length);
            world.hear(side, usize::from(how >> 1), bytes.to_vec(), false);
        }
        steps::FORGE_REQUEST => forge::request(world, side, how, tape),
        steps::FORGE_ANSWER => forge::answer(world, how, tape),
        steps::TIMEOUT => world.timeout(side),
        steps::CLOSE => world.close(side),
        steps::PUNCH => world.punch(side, how >> 1, tape.u16()),
        steps::VOUCH => world.vouch(side),
        _ => unreachable!("a remainder is below its divisor"),
    }
}

/// A line that is read is written so that it reads the same.
fn read_line(line: &str) -> Option<Candidate> {
    let candidate: Candidate = line.parse().ok()?;
    assert_eq!(candidate.to_string().parse(), Ok(candidate.clone()), "{line:?} changes its meaning");
    Some(candidate)
}
