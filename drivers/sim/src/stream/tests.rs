use std::collections::BTreeMap;

use gimlet_machine::Rng;

use super::*;

const ONE_WAY: Duration = Duration::from_millis(30);

/// Two ends with a network between them that loses and reorders as the dice say.
struct Pair {
    ends: [Stream; 2],
    news: [Vec<News>; 2],
    now: Instant,
    /// The accepting end does not exist before the first segment has come.
    has_met: bool,
    /// Segments under way, by arrival.
    under_way: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    rng: Rng,
    loss_percent: u32,
}

impl Pair {
    fn new(seed: u64, loss_percent: u32) -> Self {
        Self {
            ends: [Stream::open(), Stream::accept()],
            news: [Vec::new(), Vec::new()],
            now: Instant::ZERO,
            has_met: false,
            under_way: BTreeMap::new(),
            sent: 0,
            rng: Rng::from_u64(seed),
            loss_percent,
        }
    }

    /// Lets everything leave and be told that can at this moment.
    fn drain(&mut self) {
        for nth in [0, 1] {
            let mut bytes = Vec::new();
            let exists = nth == 0 || self.has_met;
            while exists && self.ends[nth].poll_segment(self.now, &mut bytes) {
                self.sent += 1;
                let late = Duration::from_millis(self.rng.below(10));
                if !self.rng.chance(self.loss_percent * 10_000) {
                    let arrives = self.now + ONE_WAY + late;
                    self.under_way.insert((arrives, self.sent), (1 - nth, std::mem::take(&mut bytes)));
                }
                bytes.clear();
            }
            self.news[nth].extend(std::iter::from_fn(|| self.ends[nth].poll_news()));
        }
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            self.drain();
            let arrives = self.under_way.keys().next().map(|(at, _)| *at);
            let due = self.ends.iter().filter_map(Stream::deadline).chain(arrives).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            assert!(due >= self.now, "a deadline that has passed is not one");
            self.now = due;
            while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= due) {
                let (to, bytes) = entry.remove();
                let segment = Segment::parse(&bytes).expect("well-formed");
                self.has_met |= to == 1;
                self.ends[to].handle_segment(due, &segment);
            }
            self.ends.iter_mut().for_each(|end| end.handle_timeout(due));
        }
    }

    fn received(&self, nth: usize) -> Vec<u8> {
        let bytes = self.news[nth].iter().filter_map(|news| match news {
            News::Received(bytes) => Some(bytes.clone()),
            News::Connected | News::Written(_) | News::Closed(_) => None,
        });
        bytes.flatten().collect()
    }
}

fn later(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

#[test]
fn a_segment_survives_being_written_down_and_noise_does_not_parse() {
    let segment = Segment { kind: Kind::Data, sequence: u64::MAX, acknowledged: 7, bytes: b"payload" };
    let mut bytes = Vec::new();
    segment.write(&mut bytes);
    assert_eq!((Segment::parse(&bytes), bytes.len()), (Some(segment), HEADER_LEN + 7));
    assert_eq!((Segment::parse(&bytes[..HEADER_LEN - 1]), Segment::parse(&[9; 40])), (None, None));
}

#[test]
fn whatever_is_lost_and_overtaken_arrives_once_and_in_order() {
    for (seed, loss) in (0..20).flat_map(|seed| [0, 5, 20].map(|loss| (seed, loss))) {
        let mut pair = Pair::new(seed, loss);
        let message: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let mut taken = pair.ends[0].write(Bytes::from(message.clone()));
        pair.run_until(later(1));
        pair.ends[1].write(Bytes::from_static(b"and back"));
        pair.run_until(later(600));
        assert!(pair.received(1) == message, "seed {seed}, {loss} %: {} bytes", pair.received(1).len());
        assert_eq!(pair.received(0), b"and back", "seed {seed}, {loss} %");
        for news in &pair.news[0] {
            if let News::Written(more) = news {
                taken += more;
            }
        }
        assert_eq!(taken, message.len(), "everything was taken, and said to be");
        assert!(pair.news.iter().all(|news| news[0] == News::Connected));
    }
}

#[test]
fn closing_delivers_first_and_then_tells_the_peer() {
    for (seed, loss) in (0..20).flat_map(|seed| [0, 20].map(|loss| (seed, loss))) {
        let mut pair = Pair::new(seed, loss);
        pair.run_until(later(20));
        pair.ends[0].write(Bytes::from(vec![7; 100_000]));
        pair.ends[0].close();
        pair.run_until(later(900));
        assert_eq!(pair.received(1).len(), 100_000, "seed {seed}, {loss} %");
        assert_eq!(pair.news[1].last(), Some(&News::Closed(CloseReason::Ended)), "seed {seed}, {loss} %");
        assert!(!pair.news[0].iter().any(|news| matches!(news, News::Closed(_))), "who closes is not told");
        assert!(pair.ends[0].is_over() && pair.ends[1].is_over(), "seed {seed}, {loss} %: {:?}", pair.ends);
    }
}

#[test]
fn one_lost_segment_among_many_is_repaired_without_waiting_for_the_timer() {
    let mut pair = Pair::new(1, 0);
    pair.run_until(later(1));
    let start = pair.now;
    pair.ends[0].write(Bytes::from(vec![1; 20 * SEGMENT_MAX]));
    pair.drain();
    let first = *pair.under_way.keys().next().unwrap();
    pair.under_way.remove(&first);
    while pair.received(1).len() < 20 * SEGMENT_MAX {
        let next = pair.under_way.keys().next().expect("something is under way").0;
        pair.run_until(next);
    }
    assert!(pair.now.since(start) < RTO_MIN, "{:?}", pair.now.since(start));
}

#[test]
fn silence_is_given_up_after_a_written_number_of_tries() {
    let mut pair = Pair::new(1, 100);
    pair.run_until(later(100));
    assert_eq!(pair.news[0], [News::Closed(CloseReason::Unreachable)]);
    // 1 + 2 + 4 + 8 seconds.
    assert_eq!((pair.now, pair.sent), (later(15), u64::from(OPENING_TRIES_MAX)));
    let mut pair = Pair::new(1, 0);
    pair.run_until(later(1));
    pair.loss_percent = 100;
    pair.ends[0].write(Bytes::from_static(b"is anybody there?"));
    pair.run_until(later(1_000));
    assert_eq!(pair.news[0].last(), Some(&News::Closed(CloseReason::Unreachable)));
}

#[test]
fn a_reset_refuses_before_the_connection_stands_and_breaks_it_off_after() {
    let mut pair = Pair::new(1, 0);
    pair.drain();
    pair.ends[0].handle_segment(pair.now, &Segment::RESET);
    pair.drain();
    assert_eq!(pair.news[0], [News::Closed(CloseReason::Refused)]);
    let mut pair = Pair::new(1, 0);
    pair.run_until(later(1));
    pair.ends[1].handle_segment(pair.now, &Segment::RESET);
    pair.drain();
    assert_eq!(pair.news[1], [News::Connected, News::Closed(CloseReason::Reset)]);
    assert!(pair.ends[1].is_over() && pair.ends[1].deadline().is_none());
}
