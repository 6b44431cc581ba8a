//! Cases 45 to 49: after the connection.

use std::collections::BTreeSet;
use std::time::Duration;

use gimlet_stun::{Class, Key, Message};

use super::desk::{Desk, LOCAL, PEER, Said, path};
use super::subject::Setup;
use super::wire::{self, Ask, OUR_PWD};
use super::{Bench, Case, Finding, Outcome, ensure};

const OTHER: &str = "198.51.100.2:2000";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(45, "consent", "RFC 7675 §5.1", case_45)
        .given("a connected agent; its requests are answered for two minutes, then only wrongly")
        .requires("requests 4 to 6 s apart, each with a new id; no path any more 30 s after the last answer"),
    Case::on_wire(46, "an hour of idleness", "RFC 7675 §5.1, RFC 8445 §11", case_46)
        .given("a connected agent with a second pair that works, everything answered, nothing to send")
        .requires("at most 900 requests, at least one each 15 s, all on the pair in use"),
    Case::on_wire(47, "the selected pair dies, another one works", "RFC 8445 §8.3, RFC 7675 §5.1", case_47)
        .given("a connected agent with a second pair that works; then silence on the first")
        .requires("it uses the second within 12 s, without saying that the connection was lost"),
    Case::on_wire(48, "restart", "RFC 8445 §9", case_48)
        .given("a restart; requests under the old and under the new ufrag; the peer's new credentials and candidate")
        .requires("the old pair stays in use until the new one is nominated; all requests are answered"),
    Case::on_wire(49, "the peer roams", "RFC 8445 §7.3.1.3-7.3.1.4, §8.1.1", case_49)
        .given("a connected controlling agent, RTT 20 ms; a signed check from a new address, the old one is silent")
        .requires("the new address is checked, nominated and in use within 2 RTT + Ta"),
];

/// A connected agent: one pair, or two, the first of which is selected.
fn connected(bench: &Bench, setup: Setup, remotes: &[&str]) -> Result<Desk, Finding> {
    let mut desk = bench.desk(setup)?;
    desk.host(LOCAL)?;
    for (remote, preference) in remotes.iter().zip([65_535, 1]) {
        desk.remote_with(remote, preference)?;
    }
    desk.credentials();
    let alive: Vec<_> = remotes.iter().map(|remote| path(LOCAL, remote)).collect();
    let mut checked = BTreeSet::new();
    for _ in 0..100 {
        for check in desk.take_checks() {
            checked.insert(check.path);
        }
        if checked.len() == remotes.len() {
            break;
        }
        desk.wait(5);
    }
    ensure!(checked.len() == remotes.len(), "not every pair is checked within 500 ms");
    for remote in remotes {
        let ask = if setup.controlling { Ask::controlled() } else { Ask::controlling() };
        desk.asked(path(LOCAL, remote), &ask)?;
    }
    desk.live(1_000, &alive);
    if !setup.controlling {
        desk.asked(alive[0], &Ask::nominating())?;
    }
    desk.live(1_000, &alive);
    ensure!(
        desk.subject.selected() == Some(alive[0]),
        "not connected: it uses {:?}",
        desk.subject.selected()
    );
    desk.take_said();
    desk.told.clear();
    Ok(desk)
}

fn case_45(bench: &Bench) -> Outcome {
    let mut desk = connected(bench, Setup::CONTROLLED, &[PEER])?;
    let requests = desk.live(120_000, &[path(LOCAL, PEER)]);
    ensure!(!requests.is_empty(), "no request in two minutes");
    let ids: BTreeSet<_> = requests.iter().map(|said| said.id().0).collect();
    ensure!(ids.len() == requests.len(), "ids are used twice");
    let waits: Vec<_> =
        requests.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at).as_millis()).collect();
    let astray = waits.iter().find(|ms| !(4_000..=6_000).contains(*ms));
    ensure!(astray.is_none(), "requests {} ms apart", astray.copied().unwrap_or_default());
    let request = loop_for_request(&mut desk)?;
    desk.answer(&request);
    let last = desk.now;
    desk.take_said();
    while desk.now.saturating_sub(last) < Duration::from_millis(29_990) {
        desk.wait(10);
        for request in desk.take_checks() {
            let mut forged = wire::success(&request.bytes, request.path.local);
            let signature = forged.len() - 12;
            forged[signature] ^= 1;
            forged.truncate(forged.len() - 8);
            wire::fingerprint(&mut forged, 0);
            desk.hear(request.path, &forged);
            desk.hear(path(LOCAL, OTHER), &wire::success(&request.bytes, request.path.local));
        }
        let lost = desk.subject.selected().is_none();
        ensure!(
            !lost,
            "the path is given up {} ms after the last answer",
            desk.now.saturating_sub(last).as_millis()
        );
    }
    desk.wait(20);
    ensure!(desk.subject.selected().is_none(), "the path is still offered 30 s after the last answer");
    Ok(())
}

fn loop_for_request(desk: &mut Desk) -> Result<Said, Finding> {
    for _ in 0..700 {
        if let Some(request) = desk.take_checks().pop() {
            return Ok(request);
        }
        desk.wait(10);
    }
    Err(Finding::fails("no request for seven seconds".into()))
}

fn case_46(bench: &Bench) -> Outcome {
    let mut desk = connected(bench, Setup::CONTROLLED, &[PEER, OTHER])?;
    let both = [path(LOCAL, PEER), path(LOCAL, OTHER)];
    let begun = desk.now;
    let mut requests = Vec::new();
    while desk.now.saturating_sub(begun) < Duration::from_secs(3_600) {
        // Answered at once: what is counted are the requests.
        desk.wait(100);
        for said in desk.take_said() {
            if said.is(Class::Request) && both.contains(&said.path) {
                desk.answer(&said);
            }
            requests.push(said);
        }
    }
    let elsewhere = requests.iter().filter(|said| said.path != both[0]).count();
    ensure!(requests.len() >= 240, "{} messages in an hour: no keepalive", requests.len());
    ensure!(
        requests.len() <= 900 && elsewhere == 0,
        "{} messages in an hour, {elsewhere} of them not on the pair in use",
        requests.len()
    );
    Ok(())
}

