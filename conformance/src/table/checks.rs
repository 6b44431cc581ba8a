//! Cases 27 to 33 and 38: connectivity checks.

use std::time::Duration;

use gimlet_stun::{Class, Key, Message};

use super::desk::{Desk, LOCAL, PEER, address, path};
use super::subject::Setup;
use super::wire::{self, Ask, OUR_PWD, OUR_UFRAG, PEER_PWD, PEER_UFRAG};
use super::{Bench, Case, Finding, Outcome, ensure};

const SECOND: &str = "192.0.2.2:4000";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(27, "what the first check carries", "RFC 8445 §7.1-7.2", case_27)
        .given("one pair and the peer's credentials, in either role")
        .requires(
            "USERNAME peer:ours, PRIORITY of a peer-reflexive candidate, one role attribute, MESSAGE-INTEGRITY \
             with the peer's password, FINGERPRINT, no USE-CANDIDATE",
        ),
    Case::on_wire(28, "pacing", "RFC 8445 §14.2", case_28)
        .given("10 pairs, Ta 50 ms; handle_timeout is called 1000 times at one instant, then time goes on")
        .requires("one check at that instant, and each next one no sooner than Ta after the one before"),
    Case::on_wire(29, "the timeout grows with the list", "RFC 8445 §14.3", case_29)
        .given("1 and 20 pairs of distinct foundations, Ta 50 ms, no answers")
        .requires("the first check is sent again after 500 ms, and after 1000 ms"),
    Case::on_wire(30, "a request before the peer's credentials", "RFC 8445 §7.3", case_30)
        .given("a check of the peer; 300 ms later its credentials, and no further request")
        .requires("success at once; a triggered check when the credentials are there"),
    Case::on_wire(31, "a check from an unknown address", "RFC 8445 §7.3.1.3", case_31)
        .given("two local candidates, a check from an address that was not signalled; later it is signalled")
        .requires("checked from where it arrived and only there; signalling it later checks nothing twice"),
    Case::on_wire(32, "a mapped address that is no candidate", "RFC 8445 §7.2.5.3.1-7.2.5.3.2", case_32)
        .given("the check is answered with a mapped address that a NAT made up; then nomination, in both roles")
        .requires("the pair works and is selected, with the base as its local address"),
    Case::on_wire(33, "triggered checks", "RFC 8445 §7.3.1.4", case_33)
        .given("the peer's check on a pair that waits, is in progress, has failed, has succeeded")
        .requires("next in line; a new check while the old answer counts; checked again; nothing"),
    Case::on_wire(38, "error answers", "RFC 8445 §7.2.5.2.2-7.2.5.2.4", case_38)
        .given("400, 401, 420 and 500 to a check, signed by the peer; 500 signed by somebody else")
        .requires("the pair has failed: the check is not repeated; the forged one changes nothing"),
];

fn case_27(bench: &Bench) -> Outcome {
    for controlling in [true, false] {
        let mut desk = bench.pair(Setup::role(controlling))?;
        let check = desk.next_check()?;
        let message = check.message();
        let username = format!("{PEER_UFRAG}:{OUR_UFRAG}");
        ensure!(message.username() == Some(username.as_bytes()), "USERNAME is {:?}", message.username());
        let priority = message.priority().unwrap_or_default();
        ensure!(
            priority >> 24 == 110,
            "PRIORITY {priority} has type preference {}, which is not that of peer-reflexive candidates, 110",
            priority >> 24
        );
        ensure!(message.ice_controlling().is_some() == controlling, "a wrong or no role");
        ensure!(message.ice_controlled().is_some() != controlling, "a wrong or no role");
        ensure!(
            message.verify(&Key::short_term(PEER_PWD.as_bytes())).is_ok(),
            "not signed with the peer's password"
        );
        ensure!(message.has_fingerprint(), "no FINGERPRINT");
        ensure!(!message.use_candidate(), "USE-CANDIDATE in the first check");
    }
    Ok(())
}

fn many(bench: &Bench, pairs: u32) -> Result<Desk, Finding> {
    let ta = Some(Duration::from_millis(50));
    let mut desk = bench.desk(Setup { ta, ..Setup::CONTROLLING })?;
    desk.host(LOCAL)?;
    for n in 1..=pairs {
        desk.remote_with(&format!("198.51.100.{n}:2000"), 1_000 - n)?;
    }
    desk.credentials();
    Ok(desk)
}

fn case_28(bench: &Bench) -> Outcome {
    let mut desk = many(bench, 10)?;
    for _ in 0..1_000 {
        desk.poke();
    }
    let at_once = desk.said.len();
    ensure!(at_once <= 1, "{at_once} checks leave at one instant");
    desk.wait(2_000);
    let times: Vec<_> = desk.take_checks().iter().map(|check| check.at.as_millis()).collect();
    ensure!(times.len() >= 10, "{} checks in two seconds", times.len());
    let close = times.windows(2).find(|pair| pair[1] - pair[0] < 50);
    ensure!(close.is_none(), "checks at {times:?} ms");
    Ok(())
}

fn case_29(bench: &Bench) -> Outcome {
    for (pairs, expected) in [(1, 500), (20, 1_000)] {
        let mut desk = many(bench, pairs)?;
        let first = desk.next_check()?;
        desk.wait(3_000);
        let again = desk.take_checks().into_iter().find(|check| check.path == first.path);
        let again =
            again.ok_or_else(|| Finding::fails("the first check is not repeated within 3 s".into()))?;
        let after = again.at.saturating_sub(first.at).as_millis();
        let what = if again.id() == first.id() { "retransmission" } else { "new transaction on the pair" };
        ensure!(
            (expected..=expected + 500).contains(&after),
            "{pairs} pairs: the first {what} after {after} ms"
        );
    }
    Ok(())
}

