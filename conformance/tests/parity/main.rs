//! One scenario, every driver, the same events.
//!
//! `meet.txt` holds what the application does, line by line, and below that what each node tells it.
//! `UPDATE=1 cargo test -p gimlet-conformance --test parity` rewrites the second half from the simulator;
//! the other drivers have to agree with it. What machines ask of their drivers has a scene of its own, in
//! `outside.rs`.

mod outside;
mod scenario;
mod stages;

use std::path::PathBuf;

use scenario::{Scenario, Transcript, play};
use stages::{Deaf, Looped, OnMio, OnTokio, Simulated};

const FILE: &str = include_str!("meet.txt");

fn assert_same(driver: &str, transcript: &Transcript, expected: &Transcript) {
    assert_eq!(transcript.to_string(), expected.to_string(), "{driver} (left) and meet.txt (right)");
}

#[test]
fn the_simulator_tells_what_the_file_says() {
    let scenario = Scenario::parse(FILE);
    let transcript = play(&mut Simulated::new(&scenario), &scenario);
    if std::env::var_os("UPDATE").is_some() {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/meet.txt");
        std::fs::write(file, scenario.with(&transcript)).expect("the file can be written");
        return;
    }
    assert_same("sim", &transcript, &scenario.expected);
}

#[test]
fn mio_tells_what_the_simulator_tells() {
    let scenario = Scenario::parse(FILE);
    assert_same("mio", &play(&mut Looped::<OnMio>::new(&scenario), &scenario), &scenario.expected);
}

#[test]
fn tokio_tells_what_the_simulator_tells() {
    let scenario = Scenario::parse(FILE);
    assert_same("tokio", &play(&mut Looped::<OnTokio>::new(&scenario), &scenario), &scenario.expected);
}

/// Canary: a driver that loses one event tells another story.
#[test]
fn a_driver_that_loses_an_event_is_noticed() {
    let scenario = Scenario::parse(FILE);
    let transcript = play(&mut Deaf::new(Simulated::new(&scenario)), &scenario);
    assert_ne!(transcript.to_string(), scenario.expected.to_string());
    assert!(transcript.lines() < scenario.expected.lines());
}

#[test]
fn a_machine_that_asks_for_sockets_and_connections_is_told_the_same_by_every_driver() {
    assert_eq!(outside::play(&mut outside::Simulated::new()), outside::TOLD, "sim");
    assert_eq!(outside::play(&mut outside::Looped::<outside::OnMio>::new()), outside::TOLD, "mio");
    assert_eq!(outside::play(&mut outside::Looped::<outside::OnTokio>::new()), outside::TOLD, "tokio");
}

/// Canary: a driver that keeps one answer to itself tells another story.
#[test]
fn a_driver_that_loses_an_answer_is_noticed() {
    let told = outside::play(&mut outside::Deaf::new(outside::Simulated::new()));
    assert_ne!(told, outside::TOLD);
    assert!(told.len() <= outside::TOLD.len());
}
