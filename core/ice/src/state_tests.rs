use super::*;
use alloc::string::String;
use core::fmt::{Debug, Write};

extern crate std;

/// One line per legal edge, in the order of the declarations.
fn table<S: Copy + Debug, T: Copy + Debug>(
    states: &[S],
    steps: &[T],
    after: impl Fn(S, T) -> Option<S>,
) -> String {
    let mut text = String::new();
    for state in states {
        for step in steps {
            if let Some(next) = after(*state, *step) {
                writeln!(text, "{state:?} --{step:?}--> {next:?}").unwrap();
            }
        }
    }
    text
}

/// Compares with the committed table; `UPDATE=1` rewrites it.
#[allow(clippy::disallowed_methods, reason = "a developer asks for the table to be rewritten")]
fn matches_snapshot(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(actual, expected, "{name} changed: look at the edges, then run with UPDATE=1");
}

const PAIR_STEPS: [PairStep; 7] = [
    PairStep::Unfreeze,
    PairStep::Outrank,
    PairStep::Check,
    PairStep::Trigger,
    PairStep::Succeed,
    PairStep::Fail,
    PairStep::Believe,
];

const STEPS: [Step; 7] =
    [Step::Start, Step::Validate, Step::Select, Step::Lose, Step::Unselect, Step::Fail, Step::Close];

#[test]
fn the_pair_graph_is_the_committed_one() {
    matches_snapshot("pair.txt", &table(&PairState::ALL, &PAIR_STEPS, PairState::after));
}

#[test]
fn the_agent_graph_is_the_committed_one() {
    matches_snapshot("agent.txt", &table(&State::ALL, &STEPS, State::after));
}

#[test]
fn the_nomination_graph_is_the_committed_one() {
    let steps = [
        NominationStep::Validate,
        NominationStep::Request,
        NominationStep::Confirm,
        NominationStep::Accept,
        NominationStep::Refuse,
        NominationStep::Lose,
        NominationStep::Move,
        NominationStep::Release,
        NominationStep::Restart,
    ];
    matches_snapshot("nomination.txt", &table(&Nomination::ALL, &steps, Nomination::after));
}

#[test]
fn the_liveness_graph_is_the_committed_one() {
    let steps = [LivenessStep::Miss, LivenessStep::Alarm, LivenessStep::Answer];
    matches_snapshot("liveness.txt", &table(&Liveness::ALL, &steps, Liveness::after));
}

#[test]
fn nothing_leaves_closed_and_a_pair_is_open_exactly_until_it_is_decided() {
    assert!(STEPS.into_iter().all(|step| State::Closed.after(step).is_none()));
    let open = PairState::ALL.map(PairState::is_open);
    assert_eq!(open, [true, true, true, false, false]);
}
