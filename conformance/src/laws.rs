//! The laws of `core/README.md` as one test for every machine.
//!
//! A [`Subject`] says how to build two machines that can talk to each other, and nothing about how they
//! should behave. [`judge`] then lives through generated [`Schedule`]s with the pair: datagrams are
//! delivered late, twice, out of order, damaged or never; garbage arrives; timers fire on time, late,
//! early and twice; commands come at any moment. Every call goes through `testkit::Checked`, and every
//! schedule is run twice, which has to give the same trace byte for byte.
//!
//! | law | what notices a breach |
//! |---|---|
//! | 1 time is monotone | `Checked`; here it is the harness that keeps it |
//! | 2 drain before time moves | the harness keeps it |
//! | 3 quiet stays quiet | `Checked` on every poll |
//! | 4 no livelock | `Checked`, a bound on rounds, and silence after an early or repeated timeout |
//! | 5 hostile bytes are ordinary | no panic; consumed garbage moves a counter or an output |
//! | 6 replay | two runs, one trace |
//! | 7 commands return no bytes | the types |
//! | 8 everything has a limit | [`flood`]: memory after a flood stays below the written bound |

mod schedule;
mod world;

use std::cell::Cell;
use std::fmt::Debug;

use gimlet_machine::{Instant, Machine};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

pub use schedule::{Schedule, Step};
pub use world::Trace;
use world::World;

/// Which of the two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// How to build and talk to a pair of machines of one kind.
pub trait Subject {
    /// The machine.
    type Machine: Machine<Event: Debug>;

    /// The most heap that two machines may take in a flood, in bytes, by their written limits.
    const HEAP_MAX: usize;

    /// A machine from a seed.
    fn build(seed: u64, side: Side) -> Self::Machine;

    /// The `n`th path on which a stranger's datagrams may arrive at `side`. Path 0 is the peer's.
    fn path(side: Side, n: u8) -> <Self::Machine as Machine>::Path;

    /// The path on which a datagram that `side` sent on `path` arrives at the other side, or `None` if
    /// nobody is there.
    fn arrives(
        side: Side,
        path: <Self::Machine as Machine>::Path,
    ) -> Option<<Self::Machine as Machine>::Path>;

    /// Tells both machines what they have to know of each other before they can talk.
    fn introduce(now: Instant, a: &mut Self::Machine, b: &mut Self::Machine);

    /// Something that an owner might do, chosen by `which`. Refusals are fine.
    fn command(now: Instant, machine: &mut Self::Machine, side: Side, which: u16);

    /// Whether the machine has got as far as its kind can get: connected, answered, agreed. Lives that never
    /// get there prove little, and [`judge`] wants to see enough that do.
    fn has_arrived(machine: &Self::Machine) -> bool;

    /// The sum of the machine's counters: of what it dropped, and of what it took without a word.
    fn counted(machine: &Self::Machine) -> u64;
}

/// Of so many schedules, one has to get a machine to where [`Subject::has_arrived`].
const ARRIVALS: u32 = 5;

/// How many schedules a subject is tried with, unless `LAWS_CASES` says otherwise.
const CASES: u32 = 96;

/// Lives through generated schedules. The error names the broken law and the shortest schedule found that
/// breaks it. `SEED=… cargo laws` tries other schedules than usual.
pub fn judge<S: Subject>() -> Result<(), String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = number("LAWS_CASES").map_or(CASES, |cases| cases as u32);
    let seed = number("SEED").unwrap_or(0);
    let config = Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let arrivals = Cell::new(0);
    let outcome = runner.run(&schedule::strategy(), |schedule| {
        arrivals.set(arrivals.get() + u32::from(live::<S>(&schedule)));
        Ok(())
    });
    outcome.map_err(|error| match error {
        TestError::Fail(reason, schedule) => {
            format!("{reason}\nSEED={seed}, shortest schedule:\n{schedule:#?}")
        }
        TestError::Abort(reason) => format!("no schedules: {reason}"),
    })?;
    let enough = arrivals.get() * ARRIVALS >= cases;
    enough
        .then_some(())
        .ok_or_else(|| format!("too shallow: {} of {cases} schedules got anywhere", arrivals.get()))
}

/// One schedule, twice. Says whether it got anywhere.
fn live<S: Subject>(schedule: &Schedule) -> bool {
    let (first, arrived) = World::<S>::run(schedule);
    let (second, _) = World::<S>::run(schedule);
    if let Some((left, right)) = first.difference(&second) {
        panic!("law 6: the same inputs gave\n  {left}\nand then\n  {right}");
    }
    arrived
}

/// Sends `datagrams` replays, damaged copies and noise from 250 paths to two machines and returns by how
/// many bytes the heap has grown meanwhile, going by `live_bytes`.
pub fn flood<S: Subject>(datagrams: u32, live_bytes: impl Fn() -> usize) -> usize {
    let peak = Cell::new(0);
    let before = live_bytes();
    World::<S>::flood(datagrams, || peak.set(peak.get().max(live_bytes().saturating_sub(before))));
    peak.get()
}
