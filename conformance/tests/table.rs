//! The case table: all 68 cases, each with a named test, and ours passing what is judged in process.
//!
//! `cargo run -p gimlet-conformance --bin table` prints it beside the peers.

use std::collections::BTreeSet;

use gimlet_conformance::table::{Implementation, Verdict, cases, named_tests};
use gimlet_conformance::tidy::sources;

/// Cases of codecs, candidates and pairs: nothing goes over the wire. Everything else a deaf agent must fail.
const SILENCE_PASSES: [u8; 7] = [1, 10, 11, 18, 19, 20, 25];

#[test]
fn the_cases_are_those_from_1_to_68_and_say_what_they_ask() {
    let cases = cases();
    let numbers: Vec<u8> = cases.iter().map(|case| case.number).collect();
    assert_eq!(numbers, (1..=68).collect::<Vec<_>>());
    for case in cases {
        assert!(!case.section.is_empty() && !case.input.is_empty() && !case.required.is_empty(), "{case:?}");
    }
}

#[test]
fn every_case_has_a_test_with_its_number() {
    let found: BTreeSet<u8> = named_tests(&sources()).iter().map(|test| test.case).collect();
    let missing: Vec<u8> = (1..=68).filter(|case| !found.contains(case)).collect();
    assert!(missing.is_empty(), "no test is called case_NN_… for {missing:?}");
}

#[test]
fn gimlet_passes_every_case_that_is_judged_in_process() {
    let mut judged = 0;
    for case in cases().into_iter().filter(|case| !case.is_named()) {
        let cell = case.judge(Implementation::Gimlet);
        assert_eq!(cell.verdict, Verdict::Pass, "{case:?}\n{}", cell.transcript.join("\n"));
        judged += 1;
    }
    assert!(judged >= 50, "{judged}");
}

#[test]
fn an_agent_that_nobody_hears_passes_nothing_that_asks_for_a_word() {
    let judged = cases().into_iter().filter(|case| !case.is_named());
    let passed: Vec<u8> = judged
        .filter(|case| case.judge(Implementation::Deaf).verdict == Verdict::Pass)
        .map(|case| case.number)
        .collect();
    assert_eq!(passed, SILENCE_PASSES);
}
