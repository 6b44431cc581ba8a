//! The endpoints by themselves: they agree with each other, and notice whatever is not so.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::Instant;
use gimlet_tcp_model::{App, Breach, Endpoint, Ghost, Invariant, Known, Segment, Stack, flag};

const ISS: u32 = 0xffff_ff00;
const SERVER_ISS: u32 = 0x20;

fn tuple() -> (SocketAddr, SocketAddr) {
    ("10.0.0.1:40000".parse().expect("an address"), "10.0.1.2:8080".parse().expect("an address"))
}

/// A client and a server that have sent `request` and `response` bytes to each other, with what comes next from
/// either.
struct Pair {
    now: Instant,
    client: Endpoint,
    server: Endpoint,
    breaches: Vec<Breach>,
}

impl Pair {
    fn new(client: Stack, server: Stack, apps: [App; 2]) -> Self {
        let now = Instant::from_millis(5);
        let mut client = Endpoint::connect(now, tuple(), ISS, client, apps);
        let (syn, _) = client.poll().expect("a SYN");
        let server = Endpoint::accept(now, &syn, SERVER_ISS, server, [apps[1], apps[0]]);
        Self { now, client, server, breaches: Vec::new() }
    }

    /// Carries segments until nobody has one, `through` a hand that may change or keep them.
    fn run(&mut self, mut through: impl FnMut(bool, &mut Segment) -> bool) {
        for _ in 0..100_000 {
            let said = self.client.poll().map(|said| (true, said));
            let Some((to_server, said)) = said.or_else(|| self.server.poll().map(|said| (false, said)))
            else {
                let due = [self.client.due(), self.server.due()].into_iter().flatten().min();
                let Some(due) = due.filter(|_| !self.is_over()) else { return };
                self.now = self.now.max(due);
                self.client.timeout(self.now);
                self.server.timeout(self.now);
                continue;
            };
            let (mut segment, ghost): (Segment, Option<Ghost>) = said;
            self.now += Duration::from_millis(1);
            if through(to_server, &mut segment) {
                let end = if to_server { &mut self.server } else { &mut self.client };
                self.breaches.extend(end.handle(
                    self.now,
                    &segment,
                    Known { genuine: true, ghost: ghost.as_ref(), promised: 0 },
                ));
            }
        }
    }

    fn is_over(&self) -> bool {
        self.client.is_over() && self.server.is_over()
    }
}

fn apps(request: i64, response: i64) -> [App; 2] {
    let client = App { content: 1, sends: request, closes_after: response, ..App::default() };
    [client, App { content: 2, sends: response, starts_after: request, ..App::default() }]
}

#[test]
fn two_endpoints_give_each_other_everything_and_end() {
    for (request, response) in [(0, 0), (1, 0), (300, 1), (40_000, 200_000), (0, 5_000)] {
        let mut pair = Pair::new(Stack::default(), Stack::default(), apps(request, response));
        pair.run(|_, _| true);
        assert_eq!(pair.breaches, []);
        assert!(pair.client.is_complete() && pair.server.is_complete(), "{request}, {response}");
        assert!(pair.is_over());
    }
}

#[test]
fn every_seventh_segment_lost_is_made_good_with_sack_and_without() {
    for (sack, timestamps) in [(true, true), (true, false), (false, true), (false, false)] {
        let stack = Stack { sack, timestamps, ..Stack::default() };
        let mut pair = Pair::new(stack, Stack::default(), apps(30_000, 300_000));
        let mut nth = 0;
        pair.run(|_, _| {
            nth += 1;
            nth % 7 != 0
        });
        assert_eq!(pair.breaches, []);
        assert!(pair.client.is_complete() && pair.server.is_complete());
    }
}

#[test]
fn a_window_that_shuts_is_probed_until_it_opens() {
    let mut slow = apps(1, 20_000);
    slow[0].reads = Some(50);
    let small = Stack { buffer: 3_000, shift: Some(0), ..Stack::default() };
    let mut pair = Pair::new(small, Stack::default(), slow);
    let mut shut = 0;
    pair.run(|to_server, segment| {
        shut += u32::from(to_server && segment.window == 0);
        // The news that it has opened again is lost, every other time.
        !(to_server && segment.payload.is_empty() && shut % 2 == 1 && segment.window > 0)
    });
    assert!(shut > 0, "the window never shut");
    assert_eq!(pair.breaches, []);
    assert!(pair.client.is_complete());
}

