//! Holes punched through the simulator's NATs. A failure names its seed; `SEED=n` replays it alone.

mod chance;
mod lab;
mod matrix;
mod restraint;

/// The seeds to play: one, or the first `count`.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}
