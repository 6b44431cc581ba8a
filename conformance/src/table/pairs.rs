//! Cases 18 to 26: candidates and pairs.

use std::collections::BTreeSet;

use gimlet_ice::Candidate;
use gimlet_machine::FourTuple;

use super::desk::{Desk, LOCAL, PEER, address, line, path};
use super::subject::{Local, Setup};
use super::{Bench, Case, Finding, Implementation, Outcome, ensure, rice, str0m};

const OTHER: &str = "198.51.100.2:2000";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(18, "candidate priorities", "RFC 8445 §5.1.2.1", case_18)
        .given("a host, a server-reflexive and (where the owner may add one) a relayed candidate")
        .requires(
            "2^24 * type + 2^8 * local preference + 256 - component, type 126, 100 and less for a relay",
        ),
    Case::on_wire(19, "pair priorities", "RFC 8445 §6.1.2.3", case_19)
        .given("two local and two remote candidates, seen from both sides and in both roles")
        .requires("2^32 * min(G, D) + 2 * max(G, D) + (G > D)"),
    Case::on_wire(20, "foundations", "RFC 8445 §5.1.1.3", case_20)
        .given("host candidates on one and on two addresses, reflexive ones by one base and server")
        .requires("equal exactly if type, base address, transport and server are"),
    Case::on_wire(21, "what pairs with what", "RFC 8445 §6.1.2.2, RFC 6544 §6.2", case_21)
        .given("IPv4 with IPv6, link-local with global, component 1 with 2, UDP with TCP; then one that fits")
        .requires("no check to the first four, one to the last"),
    Case::on_wire(22, "a reflexive candidate beside its base", "RFC 8445 §6.1.2.4", case_22)
        .given("a host and a reflexive candidate of one base, one remote candidate")
        .requires("one pair: one check within 200 ms"),
    Case::on_wire(23, "more than 100 pairs", "RFC 8445 §6.1.2.5", case_23)
        .given("10 local and 20 remote candidates, all silent; after 20 ms one more of highest priority")
        .requires("at most 100 pairs are checked, the new candidate is among them"),
    Case::on_wire(24, "frozen pairs", "RFC 8445 §6.1.2.6, §7.2.5.3.3", case_24)
        .given("two remote candidates of one foundation and one of another")
        .requires("the second of a foundation is checked when the first has succeeded, not before"),
    Case::on_wire(25, "candidate lines", "RFC 8839 §5.1", case_25)
        .given("12 lines that are right or tolerable, 13 that break the grammar or its bounds")
        .requires("read and written again with the same meaning; refused"),
    Case::on_wire(26, "a candidate of another generation", "RFC 8838, RFC 8839 §5.1", case_26)
        .given("the peer's credentials, then a candidate with another ufrag and one with the right one")
        .requires("only the second is checked"),
];

/// The words of a candidate line after `candidate:`.
fn words(line: &str) -> Vec<&str> {
    line.trim_start_matches("candidate:").split_ascii_whitespace().collect()
}

fn kind_of(line: &str) -> &str {
    words(line).get(7).copied().unwrap_or_default()
}

fn case_18(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLING)?;
    let server = address("203.0.113.9:3478");
    desk.host(LOCAL)?;
    let base = address(LOCAL);
    desk.local(Local::Reflexive { mapped: address("203.0.113.1:7777"), base, server })?;
    match desk.local(Local::Relayed { address: address("203.0.113.9:50000"), base, server }) {
        Ok(()) | Err(Finding::NotApplicable(_)) => {}
        Err(fails) => return Err(fails),
    }
    let lines = desk.subject.local_lines();
    bench.transcript.add(|| format!("its lines: {lines:#?}"));
    ensure!(lines.len() >= 2, "it has {} candidates", lines.len());
    for line in lines {
        // 126, 100 and 0 are recommended; what is required is the formula and the order.
        let preferences = match kind_of(&line) {
            "host" => 126..=126,
            "srflx" => 100..=109,
            "relay" => 0..=99,
            other => return Err(Finding::fails(format!("a candidate of type {other}: {line}"))),
        };
        let priority: u32 = words(&line).get(3).and_then(|word| word.parse().ok()).unwrap_or_default();
        ensure!(preferences.contains(&(priority >> 24)) && priority & 0xff == 255, "{line}");
    }
    Ok(())
}

