//! Cases 12 to 17: requests and what becomes of them.

use std::time::Duration;

use super::desk::{LOCAL, PEER, address, path};
use super::subject::Setup;
use super::wire;
use super::{Bench, Case, Outcome, ensure, relay};

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(12, "the ladder of retransmissions", "RFC 8489 §6.2.1", case_12)
        .given("one pair, no answer at all")
        .requires("the same bytes at 0, 500, 1500, 3500, 7500, 15500, 31500 ms, then nothing until 39.5 s"),
    Case::on_wire(13, "an answer after a retransmission, twice", "RFC 8489 §6.2.1, RFC 6298 §3", case_13)
        .given("the check is answered after it was sent a second time; then a second copy of the answer")
        .requires("the pair is valid and is nominated once"),
    Case::on_wire(14, "an answer that took another way", "RFC 8445 §7.2.5.2.1", case_14)
        .given("a signed answer from 203.0.113.66, and one that arrives at another of our addresses")
        .requires("no valid pair"),
    Case::on_wire(15, "401, 401 again, 438 four times", "RFC 8489 §9.2.5", relay::case_15)
        .given("401, then 401 to the signed request; 438 four times, each with a new nonce")
        .requires("one retry; final; retried with the new nonce; given up after the fourth in a row"),
    Case::on_wire(16, "the nonce's security bits", "RFC 8489 §9.2.1", relay::case_16)
        .given("a nonce that promises PASSWORD-ALGORITHMS, without and with them")
        .requires("no retry: a bid-down; echoed exactly, SHA-256 chosen when offered"),
    Case::on_wire(17, "300 and ALTERNATE-SERVER", "RFC 8489 §10", relay::case_17)
        .given("redirections A to B, B back to A, A to an IPv6 address")
        .requires("followed; the circle and the other family are not"),
];

fn case_12(bench: &Bench) -> Outcome {
    let mut desk = bench.pair(Setup::CONTROLLING)?;
    let first = desk.next_check()?;
    let start = first.at;
    desk.wait_until(start + Duration::from_millis(39_499));
    let rest = desk.take_checks();
    let times: Vec<_> = rest.iter().map(|said| said.at.saturating_sub(start).as_millis()).collect();
    let same = rest.iter().all(|again| again.bytes == first.bytes);
    ensure!(same, "new transactions in place of retransmissions, at {times:?} ms after the first");
    ensure!(times == [500, 1_500, 3_500, 7_500, 15_500, 31_500], "sends at {times:?} ms after the first");
    Ok(())
}

fn case_13(bench: &Bench) -> Outcome {
    let mut desk = bench.pair(Setup::CONTROLLING)?;
    let first = desk.next_check()?;
    desk.wait(600);
    ensure!(!desk.take_checks().is_empty(), "no second send within 600 ms");
    desk.answer(&first);
    let nomination = desk.next_check()?;
    ensure!(nomination.message().use_candidate(), "the answer to the first send is not taken");
    desk.answer(&first);
    desk.wait(100);
    let again = desk.take_checks().iter().any(|check| check.id() != nomination.id());
    ensure!(!again, "the second copy of the answer had an effect");
    desk.answer(&nomination);
    desk.wait(100);
    ensure!(desk.subject.selected() == Some(path(LOCAL, PEER)), "the pair is not selected");
    Ok(())
}

fn case_14(bench: &Bench) -> Outcome {
    for way in [path(LOCAL, "203.0.113.66:6666"), path("192.0.2.9:4000", PEER)] {
        let mut desk = bench.pair(Setup::CONTROLLING)?;
        desk.host("192.0.2.9:4000")?;
        let check = desk.next_check_on(path(LOCAL, PEER))?;
        desk.hear(way, &wire::success(&check.bytes, address(LOCAL)));
        desk.wait(1_000);
        let nominated = desk.take_checks().iter().any(|check| check.message().use_candidate());
        ensure!(
            !nominated && desk.subject.selected().is_none(),
            "an answer {} <- {} to a check {} -> {} made the pair valid",
            way.local,
            way.remote,
            LOCAL,
            PEER
        );
    }
    Ok(())
}
