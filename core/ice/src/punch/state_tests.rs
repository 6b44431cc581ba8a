use super::*;
use alloc::vec::Vec;
use gimlet_stun::PortModel;
use gimlet_testkit::{edges, matches_committed};

#[test]
fn the_punch_graph_is_the_committed_one() {
    let steps = [
        PunchStep::Plan,
        PunchStep::Begin,
        PunchStep::Rest,
        PunchStep::Hit,
        PunchStep::Resume,
        PunchStep::Exhaust,
        PunchStep::Retry,
        PunchStep::Succeed,
    ];
    let edges = edges(&PunchState::ALL, &steps, PunchState::after);
    matches_committed(env!("CARGO_MANIFEST_DIR"), "punch.txt", &edges);
}

fn profile(dependent: bool, last: u8) -> Profile {
    let outside = alloc::vec![[203, 0, 113, last].into()];
    Profile { dependent: Some(dependent), port_model: Some(PortModel::Random), outside, ..Profile::default() }
}

fn punch(part: Part) -> Punch {
    let limits = PunchLimits::default();
    let (ours, theirs) = (profile(part == Part::Open, 1), profile(part == Part::Probe, 2));
    let plan = plan(&ours, &theirs, &limits).unwrap();
    assert_eq!(plan.part, part);
    Punch::new(Instant::ZERO, Rng::from_u64(1), plan, &limits)
}

/// When each probe of a round leaves, in milliseconds after its beginning, with nothing else to send.
fn times(punch: &mut Punch, start: Instant) -> Vec<u64> {
    punch.begin(start);
    let mut times = Vec::new();
    while let Some(at) = punch.next_at(start) {
        let sockets = u32::from(punch.plan.sockets);
        let over = match punch.plan.part {
            Part::Open => punch.place().1 >= sockets,
            Part::Probe | Part::Meet => punch.next_port().is_none(),
        };
        if over {
            punch.end_pass();
            continue;
        }
        punch.on_sent(at);
        times.push(at.since(start).as_millis() as u64);
    }
    times
}

#[test]
fn a_full_round_takes_less_than_six_seconds_and_the_sides_take_turns_to_begin() {
    let (mut opens, mut probes) = (punch(Part::Open), punch(Part::Probe));
    let (opening, probing) = (times(&mut opens, Instant::ZERO), times(&mut probes, Instant::ZERO));
    assert_eq!((opening.len(), probing.len()), (512, 1_024));
    assert_eq!((opening[0], probing[0]), (0, 640));
    assert!(probing[1_023] < 6_000, "{} ms", probing[1_023]);
    assert!(opening[256] > probing[900], "the second pass crosses what the probes opened");
    assert_eq!(opens.until(), probes.until(), "a round is equally long on both sides");

    let start = probes.affordable_at(Instant::from_millis(7_000));
    for punch in [&mut opens, &mut probes] {
        punch.exhaust(Instant::from_millis(10_000), false);
        assert_eq!(punch.until(), Some(start), "both wait for the budget of the costlier one");
        punch.retry(start);
    }
    let (opening, probing) = (times(&mut opens, start), times(&mut probes, start));
    assert!(probing[0] == 0 && opening[0] > probing[1_000], "{} {}", probing[0], opening[0]);
}

#[test]
fn rounds_that_find_nothing_become_rarer_until_there_is_hope() {
    let mut punch = punch(Part::Open);
    punch.plan.sockets = 1;
    punch.plan.probes = 1;
    let mut now = Instant::ZERO;
    let mut waits = Vec::new();
    for _ in 0..9 {
        punch.begin(now);
        punch.exhaust(now, false);
        let until = punch.until().unwrap();
        waits.push(until.since(now).as_secs());
        punch.retry(until);
        now = until;
    }
    assert_eq!(waits, [45, 90, 180, 360, 720, 1_440, 2_880, 3_600, 3_600]);
    punch.begin(now);
    punch.exhaust(now, false);
    punch.hasten(now);
    assert_eq!(punch.until(), Some(now), "the network changed");
}

#[test]
fn each_round_has_other_ports_and_other_transaction_ids() {
    let mut punch = punch(Part::Probe);
    let path =
        gimlet_machine::FourTuple::new("10.0.0.1:1".parse().unwrap(), "203.0.113.2:9".parse().unwrap());
    let mut seen = Vec::new();
    for _ in 0..3 {
        punch.begin(Instant::ZERO);
        seen.push((punch.next_port(), punch.id(path)));
        punch.exhaust(Instant::ZERO, false);
        punch.retry(Instant::ZERO);
    }
    seen.dedup_by_key(|(port, _)| *port);
    assert_eq!(seen.len(), 3);
    seen.dedup_by_key(|(_, id)| *id);
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_punch_is_small() {
    assert!(size_of::<Punch>() <= 640, "{}", size_of::<Punch>());
    let mut sockets = Sockets::default();
    let all = (0..PUNCH_SOCKETS_MAX).all(|nth| sockets.insert(([10, 0, 0, 1], 1_000 + nth).into()));
    assert!(all && size_of::<(u8, u16)>() * usize::from(PUNCH_SOCKETS_MAX) <= 1_024);
}
