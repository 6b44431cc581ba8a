//! Which seeds a random test plays.

/// The first `count` seeds. `SEED=n` plays that one alone, `SEEDS=n` so many in place of `count`.
pub fn seeds(count: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SEEDS").unwrap_or(count)).collect(),
    }
}
