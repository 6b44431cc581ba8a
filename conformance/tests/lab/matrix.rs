//! Every kind of NAT against every other, with the `gimlet` command, judged by the oracle.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use gimlet_conformance::lab::{Family, Nat};
use gimlet_conformance::lab_matrix::{Cell, PUNCH, Way, every_cell, json_line, markdown, run};
use gimlet_conformance::program;

use crate::lab_beside_coturn;

/// Cells under way at once: they wait far more than they work.
const AT_ONCE: usize = 10;

/// Where the outcomes go: `GIMLET_MATRIX`, or the target folder.
fn place() -> PathBuf {
    let target = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lab-matrix.jsonl");
    std::env::var_os("GIMLET_MATRIX").map_or_else(target, PathBuf::from)
}

#[test]
fn every_cell_of_the_matrix_goes_the_way_that_the_oracle_says() {
    if lab_beside_coturn(Nat::None, Nat::None).is_none() {
        return;
    }
    let cells = every_cell();
    assert_eq!(cells.iter().copied().collect::<BTreeSet<_>>().len(), cells.len(), "each cell once");
    let outcomes = run(&cells, AT_ONCE, &program::gimlet(), |_| ());
    let lines: String = outcomes.iter().map(|outcome| json_line(outcome) + "\n").collect();
    fs::write(place(), lines).expect("a place for the outcomes");
    let complaints: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome.complaint.as_deref()).collect();
    let wrong = complaints.len();
    assert!(complaints.is_empty(), "{wrong} cells\n{}\n{}", markdown(&outcomes), complaints.join("\n\n"));
}

/// The canary: in a lab with other NATs than its cell says, the matrix complains.
#[test]
fn a_cell_in_the_wrong_lab_does_not_hold() {
    let cell = Cell { family: Family::V4, a: Nat::PortRestricted, b: Nat::PortRestricted, relay: false };
    let Some(wrong) = lab_beside_coturn(Nat::Symmetric, Nat::Symmetric) else { return };
    let outcome = cell.play_in(&wrong, &program::gimlet());
    assert_eq!(outcome.way, Way::Nothing);
    let complaint = outcome.complaint.expect("a complaint");
    assert!(complaint.contains("expected direct, found none"), "{complaint}");
}

/// A second canary: where only a relay helps, nothing is direct, and what goes straight to an address on
/// the peer's relay does not pass for it.
#[test]
fn between_two_symmetric_nats_nothing_but_the_relay_carries() {
    let cell = Cell { family: Family::V4, a: Nat::Symmetric, b: Nat::Symmetric, relay: true };
    let Some(lab) = lab_beside_coturn(cell.a, cell.b) else { return };
    let outcome = cell.play_in(&lab, &program::gimlet());
    assert_eq!((outcome.way, outcome.complaint), (Way::Relayed, None), "punching: {PUNCH}");
}
