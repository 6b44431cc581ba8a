//! Cases 61 and 64: every pair of edges, and NATs that mind early packets.

use std::time::Duration;

use gimlet_ice::{Config, Declined, Part, PunchState, State};
use gimlet_machine::Instant;
use gimlet_sim::{EarlyInbound, Expiry, Filtering, Mapping, NatConfig, direct_path_possible};

use crate::lab::{Edge, LATENCY, Lab, outside};

/// The mapping of an edge, `None` being no translation at all.
const MAPPINGS: [Option<Mapping>; 4] = [
    None,
    Some(Mapping::EndpointIndependent),
    Some(Mapping::AddressDependent),
    Some(Mapping::AddressAndPortDependent),
];

const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];

type Kind = (Option<Mapping>, Filtering);

fn kinds() -> impl Iterator<Item = Kind> + Clone {
    MAPPINGS.into_iter().flat_map(|mapping| FILTERINGS.map(|filtering| (mapping, filtering)))
}

fn edge(side: usize, (mapping, filtering): Kind) -> Edge {
    let config = |mapping| NatConfig::new(outside(side), mapping, filtering);
    match (mapping, filtering) {
        (None, Filtering::EndpointIndependent) => Edge::Open,
        (None, Filtering::AddressDependent | Filtering::AddressAndPortDependent) => {
            Edge::Firewall(config(Mapping::EndpointIndependent))
        }
        (Some(mapping), _) => Edge::Nat(config(mapping)),
    }
}

fn oracle((mapping, filtering): Kind) -> gimlet_sim::Edge {
    gimlet_sim::Edge { mapping: mapping.unwrap_or(Mapping::EndpointIndependent), filtering }
}

fn open(seed: u64, kinds: [Kind; 2], relays: bool) -> Lab {
    let mut lab = Lab::new(seed, [edge(0, kinds[0]), edge(1, kinds[1])], &Config::default());
    lab.introduce(relays);
    lab
}

#[test]
fn case_61_with_a_relay_every_pair_of_edges_connects() {
    for (nth, pair) in kinds().flat_map(|a| kinds().map(move |b| [a, b])).enumerate() {
        let mut lab = open(nth as u64, pair, true);
        assert!(lab.run_until_completed(Duration::from_secs(2)), "SEED={nth} {pair:?}");
    }
}

#[test]
fn case_61_without_a_relay_a_pair_connects_if_the_oracle_says_so_or_the_punch_is_likely() {
    let (mut direct, mut punched, mut never) = (0, 0, 0);
    for (nth, pair) in kinds().flat_map(|a| kinds().map(move |b| [a, b])).enumerate() {
        let mut lab = open(nth as u64, pair, false);
        let found = lab.run_until_direct(Duration::from_secs(3));
        let possible = direct_path_possible(oracle(pair[0]), oracle(pair[1]));
        assert_eq!(found, possible, "SEED={nth} {pair:?}: {:#?}", lab.events);
        if found {
            direct += 1;
            continue;
        }
        lab.vouch();
        match lab.punch() {
            [Ok(plan), Ok(_)] => {
                assert!(plan.chance >= 950_000, "SEED={nth} {pair:?} {plan:?}");
                // Two rounds: what is likely is not certain.
                assert!(lab.run_until_direct(Duration::from_secs(2 * 3_600)), "SEED={nth} {pair:?}");
                punched += 1;
            }
            plans => {
                assert_eq!(plans, [Err(Declined::BothDependent); 2], "SEED={nth} {pair:?}");
                assert!(!lab.run_until_direct(Duration::from_secs(60)), "SEED={nth} {pair:?}");
                never += 1;
            }
        }
    }
    println!("{direct} pairs of edges connect, {punched} more are punched, {never} need a relay");
    assert_eq!((direct + punched + never, never > 0, punched > 0), (144, true, true));
}

