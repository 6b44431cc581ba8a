//! Cases 39 to 44: nomination, selection, failure.

use gimlet_stun::Class;

use super::desk::{Desk, LOCAL, PEER, Said, path};
use super::subject::Setup;
use super::wire::Ask;
use super::{Bench, Case, Finding, Outcome, ensure};

const OTHER: &str = "198.51.100.2:2000";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(39, "USE-CANDIDATE in every situation", "RFC 8445 §7.3.1.5", case_39)
        .given("USE-CANDIDATE to a controlling agent; on a pair in progress; on one that has succeeded")
        .requires("no nomination; selected when its check succeeds, not before; selected now"),
    Case::on_wire(40, "two nominations", "RFC 8445 §8.1.1", case_40)
        .given("two pairs that work, both nominated, in either order")
        .requires("the pair of higher priority is used"),
    Case::on_wire(41, "selection ends the search", "RFC 8445 §8.1.2", case_41)
        .given("10 pairs, the first is answered and nominated")
        .requires("no check on any other pair in the next 3.9 s"),
    Case::on_wire(42, "a lite agent", "RFC 8445 §2.5, §8.2", case_42)
        .given("checks of a full peer to a lite agent, with USE-CANDIDATE; ten seconds")
        .requires("answers, never a check of its own, the nominated pair is used"),
    Case::on_wire(43, "every pair fails early, the peer comes late", "RFC 8863 §4", case_43)
        .given("the only check is refused with 500, candidates have ended; at 20 s a check from elsewhere")
        .requires("not failed at 20 s; the late pair works and is selected"),
    Case::on_wire(44, "when to fail", "RFC 8838 §14, RFC 8863 §4", case_44)
        .given("the only check is refused; with and without the end of candidates")
        .requires("failed once, no sooner than 39.5 s; without the end of candidates never"),
];

fn is_selected(desk: &Desk, remote: &str) -> bool {
    desk.subject.selected() == Some(path(LOCAL, remote))
}

fn case_39(bench: &Bench) -> Outcome {
    let mut desk = bench.pair(Setup::CONTROLLING)?;
    desk.remote_with(OTHER, 65_000)?;
    let other = desk.next_check_on(path(LOCAL, OTHER))?;
    let confused = Ask { use_candidate: true, ..Ask::controlled() };
    desk.ask(other.path, &confused);
    desk.wait(50);
    ensure!(desk.subject.selected().is_none(), "the peer's USE-CANDIDATE nominates for a controlling agent");

    let mut desk = bench.pair(Setup::CONTROLLED)?;
    let check = desk.next_check()?;
    desk.asked(check.path, &Ask::nominating())?;
    ensure!(desk.subject.selected().is_none(), "a pair is selected before its check has succeeded");
    desk.answer(&check);
    for again in desk.take_checks() {
        desk.answer(&again);
    }
    if let Ok(again) = desk.next_check() {
        desk.answer(&again);
    }
    desk.wait(100);
    ensure!(is_selected(&desk, PEER), "a nomination on a pair in progress is forgotten");

    let mut desk = bench.pair(Setup::CONTROLLED)?;
    let check = desk.next_check()?;
    desk.answer(&check);
    ensure!(desk.subject.selected().is_none(), "a controlled agent selects before any nomination");
    desk.asked(check.path, &Ask::nominating())?;
    desk.wait(60);
    ensure!(
        is_selected(&desk, PEER),
        "a nomination on a pair that works does not select it: another check is wanted first"
    );
    Ok(())
}

/// Two pairs, the first of higher priority, and the first check on each.
fn two_pairs(bench: &Bench, setup: Setup) -> Result<(Desk, Said, Said), Finding> {
    let mut desk = bench.desk(setup)?;
    desk.host(LOCAL)?;
    desk.remote(PEER)?;
    desk.remote_with(OTHER, 1)?;
    desk.credentials();
    let best = desk.next_check()?;
    let second = desk.next_check_on(path(LOCAL, OTHER))?;
    Ok((desk, best, second))
}

