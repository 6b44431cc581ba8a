use std::time::Duration;

use gimlet_machine::Counters as _;
use gimlet_testkit::{Checked, Script};

use super::*;
use crate::Chance;

fn millis(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn line(config: LinkConfig) -> Line<u8> {
    Line::new(Rng::from_u64(3), config)
}

#[test]
fn what_goes_in_comes_out_later_on_the_same_path() {
    let config = LinkConfig::with_latency(Duration::from_millis(10));
    Script::new(Checked::new(line(config)))
        .at(millis(0))
        .hears(1, b"one")
        .quiet()
        .at(millis(4))
        .hears(2, b"two")
        .at(millis(10))
        .says(1, b"one")
        .quiet()
        .at(millis(14))
        .says(2, b"two")
        .quiet();
}

#[test]
fn a_doubled_datagram_comes_out_twice_and_a_lost_one_never() {
    let doubling = LinkConfig { duplicate: Chance::ALWAYS, ..LinkConfig::default() };
    Script::new(Checked::new(line(doubling)))
        .at(millis(0))
        .hears(1, b"x")
        .says(1, b"x")
        .says(1, b"x")
        .quiet();
    let mut losing = line(LinkConfig { loss: Chance::ALWAYS, ..LinkConfig::default() });
    losing.handle_input(millis(0), Input::new(1, &mut [0; 9]));
    assert_eq!((losing.counters().lost, losing.is_empty()), (1, true));
}

/// Everything a line can do, at moments from the dice, under the eyes of [`Checked`].
#[test]
fn a_busy_line_keeps_the_laws_and_loses_nothing_silently() {
    let config = LinkConfig {
        latency: Duration::from_millis(5),
        jitter: Duration::from_millis(5),
        loss: Chance::percent(10),
        duplicate: Chance::percent(10),
        reorder: Chance::percent(10),
        mtu: 1_028,
        ..LinkConfig::default()
    };
    let (mut line, mut dice) = (Checked::new(line(config)), Rng::from_u64(8));
    let (mut now, mut out, mut storage) = (Instant::ZERO, 0, Vec::new());
    let drain = |line: &mut Checked<Line<u8>>, now, storage: &mut Vec<u8>| {
        line.handle_timeout(now);
        std::iter::from_fn(|| line.poll_transmit(now, &mut Buf::new(storage))).count() as u64
    };
    for _ in 0..2_000 {
        now += Duration::from_micros(dice.below(3_000));
        let length = 1 + dice.below(1_100) as usize;
        line.handle_input(now, Input::new(7, &mut vec![1; length]));
        out += drain(&mut line, now, &mut storage);
        assert_eq!(line.poll_event(), None);
    }
    while let Some(deadline) = line.poll_timeout() {
        out += drain(&mut line, deadline.at, &mut storage);
    }
    let counters = *line.inner().counters();
    assert!(counters.lost > 100 && counters.too_big > 50, "{counters:?}");
    let carried = 2_000 - counters.total();
    assert!(out > carried + 100 && out < carried + 300, "{out} out of {carried} carried, some of them twice");
}

#[test]
fn a_line_holds_so_much_and_no_more() {
    let mut line = line(LinkConfig::with_latency(Duration::from_secs(1)));
    for _ in 0..LINE_HELD_MAX + 3 {
        line.handle_input(Instant::ZERO, Input::new(1, &mut [0]));
    }
    assert_eq!((line.len(), line.counters().overfull), (LINE_HELD_MAX, 3));
}

#[test]
fn a_buffer_that_is_too_small_costs_the_datagram_and_is_counted() {
    let (mut line, mut storage) = (line(LinkConfig::default()), Vec::new());
    for bytes in [&mut [1; 20][..], &mut [2; 10]] {
        line.handle_input(Instant::ZERO, Input::new(1, bytes));
    }
    let mut small = Buf::new(&mut storage).with_limit(10);
    assert_eq!(line.poll_transmit(Instant::ZERO, &mut small), Some(Transmit::new(1)));
    assert_eq!((storage, line.counters().no_room), (vec![2; 10], 1));
}
