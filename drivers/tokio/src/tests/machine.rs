//! Machines without sessions: events, deadlines, waiting.

use std::time::Duration;

use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Transmit, Verdict};
use gimlet_udp::{Clock, Sockets};

use super::soon;
use crate::{EVENTS_MAX, Handle, Plain, spawn};

/// Reports when each of its alarms went off.
#[derive(Debug, Default)]
struct Alarms {
    due: Vec<Instant>,
    rung: std::collections::VecDeque<(Instant, Instant)>,
}

impl Machine for Alarms {
    type Path = FourTuple;
    type Event = (Instant, Instant);

    fn handle_input(&mut self, _: Instant, _: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        Verdict::NotMine
    }

    fn handle_timeout(&mut self, now: Instant) {
        let (rung, due) = self.due.drain(..).partition(|at| *at <= now);
        self.due = due;
        let rung: Vec<Instant> = rung;
        self.rung.extend(rung.into_iter().map(|at| (at, now)));
    }

    fn poll_event(&mut self) -> Option<(Instant, Instant)> {
        self.rung.pop_front()
    }

    fn poll_transmit(&mut self, _: Instant, _: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.due.iter().min().map(|at| Deadline { at: *at, why: "alarm" })
    }
}

fn alarms() -> Handle<Plain<Alarms>> {
    spawn(Plain(Alarms::default()), Sockets::new(), Clock::start()).unwrap()
}

fn set(handle: &Handle<Plain<Alarms>>, millis: u64) -> Instant {
    handle
        .with(|machine, now| {
            let due = now + Duration::from_millis(millis);
            machine.0.due.push(due);
            due
        })
        .unwrap()
}

#[tokio::test]
async fn deadlines_are_met_though_they_move_both_ways() {
    let handle = alarms();
    let last = set(&handle, 60);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let first = set(&handle, 10);
    let (due, met) = soon(handle.next_event()).await.unwrap();
    assert!(due == first && met >= first && met < last, "{first} was met at {met}");
    // The alarm of the runtime is still set for a moment that has moved away.
    handle.with(|machine, now| machine.0.due = vec![now + Duration::from_millis(80)]).unwrap();
    let moved = handle.read(|machine| machine.0.due[0]).unwrap();
    let (due, met) = soon(handle.next_event()).await.unwrap();
    assert!(due == moved && met >= moved, "{moved} was met at {met}");
}

#[tokio::test]
async fn waiting_for_a_plain_machine_looks_again_after_every_event() {
    let handle = alarms();
    set(&handle, 5);
    set(&handle, 15);
    let due =
        soon(handle.when((), |machine, _| machine.0.due.is_empty().then_some(machine.0.due.len()))).await;
    assert_eq!(due.unwrap(), 0);
}

#[tokio::test]
async fn events_nobody_reads_push_out_the_oldest_and_are_counted() {
    let handle = alarms();
    let moments = (0..EVENTS_MAX as u64 + 10).map(Instant::from_nanos);
    handle.with(|machine, _| machine.0.due.extend(moments)).unwrap();
    soon(handle.when((), |machine, _| machine.0.due.is_empty().then_some(()))).await.unwrap();
    soon(async {
        while handle.events_lost() < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(handle.events_lost(), 10);
    assert_eq!(soon(handle.next_event()).await.unwrap().0, Instant::from_nanos(10));
}
