//! A file is on its way while paths die, come back and move, played in the simulator: it arrives whole, the
//! connection stands, and data is on another path within the time that is promised. A failure names its seed;
//! `SEED=n` replays it alone.

mod stage;

use std::time::Duration;

use gimlet_node::Progress;
use gimlet_sim::{Fault, NatKind, TraceHash};

use stage::{End, ROUND_TRIP, Stage};

/// How long the end of a path with this round trip may go unnoticed while data is under way: until QUIC's first
/// probe timeouts (RFC 9002 §6.2.1), then three probes, each given two round trips (and Ta).
fn three_probes(round_trip: Duration) -> Duration {
    let silence = 2 * round_trip + Duration::from_millis(50);
    silence + 3 * (2 * round_trip + Duration::from_millis(5))
}

/// Through one relay.
const RELAYED_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Plays `scenario` with several seeds, each twice.
fn play(count: u64, scenario: impl Fn(u64) -> TraceHash) {
    let seeds = match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    };
    for seed in seeds {
        assert_eq!(scenario(seed), scenario(seed), "the same seed gives the same bytes: SEED={seed}");
    }
}

const CONES: [NatKind; 2] = [NatKind::PortRestricted; 2];
const HARD: [NatKind; 2] = [NatKind::Symmetric; 2];

#[test]
fn a_direct_path_that_dies_gives_way_to_the_relay_and_comes_back() {
    play(4, |seed| {
        let mut stage = Stage::open(seed, CONES, 1);
        assert!(stage.run_to(Stage::is_direct), "{}", stage.timeline());
        stage.start();
        stage.run_for(Duration::from_secs(2));
        let died = stage.cut_direct();
        stage.run_for(Duration::from_secs(3));
        for end in End::BOTH {
            let steps = stage.steps_since(died, end);
            let first = steps.first().unwrap_or_else(|| panic!("{end:?} never moved\n{}", stage.timeline()));
            assert!(!first.relays.is_empty() && steps.len() == 1, "{steps:?}\n{}", stage.timeline());
            let took = first.at.since(died);
            // The other end is told at once by the one that noticed, half a round trip through the relay.
            assert!(took <= three_probes(ROUND_TRIP) + ROUND_TRIP, "{end:?}: {took:?}\n{}", stage.timeline());
        }
        let healed = stage.fault(&Fault::Heal);
        assert!(stage.run_to(Stage::is_direct), "{}", stage.timeline());
        stage.run_for(Duration::from_secs(20));
        for end in End::BOTH {
            let steps = stage.steps_since(healed, end);
            assert_eq!(steps.len(), 1, "it moves back once: {steps:?}\n{}", stage.timeline());
        }
        stage.finish()
    });
}

#[test]
fn a_relay_that_dies_gives_way_to_the_other_one() {
    play(4, |seed| {
        let mut stage = Stage::open(seed, HARD, 2);
        stage.start();
        stage.run_for(Duration::from_secs(2));
        assert!(!stage.is_direct());
        let used = *stage.relays_of(End::A).first().expect("a relay is in use");
        let relay = stage.relays[used];
        let died = stage.fault(&Fault::Stop(relay));
        stage.run_for(Duration::from_secs(5));
        for end in End::BOTH {
            let steps = stage.steps_since(died, end);
            let last = steps.last().unwrap_or_else(|| panic!("{end:?} never moved\n{}", stage.timeline()));
            assert!(!last.relays.contains(&used), "{steps:?}\n{}", stage.timeline());
            let took = last.at.since(died);
            assert!(
                took <= three_probes(RELAYED_ROUND_TRIP) + ROUND_TRIP,
                "{end:?}: {took:?}\n{}",
                stage.timeline()
            );
        }
        stage.finish()
    });
}

