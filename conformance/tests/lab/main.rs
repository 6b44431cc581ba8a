//! Hosts behind the NATs of a real kernel. Needs root, iproute2 and nftables; without them every test
//! says so and passes, unless `GIMLET_LAB=1` says that they must be there.

mod gimlet;
mod probe;

use std::io::Write as _;
use std::time::Duration;

use gimlet_conformance::lab::{Lab, Nat};

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(20);

fn lab(nat_a: Nat, nat_b: Nat) -> Option<Lab> {
    match Lab::available() {
        Ok(()) => Some(Lab::new(nat_a, nat_b)),
        Err(missing) if std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1") => {
            panic!("GIMLET_LAB=1 demands a lab: {missing}")
        }
        Err(missing) => {
            // Not `eprintln!`, which the test harness would swallow.
            let _ = writeln!(std::io::stderr(), "skipped, no lab: {missing}");
            None
        }
    }
}