fn case_40(bench: &Bench) -> Outcome {
    for order in [[PEER, OTHER], [OTHER, PEER]] {
        let (mut desk, best, second) = two_pairs(bench, Setup::CONTROLLED)?;
        desk.answer(&best);
        desk.answer(&second);
        for remote in order {
            desk.asked(path(LOCAL, remote), &Ask::nominating())?;
        }
        desk.live(1_000, &[best.path, second.path]);
        ensure!(is_selected(&desk, PEER), "nominated {order:?}, it uses {:?}", desk.subject.selected());
    }
    Ok(())
}

fn case_41(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    desk.host(LOCAL)?;
    for n in 1..=10 {
        desk.remote_with(&format!("198.51.100.{n}:2000"), 1_000 - n)?;
    }
    desk.credentials();
    let check = desk.next_check()?;
    desk.answer(&check);
    desk.asked(check.path, &Ask::nominating())?;
    desk.live(200, &[check.path]);
    ensure!(desk.subject.selected() == Some(check.path), "the nominated pair is not selected");
    desk.take_said();
    desk.wait(3_900);
    let others = desk.take_checks().iter().filter(|said| said.path != check.path).count();
    ensure!(others == 0, "{others} checks on other pairs in the 3.9 s after selection");
    Ok(())
}

fn case_42(bench: &Bench) -> Outcome {
    let mut desk = bench.pair(Setup { lite: true, ..Setup::CONTROLLED })?;
    desk.wait(1_000);
    desk.asked(path(LOCAL, PEER), &Ask::controlling())?;
    desk.asked(path(LOCAL, PEER), &Ask::nominating())?;
    desk.wait(5_000);
    ensure!(is_selected(&desk, PEER), "the nominated pair is not selected within 5 s");
    desk.wait(10_000);
    let checks = desk.said.iter().filter(|said| said.is(Class::Request)).count();
    ensure!(checks == 0, "a lite agent sent {checks} checks");
    Ok(())
}

fn case_43(bench: &Bench) -> Outcome {
    let mut desk = bench.pair(Setup::CONTROLLED)?;
    match desk.end_of_candidates() {
        // Without it nothing may fail before its time either.
        Ok(()) | Err(Finding::NotApplicable(_)) => {}
        Err(fails) => return Err(fails),
    }
    let check = desk.next_check()?;
    desk.refuse(&check, 500);
    desk.wait(20_000);
    ensure!(!desk.subject.has_failed(), "it gave up before {} s", desk.now.as_secs());
    desk.take_said();
    desk.asked(path(LOCAL, OTHER), &Ask::controlling())?;
    let check = desk.next_check_on(path(LOCAL, OTHER))?;
    desk.answer(&check);
    desk.asked(path(LOCAL, OTHER), &Ask::nominating())?;
    desk.live(1_000, &[path(LOCAL, OTHER)]);
    ensure!(is_selected(&desk, OTHER), "the late pair is not selected");
    desk.wait(20_000);
    ensure!(!desk.subject.has_failed(), "it gave up with a pair that works");
    Ok(())
}

fn case_44(bench: &Bench) -> Outcome {
    let mut desk = bench.pair(Setup::CONTROLLING)?;
    desk.end_of_candidates()?;
    let check = desk.next_check()?;
    let start = check.at;
    desk.refuse(&check, 500);
    desk.wait_until(start + std::time::Duration::from_millis(39_400));
    ensure!(!desk.subject.has_failed(), "it gave up before 39.4 s: {:?}", desk.told.last());
    desk.wait(10_000);
    ensure!(desk.subject.has_failed(), "it has not given up after 49 s");
    let count = desk
        .told
        .iter()
        .filter(|event| event.contains("Failed {") || event.contains("StateChange Failed"))
        .count();
    ensure!(count == 1, "it says so {count} times");

    let mut desk = bench.pair(Setup::CONTROLLING)?;
    let check = desk.next_check()?;
    desk.refuse(&check, 500);
    desk.wait(200_000);
    ensure!(!desk.subject.has_failed(), "it gave up although more candidates may come");
    Ok(())
}