fn case_30(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    desk.host(LOCAL)?;
    let answers = desk.ask(path(LOCAL, PEER), &Ask::controlling());
    ensure!(answers.len() == 1, "it is not answered before the peer's credentials are known");
    let answer = &answers[0];
    ensure!(answer.is(Class::Success), "it is answered: {}", answer.text());
    ensure!(answer.message().xor_mapped_address() == Some(address(PEER)), "{}", answer.text());
    let key = Key::short_term(OUR_PWD.as_bytes());
    ensure!(answer.message().verify(&key).is_ok(), "the answer is not signed");
    desk.wait(300);
    desk.credentials();
    desk.next_check_on(path(LOCAL, PEER))?;
    Ok(())
}

fn case_31(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    desk.host(LOCAL)?;
    desk.host(SECOND)?;
    desk.credentials();
    desk.asked(path(LOCAL, PEER), &Ask::controlling())?;
    let check = desk.next_check_on(path(LOCAL, PEER))?;
    desk.answer(&check);
    desk.wait(400);
    let elsewhere = desk.take_checks().into_iter().find(|check| check.path.local == address(SECOND));
    ensure!(elsewhere.is_none(), "the peer-reflexive candidate is checked from {SECOND} too");
    desk.remote(PEER)?;
    desk.wait(200);
    let again = desk.take_checks().into_iter().find(|check| check.path == path(LOCAL, PEER));
    ensure!(again.is_none(), "once signalled, the pair that works is checked again");
    desk.asked(path(LOCAL, PEER), &Ask::nominating())?;
    desk.live(1_000, &[path(LOCAL, PEER)]);
    ensure!(desk.subject.selected() == Some(path(LOCAL, PEER)), "the nomination of the pair is lost");
    Ok(())
}

fn case_32(bench: &Bench) -> Outcome {
    let mapped = address("203.0.113.1:7777");
    let mut desk = bench.pair(Setup::CONTROLLED)?;
    let check = desk.next_check()?;
    desk.answer_seeing(&check, mapped);
    desk.asked(path(LOCAL, PEER), &Ask::nominating())?;
    for _ in 0..50 {
        desk.wait(20);
        for again in desk.take_checks() {
            desk.answer_seeing(&again, mapped);
        }
    }
    let selected = desk.subject.selected();
    ensure!(selected == Some(path(LOCAL, PEER)), "controlled: after the nomination it uses {selected:?}");

    let mut desk = bench.pair(Setup::CONTROLLING)?;
    let check = desk.next_check()?;
    desk.answer_seeing(&check, mapped);
    let nomination = desk.next_check()?;
    ensure!(nomination.message().use_candidate(), "controlling: it does not nominate: {}", nomination.text());
    desk.answer_seeing(&nomination, mapped);
    desk.wait(100);
    let selected = desk.subject.selected();
    ensure!(selected == Some(path(LOCAL, PEER)), "controlling: it uses {selected:?}");
    Ok(())
}

fn case_33(bench: &Bench) -> Outcome {
    let mut desk = many(bench, 6)?;
    desk.take_said();
    let last = path(LOCAL, "198.51.100.6:2000");
    desk.ask(last, &Ask::controlled());
    let next = desk.next_check()?;
    ensure!(next.path == last, "waiting: the next check goes to {}", next.path.remote);

    let mut desk = bench.pair(Setup::CONTROLLING)?;
    let first = desk.next_check()?;
    desk.wait(100);
    desk.take_said();
    desk.asked(first.path, &Ask::controlled())?;
    let second = desk.next_check()?;
    ensure!(second.id() != first.id(), "in progress: the old check goes on instead of a new one");
    desk.answer(&first);
    desk.wait(200);
    let nominates = desk.take_checks().iter().any(|check| check.message().use_candidate());
    ensure!(nominates, "in progress: the answer to the old check no longer counts");

    let mut desk = bench.pair(Setup::CONTROLLED)?;
    let check = desk.next_check()?;
    desk.refuse(&check, 400);
    desk.wait(200);
    desk.take_said();
    desk.asked(check.path, &Ask::controlling())?;
    let again = desk.next_check()?;
    desk.answer(&again);
    desk.wait(100);
    desk.take_said();
    desk.asked(check.path, &Ask::controlling())?;
    let more = desk.take_checks().len();
    desk.wait(150);
    ensure!(more + desk.take_checks().len() == 0, "succeeded: the peer's check triggers another");
    Ok(())
}

fn case_38(bench: &Bench) -> Outcome {
    for code in [400, 401, 420, 500] {
        let mut desk = bench.pair(Setup::CONTROLLED)?;
        let check = desk.next_check()?;
        desk.refuse(&check, code);
        desk.wait(10_000);
        let again = desk.take_checks();
        ensure!(again.is_empty(), "after {code} the check is sent {} times more", again.len());
    }
    let mut desk = bench.pair(Setup::CONTROLLED)?;
    let check = desk.next_check()?;
    let forged = wire::refusal(&check.bytes, 500, Some("somebodyElsesPassword"));
    debug_assert!(Message::parse(&forged).is_ok());
    desk.hear(check.path, &forged);
    desk.wait(2_000);
    ensure!(!desk.take_checks().is_empty(), "an error answer that the peer did not sign ends the check");
    Ok(())
}
