//! Two agents connect: how fast, through what, and the same way every time.

#[path = "support/desk.rs"]
mod desk;
#[path = "support/lab.rs"]
mod lab;

use gimlet_ice::{Agent, Candidate, Config, Event, Role, State, TA_MIN};
use gimlet_machine::{Instant, Rng};
use lab::{Lab, Nat, Net};
use std::time::Duration;

fn agents(seed: u64) -> [Agent; 2] {
    let rng = Rng::from_u64(seed);
    let agent = |role, name| Agent::new(Instant::ZERO, rng.fork(name), Config { role, ..Config::default() });
    [agent(Role::Controlling, "a"), agent(Role::Controlled, "b")]
}

fn connect(net: Net, hosts: u8) -> Lab {
    let mut lab = Lab::new(agents(net.seed), net);
    lab.add_hosts(hosts);
    lab.exchange();
    lab.run_until_completed(Instant::from_millis(60_000));
    lab.assert_paced(TA_MIN);
    lab
}

/// When both sides had selected, and how many packets that took.
fn completed(lab: &Lab) -> (u64, usize) {
    assert_eq!(lab.states(), [State::Completed; 2], "{:?}", lab.events);
    let times = lab.first(|event| matches!(event, Event::PathSelected { .. }));
    (times.into_iter().map(Option::unwrap).max().unwrap(), lab.trace.len())
}

#[test]
fn two_open_hosts_take_two_round_trips_and_a_pacing_step_at_most() {
    let (ms, _) = completed(&connect(Net::open(1), 1));
    assert!(ms <= 105, "{ms} ms");
    let (ms, _) = completed(&connect(Net { delay_ms: 1, ..Net::open(1) }, 2));
    assert!(ms <= 9, "{ms} ms");
}

#[test]
fn goals_behind_port_restricted_nats_are_met_for_2_10_and_50_candidates() {
    for (hosts, goal) in [(2, 110), (10, 160), (50, 400)] {
        let lab = connect(Net::behind([Nat::PortRestricted; 2]), hosts);
        let (ms, packets) = completed(&lab);
        println!("{hosts} x {hosts}: {ms} ms, {packets} packets");
        assert!(ms <= goal, "{hosts} x {hosts}: {ms} ms, {packets} packets");
    }
}

#[test]
fn both_sides_select_the_same_path() {
    for seed in 0..50 {
        let lab = connect(Net { loss: 50_000, seed, ..Net::behind([Nat::PortRestricted; 2]) }, 2);
        completed(&lab);
        let [a, b] = [0, 1].map(|side| lab.agents[side].inner().selected_path().unwrap());
        let reflexive = |side: usize| {
            let path = [a, b][side];
            let locals = lab.agents[side].inner().local_candidates();
            let mut same_base = locals.filter(|c| c.path_to(path.peer_address()) == path);
            same_base.any(|c| c.address == [a, b][1 - side].peer_address())
        };
        assert!(reflexive(0) && reflexive(1), "seed {seed}: {a} and {b}");
    }
}

