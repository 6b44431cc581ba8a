use super::*;
use gimlet_testkit::{edges, matches_committed};

fn matches_snapshot(name: &str, actual: &str) {
    matches_committed(env!("CARGO_MANIFEST_DIR"), name, actual);
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
    matches_snapshot("pair.txt", &edges(&PairState::ALL, &PAIR_STEPS, PairState::after));
}

#[test]
fn the_agent_graph_is_the_committed_one() {
    matches_snapshot("agent.txt", &edges(&State::ALL, &STEPS, State::after));
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
    matches_snapshot("nomination.txt", &edges(&Nomination::ALL, &steps, Nomination::after));
}

#[test]
fn the_liveness_graph_is_the_committed_one() {
    let steps = [LivenessStep::Miss, LivenessStep::Alarm, LivenessStep::Answer];
    matches_snapshot("liveness.txt", &edges(&Liveness::ALL, &steps, Liveness::after));
}

#[test]
fn nothing_leaves_closed_and_a_pair_is_open_exactly_until_it_is_decided() {
    assert!(STEPS.into_iter().all(|step| State::Closed.after(step).is_none()));
    let open = PairState::ALL.map(PairState::is_open);
    assert_eq!(open, [true, true, true, false, false]);
}
