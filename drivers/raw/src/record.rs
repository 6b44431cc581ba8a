//! Recordings: everything that happened to a machine, and everything that it did, in a file.
//!
//! The file is pcapng, so that programs which show packets show it: an interface for each side and one for what
//! concerns the machine alone (timers, commands, events), each frame with its direction, its time in nanoseconds
//! and comments that say what the machine made of it. Before the first frame stand the machine's kind, seed and
//! configuration, and the memory that it found if it goes on where another process stopped. That is all that a machine
//! is made of, so [`replay()`] lives its life again and compares.

mod entry;
mod error;
mod heading;
mod pcapng;
mod reader;
mod replay;
mod translator;
mod writer;

use std::fmt::{Debug, Write as _};

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Transmit, Verdict};
use gimlet_tcp::{Leg, Side};

pub use entry::{End, Entry, What};
pub use error::RecordError;
pub use heading::Heading;
pub(crate) use heading::VERSION;
pub use reader::Reader;
pub use replay::{Difference, Part, Replayed, Stopped, replay};
pub use translator::{slots_from_bytes, slots_to_bytes};
pub use writer::{Recorded, Recording};

/// A machine that can be recorded: it can be told things in words, and say in words how it is.
pub trait Recordable: Machine<Path = Leg, Event: Debug> {
    /// Does what the words say, and whether it understood them. Commands that are not given as words are not in a
    /// recording, and its replay lacks them.
    fn told(&mut self, now: Instant, command: &str) -> bool {
        let _ = (now, command);
        false
    }

    /// Hands over all counters, the same in the same order each time.
    fn counted(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let _ = each;
    }

    /// How the flow of a frame stands, if the machine knows it. The frame is on `leg`, on its way in.
    fn standing(&self, leg: Leg, frame: &[u8]) -> Option<String> {
        let _ = (leg, frame);
        None
    }
}

/// Where entries go.
pub trait Tape {
    /// Whether entries are still wanted.
    fn is_running(&self) -> bool;
    /// Keeps an entry.
    fn keep(&mut self, entry: &Entry<'_>);
}

/// A machine and its recording. It is the machine for its driver, and costs a copy of each frame.
#[derive(Debug)]
pub struct Recorder<M, T = Recording> {
    machine: M,
    tape: T,
    /// The frame that arrived, before the machine rewrote it.
    arrived: Vec<u8>,
    counters: Vec<u64>,
    note: String,
    /// The last moment that the driver told: events have none of their own.
    now: Instant,
}

impl<M: Recordable, T: Tape> Recorder<M, T> {
    /// Records a machine that was just made.
    pub fn new(machine: M, tape: T) -> Self {
        let mut counters = Vec::new();
        machine.counted(&mut |_, count| counters.push(count));
        Self { machine, tape, arrived: Vec::new(), counters, note: String::new(), now: Instant::ZERO }
    }

    /// The machine, to be looked at.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The tape.
    pub fn tape(&mut self) -> &mut T {
        &mut self.tape
    }

    /// Tells the machine something, and whether it understood.
    pub fn tell(&mut self, now: Instant, command: &str) -> bool {
        self.now = now;
        let understood = self.machine.told(now, command);
        self.keep_machines(now, What::Told { command });
        understood
    }

    /// Keeps an entry of the machine's own with the counters that moved.
    fn keep_machines(&mut self, at: Instant, what: What<'_>) {
        if self.tape.is_running() {
            self.note.clear();
            self.note_counters();
            self.tape.keep(&Entry { at, what, note: &self.note });
        }
    }

    fn note_verdict(&mut self, verdict: &Verdict<Leg>) {
        self.note.clear();
        self.note.push_str(match verdict {
            Verdict::Consumed => "consumed",
            Verdict::NotMine => "not mine",
            Verdict::Pass { path: Leg { side: Side::Client, .. }, .. } => "passes to the client",
            Verdict::Pass { path: Leg { side: Side::Server, .. }, .. } => "passes to the server",
        });
    }

    /// Appends a line with the counters that moved since the last one.
    fn note_counters(&mut self) {
        let (before, note) = (&mut self.counters, &mut self.note);
        let (mut nth, mut separator) = (0, if note.is_empty() { "counters: " } else { "\ncounters: " });
        self.machine.counted(&mut |name, count| {
            if let Some(before) = before.get_mut(nth).filter(|before| **before != count) {
                // Writing to a string does not fail.
                let _ = write!(note, "{separator}{name} +{}", count.wrapping_sub(*before));
                (*before, separator) = (count, ", ");
            }
            nth += 1;
        });
    }

    fn note_standing(&mut self, leg: Leg) {
        if let Some(standing) = self.machine.standing(leg, &self.arrived) {
            let _ = write!(self.note, "\nflow: {standing}");
        }
    }
}

impl<M: Recordable, T: Tape> Machine for Recorder<M, T> {
    type Path = Leg;
    type Event = M::Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        if !self.tape.is_running() {
            return self.machine.handle_input(now, input);
        }
        self.now = now;
        let Input { path: leg, ecn, bytes } = input;
        self.arrived.clear();
        self.arrived.extend_from_slice(bytes);
        let verdict = self.machine.handle_input(now, Input { path: leg, ecn, bytes });
        self.note_verdict(&verdict);
        self.note_counters();
        self.note_standing(leg);
        let what = What::Arrived { leg, ecn, frame: &self.arrived };
        self.tape.keep(&Entry { at: now, what, note: &self.note });
        match &verdict {
            Verdict::Consumed | Verdict::NotMine => {}
            Verdict::Pass { path, range } => {
                if let Some(frame) = bytes.get(range.clone()) {
                    self.tape.keep(&Entry { at: now, what: What::Passed { leg: *path, frame }, note: "" });
                }
            }
        }
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let due = self.machine.poll_timeout().filter(|deadline| deadline.at <= now);
        self.machine.handle_timeout(now);
        self.keep_machines(now, What::Timeout { why: due.map_or("", |deadline| deadline.why) });
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        let event = self.machine.poll_event()?;
        if self.tape.is_running() {
            let text = format!("{event:?}");
            self.tape.keep(&Entry { at: self.now, what: What::Event { text: &text }, note: "" });
        }
        Some(event)
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        let transmit = self.machine.poll_transmit(now, out)?;
        let Transmit { path: leg, ecn, segment } = transmit;
        let what = What::Made { leg, ecn, segment, frame: out.as_slice() };
        self.tape.keep(&Entry { at: now, what, note: "" });
        Some(transmit)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }
}
