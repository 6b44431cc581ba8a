use super::*;

fn link(config: LinkConfig) -> Link {
    Link::new(Rng::from_u64(11), config)
}

/// What becomes of `count` packets of 100 bytes, one per millisecond.
fn run(config: LinkConfig, count: u64) -> Vec<Result<Carried, LinkDrop>> {
    let mut link = link(config);
    (0..count).map(|nth| link.carry(Instant::from_millis(nth), 100, Ecn::NotEct)).collect()
}

#[test]
fn a_perfect_line_delivers_everything_at_once() {
    for (nth, fate) in run(LinkConfig::default(), 100).into_iter().enumerate() {
        assert_eq!(fate, Ok(Carried { at: Instant::from_millis(nth as u64), again: None, ecn: Ecn::NotEct }));
    }
}

#[test]
fn loss_and_duplication_happen_about_as_often_as_they_should() {
    let config =
        LinkConfig { loss: Chance::percent(10), duplicate: Chance::percent(20), ..LinkConfig::default() };
    let fates = run(config, 10_000);
    let lost = fates.iter().filter(|fate| **fate == Err(LinkDrop::Lost)).count();
    let doubled = fates.iter().flatten().filter(|carried| carried.again.is_some()).count();
    // Four standard deviations are 120 and 152.
    assert!((880..1_120).contains(&lost), "{lost} of 10,000 lost");
    assert!((1_648..1_952).contains(&doubled), "{doubled} of about 9,000 doubled");
    assert_eq!(fates, run(config, 10_000));
}

#[test]
fn jitter_spreads_arrivals_and_keeps_their_order() {
    let config = LinkConfig {
        latency: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        ..LinkConfig::default()
    };
    let fates = run(config, 10_000);
    let arrivals: Vec<Instant> = fates.iter().map(|fate| fate.unwrap().at).collect();
    assert!(arrivals.is_sorted());
    let delays: Vec<u128> =
        (0..).zip(&arrivals).map(|(nth, at)| at.since(Instant::from_millis(nth)).as_micros()).collect();
    assert!(delays.iter().all(|delay| (10_000..15_000).contains(delay)));
    assert!(delays.iter().any(|delay| *delay < 11_000) && delays.iter().any(|delay| *delay > 14_000));
}

#[test]
fn reordered_packets_are_overtaken_and_the_others_are_not() {
    let config = LinkConfig {
        latency: Duration::from_millis(10),
        reorder: Chance::percent(10),
        reorder_window: Duration::from_millis(20),
        ..LinkConfig::default()
    };
    let fates = run(config, 10_000);
    let late = (0..).zip(&fates).filter(|(nth, fate)| {
        let delay = fate.unwrap().at.since(Instant::from_millis(*nth));
        assert!((10..30).contains(&delay.as_millis()));
        delay > Duration::from_millis(10)
    });
    let late = late.count();
    assert!((880..1_120).contains(&late), "{late} of 10,000 held back");
}

#[test]
fn a_bottleneck_spaces_packets_and_drops_what_its_queue_cannot_hold() {
    // 100 bytes take 1 ms, and 250 bytes may wait.
    let rate = Rate { bits_per_second: 800_000, queue: 250, mark_from: None };
    let mut link = link(LinkConfig { rate: Some(rate), ..LinkConfig::default() });
    let mut carry = |millis| {
        link.carry(Instant::from_millis(millis), 100, Ecn::Ect0).map(|carried| carried.at.as_millis())
    };
    assert_eq!([carry(0), carry(0), carry(0)], [Ok(1), Ok(2), Err(LinkDrop::QueueFull)]);
    assert_eq!([carry(1), carry(10), carry(10)], [Ok(3), Ok(11), Ok(12)]);
}

#[test]
fn a_packet_larger_than_the_whole_queue_passes_an_idle_bottleneck() {
    let rate = Rate { bits_per_second: 800_000, queue: 10, mark_from: None };
    let mut link = link(LinkConfig { rate: Some(rate), ..LinkConfig::default() });
    assert!(link.carry(Instant::ZERO, 1_000, Ecn::NotEct).is_ok());
    assert_eq!(link.carry(Instant::ZERO, 10, Ecn::NotEct), Err(LinkDrop::QueueFull));
}

#[test]
fn only_capable_packets_are_marked_and_only_in_a_long_queue() {
    let rate = Rate { bits_per_second: 800_000, queue: 1_000, mark_from: Some(150) };
    let mut link = link(LinkConfig { rate: Some(rate), ..LinkConfig::default() });
    let mut carry = |ecn| link.carry(Instant::ZERO, 100, ecn).unwrap().ecn;
    assert_eq!([carry(Ecn::Ect0), carry(Ecn::Ect1)], [Ecn::Ect0, Ecn::Ect1]);
    assert_eq!([carry(Ecn::Ect0), carry(Ecn::Ect1), carry(Ecn::NotEct)], [Ecn::Ce, Ecn::Ce, Ecn::NotEct]);
}

#[test]
fn the_mtu_counts_headers_and_is_inclusive() {
    let mut link = link(LinkConfig { mtu: 1_280, ..LinkConfig::default() });
    assert!(link.carry(Instant::ZERO, 1_280, Ecn::NotEct).is_ok());
    assert_eq!(link.carry(Instant::ZERO, 1_281, Ecn::NotEct), Err(LinkDrop::TooBig));
}

#[test]
fn the_end_of_time_does_not_overflow() {
    let rate = Rate { bits_per_second: 1, queue: u64::MAX, mark_from: Some(0) };
    let config = LinkConfig {
        latency: Duration::MAX,
        jitter: Duration::MAX,
        reorder: Chance::percent(50),
        reorder_window: Duration::MAX,
        duplicate: Chance::ALWAYS,
        rate: Some(rate),
        ..LinkConfig::default()
    };
    let mut link = link(config);
    for now in [Instant::ZERO, Instant::from_millis(1), Instant::FAR] {
        assert_eq!(link.carry(now, 1_500, Ecn::NotEct).unwrap().at, Instant::FAR);
    }
}
