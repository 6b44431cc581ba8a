//! `gimlet splice` and `gimlet lab` between hosts of a real kernel. Needs root, iproute2 and nftables; without them
//! every test says so and passes, unless `GIMLET_LAB=1` says that they must be there.
#![cfg(target_os = "linux")]

mod failures;
mod forward;
mod pair;
mod record;
mod traffic;
mod ttfb;

use std::io::Write as _;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gimlet_lab::{Chain, Process};

const GIMLET: &str = env!("CARGO_BIN_EXE_gimlet");

/// Whether there can be a lab here; if not, that is said, and demanded if somebody demands it.
fn available() -> bool {
    let Err(missing) = gimlet_lab::available() else { return true };
    let demanded = std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1");
    assert!(!demanded, "GIMLET_LAB=1 demands a lab: {missing}");
    // Not `eprintln!`, which the test harness would swallow.
    let _ = writeln!(std::io::stderr(), "skipped, no lab: {missing}");
    false
}

/// The right to keep this computer busy, as far as these tests go: most of them look at times.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A chain of hosts, and a turn. `None` where there can be none.
fn chain() -> Option<Bench> {
    let turn = turn();
    idle_chain().map(|chain| Bench { chain, _turn: turn })
}

/// A chain for a test that mostly waits.
fn idle_chain() -> Option<Chain> {
    static CHAINS: AtomicU32 = AtomicU32::new(0);
    let name = CHAINS.fetch_add(1, Ordering::Relaxed).to_string();
    available().then(|| Chain::new(&name).unwrap_or_else(|error| panic!("{error}")))
}

/// See [`chain`].
struct Bench {
    chain: Chain,
    // Last: the next test begins when this one has cleaned up.
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Bench {
    type Target = Chain;
    fn deref(&self) -> &Chain {
        &self.chain
    }
}

/// Starts `gimlet` with these words at each of the places.
fn start(chain: &Chain, programs: [&str; 5]) -> Vec<Process> {
    let places = gimlet_lab::Place::ALL.into_iter().zip(programs);
    let start = |(place, words): (_, &str)| {
        let words: Vec<&str> = words.split_whitespace().collect();
        chain.start(place, GIMLET, &words).unwrap_or_else(|error| panic!("{error}"))
    };
    places.map(start).collect()
}