#[test]
fn every_kind_of_nat_connects_to_every_kind_that_it_can() {
    use Nat::{AddressRestricted, FullCone, None, PortRestricted, Symmetric};
    let kinds = [None, FullCone, AddressRestricted, PortRestricted, Symmetric];
    for a in kinds {
        for b in kinds {
            let hopeless =
                matches!((a, b), (Symmetric, PortRestricted | Symmetric) | (PortRestricted, Symmetric));
            let lab = connect(Net::behind([a, b]), 1);
            let expected = if hopeless { [State::Checking; 2] } else { [State::Completed; 2] };
            assert_eq!(lab.states(), expected, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn the_first_data_may_flow_one_round_trip_after_signalling_because_the_offerer_answers_at_once() {
    // Signalling takes 40 ms each way in effect: A has offered at 0, B checks at once, A learns B's
    // password only at 80 ms. B has a valid path one round trip after its first check.
    let net = Net { signalling_ms: 80, ..Net::open(3) };
    let lab = connect(net, 1);
    completed(&lab);
    let valid = lab.first(|event| matches!(event, Event::PathValid { .. }));
    assert_eq!(valid, [Some(130), Some(50)]);
}

#[test]
fn a_check_dropped_by_the_nat_costs_no_retransmission_timeout() {
    // B's checks reach A's closed NAT for 200 ms; once A sends, its check gets in and triggers B's.
    let net = Net { signalling_ms: 200, ..Net::behind([Nat::PortRestricted; 2]) };
    let lab = connect(net, 1);
    let (ms, _) = completed(&lab);
    assert!(ms <= 200 + 160, "{ms} ms");
}

#[test]
fn connections_survive_heavy_loss() {
    for seed in 0..100 {
        let net = Net { seed, loss: 200_000, ..Net::behind([Nat::PortRestricted; 2]) };
        completed(&connect(net, 2));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_events_and_another_does_not() {
    let run = |seed| {
        let net = Net { seed, loss: 100_000, ..Net::behind([Nat::PortRestricted, Nat::FullCone]) };
        let lab = connect(net, 4);
        (lab.trace, lab.events)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}

#[test]
fn case_46_an_hour_of_idleness_costs_at_most_900_requests_all_of_them_on_the_selected_path() {
    let mut lab = connect(Net::open(5), 2);
    // Whatever was in flight settles first.
    lab.run_until(Instant::from_millis(2_000));
    let (before, start) = (lab.trace.len(), lab.now);
    lab.run_until(start + Duration::from_secs(3600));
    for side in 0..2 {
        let selected = lab.agents[side].inner().selected_path().unwrap();
        let requests = lab.trace[before..].iter().filter(|(_, of, path, bytes)| {
            assert!(*of != side || *path == selected, "{path} is idle");
            let class = gimlet_stun::Message::parse(bytes).unwrap().class();
            assert_ne!(class, gimlet_stun::Class::Indication, "consent keeps the path open");
            *of == side && class == gimlet_stun::Class::Request
        });
        let count = requests.count();
        assert!((650..=900).contains(&count), "{count} requests");
    }
}

#[test]
fn case_68_nineteen_dead_pairs_ahead_cost_a_pacing_step_each() {
    // RTT 100 ms; what is measured is the first valid path, on which data may flow.
    for (ta, goal) in [(5, 200), (50, 1_060)] {
        let config = Config { ta: Duration::from_millis(ta), ..Config::default() };
        let mut desk = desk::Desk::new(config);
        desk.local(Candidate::host(desk::addr("192.0.2.1:1000")));
        for dead in 1..=19 {
            let address = desk::addr(&format!("198.51.100.{dead}:2000"));
            desk.remote(Candidate::host(address).with_local_preference(1_000 - dead));
        }
        let alive = desk::direct("192.0.2.1:1000", "203.0.113.1:2000");
        desk.remote(Candidate::host(alive.peer_address()).with_local_preference(1));
        desk.credentials();
        let check = loop {
            if let Some(check) = desk.take_checks().into_iter().find(|check| check.path == alive) {
                break check;
            }
            desk.wait(1);
        };
        desk.wait(100);
        desk.answer(&check);
        assert_eq!(desk.inner().state(), State::Connected);
        assert!(desk.now.as_millis() <= goal, "{} ms at Ta {ta} ms", desk.now.as_millis());
    }
}

#[test]
fn case_68_with_dead_pairs_ahead_each_side_may_send_after_its_round_trip_and_a_pacing_step_for_each() {
    for (dead, signalling_ms) in [0, 4, 9, 19].into_iter().flat_map(|dead| [(dead, 0), (dead, 100)]) {
        let mut lab = Lab::new(agents(1), Net { delay_ms: 50, signalling_ms, ..Net::open(1) });
        for side in 0..2 {
            let alive = desk::addr(&format!("10.{side}.0.1:5000"));
            lab.add_local(side, Candidate::host(alive).with_local_preference(1));
            for nth in 0..dead {
                let address = desk::addr(&format!("198.51.100.{nth}:2000"));
                let candidate = Candidate::host(address).with_local_preference(1_000 - nth);
                let now = lab.now;
                lab.agents[side].command(now, |agent| agent.add_remote_candidate(now, candidate)).unwrap();
            }
        }
        lab.exchange();
        lab.run_until_completed(Instant::from_millis(60_000));
        lab.assert_paced(TA_MIN);
        let valid = lab.first(|event| matches!(event, Event::PathValid { .. })).map(Option::unwrap);
        // The controlled side has its peer's credentials at 0 and does not wait for its own to arrive
        // (RFC 8445 §7.3); the controlling one has to.
        let patience = 100 + u64::from(dead) * 5;
        assert!(valid[1] <= patience, "{dead} dead pairs: {valid:?}");
        assert!(valid[0] <= signalling_ms + patience, "{dead} dead pairs: {valid:?}");
    }
}
