//! `gimlet splice` and `gimlet lab` between hosts of a real kernel. Needs root, iproute2 and nftables; without them
//! every test says so and passes, unless `GIMLET_LAB=1` says that they must be there.
#![cfg(target_os = "linux")]

mod forward;
mod traffic;

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use gimlet_lab::{Chain, Process};

const GIMLET: &str = env!("CARGO_BIN_EXE_gimlet");

/// A chain of hosts; `None` where there can be none.
fn chain() -> Option<Chain> {
    static CHAINS: AtomicU32 = AtomicU32::new(0);
    if let Err(missing) = gimlet_lab::available() {
        let demanded = std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1");
        assert!(!demanded, "GIMLET_LAB=1 demands a lab: {missing}");
        // Not `eprintln!`, which the test harness would swallow.
        let _ = writeln!(std::io::stderr(), "skipped, no lab: {missing}");
        return None;
    }
    let name = CHAINS.fetch_add(1, Ordering::Relaxed).to_string();
    Some(Chain::new(&name).unwrap_or_else(|error| panic!("{error}")))
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
