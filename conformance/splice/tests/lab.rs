//! What has to hold whatever the machine's speed: every connection completes, every byte is right, memory is bounded.
//! Needs root, iproute2 and nftables; without them the tests say so and pass, unless `GIMLET_LAB=1` demands them.
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use gimlet_splice_bench::program::Kind;
use gimlet_splice_bench::{Bench, Between, Flood, Load, Loaded, Server, Standing};

/// What stands in the middle in turn.
const ALL: [Between; 3] = [
    Between::Ours { kind: Kind::Forward, ring: true },
    Between::Ours { kind: Kind::Single, ring: false },
    Between::Ours { kind: Kind::Single, ring: true },
];
/// Memory that a flood may cost, in KiB: handshakes that wait, sources, and frames on their way.
const FLOOD_COST: u64 = 96 << 10;

/// The laboratory, for one test at a time: there are not many processors.
fn lab() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if let Err(missing) = gimlet_lab::available() {
        let demanded = std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1");
        assert!(!demanded, "GIMLET_LAB=1 demands a lab: {missing}");
        // Not `eprintln!`, which the test harness would swallow.
        let _ = writeln!(std::io::stderr(), "skipped, no lab: {missing}");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_splice-bench")).to_owned()
}

/// Every connection completes, and every byte is right.
fn all_complete(between: &Between, loaded: &Loaded, load: Load) {
    let summary = &loaded.summary;
    assert_eq!(
        (summary.done, summary.failures(), summary.wrong),
        (load.connections, 0, 0),
        "{between}: {summary:?}"
    );
    assert_eq!(summary.bytes, load.connections * load.bytes, "{between}");
}

/// How many handshakes the translator overlapped; the forwarder overlaps none.
fn spoofed(standing: &mut Standing<'_>) -> u64 {
    // It tells how it is every half second.
    std::thread::sleep(std::time::Duration::from_millis(700));
    let counters = standing.counters().expect("our programs tell");
    counters["spoofed"].as_u64().unwrap_or(0)
}

#[test]
fn a_long_transfer_with_all_offloads_arrives_byte_for_byte() {
    let Some(_turn) = lab() else { return };
    let bench = Bench::new("tb", program()).unwrap();
    let _server = Server::start(&bench, 1, 2).unwrap();
    let load = Load { connections: 2, rate: 0, bytes: 150_000_000, workers: 2, ports: 1 };
    for between in &ALL {
        let mut standing = between.stand(&bench, false).unwrap();
        load.warm_up(&bench, &standing).unwrap();
        all_complete(between, &load.run(&bench, &standing).unwrap(), load);
        let is_translator = matches!(between, Between::Ours { kind: Kind::Single, .. });
        assert_eq!(spoofed(&mut standing), if is_translator { 2 } else { 0 }, "{between}");
    }
}

#[test]
fn short_connections_all_complete_and_leave_nothing_behind() {
    let Some(_turn) = lab() else { return };
    let bench = Bench::new("tc", program()).unwrap();
    let _server = Server::start(&bench, 2, 4).unwrap();
    let load = Load { connections: 3_000, rate: 1_000, bytes: 3_000, workers: 8, ports: 2 };
    for between in &ALL {
        let mut standing = between.stand(&bench, false).unwrap();
        load.warm_up(&bench, &standing).unwrap();
        let loaded = load.run(&bench, &standing).unwrap();
        all_complete(between, &loaded, load);
        let [before, after] = loaded.usage.unwrap();
        assert!(after.resident < before.resident + (8 << 10), "{between}: {before:?}, {after:?}");
        if matches!(between, Between::Ours { kind: Kind::Single, .. }) {
            assert!(
                spoofed(&mut standing) >= load.connections * 9 / 10,
                "{between}: {:?}",
                standing.counters()
            );
            assert_eq!(standing.counters().unwrap()["half_open_now"], 0);
        }
    }
}

#[test]
fn a_flood_of_syns_costs_bounded_memory_and_no_connection() {
    let Some(_turn) = lab() else { return };
    let bench = Bench::with_flooder("tf", program()).unwrap();
    let _server = Server::start(&bench, 2, 4).unwrap();
    let load = Load { connections: 800, rate: 200, bytes: 4_000, workers: 8, ports: 2 };
    for between in &ALL {
        let standing = between.stand(&bench, false).unwrap();
        load.warm_up(&bench, &standing).unwrap();
        let (loaded, sent) = Flood { rate: 20_000 }.beside(&bench, &standing, load).unwrap();
        assert!(sent.sent > 20_000, "{sent:?} is no flood");
        all_complete(between, &loaded, load);
        let [before, after] = loaded.usage.unwrap();
        assert!(after.resident < before.resident + FLOOD_COST, "{between}: {before:?}, {after:?}");
    }
}
