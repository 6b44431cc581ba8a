//! What came of many worlds, by cell.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::expect::Expected;
use super::hard::Hard;
use super::plan::RelayKind;
use super::play::{Outcome, Played};

/// Defects that are listed one by one; the count tells the rest.
const LISTED_MAX: usize = 40;

/// Counts of outcomes. [`fmt::Display`] makes Markdown of them.
#[derive(Debug, Default)]
pub struct Table {
    cells: BTreeMap<(String, bool), Cell>,
    /// Worlds where only guessing makes a direct path, by what there is to guess.
    guesses: BTreeMap<Hard, Guesses>,
    /// Worlds with a NAT that minds who sends first: all where a direct path is possible otherwise, and those
    /// that had one.
    clashes: (usize, usize),
    defects: Vec<String>,
    /// Times to connect, with a relay and without.
    times: [Vec<Duration>; 2],
}

#[derive(Debug, Default)]
struct Cell {
    direct: usize,
    relayed: usize,
    failed: usize,
    expected: BTreeMap<Expected, usize>,
    defects: usize,
}

/// Worlds where a direct path takes guessing.
#[derive(Debug, Default)]
struct Guesses {
    worlds: u32,
    direct: u32,
    /// How many are to be expected, and the variance of that.
    expected: f64,
    variance: f64,
}

impl Guesses {
    /// The least that is no reason to doubt the formula: three standard deviations below what is to be expected, and
    /// one more for what the formula leaves out.
    fn least(&self) -> f64 {
        (self.expected - 3.0 * self.variance.sqrt() - 1.0).max(0.0)
    }
}

impl Table {
    /// Counts one world.
    pub fn count(&mut self, played: &Played) {
        let cell = self.cells.entry((played.cell.clone(), played.relay != RelayKind::None)).or_default();
        match played.outcome {
            Outcome::Direct => cell.direct += 1,
            Outcome::Relayed => cell.relayed += 1,
            Outcome::NotJoined | Outcome::Failed(_) => cell.failed += 1,
        }
        *cell.expected.entry(played.expected).or_default() += 1;
        if let Some(hard) = played.hard {
            let guesses = self.guesses.entry(hard).or_default();
            guesses.worlds += 1;
            guesses.direct += u32::from(played.outcome == Outcome::Direct);
            let chance = hard.expected(played.loss).unwrap_or(0.0);
            guesses.expected += chance;
            guesses.variance += chance * (1.0 - chance);
        }
        if played.clashes {
            self.clashes.0 += 1;
            self.clashes.1 += usize::from(played.outcome == Outcome::Direct);
        }
        self.times[usize::from(played.relay != RelayKind::None)].extend(played.connected_in);
        if let Some(defect) = &played.defect {
            cell.defects += 1;
            self.defects.push(format!("--seed {}: {} ({defect})", played.seed, played.cell));
        }
    }

    /// How many worlds, and kinds of worlds to guess at, are not as they have to be.
    pub fn defects(&self) -> usize {
        self.defects.len() + self.unlucky().count()
    }

    /// Kinds of worlds where guesses hit too rarely.
    fn unlucky(&self) -> impl Iterator<Item = Hard> {
        let rare = |(_, guesses): &(&Hard, &Guesses)| f64::from(guesses.direct) < guesses.least();
        self.guesses.iter().filter(rare).map(|(hard, _)| *hard)
    }

    /// Something is wrong that belongs to no cell.
    pub fn complain(&mut self, what: String) {
        self.defects.push(what);
    }

    /// Worlds, those connected, and those that had to be.
    fn totals(&self, has_relay: bool) -> (usize, usize, usize) {
        let cells = self.cells.iter().filter(|((_, relay), _)| *relay == has_relay);
        cells.fold((0, 0, 0), |(all, connected, due), (_, cell)| {
            let hopeless = cell.expected.get(&Expected::Failed).copied().unwrap_or(0);
            let total = cell.direct + cell.relayed + cell.failed;
            (all + total, connected + cell.direct + cell.relayed, due + total - hopeless)
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| cell | relay | worlds | had to be | direct | relayed | failed | defects |")?;
        writeln!(f, "|---|---|--:|---|--:|--:|--:|--:|")?;
        for ((name, has_relay), cell) in &self.cells {
            let relay = if *has_relay { "yes" } else { "no" };
            let expected: Vec<String> =
                cell.expected.iter().rev().map(|(what, count)| format!("{count} {}", what.word())).collect();
            let Cell { direct, relayed, failed, defects, .. } = cell;
            let worlds = direct + relayed + failed;
            let expected = expected.join(", ");
            writeln!(
                f,
                "| {name} | {relay} | {worlds} | {expected} | {direct} | {relayed} | {failed} | {defects} |"
            )?;
        }
        if !self.guesses.is_empty() {
            let header =
                "ports to guess | worlds | direct | share | 1 - C(n-k,h)/C(n,h) | after loss | least";
            writeln!(f, "\n| {header} |\n|---|--:|--:|--:|--:|--:|--:|")?;
        }
        for (hard, guesses) in &self.guesses {
            let Guesses { worlds, direct, expected, .. } = guesses;
            let of_all = |count: f64| count / f64::from(*worlds);
            write!(f, "| {hard} | {worlds} | {direct} | {:.3} |", of_all(f64::from(*direct)))?;
            match hard.formula() {
                Some(formula) => {
                    let (after_loss, least) = (of_all(*expected), guesses.least().ceil());
                    writeln!(f, " {formula:.3} | {after_loss:.3} | {least} |")?;
                }
                None => writeln!(f, " | | |")?,
            }
        }
        writeln!(f)?;
        for has_relay in [true, false] {
            let (all, connected, due) = self.totals(has_relay);
            let mut times = self.times[usize::from(has_relay)].clone();
            times.sort_unstable();
            let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied();
            let milliseconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1_000.0;
            let name = if has_relay { "with a relay" } else { "without a relay" };
            writeln!(
                f,
                "{name}: {connected} of {all} connected, {due} had to; to connect: median {:.0} ms, 99 % {:.0} ms",
                milliseconds(at(50)),
                milliseconds(at(99)),
            )?;
        }
        let (clashes, direct) = self.clashes;
        writeln!(f, "NATs that mind who sends first: {direct} of {clashes} direct")?;
        writeln!(f, "defects: {}", self.defects())?;
        self.unlucky().try_for_each(|hard| writeln!(f, "  guesses hit too rarely: {hard}"))?;
        self.defects.iter().take(LISTED_MAX).try_for_each(|defect| writeln!(f, "  {defect}"))
    }
}