fn case_19(bench: &Bench) -> Outcome {
    let local =
        |n: u32| Candidate::host(address(&format!("192.0.2.{n}:4000"))).with_local_preference(n as u16);
    let (ours, theirs) = ([local(30), local(10)], [20_u32, 5]);
    for controlling in [true, false] {
        let mut desk = bench.desk(Setup::role(controlling))?;
        desk.subject.pair_priorities()?;
        for candidate in &ours {
            desk.local(Local::Host(candidate.address))?;
        }
        for preference in theirs {
            desk.remote_with(&format!("198.51.100.{preference}:2000"), preference)?;
        }
        let priority =
            |line: &String| words(line).get(3).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let locals: Vec<u64> = desk.subject.local_lines().iter().map(priority).collect();
        let remotes = theirs.map(|preference| u64::from(126_u32 << 24 | preference << 8 | 255));
        let mut expected: Vec<u64> = Vec::new();
        for local in locals {
            for remote in remotes {
                let (g, d) = if controlling { (local, remote) } else { (remote, local) };
                expected.push((g.min(d) << 32) + 2 * g.max(d) + u64::from(g > d));
            }
        }
        let mut found = desk.subject.pair_priorities()?;
        found.sort_unstable();
        expected.sort_unstable();
        ensure!(found == expected, "the pairs have {found:?}, the formula gives {expected:?}");
    }
    Ok(())
}

fn case_20(bench: &Bench) -> Outcome {
    if bench.who == Implementation::RiceProto {
        return Err(Finding::not_applicable("rice-proto takes foundations from its owner"));
    }
    let mut desk = bench.desk(Setup::CONTROLLING)?;
    let (server, base) = (address("203.0.113.9:3478"), address(LOCAL));
    for host in [LOCAL, "192.0.2.1:4001", "192.0.2.2:4000"] {
        desk.host(host)?;
    }
    for mapped in ["203.0.113.1:7777", "203.0.113.2:7777"] {
        desk.local(Local::Reflexive { mapped: address(mapped), base, server })?;
    }
    let lines = desk.subject.local_lines();
    bench.transcript.add(|| format!("its lines: {lines:#?}"));
    let of = |kind: &str, ip: &str| {
        let line =
            lines.iter().find(|line| kind_of(line) == kind && words(line).get(4..6) == Some(&split(ip)[..]));
        line.and_then(|line| words(line).first().map(ToString::to_string))
            .ok_or_else(|| Finding::fails(format!("no {kind} candidate {ip} in {lines:?}")))
    };
    let (one, same, other) =
        (of("host", "192.0.2.1 4000")?, of("host", "192.0.2.1 4001")?, of("host", "192.0.2.2 4000")?);
    let (mapped, again) = (of("srflx", "203.0.113.1 7777")?, of("srflx", "203.0.113.2 7777")?);
    ensure!(one == same, "two ports of one address have foundations {one} and {same}");
    ensure!(one != other, "two addresses share the foundation {one}");
    ensure!(one != mapped, "a host and a reflexive candidate share the foundation {one}");
    ensure!(mapped == again, "one base and one server give the foundations {mapped} and {again}");
    Ok(())
}