/// Canary: tampers with one segment that satisfies `when`, and returns what the endpoints say.
fn tamper(when: impl Fn(bool, &Segment) -> bool, how: impl Fn(&mut Segment)) -> Vec<Invariant> {
    let mut pair = Pair::new(Stack::default(), Stack::default(), apps(8_000, 40_000));
    let mut done = false;
    let mut nth = 0;
    pair.run(|to_server, segment| {
        nth += 1;
        if !done && nth > 6 && when(to_server, segment) {
            how(segment);
            done = true;
        }
        // Some loss, so that there are blocks.
        nth % 11 != 0 || done
    });
    assert!(done, "there was nothing to tamper with");
    pair.breaches.iter().map(|breach| breach.invariant).collect()
}

fn assert_noticed(what: Invariant, when: impl Fn(bool, &Segment) -> bool, how: impl Fn(&mut Segment)) {
    let found = tamper(when, how);
    assert!(found.contains(&what), "{what:?} was broken, and noticed was {found:?}");
}

#[test]
fn canary_an_acknowledgment_of_what_was_never_sent_is_noticed() {
    let data = |to_server: bool, segment: &Segment| !to_server && segment.payload.len() > 100;
    assert_noticed(Invariant::Strict, data, |segment| segment.ack = segment.ack.wrapping_add(60_000));
    assert_noticed(Invariant::Strict, data, |segment| segment.ack = segment.ack.wrapping_sub(1));
}

#[test]
fn canary_wrong_blocks_are_noticed() {
    let blocks = |to_server: bool, segment: &Segment| to_server && !segment.options.sacks.is_empty();
    assert_noticed(Invariant::Strict, blocks, |segment| segment.options.sacks[0].0 ^= 0x1000_0000);
    assert_noticed(Invariant::Strict, blocks, |segment| segment.options.sacks[0].1 -= 1);
    assert_noticed(Invariant::Strict, blocks, |segment| segment.options.sacks.clear());
}

#[test]
fn canary_wrong_timestamps_are_noticed() {
    let data = |to_server: bool, segment: &Segment| !to_server && segment.payload.len() > 100;
    let change = |by: (u32, u32)| {
        move |segment: &mut Segment| {
            let (value, echo) = segment.options.timestamps.expect("they were agreed on");
            segment.options.timestamps = Some((value.wrapping_add(by.0), echo.wrapping_add(by.1)));
        }
    };
    assert_noticed(Invariant::I9Clock, data, change((1, 0)));
    assert_noticed(Invariant::Strict, data, change((0, 100_000)));
    assert_noticed(Invariant::Strict, data, |segment| segment.options.timestamps = None);
}

#[test]
fn canary_wrong_numbers_bytes_windows_and_flags_are_noticed() {
    let data = |to_server: bool, segment: &Segment| !to_server && segment.payload.len() > 100;
    assert_noticed(Invariant::I7Continuous, data, |segment| segment.seq = segment.seq.wrapping_add(3));
    assert_noticed(Invariant::I7Continuous, data, |segment| segment.seq = segment.seq.wrapping_sub(90_000));
    assert_noticed(Invariant::I1Prefix, data, |segment| segment.payload[7] ^= 1);
    assert_noticed(Invariant::I1Prefix, data, |segment| segment.flags |= flag::FIN);
    assert_noticed(Invariant::I8Window, data, |segment| segment.window += 1);
    assert_noticed(Invariant::I8Window, data, |segment| segment.window -= 1);
    assert_noticed(Invariant::Strict, data, |segment| segment.urgent = 9);
}

#[test]
fn canary_data_beyond_the_window_is_noticed() {
    let mut slow = apps(1, 60_000);
    slow[0].reads = Some(1);
    let mut pair = Pair::new(Stack { buffer: 3_000, ..Stack::default() }, Stack::default(), slow);
    let mut steps = 0;
    pair.run(|to_server, segment| {
        if to_server && segment.window > 0 {
            segment.window *= 2;
        }
        steps += 1;
        steps < 400
    });
    assert!(
        pair.breaches.iter().any(|breach| breach.what.contains("beyond the window")),
        "{:?}",
        pair.breaches
    );
}

#[test]
fn a_reset_counts_at_the_next_number_only() {
    for (off, ends) in [(0_u32, true), (1, false), (0x4000_0000, false)] {
        let mut pair = Pair::new(Stack::default(), Stack::default(), apps(1_000, 400_000));
        let mut nth = 0;
        pair.run(|to_server, segment| {
            nth += u32::from(!to_server);
            if nth == 8 && !to_server {
                segment.flags = flag::RST;
                segment.payload.clear();
                segment.seq = segment.seq.wrapping_add(off);
                nth += 1;
            }
            true
        });
        assert_eq!(pair.client.failure().is_some(), ends, "off by {off}");
    }
}
