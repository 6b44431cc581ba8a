//! What came of many worlds.

use std::collections::BTreeMap;
use std::fmt;

use crate::invariant::Invariant;
use crate::world::{Outcome, Played, Topology};

/// Breaches that are listed one by one; the counts tell the rest.
const LISTED_MAX: usize = 20;

/// Counts by what stands in between. [`fmt::Display`] makes Markdown of them.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<Topology, Row>,
    breaches: BTreeMap<Invariant, u64>,
    listed: Vec<String>,
}

#[derive(Debug, Default)]
struct Row {
    worlds: u64,
    frames: u64,
    flows: u64,
    answered: u64,
    complete: u64,
    answered_complete: u64,
    defects: u64,
}

impl Table {
    /// Counts one world.
    pub fn count(&mut self, played: &Played) {
        let row = self.rows.entry(played.topology).or_default();
        row.worlds += 1;
        row.frames += played.frames;
        for (outcome, answered) in &played.flows {
            let complete = *outcome == Outcome::Complete;
            row.flows += 1;
            row.answered += u64::from(*answered);
            row.complete += u64::from(complete);
            row.answered_complete += u64::from(complete && *answered);
        }
        row.defects += u64::from(!played.breaches.is_empty());
        for breach in &played.breaches {
            *self.breaches.entry(breach.invariant).or_default() += 1;
        }
        if let Some(first) = played.breaches.first().filter(|_| self.listed.len() < LISTED_MAX) {
            let more = played.breaches.len() - 1;
            self.listed
                .push(format!("--seed {} ({:?}): {first} (and {more} more)", played.seed, played.topology));
        }
    }

    /// Something is wrong that belongs to no world.
    pub fn complain(&mut self, invariant: Invariant, what: String) {
        *self.breaches.entry(invariant).or_default() += 1;
        self.listed.push(what);
    }

    /// How many times something did not hold.
    pub fn breaches(&self) -> u64 {
        self.breaches.values().sum()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| in between | worlds | frames | flows | complete | answered by a box | of them complete | worlds with breaches |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for (topology, row) in &self.rows {
            let Row { worlds, frames, flows, answered, complete, answered_complete, defects } = row;
            writeln!(
                f,
                "| {topology:?} | {worlds} | {frames} | {flows} | {complete} | {answered} | {answered_complete} | {defects} |"
            )?;
        }
        writeln!(f, "\nbreaches: {}", self.breaches())?;
        self.breaches.iter().try_for_each(|(invariant, count)| writeln!(f, "  {invariant:?}: {count}"))?;
        self.listed.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