#[test]
fn a_new_interface_is_used_within_two_round_trips_of_the_notice() {
    for mover in End::BOTH {
        for other in [NatKind::None, NatKind::FullCone] {
            play(3, |seed| {
                let mut kinds = [other; 2];
                kinds[mover as usize] = NatKind::PortRestricted;
                let mut stage = Stage::open(seed, kinds, 1);
                stage.start();
                stage.run_for(Duration::from_secs(2));
                let told = stage.move_to(mover, 2, NatKind::PortRestricted);
                stage.run_for(Duration::from_secs(3));
                for end in End::BOTH {
                    let steps = stage.steps_since(told, end);
                    let first = steps.first().unwrap_or_else(|| panic!("{end:?}\n{}", stage.timeline()));
                    let took = first.at.since(told);
                    assert!(
                        took <= 2 * ROUND_TRIP + Duration::from_millis(15),
                        "{mover:?} moves, {end:?}: {took:?}\n{}",
                        stage.timeline()
                    );
                    assert!(steps.len() <= 2, "{steps:?}\n{}", stage.timeline());
                }
                assert!(stage.is_direct());
                stage.finish()
            });
        }
    }
}

#[test]
fn both_ends_may_move_at_once() {
    for (from, to) in [(CONES, CONES), (CONES, HARD), (HARD, CONES)] {
        play(3, |seed| {
            let mut stage = Stage::open(seed, from, 1);
            stage.start();
            stage.run_for(Duration::from_secs(2));
            let told = stage.move_to(End::A, 2, to[0]);
            stage.move_to(End::B, 2, to[1]);
            stage.run_for(Duration::from_secs(5));
            for end in End::BOTH {
                let steps = stage.steps_since(told, end);
                assert!(!steps.is_empty() && steps.len() <= 3, "{end:?}: {steps:?}\n{}", stage.timeline());
                let took = steps[0].at.since(told);
                assert!(took <= Duration::from_secs(1), "{end:?}: {took:?}\n{}", stage.timeline());
            }
            stage.finish()
        });
    }
}

#[test]
fn a_nat_that_forgets_everything_costs_a_moment() {
    for rebooted in End::BOTH {
        play(3, |seed| {
            let mut stage = Stage::open(seed, CONES, 1);
            assert!(stage.run_to(Stage::is_direct), "{}", stage.timeline());
            stage.start();
            stage.run_for(Duration::from_secs(2));
            let nat = stage.nats[rebooted as usize].expect("behind a NAT");
            let at = stage.fault(&Fault::RebootNat(nat));
            let before = stage.received();
            let resumed = stage.run_to(|stage| stage.received() > before + 100_000);
            assert!(resumed, "{}", stage.timeline());
            let took = stage.world.now().since(at);
            // The end that only receives notices when it next asks for consent, six seconds later at most.
            let limit = if rebooted == End::A { 3 } else { 8 };
            assert!(took <= Duration::from_secs(limit), "{took:?}\n{}", stage.timeline());
            stage.run_for(Duration::from_secs(20));
            assert!(stage.is_direct(), "{}", stage.timeline());
            stage.finish()
        });
    }
}

#[test]
fn when_both_nats_forget_everything_the_ends_begin_anew_through_the_introducer() {
    play(4, |seed| {
        // No relay: nothing else works.
        let mut stage = Stage::open(seed, CONES, 0);
        stage.start();
        stage.run_for(Duration::from_secs(2));
        for nat in stage.nats {
            stage.fault(&Fault::RebootNat(nat.expect("behind a NAT")));
        }
        let (at, before) = (stage.world.now(), stage.received());
        let resumed = stage.run_to(|stage| stage.received() > before + 100_000);
        assert!(resumed, "{}", stage.timeline());
        let took = stage.world.now().since(at);
        // The end that only receives notices when it next asks for consent, six seconds later at most.
        assert!(took <= Duration::from_secs(8), "{took:?}\n{}", stage.timeline());
        let restarted = |end| stage.told(at, end, |step| matches!(step, Progress::RestartAgreed { .. }));
        assert!(End::BOTH.iter().all(|end| restarted(*end).is_some()), "{}", stage.timeline());
        stage.finish()
    });
}
