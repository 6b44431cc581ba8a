//! A sample of the NAT matrix; `cargo run --release -p gimlet-conformance --bin matrix` plays all of it. A
//! failure names its seed.

use gimlet_conformance::matrix::{Expected, Hard, Outcome, Plan, Played, RelayKind, Table, play};
use gimlet_sim::PortSpan;

/// Enough to meet every kind of situation.
const SAMPLE: u64 = 150;

fn seeds() -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..SAMPLE).collect(),
    }
}

#[test]
fn case_61_every_world_of_the_sample_comes_off_as_the_oracle_says_or_better() {
    let mut table = Table::default();
    for seed in seeds() {
        table.count(&play(seed));
    }
    assert_eq!(table.defects(), 0, "\n{table}");
}

/// What was wrong in these worlds once, beside what has to come of them.
#[test]
fn regression_worlds_in_which_something_was_wrong() {
    for (seed, what) in [
        (
            5528,
            "a first packet that the peer kept for long passed for a long way, and the handshake stood still",
        ),
        (3152, "the peer answered on more punch sockets than it uses, and data went to one that it does not"),
        (2303, "a probe that came in on an old mapping stopped the side that opens"),
        (1117, "the end of a round ended the next one, too"),
        (1099, "the same side was taken for hard twice"),
        (9216, "an answer got lost, and nothing was known of the NAT"),
        (613, "a direct path waited for the answer about a relayed one"),
    ] {
        let played = play(seed);
        assert_eq!((played.outcome, played.defect), (Outcome::Direct, None), "--seed {seed}: {what}");
    }
}

#[test]
fn a_seed_is_a_world_and_its_trace() {
    for seed in [3, 44] {
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
    has("no relay", &|plan| plan.relay == RelayKind::None);
    has("a TURN server", &|plan| plan.relay == RelayKind::Turn);
    has("a public node that relays", &|plan| plan.relay == RelayKind::Public);
    has("a NAT that minds who sends first", &Plan::clashes);
    has("a carrier for both", &|plan| plan.shared.is_some() && !plan.chains[0].is_empty());
    has("a home for both", &|plan| plan.shared.is_some() && plan.chains[0].is_empty());
    has("a NAT behind a NAT", &|plan| plan.chains.iter().any(|chain| chain.len() == 2));
    has("no NAT", &|plan| plan.shared.is_none() && plan.chains.iter().any(Vec::is_empty));
    has("a firewall", &|plan| plan.is_blocked(0) || plan.is_blocked(1));
    has("one private address for two", &|plan| plan.twins);
    has("silence", &|plan| plan.silence.is_some());
    for loss in [0, 5, 20] {
        has("loss", &|plan| plan.loss == loss);
    }
}

/// Canary: a world that falls short is a defect, and one that comes off better is none.
#[test]
fn canary_the_table_notices_what_falls_short() {
    let played = play(1);
    let mut table = Table::default();
    table.count(&played);
    assert_eq!(table.defects(), 0);
    let short = format!("{:?} where {:?} was possible", Outcome::Relayed, Expected::Direct);
    let mut poor = played;
    poor.defect = Some(short.clone());
    table.count(&poor);
    assert_eq!(table.defects(), 1);
    assert!(table.to_string().contains(&short));
}

/// Canary: guesses that hit once in a while are not what the formula promises.
#[test]
fn canary_the_table_notices_guesses_that_hit_too_rarely() {
    let played = play(1);
    let lucky = |direct: usize| {
        let mut table = Table::default();
        for nth in 0..100 {
            let outcome = if nth < direct { Outcome::Direct } else { Outcome::Relayed };
            table.count(&Played {
                hard: Some(Hard::Known(PortSpan::Full)),
                loss: 0,
                outcome,
                ..played.clone()
            });
        }
        table
    };
    let (enough, poor) = (lucky(94), lucky(92));
    assert_eq!((enough.defects(), poor.defects()), (0, 1), "{poor}");
    assert!(poor.to_string().contains("guesses hit too rarely: all 64,512"));
}
