//! ICE agents: what an answer costs, what a meeting costs and how long it takes, what an agent weighs; beside
//! `is` (the agent of str0m). And what a relayed datagram costs.

#[path = "ice/gimlet.rs"]
mod gimlet;
#[path = "ice/is_agent.rs"]
mod is_agent;
#[path = "ice/relay.rs"]
mod relay;
#[path = "ice/tables.rs"]
mod tables;

use std::time::Duration;

use gimlet::Gimlet;
use gimlet_peers::{Endpoint, Scene, Table, meet};
use is_agent::Is;

fn main() {
    let mut table = Table::new("ICE and TURN, per unit of work");
    answer(&mut table);
    fingerprint(&mut table);
    meetings(&mut table);
    relay::rows(&mut table);
    if table.run() {
        tables::memory();
        tables::time_to_connect();
    }
}

/// Agents that have met and go on for `more`, and the controlling one's latest check, as it arrives at the
/// controlled one.
fn check_in_steady_state<E: Endpoint>() -> (E, Check) {
    let scene = Scene { one_way: Duration::from_millis(10), signalling: Duration::ZERO, sockets: 1, dead: 0 };
    let (outcome, [mut asks, mut answers]) = meet::<E>(scene);
    let mut now = outcome.selected.into_iter().flatten().max().expect("they meet");
    let mut bytes = Vec::new();
    // The first check of a wholly quiet network: consent, or what takes its place.
    let check = loop {
        now = asks.deadline().expect("agents stay awake").max(now);
        asks.wake(now);
        if let Some((local, remote)) = asks.say(now, &mut bytes) {
            break Check { now, local: remote, remote: local, bytes };
        }
    };
    let mut out = Vec::new();
    answers.wake(now);
    while answers.say(now, &mut out).is_some() {
        out.clear();
    }
    (answers, check)
}

struct Check {
    now: Duration,
    local: std::net::SocketAddr,
    remote: std::net::SocketAddr,
    bytes: Vec<u8>,
}

fn answer(table: &mut Table) {
    const WORK: &str = "answer an authenticated check of the peer, in steady state";
    fn row<E: Endpoint + 'static>(table: &mut Table, who: &'static str) {
        let (mut agent, mut check) = check_in_steady_state::<E>();
        let mut out = Vec::with_capacity(256);
        table.row(WORK, who, 1, move || {
            agent.hear(check.now, check.local, check.remote, &mut check.bytes);
            out.clear();
            agent.say(check.now, &mut out).expect("an answer");
            out.len()
        });
    }
    row::<Gimlet>(table, "gimlet");
    row::<Is>(table, "is 0.12");
}

fn fingerprint(table: &mut Table) {
    const WORK: &str = "parse a check with FINGERPRINT, and check that";
    let (_, Check { bytes, .. }) = check_in_steady_state::<Gimlet>();
    let message = bytes.clone();
    table.row(WORK, "gimlet", 1, move || {
        let message = gimlet_stun::Message::parse(&message).expect("valid");
        assert!(message.has_fingerprint());
        message.transaction_id()
    });
    let message = bytes.clone();
    table.row(WORK, "is 0.12, which does not check FINGERPRINT", 1, move || {
        is::stun::StunMessage::parse(&message).expect("valid").is_binding_request()
    });
    table.row(WORK, "stun-types 2.0", 1, move || {
        stun_types::message::Message::from_bytes(&bytes).expect("valid").transaction_id()
    });
}

fn meetings(table: &mut Table) {
    for (work, sockets) in [
        ("two agents meet, 1 x 1 candidates, until both have selected", 1),
        ("two agents meet, 2 x 2 candidates, until both have selected", 2),
        ("two agents meet, 10 x 10 candidates, until both have selected", 10),
    ] {
        let scene =
            Scene { one_way: Duration::from_millis(10), signalling: Duration::ZERO, sockets, dead: 0 };
        table.row(work, "gimlet", 1, move || meet::<Gimlet>(scene).0);
        table.row(work, "is 0.12", 1, move || meet::<Is>(scene).0);
    }
}
