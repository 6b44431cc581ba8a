//! Worlds from the dice; `cargo run --release -p gimlet-tcp-model --bin tcp-model` plays as many as you like. A
//! failure names its seed: `tcp-model --seed N --packets` tells everything about it.

use gimlet_tcp_model::{Outcome, Plan, Played, Service, Table, Topology, World, play};

/// Worlds that are played here; the program plays more.
const SAMPLE: u64 = 2_000;

#[test]
fn everything_holds_in_every_world_of_the_sample() {
    let mut table = Table::default();
    for seed in 0..SAMPLE {
        table.count(&play(seed));
    }
    assert_eq!(table.breaches(), 0, "\n{table}");
}

/// What is noticed with a box in between is its doing: without one there is nothing to notice.
#[test]
fn everything_holds_between_two_endpoints_without_a_box() {
    let mut table = Table::default();
    for seed in 0..300 {
        let plan = Plan::draw_in(seed, Topology::Straight);
        table.count(&World::new(&plan, Vec::new(), None).play());
    }
    assert_eq!(table.breaches(), 0, "\n{table}");
}

#[test]
fn i11_a_seed_is_a_world_and_its_trace() {
    for seed in 0..40 {
        let one = play(seed);
        assert_eq!(one, play(seed), "seed {seed}");
        assert_ne!(one.trace, play(seed + 1).trace);
    }
}

#[test]
fn the_dice_know_every_situation() {
    let plans: Vec<Plan> = (0..400).map(Plan::draw).collect();
    let has = |what: &str, holds: &dyn Fn(&Plan) -> bool| {
        let count = plans.iter().filter(|plan| holds(plan)).count();
        assert!(count > 0 && count < plans.len(), "{what}: {count} of {}", plans.len());
    };
    for topology in [Topology::Straight, Topology::Single, Topology::NearFar, Topology::TfoUpgrade] {
        has("a topology", &|plan| plan.topology == topology);
    }
    has("IPv6", &|plan| plan.flows.iter().any(|flow| flow.tuple.0.is_ipv6()));
    has("unfinished checksums", &|plan| plan.client.dress.partial);
    has("trains", &|plan| plan.client.train > 1);
    has("timestamps at an odd offset", &|plan| plan.client.dress.packed);
    has("a server that changes", &|plan| plan.server.1.is_some());
    has("a server that refuses", &|plan| {
        plan.outage.is_some_and(|outage| outage.service == Service::Refuses)
    });
    has("a server that is silent", &|plan| {
        plan.outage.is_some_and(|outage| outage.service == Service::Silent)
    });
    has("a restart with a table", &|plan| plan.restart.is_some_and(|restart| restart.keeps_table));
    has("a restart without", &|plan| plan.restart.is_some_and(|restart| !restart.keeps_table));
    has("strangers", &|plan| plan.strangers > 0);
    has("loss", &|plan| plan.links.iter().any(|link| link.loss > 0));
    has("duplicates", &|plan| plan.links.iter().any(|link| link.duplicate > 0));
    has("damage", &|plan| plan.links.iter().any(|link| link.damage > 0));
    has("overtaking", &|plan| plan.links.iter().any(|link| !link.jitter.is_zero()));
}

#[test]
fn most_connections_complete_and_some_fail() {
    let flows: Vec<_> = (0..400).map(play).flat_map(|played: Played| played.flows).collect();
    let complete = flows.iter().filter(|(outcome, _)| *outcome == Outcome::Complete).count();
    assert!(complete * 10 > flows.len() * 7 && complete < flows.len(), "{complete} of {}", flows.len());
}