fn split(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

fn case_21(bench: &Bench) -> Outcome {
    let alien = [
        (LOCAL, "candidate:6 1 UDP 2130706431 2001:db8::1 2000 typ host".to_owned()),
        ("[fe80::1]:4000", "candidate:6 1 UDP 2130706431 2001:db8::1 2000 typ host".to_owned()),
        (LOCAL, "candidate:2 2 UDP 2130706430 198.51.100.1 2000 typ host".to_owned()),
        (LOCAL, "candidate:3 1 TCP 2130706431 198.51.100.1 2000 typ host tcptype passive".to_owned()),
    ];
    for (local, line) in alien {
        let mut desk = bench.desk(Setup::CONTROLLING)?;
        desk.host(local)?;
        desk.credentials();
        // To refuse the candidate is as good.
        let _refused = desk.remote_line(&line);
        desk.wait(1_000);
        let checks = desk.take_checks();
        ensure!(checks.is_empty(), "{local} is paired with `{line}`");
    }
    let mut desk = bench.desk(Setup::CONTROLLING)?;
    desk.host(LOCAL)?;
    desk.credentials();
    desk.remote(PEER)?;
    desk.next_check()?;
    Ok(())
}

fn case_22(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLING)?;
    desk.host(LOCAL)?;
    let (mapped, server) = (address("203.0.113.1:7777"), address("203.0.113.9:3478"));
    desk.local(Local::Reflexive { mapped, base: address(LOCAL), server })?;
    desk.remote(PEER)?;
    desk.credentials();
    desk.wait(200);
    let checks = desk.take_checks();
    let paths: Vec<_> = checks.iter().map(|check| (check.path.local, check.path.remote)).collect();
    ensure!(checks.len() == 1, "{} checks: {paths:?}", checks.len());
    ensure!(checks[0].path == path(LOCAL, PEER), "the check leaves from {}", checks[0].path.local);
    Ok(())
}

fn case_23(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLING)?;
    for n in 1..=10 {
        desk.host(&format!("192.0.2.{n}:4000"))?;
    }
    for n in 1..=20 {
        desk.remote_with(&format!("198.51.100.{n}:2000"), 1_000 + n)?;
    }
    desk.credentials();
    desk.wait(20);
    let newcomer = "203.0.113.5:2000";
    desk.remote(newcomer)?;
    let mut paths: BTreeSet<FourTuple> = BTreeSet::new();
    for _ in 0..30 {
        paths.extend(desk.take_checks().iter().map(|check| check.path));
        desk.wait(1_000);
    }
    ensure!(paths.len() <= 100, "{} pairs are checked", paths.len());
    ensure!(paths.len() >= 90, "only {} pairs are checked within 30 s", paths.len());
    let is_checked = paths.iter().any(|path| path.remote == address(newcomer));
    ensure!(is_checked, "the new candidate of highest priority is not checked within 30 s");
    Ok(())
}

fn case_24(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    desk.host(LOCAL)?;
    for (foundation, preference, ip) in
        [("A", 65_535_u32, "198.51.100.1"), ("A", 65_000, "198.51.100.2"), ("B", 64_000, "198.51.100.3")]
    {
        let priority = 126_u32 << 24 | preference << 8 | 255;
        let line = format!("candidate:{foundation} 1 UDP {priority} {ip} 2000 typ host");
        desk.remote_line(&line).map_err(Finding::fails)?;
    }
    desk.credentials();
    desk.wait(400);
    let checks = desk.take_checks();
    let to = |remote: &str| checks.iter().find(|check| check.path.remote == address(remote));
    ensure!(to(OTHER).is_none(), "the second pair of foundation A is checked while the first is in progress");
    ensure!(to("198.51.100.3:2000").is_some(), "the pair of foundation B is not checked");
    let first = to(PEER).ok_or_else(|| Finding::fails("the best pair is not checked".into()))?;
    desk.answer(first);
    desk.next_check_on(path(LOCAL, OTHER))?;
    Ok(())
}

