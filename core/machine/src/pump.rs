//! The one loop of every driver.

use crate::{Answer, Buf, CloseReason, Deadline, Instant, Machine, Request, Transmit};

/// How often [`pump`] goes round before it gives the driver's other work a turn. A machine that is
/// still busy then is pumped again at once, because its deadline is not later than `now`.
pub const PUMP_ROUNDS_MAX: usize = 64;

/// What a driver gives [`pump`]: room for output, a way out, and an ear for events.
pub trait Io<M: Machine> {
    /// Lends an empty buffer, or `None` when nothing more can be sent for now. After `None` the
    /// driver pumps again when there is room.
    fn buf(&mut self) -> Option<Buf<'_>>;
    /// Sends what was just written into the buffer.
    fn transmit(&mut self, transmit: Transmit<M::Path>);
    /// Acts on an event. Commands on `machine` are allowed here.
    fn event(&mut self, machine: &mut M, now: Instant, event: M::Event);
    /// Does what the machine asks for; returns the answer if it is known at once. A driver that opens nothing
    /// leaves this as it is.
    fn request(&mut self, request: Request) -> Option<Answer<'static>> {
        request.refusal(CloseReason::Unsupported)
    }
}

/// Drains `machine` at `now`, timers included, and returns when it next wants to be woken. In each round events come
/// first, then datagrams, then requests: what a machine has written leaves before the socket is closed that it asks
/// to close, whatever it runs on.
///
/// A returned deadline that is not later than `now` means "again, as soon as you can": the round
/// limit was reached.
pub fn pump<M: Machine>(machine: &mut M, now: Instant, io: &mut impl Io<M>) -> Option<Deadline> {
    for _ in 0..PUMP_ROUNDS_MAX {
        if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            machine.handle_timeout(now);
        }
        let mut quiet = true;
        while let Some(event) = machine.poll_event() {
            io.event(machine, now, event);
            quiet = false;
        }
        let is_drained = loop {
            let Some(mut buf) = io.buf() else { break false };
            let Some(transmit) = machine.poll_transmit(now, &mut buf) else { break true };
            io.transmit(transmit);
            quiet = false;
        };
        // What was written before a socket is closed leaves through it, so requests wait for it.
        while let Some(request) = is_drained.then(|| machine.poll_request()).flatten() {
            if let Some(answer) = io.request(request) {
                machine.handle_answer(now, answer);
            }
            quiet = false;
        }
        let deadline = machine.poll_timeout();
        if quiet && deadline.is_none_or(|deadline| deadline.at > now) {
            return deadline;
        }
    }
    machine
        .poll_timeout()
        .map(|deadline| Deadline { at: deadline.at.min(now), ..deadline })
        .or(Some(Deadline { at: now, why: "busy" }))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::time::Duration;

    use super::*;
    use crate::{Input, SocketId, Verdict};

    /// Wants a socket, and again a second after it was refused.
    #[derive(Debug, Default)]
    struct Needy {
        due: Option<Instant>,
        asked: u64,
        refused: Vec<CloseReason>,
    }

    impl Machine for Needy {
        type Path = u8;
        type Event = ();

        fn handle_input(&mut self, _: Instant, _: Input<'_, u8>) -> Verdict<u8> {
            Verdict::NotMine
        }

        fn handle_timeout(&mut self, now: Instant) {
            self.due = self.due.filter(|due| *due > now);
        }

        fn poll_event(&mut self) -> Option<()> {
            None
        }

        fn poll_transmit(&mut self, _: Instant, _: &mut Buf<'_>) -> Option<Transmit<u8>> {
            None
        }

        fn poll_timeout(&self) -> Option<Deadline> {
            self.due.map(|at| Deadline { at, why: "again" })
        }

        fn poll_request(&mut self) -> Option<Request> {
            if self.due.is_some() || self.asked > self.refused.len() as u64 {
                return None;
            }
            self.asked += 1;
            Some(Request::Bind { id: SocketId(self.asked), local: "192.0.2.1:0".parse().unwrap() })
        }

        fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
            let Answer::Closed { id, why } = answer else { panic!("{answer:?}") };
            assert_eq!(id.0, self.asked);
            self.refused.push(why);
            self.due = Some(now + Duration::from_secs(1));
        }
    }

    /// Sends nothing and opens nothing.
    struct Poor(Vec<u8>);

    impl Io<Needy> for Poor {
        fn buf(&mut self) -> Option<Buf<'_>> {
            Some(Buf::new(&mut self.0))
        }

        fn transmit(&mut self, _: Transmit<u8>) {}

        fn event(&mut self, _: &mut Needy, _: Instant, (): ()) {}
    }

    #[test]
    fn a_driver_that_opens_nothing_says_so_at_once() {
        let (mut needy, mut poor) = (Needy::default(), Poor(Vec::new()));
        let due = pump(&mut needy, Instant::ZERO, &mut poor);
        assert_eq!(due.map(|due| due.at), Some(Instant::from_millis(1_000)));
        assert_eq!(needy.refused, [CloseReason::Unsupported]);
        pump(&mut needy, Instant::from_millis(1_000), &mut poor);
        assert_eq!(needy.asked, 2);
    }
}