fn case_47(bench: &Bench) -> Outcome {
    for setup in [Setup::CONTROLLING, Setup::CONTROLLED] {
        let mut desk = connected(bench, setup, &[PEER, OTHER])?;
        let other = path(LOCAL, OTHER);
        desk.live(10_000, &[path(LOCAL, PEER), other]);
        desk.told.clear();
        desk.live(12_000, &[other]);
        let uses = desk.subject.selected();
        ensure!(uses == Some(other), "12 s after the pair in use died it uses {uses:?}");
        let flap =
            desk.told.iter().find(|event| event.contains("Disconnected") || event.contains("StateChange"));
        ensure!(flap.is_none(), "it says {flap:?}");
    }
    Ok(())
}

/// A request under these names, signed with this password; whether it is answered with success.
fn is_answered(desk: &mut Desk, usernames: &str, password: &str) -> bool {
    let id = desk.id();
    let mut request = Vec::new();
    gimlet_stun::MessageWriter::new(&mut request, Class::Request, gimlet_stun::Method::BINDING, id)
        .username(usernames.as_bytes())
        .priority(wire::PEER_PRIORITY)
        .ice_controlling(1)
        .integrity(&Key::short_term(password.as_bytes()))
        .fingerprint();
    desk.take_said();
    desk.hear(path(LOCAL, PEER), &request);
    desk.wait(200);
    let answer = desk.said.iter().find(|said| said.id() == id && said.is(Class::Success));
    answer.is_some_and(|answer| answer.message().verify(&Key::short_term(password.as_bytes())).is_ok())
}

fn case_48(bench: &Bench) -> Outcome {
    let mut desk = connected(bench, Setup::CONTROLLED, &[PEER])?;
    let old = path(LOCAL, PEER);
    let (ufrag, pwd) = desk.restart()?;
    ensure!(ufrag != wire::OUR_UFRAG && pwd != OUR_PWD, "the credentials are the old ones");
    desk.live(2_000, &[old]);
    ensure!(desk.subject.selected() == Some(old), "the old pair is given up at once");
    let username = format!("{}:{}", wire::OUR_UFRAG, wire::PEER_UFRAG);
    let answered = is_answered(&mut desk, &username, OUR_PWD);
    ensure!(answered, "a request under the old ufrag is not answered");
    let answered = is_answered(&mut desk, &format!("{ufrag}:peerAgain"), &pwd);
    ensure!(
        answered,
        "a request under the new ufrag is not answered before the peer's new credentials are known"
    );
    ensure!(!desk.subject.is_controlling(), "the role changed");

    desk.credentials_of("peerAgain", wire::PEER_PWD);
    desk.remote(OTHER)?;
    let check = desk.next_check_on(path(LOCAL, OTHER))?;
    let expected = format!("peerAgain:{ufrag}");
    ensure!(check.message().username() == Some(expected.as_bytes()), "the check is of the old session");
    desk.answer(&check);
    desk.wait(100);
    ensure!(desk.subject.selected() == Some(old), "it moves before the nomination");
    let nomination = Ask { usernames: vec![format!("{ufrag}:peerAgain")], ..Ask::nominating() };
    let bytes = resigned(&mut desk, &nomination, &pwd);
    desk.hear(check.path, &bytes);
    desk.wait(100);
    ensure!(desk.subject.selected() == Some(check.path), "the new pair is not selected when it is nominated");
    Ok(())
}

/// `ask`, signed with the new password.
fn resigned(desk: &mut Desk, ask: &Ask, pwd: &str) -> Vec<u8> {
    let id = desk.id();
    let plain = Ask { signed: wire::Signed::Not, ..ask.clone() }.write(id);
    let mut out = Vec::new();
    let mut writer =
        gimlet_stun::MessageWriter::new(&mut out, Class::Request, gimlet_stun::Method::BINDING, id);
    if let Ok(message) = Message::parse(&plain) {
        for attribute in message.attributes().filter(|a| a.kind != gimlet_stun::attribute::FINGERPRINT) {
            writer = writer.attribute(attribute.kind, attribute.value);
        }
    }
    writer.integrity(&Key::short_term(pwd.as_bytes())).fingerprint();
    out
}

fn case_49(bench: &Bench) -> Outcome {
    let mut desk = connected(bench, Setup::CONTROLLING, &[PEER])?;
    let there = path(LOCAL, OTHER);
    desk.take_said();
    let ta = if bench.who == super::Implementation::Gimlet { 5 } else { 50 };
    let begun = desk.now;
    desk.hear(there, &Ask::controlled().write(wire::id_of(&[9; 20])));
    let mut used = None;
    while desk.now.saturating_sub(begun) < Duration::from_secs(60) && used.is_none() {
        // The round trip is 20 ms.
        let checks: Vec<Said> = desk.take_checks();
        desk.wait(20);
        for check in checks.iter().filter(|check| check.path == there) {
            desk.answer(check);
        }
        if desk.subject.selected() == Some(there) {
            used = Some(desk.now.saturating_sub(begun));
        }
    }
    let Some(after) = used else {
        return Err(Finding::fails("after 60 s it still uses the address that the peer has left".into()));
    };
    let limit = Duration::from_millis(2 * 20 + ta);
    ensure!(
        after <= limit + Duration::from_millis(15),
        "it uses the new address after {} ms",
        after.as_millis()
    );
    Ok(())
}