/// A NAT behind which an early packet takes the place of a flow.
fn clashing(side: usize, filtering: Filtering, lives: Duration) -> Edge {
    Edge::Nat(NatConfig {
        early_inbound: EarlyInbound::TakesTuple,
        expiry: Expiry { after: lives, inbound_refresh: false },
        ..NatConfig::new(outside(side), Mapping::EndpointIndependent, filtering)
    })
}

/// Two clashing NATs with `skew` between the first packets of the two sides.
fn clash(seed: u64, filterings: [Filtering; 2], lives: Duration, first: usize) -> Lab {
    let edges = [clashing(0, filterings[0], lives), clashing(1, filterings[1], lives)];
    let mut lab = Lab::new(seed, edges, &Config::default());
    lab.introduce_one_by_one(first, Duration::from_millis(100));
    lab
}

#[test]
fn case_64_nats_that_mind_early_packets_connect_by_the_second_round() {
    let ports = Filtering::AddressAndPortDependent;
    // Linux forgets flows that nobody answered after 30 s; two minutes is what RFC 4787 asks for.
    for (lives, rounds) in [(30, 1), (120, 2)] {
        for (seed, first) in [(1, 0), (2, 1)] {
            let mut lab = clash(seed, [ports; 2], Duration::from_secs(lives), first);
            assert!(!lab.run_until_direct(Duration::from_secs(60)), "the clash is real");
            let began = lab.now;
            let plans = lab.punch().map(|plan| plan.expect("a plan").part);
            assert_eq!(plans, [Part::Meet; 2]);
            assert!(
                lab.run_until_direct(Duration::from_secs(240)),
                "SEED={seed} {lives} s: {:#?}",
                lab.events
            );
            let begun = lab.count(0, PunchState::Spraying);
            println!("mappings live {lives} s: {begun} rounds, {} s", lab.now.since(began).as_secs());
            assert_eq!(begun, rounds, "SEED={seed}");
        }
    }
}

#[test]
fn case_64_owners_that_agree_to_less_than_the_one_way_time_are_good_enough() {
    let ports = Filtering::AddressAndPortDependent;
    for first in [0, 1] {
        let mut lab = clash(3, [ports; 2], Duration::from_secs(30), first);
        lab.run_for(Duration::from_secs(60));
        lab.punch_one(first).expect("a plan");
        lab.run_for(LATENCY * 3 / 4);
        lab.punch_one(1 - first).expect("a plan");
        assert!(lab.run_until_direct(Duration::from_secs(60)), "{:#?}", lab.events);
    }
}

#[test]
fn case_64_one_clashing_nat_is_met_in_turns_even_if_the_owners_hardly_agree() {
    let ports = Filtering::AddressAndPortDependent;
    for clashes in [0, 1] {
        let plain = |side| Edge::Nat(NatConfig::new(outside(side), Mapping::EndpointIndependent, ports));
        let mut edges = [plain(0), plain(1)];
        edges[clashes] = clashing(clashes, ports, Duration::from_secs(30));
        let mut lab = Lab::new(5, edges, &Config::default());
        // The other side goes first.
        lab.introduce_one_by_one(1 - clashes, Duration::from_millis(100));
        assert!(!lab.run_until_direct(Duration::from_secs(60)), "the clash is real");
        lab.punch_one(1 - clashes).expect("a plan");
        lab.run_for(Duration::from_millis(300));
        lab.punch_one(clashes).expect("a plan");
        assert!(lab.run_until_direct(Duration::from_secs(3_600)), "{clashes}: {:#?}", lab.events);
    }
}

#[test]
fn an_agent_does_not_fail_while_two_nats_are_left_to_forget() {
    let mut lab = clash(7, [Filtering::AddressAndPortDependent; 2], Duration::from_secs(120), 0);
    lab.end_of_candidates();
    lab.run_for(Duration::from_secs(20));
    assert!(lab.punch().iter().all(Result::is_ok));
    lab.run_for(Duration::from_secs(60));
    assert!(lab.now > Instant::from_millis(39_500), "past the patience of an agent");
    assert!((0..2).all(|side| lab.hosts[side].agent.inner().state() == State::Checking));
    assert!(lab.run_until_direct(Duration::from_secs(200)));
}
