//! Which cells there are, and several at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::cell::{Cell, Outcome};
use super::expect::Way;
use crate::lab::{Family, Nat};

/// The kinds of the IPv4 matrix.
const OVER_V4: [Nat; 8] = [
    Nat::None,
    Nat::PortRestricted,
    Nat::PortRestrictedOpen,
    Nat::FullCone,
    Nat::AddressRestricted,
    Nat::Symmetric,
    Nat::SymmetricBlock,
    Nat::Carrier,
];

/// The kinds of the IPv6 matrix: what is there without translation first.
const OVER_V6: [Nat; 4] = [Nat::None, Nat::Firewall, Nat::PortRestricted, Nat::Symmetric];

/// The whole matrix, IPv4 first.
pub fn every_cell() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (family, kinds) in [(Family::V4, &OVER_V4[..]), (Family::V6, &OVER_V6[..])] {
        for a in kinds {
            for b in kinds {
                cells.extend([false, true].map(|relay| Cell { family, a: *a, b: *b, relay }));
            }
        }
    }
    cells
}

/// Every `one_of`-th cell, beginning with one that `turn` chooses: all turns together are the matrix.
pub fn sample(cells: &[Cell], one_of: usize, turn: usize) -> Vec<Cell> {
    cells.iter().copied().skip(turn % one_of).step_by(one_of).collect()
}

/// Plays all cells, `at_once` at a time, and tells `heard` of each as it ends. Outcomes are in the order of
/// the cells.
pub fn run(cells: &[Cell], at_once: usize, program: &Path, heard: impl Fn(&Outcome) + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![None; cells.len()]);
    thread::scope(|scope| {
        for _ in 0..at_once.min(cells.len()) {
            scope.spawn(|| {
                while let Some((nth, cell)) = {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    cells.get(nth).map(|cell| (nth, *cell))
                } {
                    let outcome = play(cell, program);
                    heard(&outcome);
                    outcomes.lock().expect("no holder panics")[nth] = Some(outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no holder panics").into_iter().flatten().collect()
}

/// A cell that panics has failed, and the others go on.
fn play(cell: Cell, program: &Path) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| cell.play(program))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let complaint = format!("{cell}: {}", text.unwrap_or_default());
        Outcome { cell, way: Way::Nothing, connected_in: None, complaint: Some(complaint) }
    })
}
