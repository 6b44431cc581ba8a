//! Candidate lines: read, written, read again.

use std::net::{IpAddr, SocketAddr};

use gimlet_ice::{Agent, CANDIDATE_LINE_MAX, Candidate, Config, Event, FOUNDATION_MAX};
use gimlet_machine::{FourTuple, Instant, Machine, Rng};

use crate::tape::Tape;
use crate::target::{Seed, bounded};

/// The bit of the first byte that says that ingredients follow, not a line.
const INGREDIENTS: u8 = 1;

/// A line that is read is written so that it reads the same, whatever case, prefix or unknown extensions it
/// came with; its numbers are in their ranges; what is made from ingredients reads as what it was made of; and
/// an agent takes it, or says why not.
pub fn candidate_line(data: &[u8]) {
    check(data, ToString::to_string);
}

/// Writes the port's successor.
pub(crate) fn planted(data: &[u8]) {
    check(data, |candidate| {
        let mut other = candidate.clone();
        other.address.set_port(candidate.address.port().wrapping_add(1));
        other.to_string()
    });
}

fn check(data: &[u8], write: fn(&Candidate) -> String) {
    let mut tape = Tape::new(bounded(data));
    if tape.u8() & INGREDIENTS == 0 {
        let line = String::from_utf8_lossy(tape.take(usize::MAX)).into_owned();
        match line.parse::<Candidate>() {
            Ok(candidate) => {
                assert!(line.len() <= CANDIDATE_LINE_MAX);
                assert!(!line.contains(['\r', '\n', '\0']), "{line:?} is more than a line");
                survives(&candidate, write);
            }
            Err(_) => named(&line),
        }
    } else {
        let made = made(&mut tape);
        let read = survives(&made, write);
        // Where it sends from is not for the peer.
        let told =
            |it: &Candidate| (it.foundation, it.component, it.priority, it.address, it.kind, it.related);
        assert_eq!(told(&read), told(&made));
    }
}

/// Written and read, in every dress; returns what was read.
fn survives(candidate: &Candidate, write: fn(&Candidate) -> String) -> Candidate {
    assert!((1..=256).contains(&candidate.component), "component {}", candidate.component);
    assert!(candidate.priority < 1 << 31, "priority {}", candidate.priority);
    assert!(candidate.foundation.as_str().len() <= FOUNDATION_MAX);
    let line = write(candidate);
    let read: Candidate = line.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!(read.address, candidate.address, "{line:?}");
    assert_eq!(write(&read), line, "written twice, written differently");
    for dressed in
        [format!("a={line}"), format!("{line} generation 0 x-y \u{fc}"), line.replacen(' ', "  ", 9)]
    {
        // There may be no room for more.
        if dressed.len() <= CANDIDATE_LINE_MAX {
            assert_eq!(dressed.parse().as_ref(), Ok(&read), "{dressed:?} is another candidate");
        }
    }
    let now = Instant::ZERO;
    let mut agent = Agent::new(now, Rng::from_u64(1), Config::default());
    if agent.add_remote_candidate(now, read.clone()).is_ok() {
        assert_eq!(agent.remote_candidates().next(), Some(&read));
    }
    read
}

/// A line that is none by itself may have a name in place of the address: then the agent asks for it, and shows
/// what it found as another agent would take it.
fn named(line: &str) {
    let Some(shown) = resolved(line) else { return };
    assert_eq!(resolved(&shown).as_ref(), Some(&shown), "{line:?} is another candidate");
}

/// The line of the candidate that `line` becomes, once its name is resolved.
fn resolved(line: &str) -> Option<String> {
    let now = Instant::ZERO;
    let mut agent = Agent::new(now, Rng::from_u64(1), Config::default());
    agent.add_remote_line(now, line).ok()?;
    let Some(Event::ResolveName { query, .. }) = agent.poll_event() else {
        panic!("{line:?} was taken and not asked for")
    };
    agent.name_resolved(now, query, Some(IpAddr::from([192, 0, 2, 1])));
    let candidate = agent.remote_candidates().next().expect("what was asked for is taken");
    assert_eq!(candidate.address.ip(), IpAddr::from([192, 0, 2, 1]));
    Some(candidate.to_string())
}

/// A candidate as an owner makes one.
fn made(tape: &mut Tape<'_>) -> Candidate {
    let (what, preference, component) = (tape.u8(), tape.u16(), u16::from(tape.u8()) + 1);
    let [address, base, server] = [(); 3].map(|()| address(tape));
    let candidate = match what % 3 {
        0 => Candidate::host(address),
        1 => Candidate::server_reflexive(address, base, (what & 0x40 != 0).then_some(server)),
        _ => Candidate::relayed(address, FourTuple::new(base, server), (what & 0x40 != 0).then_some(base)),
    };
    candidate.with_component(component).with_local_preference(preference)
}

fn address(tape: &mut Tape<'_>) -> SocketAddr {
    let v6 = tape.u8() & 1 != 0;
    let mut octets = [0; 16];
    let taken = tape.take(if v6 { 16 } else { 4 });
    octets[..taken.len()].copy_from_slice(taken);
    let [a, b, c, d, ..] = octets;
    let ip = if v6 { IpAddr::from(octets) } else { IpAddr::from([a, b, c, d]) };
    SocketAddr::new(ip, tape.u16())
}

pub(crate) fn seeds() -> Vec<Seed> {
    let line = |text: &str| [&[0], text.as_bytes()].concat();
    let mixed = "a=Candidate:1 1 udp 2130706431 192.0.2.1 4000 TYP Host generation 0 ufrag abcd";
    vec![
        ("host", line("candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host")),
        ("host_v6", line("candidate:Abc+/ 2 UDP 2130706175 2001:db8::1 4000 typ host")),
        ("reflexive", line("candidate:2 1 UDP 1694498815 203.0.113.1 5 typ srflx raddr 10.0.0.1 rport 9")),
        ("relayed", line("candidate:3 256 UDP 16777215 192.0.2.9 49152 typ relay raddr 0.0.0.0 rport 0")),
        ("peer_reflexive", line("candidate:4 1 UDP 1 192.0.2.9 1 typ prflx")),
        ("tcp", line("candidate:5 1 TCP 2105458943 192.0.2.1 9 typ host tcptype active")),
        ("tcp_without_a_type", line("candidate:5 1 TCP 2105458943 192.0.2.1 9 typ host")),
        ("mixed_case_and_extensions", line(mixed)),
        ("a_name_for_an_address", line("candidate:1 1 UDP 2130706431 0b5e.local 4000 typ host")),
        ("a_zone", line("candidate:1 1 UDP 2130706431 fe80::1%eth0 4000 typ host")),
        (
            "too_long_a_foundation",
            line(&format!("candidate:{} 1 UDP 1 192.0.2.1 1 typ host", "x".repeat(33))),
        ),
        ("two_lines", line("candidate:1 1 UDP 1 192.0.2.1 1 typ host\r\na=x")),
        ("made_host", [&[1, 0, 0, 9, 0, 0][..], &[192, 0, 2, 1, 15, 160]].concat()),
        ("made_reflexive", [&[1, 0x41, 1, 9, 0][..], &[0, 203, 0, 113, 1, 0, 5].repeat(3)].concat()),
        ("made_relayed", [&[1, 0x42, 1, 9, 0, 1][..], &[0x20; 17], &[0, 10, 0, 0, 1, 0, 5]].concat()),
    ]
}
