//! The machine that does nothing.

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Transmit, Verdict};
use gimlet_tcp::Leg;

use crate::Recordable;

/// Passes every frame to the other side as it is: a cable with a program in it. It remembers nothing.
///
/// ```
/// use gimlet_machine::{Input, Instant, Machine as _, Verdict};
/// use gimlet_raw::{Forwarder, Leg, Side};
///
/// let mut frame = *b"any bytes";
/// let input = Input::new(Leg::new(Side::Client), &mut frame);
/// let verdict = Forwarder.handle_input(Instant::ZERO, input);
/// assert_eq!(verdict, Verdict::Pass { path: Leg::new(Side::Server), range: 0..9 });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarder;

impl Machine for Forwarder {
    type Path = Leg;
    type Event = ();

    fn handle_input(&mut self, _now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        Verdict::Pass { path: input.path.across(), range: 0..input.bytes.len() }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_transmit(&mut self, _now: Instant, _out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

impl Recordable for Forwarder {}
