//! Plays many seeds for many pairs of NATs and compares the results with what has to be.

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use data_encoding::HEXLOWER;
use gimlet_sim::NatKind;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::plan::Plan;
use super::run::{Outcome, play};
use crate::failure::Failure;
use crate::line::millis;

/// Per thousand of the seeds that have to connect directly where the NATs allow it, on lines that
/// lose packets. Without loss, all have to.
const LOSSY_PER_MILLE: u64 = 995;

/// What to play.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    /// Everything but the seed and the NATs.
    pub(crate) plan: Plan,
    pub(crate) seeds: Range<u64>,
    pub(crate) pairs: Vec<[NatKind; 2]>,
    /// How often each simulation is played; all must leave the same trace.
    pub(crate) repeat: u32,
    pub(crate) threads: usize,
}

/// What came of one pair of NATs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    event: &'static str,
    nat_a: String,
    nat_b: String,
    seeds: u64,
    direct: u64,
    /// Whether the NATs allow a direct path at all.
    possible: bool,
    connect_ms_median: Option<f64>,
    connect_ms_max: Option<f64>,
    /// Seeds that left two different traces.
    unstable: Vec<u64>,
    /// Seeds that should have connected and did not, with the reason; at most [`EXAMPLES_MAX`].
    failures: Vec<String>,
    /// One hash over the traces of all seeds: equal in another process, or something leaks in.
    trace_hash: String,
    pub(crate) ok: bool,
}

/// Failures that a row gives as examples; the count tells the rest.
const EXAMPLES_MAX: usize = 10;

/// One seed of one pair.
struct Played {
    pair: usize,
    seed: u64,
    outcome: Outcome,
    stable: bool,
}

impl Campaign {
    /// Plays everything, in parallel, and returns a row for each pair.
    pub(crate) fn play(&self) -> Result<Vec<Row>, Failure> {
        let seeds = usize::try_from(self.seeds.end.saturating_sub(self.seeds.start)).unwrap_or(usize::MAX);
        let total = seeds.saturating_mul(self.pairs.len());
        let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            let worker = || -> Result<(), Failure> {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total {
                        return Ok(());
                    }
                    let one = self.play_one(index / seeds, self.seeds.start + (index % seeds) as u64)?;
                    played.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            };
            let workers: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
        played.sort_by_key(|one| (one.pair, one.seed));
        Ok((0..self.pairs.len()).map(|pair| self.row(pair, &played)).collect())
    }

    fn play_one(&self, pair: usize, seed: u64) -> Result<Played, Failure> {
        let plan = Plan { seed, nats: self.pairs[pair], ..self.plan.clone() };
        let outcome = play(&plan, None)?;
        let mut stable = true;
        for _ in 1..self.repeat {
            stable &= play(&plan, None)? == outcome;
        }
        Ok(Played { pair, seed, outcome, stable })
    }

    fn row(&self, pair: usize, played: &[Played]) -> Row {
        let played: Vec<&Played> = played.iter().filter(|one| one.pair == pair).collect();
        let [nat_a, nat_b] = self.pairs[pair];
        let possible = played.first().is_some_and(|one| one.outcome.is_possible);
        let (seeds, direct) =
            (played.len() as u64, played.iter().filter(|one| one.outcome.is_ok()).count() as u64);
        let lossy = self.plan.link.loss != gimlet_sim::Chance::NEVER;
        let enough = if lossy { direct * 1_000 >= seeds * LOSSY_PER_MILLE } else { direct == seeds };
        let mut times: Vec<Duration> = played.iter().filter_map(|one| one.outcome.connected_in).collect();
        times.sort_unstable();
        let unstable: Vec<u64> = played.iter().filter(|one| !one.stable).map(|one| one.seed).collect();
        let failed = played.iter().filter(|one| possible && !one.outcome.is_ok());
        let why = |one: &&Played| {
            let trouble = one.outcome.trouble.as_deref().unwrap_or("the path is not direct");
            format!("seed {}: {trouble}", one.seed)
        };
        let traces = played.iter().fold(Sha256::new(), |all, one| all.chain_update(one.outcome.trace.0));
        Row {
            event: "pair",
            nat_a: nat_a.to_string(),
            nat_b: nat_b.to_string(),
            seeds,
            direct,
            possible,
            connect_ms_median: times.get(times.len() / 2).copied().map(millis),
            connect_ms_max: times.last().copied().map(millis),
            ok: unstable.is_empty() && (enough || !possible),
            unstable,
            failures: failed.take(EXAMPLES_MAX).map(why).collect(),
            trace_hash: HEXLOWER.encode(&traces.finalize()),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        let verdict = match (self.ok, self.possible) {
            (true, true) => "ok",
            (true, false) => "ok (not possible)",
            (false, _) => "FAILED",
        };
        let Row { nat_a, nat_b, direct, seeds, .. } = self;
        let count = format!("{direct}/{seeds}");
        let (median, max) = (ms(self.connect_ms_median), ms(self.connect_ms_max));
        write!(f, "{nat_a:<19} {nat_b:<19} {count:>11} {median:>10} {max:>10}  {verdict}")?;
        if !self.unstable.is_empty() {
            write!(f, "\n    two traces for the same seed: {:?}", self.unstable)?;
        }
        self.failures.iter().try_for_each(|failure| write!(f, "\n    {failure}"))
    }
}
