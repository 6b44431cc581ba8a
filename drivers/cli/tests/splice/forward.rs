//! Frames through programs that do not change them.

use std::time::Duration;

use gimlet_lab::{Place, Process, SERVER};
use serde_json::Value;

use crate::traffic::{client, connection, exchange, serve};
use crate::{chain, start};

const FORWARD: &str = "splice forward --json";
const RINGS: &str = "splice forward --receive ring --json";
/// How long a program may take to end.
const LONG: Duration = Duration::from_secs(20);
/// What a transfer moves each way: some hundred trains of 64 kB.
const MUCH: u64 = 20 << 20;

/// Stops a program politely; gives its summary.
pub(crate) fn stopped(process: &mut Process) -> Value {
    process.terminate();
    let done = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        (value["event"] == "done").then_some(value)
    };
    process.find(LONG, "its summary", done).unwrap_or_else(|error| panic!("{error}"))
}

/// A counter of one side.
fn count(summary: &Value, side: &str, name: &str) -> u64 {
    summary[side][name].as_u64().unwrap_or_else(|| panic!("{side} {name}: {summary}"))
}

#[test]
fn trains_of_both_protocols_pass_five_programs_with_all_offloads_on() {
    let Some(chain) = chain() else { return };
    let mut programs = start(&chain, [FORWARD, FORWARD, RINGS, FORWARD, FORWARD]);
    let _servers = serve(&chain, &SERVER, &[]);
    for address in SERVER {
        exchange(&chain, address, MUCH);
    }
    for process in &mut programs {
        let summary = stopped(process);
        // All went through, and some of it in trains: there were fewer frames than segments.
        assert!(count(&summary, "server", "received_bytes") > 2 * MUCH, "{summary}");
        assert!(count(&summary, "server", "received") < MUCH / 1_448, "{summary}");
        assert_eq!(count(&summary, "server", "received"), count(&summary, "client", "sent"), "{summary}");
        assert_eq!(
            count(&summary, "server", "overrun") + count(&summary, "client", "misfit"),
            0,
            "{summary}"
        );
    }
}

#[test]
fn vlan_tags_that_the_kernel_took_out_are_put_back() {
    let Some(chain) = chain() else { return };
    let (tag, untag) = ("lab tag --tag 24618 --json", "lab tag --tag 24618 --reverse --json");
    let mut programs = start(&chain, [tag, FORWARD, RINGS, FORWARD, untag]);
    let _servers = serve(&chain, &SERVER, &[]);
    for address in SERVER {
        exchange(&chain, address, MUCH);
    }
    for middle in [Place::LineNear, Place::Middle, Place::LineFar] {
        let summary = stopped(&mut programs[middle as usize]);
        assert!(count(&summary, "server", "received_bytes") > 2 * MUCH, "{summary}");
        assert!(count(&summary, "server", "received") < MUCH / 1_448, "{summary}");
    }
}

/// The canary of both: what is not in the VLAN does not come out of it.
#[test]
fn without_its_tag_a_frame_does_not_leave_the_vlan() {
    let Some(chain) = chain() else { return };
    let _programs = start(&chain, [FORWARD, FORWARD, FORWARD, FORWARD, "lab tag --reverse --json"]);
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let told = connection(&mut client(&chain, SERVER[0], &["--timeout", "2"]));
    assert_ne!(told["error"], Value::Null, "{told}");
}

#[test]
fn a_line_takes_its_time_and_a_lossy_one_loses_nothing_of_a_stream() {
    let Some(chain) = chain() else { return };
    let (line, lossy) = ("lab line --delay 10 --json", "lab line --delay 10 --loss 1% --reorder 1% --json");
    let mut programs = start(&chain, [FORWARD, line, FORWARD, lossy, FORWARD]);
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let mut client = client(&chain, SERVER[0], &["--connections", "20"]);
    let mut first: Vec<f64> = (0..20).filter_map(|_| connection(&mut client)["first_ms"].as_f64()).collect();
    first.sort_by(f64::total_cmp);
    // Two round trips of 40 ms; what the loss added to some is not what the median shows.
    assert!(first.len() == 20 && (80.0..100.0).contains(&first[10]), "{first:?}");
    exchange(&chain, SERVER[0], 2 << 20);
    let summary = stopped(&mut programs[Place::LineFar as usize]);
    assert!(summary["counters"]["lost"].as_u64().is_some_and(|lost| lost > 0), "{summary}");
}

#[test]
fn what_cannot_be_opened_is_said_with_what_helps() {
    let Some(chain) = chain() else { return };
    let run = |client: &str, server: &str| {
        let mut command = chain.client.command(crate::GIMLET);
        let output = command.args(["splice", "forward", "--client", client, "--server", server]).output();
        let output = output.expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("eth0", "eth7");
    assert!(code == Some(5) && said.contains("eth7") && said.contains("ip link"), "{said}");
    let (code, said) = run("eth0", "lo");
    assert!(code == Some(5) && said.contains("Ethernet"), "{said}");
    assert_eq!(run("eth0", "eth0").0, Some(2));
}

#[test]
fn an_interface_that_goes_down_may_come_back_and_one_that_is_gone_is_missed() {
    let Some(chain) = chain() else { return };
    let mut programs = start(&chain, [FORWARD, FORWARD, RINGS, FORWARD, FORWARD]);
    let _servers = serve(&chain, &SERVER[..1], &[]);
    for place in [Place::Near, Place::Middle] {
        for state in ["down", "up"] {
            let port = ["link", "set", "dev", "to-client", state];
            chain.place(place).ip(&port).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    exchange(&chain, SERVER[0], MUCH);
    for place in [Place::Near, Place::Middle] {
        let port = ["link", "delete", "dev", "to-client"];
        chain.place(place).ip(&port).unwrap_or_else(|error| panic!("{error}"));
        let program = &mut programs[place as usize];
        let status = program.wait(LONG).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status.code(), Some(5), "{}", program.said());
        assert!(program.said().contains("to-client is gone"), "{}", program.said());
    }
}
