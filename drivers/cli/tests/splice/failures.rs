//! What an application hears, and when, if the server is not what it was a moment ago.

use std::ops::Deref;
use std::time::Duration;

use gimlet_lab::{Chain, Process, SERVER};
use serde_json::Value;

use crate::pair::Room;
use crate::traffic::{client, connection, exchange, serve};
use crate::{chain, idle_chain, start};

const FORWARD: &str = "splice forward --json";
const LINE: &str = "lab line --delay 10 --json";

/// Two boxes that know the server, which then changes; what the next connection tells, of the client's first word.
fn after(
    chain: Option<impl Deref<Target = Chain>>,
    change: impl FnOnce(&Chain, Vec<Process>) -> Vec<Process>,
) -> Option<Value> {
    let chain = chain?;
    let room = Room::new("");
    let _programs = start(&chain, [&room.splice("near"), LINE, FORWARD, LINE, &room.splice("far")]);
    let servers = serve(&chain, &SERVER[..1], &[]);
    exchange(&chain, SERVER[0], 1_000);
    let _servers = change(&chain, servers);
    Some(connection(&mut client(&chain, SERVER[0], &["--up", "1000", "--timeout", "60"])))
}

/// Milliseconds until the program knew.
fn total(told: &Value) -> f64 {
    told["total_ms"].as_f64().unwrap_or_else(|| panic!("{told}"))
}

fn filter(chain: &Chain, verdict: &str) {
    let rules = format!(
        "table inet lab {{\n chain in {{\n type filter hook input priority 0;\n tcp dport 8080 {verdict}\n }}\n}}\n"
    );
    chain.server.nft(&rules).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_refusal_becomes_a_reset_after_a_round_trip() {
    let Some(told) = after(chain(), |_, mut servers| {
        servers.iter_mut().for_each(Process::kill);
        servers
    }) else {
        return;
    };
    assert_eq!(told["error"], "connection reset", "{told}");
    assert!((40.0..100.0).contains(&total(&told)), "{told}");
    // The price of not waiting: `connect` had succeeded.
    assert!(told["connect_ms"].as_f64().is_some_and(|ms| ms < 20.0), "{told}");
}

#[test]
fn an_unreachable_port_becomes_a_reset_after_a_round_trip() {
    let Some(told) = after(chain(), |chain, servers| {
        filter(chain, "reject with icmpx type admin-prohibited");
        servers
    }) else {
        return;
    };
    assert_eq!(told["error"], "connection reset", "{told}");
    assert!((40.0..100.0).contains(&total(&told)), "{told}");
}

#[test]
fn a_server_that_has_gone_silent_becomes_a_reset_within_the_time_that_connecting_may_take() {
    let Some(told) = after(idle_chain().map(Box::new), |chain, servers| {
        filter(chain, "drop");
        servers
    }) else {
        return;
    };
    assert_eq!(told["error"], "connection reset", "{told}");
    let limit = Duration::from_secs(30).as_secs_f64() * 1_000.0;
    assert!((limit - 1_000.0..limit + 2_000.0).contains(&total(&told)), "{told}");
}