const RIGHT: [&str; 12] = [
    "candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host",
    "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host",
    "candidate:a+/9 256 UDP 1 2001:db8::1 65535 typ srflx raddr fd00::1 rport 9",
    "candidate:r 1 UDP 255 203.0.113.7 49152 typ relay raddr 0.0.0.0 rport 0",
    "candidate:x 1 TCP 2147483647 192.0.2.1 9 typ host tcptype active",
    "candidate:x 1 TCP 77 192.0.2.1 9 typ prflx raddr 10.0.0.1 rport 1 tcptype so",
    "candidate:1 1 UDP 99 192.0.2.1 4000 typ host generation 0 network-cost 50",
    "candidate:1 1 UDP 99 192.0.2.1 4000 typ host ufrag abcd",
    "candidate:1 1 UDP 99 192.0.2.1 4000 typ srflx raddr 10.0.0.1 rport 5 x-unknown y",
    "candidate:12345678901234567890123456789012 1 UDP 99 192.0.2.1 4000 typ host",
    "candidate:1 2 UDP 2130706430 192.0.2.1 4001 typ host",
    "candidate:1 1 UDP 99 192.0.2.1 4000 typ srflx",
];

fn wrong_lines() -> Vec<String> {
    let foundation = "f".repeat(33);
    let mut lines: Vec<String> = [
        "",
        "host:1 1 UDP 9 192.0.2.1 1 typ host",
        "candidate:1 0 UDP 9 192.0.2.1 1 typ host",
        "candidate:1 257 UDP 9 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 2147483648 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 9 300.0.0.1 1 typ host",
        "candidate:1 1 UDP 9 192.0.2.1 65536 typ host",
        "candidate:1 1 UDP 9 192.0.2.1 1 tip host",
        "candidate:1 1 UDP 9 192.0.2.1 1 typ",
        "candidate:1 1 UDP 9 192.0.2.1 1 typ host lonely",
        "candidate:1 1 UDP 9 192.0.2.1 1 typ host\r\na=evil",
        "candidate:1 1 UDP 9",
    ]
    .map(str::to_owned)
    .into();
    lines.push(format!("candidate:{foundation} 1 UDP 9 192.0.2.1 1 typ host"));
    lines
}

fn case_25(bench: &Bench) -> Outcome {
    let rewritten = |line: &str| match bench.who {
        Implementation::Gimlet | Implementation::Deaf => {
            line.parse::<Candidate>().map(|candidate| candidate.to_string()).map_err(|e| e.to_string())
        }
        Implementation::Is => str0m::rewritten(line),
        Implementation::RiceProto => rice::rewritten(line),
    };
    let mut astray = Vec::new();
    for line in RIGHT {
        let again = rewritten(line);
        bench.transcript.add(|| format!("`{line}` -> {again:?}"));
        // Letters of either case mean the same, and so does an extension that is left out.
        let kept = again.as_ref().is_ok_and(|again| {
            let (first, second) = (words(line), words(again));
            first.len() >= 8
                && second.len() >= 8
                && first[..8].iter().zip(&second[..8]).all(|(a, b)| a.eq_ignore_ascii_case(b))
        });
        if !kept {
            astray.push(format!("`{line}` becomes {again:?}"));
        }
    }
    for line in wrong_lines() {
        let again = rewritten(&line);
        bench.transcript.add(|| format!("`{line}` -> {again:?}"));
        if let Ok(again) = again {
            astray.push(format!("`{line}` is taken for `{again}`"));
        }
    }
    ensure!(astray.is_empty(), "{}", astray.join("; "));
    Ok(())
}

fn case_26(bench: &Bench) -> Outcome {
    let mut desk: Desk = bench.desk(Setup::CONTROLLING)?;
    desk.host(LOCAL)?;
    desk.credentials();
    let _refused = desk.remote_line(&format!("{} ufrag anotherSession", line(address(OTHER), 65_535)));
    desk.wait(1_000);
    ensure!(desk.take_checks().is_empty(), "the candidate of another generation is checked");
    let right = format!("{} ufrag {}", line(address(PEER), 65_535), super::wire::PEER_UFRAG);
    desk.remote_line(&right).map_err(Finding::fails)?;
    desk.next_check_on(path(LOCAL, PEER))?;
    Ok(())
}
