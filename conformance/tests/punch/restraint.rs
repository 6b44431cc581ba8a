//! Case 63: a punch hurts nobody who did not ask for it, and spends no more than it may.

use std::net::IpAddr;
use std::time::Duration;

use gimlet_ice::{Agent, Config, PUNCH_PROBES_MAX, Part, Profile, PunchState};
use gimlet_machine::Instant;
use gimlet_sim::PortAllocation;

use crate::chance::{easy, hard};
use crate::lab::{Lab, Sent, outside};

const HOUR: Duration = Duration::from_secs(3_600);

/// The first side is easy, the second hard, and nothing connects them.
fn stuck(seed: u64, relays: bool) -> Lab {
    let mut lab = Lab::new(seed, [easy(0), hard(1, PortAllocation::Random)], &Config::default());
    lab.introduce(relays);
    assert!(!lab.run_until_direct(Duration::from_secs(45)), "SEED={seed}");
    lab
}

/// Asserts that `probes` are spaced, and that no hour has more than the budget of them.
fn assert_restrained(probes: &[Sent]) {
    for pair in probes.windows(2) {
        let pause = pair[1].at.since(pair[0].at);
        assert!(pause >= Duration::from_millis(5), "{pause:?} between two probes at {}", pair[0].at);
    }
    let budget = usize::from(PUNCH_PROBES_MAX);
    for (first, last) in probes.iter().zip(probes.iter().skip(budget)) {
        let span = last.at.since(first.at);
        assert!(span >= HOUR, "{} probes within {span:?} from {} on", budget + 1, first.at);
    }
}

#[test]
fn case_63_a_peer_that_names_a_victim_gets_not_one_packet_sent_there() {
    let victim: IpAddr = [192, 0, 2, 66].into();
    for part in [Part::Probe, Part::Open] {
        let mut lab = stuck(1, false);
        let side = usize::from(part == Part::Open);
        let ours = lab.hosts[side].profile.clone();
        let theirs = Profile { outside: vec![victim], ..lab.hosts[1 - side].profile.clone() };
        let now = lab.now;
        let plan = lab.hosts[side].agent.command(now, |agent| agent.punch(now, &ours, &theirs));
        assert_eq!(plan.expect("a plan").part, part);
        if part == Part::Open {
            // It signals the victim as its own address as well. That alone gets an ordinary check, as any
            // candidate does (RFC 8445 §19.5.1).
            let line = "candidate:9 1 UDP 1694498815 192.0.2.66 53 typ srflx raddr 0.0.0.0 rport 0";
            let candidate = line.parse().expect("a candidate");
            let taken =
                lab.hosts[side].agent.command(now, |agent| agent.add_remote_candidate(now, candidate));
            taken.expect("a fresh candidate");
        }
        lab.run_for(24 * HOUR);
        assert_eq!(lab.probes(side), 0, "{part:?}");
        let to_victim = lab.sent.iter().filter(|sent| sent.tuple.remote.ip() == victim).count();
        assert!(to_victim <= if part == Part::Open { 7 } else { 0 }, "{to_victim} packets");
        assert_eq!(lab.hosts[side].agent.inner().punch_state(), Some(PunchState::Planned));
        // Its real address is spoken for, which says nothing of the victim's.
        lab.vouch();
        lab.run_for(HOUR);
        assert!(lab.sent.iter().filter(|sent| sent.tuple.remote.ip() == victim).count() <= to_victim);
    }
}

#[test]
fn case_63_a_packet_through_the_relay_shows_where_the_peer_is() {
    for seed in 0..10 {
        let mut lab = Lab::new(seed, [easy(0), hard(1, PortAllocation::Random)], &Config::default());
        lab.introduce(true);
        assert!(lab.run_until_completed(Duration::from_secs(2)) && !lab.is_direct(), "SEED={seed}");
        // Nobody vouches: the relays have shown each side where the other one is.
        assert!(lab.punch().iter().all(Result::is_ok));
        assert!(lab.run_until_direct(Duration::from_secs(10)), "SEED={seed}: {:#?}", lab.events);
        lab.run_for(Duration::from_secs(60));
        for side in 0..2 {
            let host = &lab.hosts[side];
            assert_eq!(host.agent.inner().punch_state(), Some(PunchState::Ended), "SEED={seed}");
            assert_eq!(host.sockets.len(), side, "the hard side keeps the socket that was hit; SEED={seed}");
            assert!(lab.is_direct(), "SEED={seed}");
        }
    }
}

#[test]
fn case_63_a_day_of_retries_stays_within_rate_and_budget() {
    for part in [Part::Probe, Part::Open] {
        let mut lab = stuck(2, false);
        let side = usize::from(part == Part::Open);
        // Only one side punches, so nothing ever comes of it.
        lab.vouch();
        let (ours, theirs) = (lab.hosts[side].profile.clone(), lab.hosts[1 - side].profile.clone());
        let impatient = |agent: &mut Agent, now: Instant, nth: u32| match nth % 3 {
            0 => agent.network_changed(now),
            1 => assert!(agent.punch(now, &ours, &theirs).is_ok()),
            _ => agent.stop_punch(now),
        };
        let before = lab.sent.len();
        assert!(lab.punch_one(side).is_ok());
        for nth in 0..24 * 6 {
            lab.run_for(HOUR / 6);
            // For half a day the owner lets it be, then it has no patience.
            if nth >= 12 * 6 {
                let now = lab.now;
                lab.hosts[side].agent.command(now, |agent| impatient(agent, now, nth));
            }
        }
        let counted = lab.probes(side);
        let sprayed =
            lab.sent[before..].iter().filter(|sent| sent.side == side && is_probe(&lab, side, sent));
        let sprayed: Vec<_> = sprayed.copied().collect();
        assert!(counted >= 12 * u64::from(PUNCH_PROBES_MAX) / 2, "{part:?}: it did not try: {counted}");
        assert!(sprayed.len() as u64 >= counted * 9 / 10, "{} of {counted}", sprayed.len());
        assert_restrained(&sprayed);
        println!("{part:?}: {counted} probes in a day");
    }
}

/// Whether a request cannot be an ordinary check: it leaves from a punch socket, or goes to a port that the
/// peer never signalled.
fn is_probe(lab: &Lab, side: usize, sent: &Sent) -> bool {
    let signalled =
        |address| lab.hosts[side].agent.inner().remote_candidates().any(|known| known.address == address);
    sent.is_request
        && (sent.local != lab.hosts[side].base
            || (sent.tuple.remote.ip() == outside(1 - side) && !signalled(sent.tuple.remote)))
}

#[test]
fn the_judge_of_restraint_notices_haste_and_excess() {
    let sent = |nth: u64, pause: u64| {
        let tuple = gimlet_machine::FourTuple::new(([10, 0, 0, 2], 1).into(), ([192, 0, 2, 1], 2).into());
        let at = Instant::from_millis(nth * pause);
        Sent { at, side: 0, tuple, local: tuple.local, is_request: true }
    };
    let run = |count: u64, pause: u64| {
        let probes: Vec<_> = (0..count).map(|nth| sent(nth, pause)).collect();
        std::panic::catch_unwind(|| assert_restrained(&probes)).is_ok()
    };
    assert!(run(1_024, 5) && run(5_000, 3_600));
    assert!(!run(2, 4) && !run(1_025, 5));
}
