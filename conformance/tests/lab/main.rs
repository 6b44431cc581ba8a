//! Hosts behind the NATs of a real kernel. Needs root, iproute2, nftables and coturn; without them every test
//! says so and passes, unless `GIMLET_LAB=1` says that they must be there.

mod gimlet;
mod matrix;
mod probe;
mod turn;

use std::io::Write as _;
use std::time::Duration;

use gimlet_conformance::lab::{Family, Lab, Missing, Nat};
use gimlet_conformance::lab_matrix::coturn_available;

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(20);

fn lab(nat_a: Nat, nat_b: Nat) -> Option<Lab> {
    lab_over(Family::V4, nat_a, nat_b)
}

fn lab_over(family: Family, nat_a: Nat, nat_b: Nat) -> Option<Lab> {
    unless_missing(Lab::available()).then(|| Lab::over(family, nat_a, nat_b))
}

/// A lab for tests that need coturn too.
fn lab_beside_coturn(nat_a: Nat, nat_b: Nat) -> Option<Lab> {
    unless_missing(coturn_available()).then(|| lab(nat_a, nat_b)).flatten()
}

/// Whether it is there; if not, that is said, and demanded if somebody demands it.
fn unless_missing(available: Result<(), Missing>) -> bool {
    let Err(missing) = available else { return true };
    let demanded = std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1");
    assert!(!demanded, "GIMLET_LAB=1 demands a lab: {missing}");
    // Not `eprintln!`, which the test harness would swallow.
    let _ = writeln!(std::io::stderr(), "skipped, no lab: {missing}");
    false
}
