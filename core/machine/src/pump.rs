//! The one loop of every driver.

use crate::{Buf, Deadline, Instant, Machine, Transmit};

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
}

/// Drains `machine` at `now`, timers included, and returns when it next wants to be woken.
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
        while let Some(mut buf) = io.buf() {
            let Some(transmit) = machine.poll_transmit(now, &mut buf) else { break };
            io.transmit(transmit);
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
