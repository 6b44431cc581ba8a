//! IPv4 and IPv6 side by side (RFC 8421): neither waits for the other.

#[path = "support/desk.rs"]
mod desk;
#[path = "support/lab.rs"]
mod lab;

use desk::{Desk, addr, direct};
use gimlet_ice::{Agent, Candidate, Config, Event, Role, State};
use gimlet_machine::{Instant, Rng};
use lab::{Lab, Net};
use std::net::SocketAddr;

/// Six IPv6 addresses on two networks, and then one of IPv4.
fn addresses(side: u8) -> Vec<SocketAddr> {
    let six = (1..=6).map(|n| addr(&format!("[2001:db8:{side}:{}::{n}]:1000", n % 2)));
    six.chain([addr(&format!("198.51.100.{}:1000", side + 1))]).collect()
}

/// How many milliseconds it takes until both sides have a valid path, where IPv6 is dead.
fn first_valid(offered: [Vec<SocketAddr>; 2]) -> u64 {
    let rng = Rng::from_u64(1);
    let agent = |role, name| Agent::new(Instant::ZERO, rng.fork(name), Config { role, ..Config::default() });
    let agents = [agent(Role::Controlling, "a"), agent(Role::Controlled, "b")];
    let mut lab = Lab::new(agents, Net { delay_ms: 10, ..Net::open(1) });
    lab.is_ipv6_dead = true;
    for (side, offered) in offered.into_iter().enumerate() {
        for address in offered {
            lab.add_local(side, Candidate::host(address));
        }
    }
    lab.exchange();
    lab.run_until_completed(Instant::from_millis(60_000));
    assert_eq!(lab.states(), [State::Completed; 2]);
    let valid = lab.first(|event| matches!(event, Event::PathValid { .. }));
    valid.into_iter().map(Option::unwrap).max().unwrap()
}

#[test]
fn six_addresses_of_a_dead_family_cost_one_pacing_step() {
    let alone = first_valid([0, 1].map(|side| addresses(side).split_off(6)));
    let behind = first_valid([0, 1].map(addresses));
    assert!(behind <= alone + 5, "{behind} ms beside dead IPv6, {alone} ms without");
}

#[test]
fn a_peer_that_prefers_all_its_ipv6_addresses_is_tried_over_ipv4_second() {
    // Its preferences are as most agents give them: one after the other, IPv4 last.
    let mut desk = Desk::new(Config::default());
    for address in addresses(0) {
        desk.local(Candidate::host(address));
    }
    for (n, address) in (1..).zip(addresses(1)) {
        desk.remote(Candidate::host(address).with_local_preference(60_000 - n));
    }
    desk.credentials();
    desk.wait(20);
    let checks = desk.take_checks();
    let alive = direct("198.51.100.1:1000", "198.51.100.2:1000");
    assert_eq!(checks.iter().position(|check| check.path == alive), Some(1), "{checks:?}");
}

#[test]
fn offered_candidates_alternate_between_families_and_networks() {
    let mut desk = Desk::new(Config::default());
    for address in addresses(0) {
        desk.local(Candidate::host(address));
    }
    let mut candidates: Vec<_> = desk.inner().local_candidates().collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
    let order: Vec<_> = candidates.iter().map(|candidate| candidate.address.ip().to_string()).collect();
    let expected = [
        "2001:db8:0:1::1",
        "198.51.100.1",
        "2001:db8::2",
        "2001:db8:0:1::3",
        "2001:db8::4",
        "2001:db8:0:1::5",
        "2001:db8::6",
    ];
    assert_eq!(order, expected);
}

#[test]
fn the_owners_own_preferences_stand() {
    let mut desk = Desk::new(Config::default());
    for (n, address) in (1..).zip(addresses(0)) {
        desk.local(Candidate::host(address).with_local_preference(n));
    }
    let preferences: Vec<_> = desk.inner().local_candidates().map(Candidate::local_preference).collect();
    assert_eq!(preferences, (1..=7).collect::<Vec<_>>());
}

#[test]
fn a_reflexive_candidate_ranks_like_its_base() {
    let mut desk = Desk::new(Config::default());
    let base = addr("10.0.1.1:1000");
    desk.local(Candidate::host(addr("10.0.0.1:1000")));
    desk.local(Candidate::host(base));
    desk.local(Candidate::server_reflexive(addr("203.0.113.1:7"), base, None));
    let preferences: Vec<_> = desk.inner().local_candidates().map(Candidate::local_preference).collect();
    assert!(preferences[1] < preferences[0] && preferences[2] == preferences[1], "{preferences:?}");
}
