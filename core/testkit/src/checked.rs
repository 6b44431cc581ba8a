//! The laws, asserted on every call.

use gimlet_machine::{Answer, Buf, Deadline, Input, Instant, Machine, Request, Transmit, Verdict};

/// How many outputs a machine may produce at one instant without being touched: more is a livelock.
const OUTPUTS_PER_TOUCH_MAX: usize = 100_000;

/// A machine that breaks a law panics with the law's number and the moment.
#[derive(Clone, Debug)]
pub struct Checked<M> {
    machine: M,
    now: Instant,
    outputs: usize,
    /// `handle_timeout` ran at `now` and nothing else has touched the machine since.
    timed_out: bool,
    quiet: Quiet,
}

/// Which polls have said "nothing" since the last touch, in the order of [`Poll`].
type Quiet = [bool; 3];

/// What a machine is polled for.
#[derive(Clone, Copy)]
enum Poll {
    Events,
    Requests,
    Transmits,
}

/// Nothing is left to poll. A machine that is not asked for its requests has none.
const SILENT: Quiet = [true; 3];

impl<M: Machine> Checked<M> {
    /// Watches `machine` from here on.
    pub fn new(machine: M) -> Self {
        Self { machine, now: Instant::ZERO, outputs: 0, timed_out: false, quiet: Quiet::default() }
    }

    /// The machine, to look at.
    pub fn inner(&self) -> &M {
        &self.machine
    }

    /// Runs a command on the machine.
    pub fn command<R>(&mut self, now: Instant, run: impl FnOnce(&mut M) -> R) -> R {
        self.advance(now);
        self.touch();
        run(&mut self.machine)
    }

    fn advance(&mut self, now: Instant) {
        assert!(now >= self.now, "law 1: time went from {} back to {now}", self.now);
        self.now = now;
    }

    fn touch(&mut self) {
        self.outputs = 0;
        self.timed_out = false;
        self.quiet = Quiet::default();
    }

    fn spoke(&mut self, what: &str, was_quiet: bool) {
        let woken = self.machine.poll_timeout().is_some_and(|deadline| deadline.at <= self.now);
        assert!(
            !was_quiet || woken,
            "law 3: {what} at {} from a machine that was quiet and untouched",
            self.now
        );
        self.outputs += 1;
        assert!(self.outputs <= OUTPUTS_PER_TOUCH_MAX, "law 4: outputs never end at {}", self.now);
        self.quiet = Quiet::default();
    }

    fn fell_quiet(&self) {
        if self.quiet != SILENT || !self.timed_out {
            return;
        }
        if let Some(Deadline { at, why }) = self.machine.poll_timeout() {
            assert!(
                at > self.now,
                "law 4: drained after handle_timeout({}), timer `{why}` is still due at {at}",
                self.now
            );
        }
    }
}

impl<M: Machine> Machine for Checked<M> {
    type Path = M::Path;
    type Event = M::Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, M::Path>) -> Verdict<M::Path> {
        self.advance(now);
        let (before, deadline) = (input.bytes.to_vec(), self.machine.poll_timeout());
        let bytes = &mut *input.bytes;
        let verdict = self.machine.handle_input(now, Input { path: input.path, ecn: input.ecn, bytes });
        match &verdict {
            Verdict::Consumed => self.touch(),
            Verdict::NotMine => {
                assert!(input.bytes == before, "NotMine, yet the bytes were changed");
                assert_eq!(self.machine.poll_timeout(), deadline, "NotMine, yet the deadline moved");
            }
            Verdict::Pass { range, .. } => {
                assert!(
                    range.start <= range.end && range.end <= before.len(),
                    "Pass of bytes that were not lent"
                );
                self.touch();
            }
        }
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.touch();
        self.machine.handle_timeout(now);
        self.timed_out = true;
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        let was_quiet = self.quiet[Poll::Events as usize];
        let event = self.machine.poll_event();
        if event.is_some() {
            self.spoke("an event", was_quiet);
        } else {
            self.quiet[Poll::Events as usize] = true;
            self.fell_quiet();
        }
        event
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<M::Path>> {
        self.advance(now);
        assert!(out.is_empty(), "the owner lends an empty buffer");
        let was_quiet = self.quiet[Poll::Transmits as usize];
        let (room, segments_max) = (out.remaining(), out.segments_max());
        let transmit = self.machine.poll_transmit(now, out);
        let Some(transmit) = transmit else {
            assert!(out.is_empty(), "poll_transmit said None but wrote {} bytes", out.len());
            self.quiet[Poll::Transmits as usize] = true;
            self.fell_quiet();
            return None;
        };
        assert!(!out.is_empty() && out.len() <= room, "{} bytes written into room for {room}", out.len());
        let segment = transmit.segment.map_or(out.len(), usize::from);
        assert!(
            segment > 0 && out.len().div_ceil(segment) <= segments_max,
            "a train longer than the owner allows"
        );
        self.spoke("a datagram", was_quiet);
        Some(transmit)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }

    fn poll_request(&mut self) -> Option<Request> {
        let was_quiet = self.quiet[Poll::Requests as usize];
        let request = self.machine.poll_request();
        if request.is_some() {
            self.spoke("a request", was_quiet);
        } else {
            self.quiet[Poll::Requests as usize] = true;
            self.fell_quiet();
        }
        request
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        self.advance(now);
        self.touch();
        self.machine.handle_answer(now, answer);
    }
}
