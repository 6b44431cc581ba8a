//! The life in a recording, lived again.

use std::fmt;
use std::io::Read;

use gimlet_machine::{Buf, Ecn, Input, Instant, Machine as _};
use gimlet_tcp::Leg;

use super::{End, Entry, Reader, RecordError, Recordable, Recorder, Tape, What};

/// Bytes of a frame that a [`Difference`] shows, from where it begins.
const SHOWN: usize = 16;

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Entries that were compared and are the same.
    pub entries: u64,
    /// Frames among them that arrived.
    pub arrived: u64,
    /// Frames among them that left.
    pub left: u64,
    /// Bytes in those that left.
    pub left_bytes: u64,
    /// Timers, commands and events among them.
    pub others: u64,
    /// Why the recording ends; nothing if whatever wrote it was killed.
    pub end: Option<End>,
    /// The first difference. Nothing after it was looked at.
    pub difference: Option<Difference>,
}

/// Where a replay and its recording part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which entry of the recording it is, from 1; one more than it has if the replay goes on after its end.
    pub entry: u64,
    /// When.
    pub at: Instant,
    /// What differs.
    pub part: Part,
    /// What the recording has.
    pub recorded: String,
    /// What the replay has.
    pub replayed: String,
}

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Something else happened, or nothing where the other has something.
    What,
    /// The bytes of a frame, from `offset` on.
    Bytes {
        /// The first byte that differs.
        offset: usize,
    },
    /// What the machine says about it: verdict, counters, flow.
    Note,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { entry, at, part, recorded, replayed } = self;
        write!(f, "entry {entry}, at {} ns, ", at.as_nanos())?;
        match part {
            Part::What => f.write_str("is something else")?,
            Part::Bytes { offset } => write!(f, "has other bytes from offset {offset} on")?,
            Part::Note => f.write_str("had another effect")?,
        }
        write!(f, "\n  recorded: {}\n  replayed: {}", recorded.escape_debug(), replayed.escape_debug())
    }
}

/// Gives `machine`, which was just made from the [`Heading`](super::Heading), everything that happened in the
/// recording, at the same moments, and compares everything that it does, to the first difference or the end.
pub fn replay<M: Recordable, R: Read>(reader: &mut Reader<R>, machine: M) -> Result<Replayed, Stopped> {
    let mut now = reader.heading().begun;
    let comparison = Comparison { reader, in_hand: false, found: Replayed::default(), failure: None };
    let mut recorder = Recorder::new(machine, comparison);
    let (mut frame, mut storage) = (Vec::new(), Vec::new());
    while recorder.tape().look() {
        let Some(next) = recorder.tape().next(&mut frame) else { break };
        match next {
            Next::End(why) => {
                if why == End::Finished {
                    drain(&mut recorder, now, &mut storage);
                }
                recorder.tape().end(why);
                break;
            }
            Next::Arrived { at, leg, ecn } => {
                now = advance(&mut recorder, now, at, &mut storage);
                recorder.handle_input(at, Input { path: leg, ecn, bytes: &mut frame });
            }
            Next::Timeout { at } => {
                now = advance(&mut recorder, now, at, &mut storage);
                recorder.handle_timeout(at);
            }
            Next::Told { at, command } => {
                now = advance(&mut recorder, now, at, &mut storage);
                recorder.tell(at, &command);
            }
            Next::Event => {
                if recorder.poll_event().is_none() {
                    recorder.tape().miss();
                }
            }
            Next::Made => {
                if recorder.poll_transmit(now, &mut Buf::new(&mut storage)).is_none() {
                    recorder.tape().miss();
                }
            }
            Next::Passed => recorder.tape().miss(),
            Next::Origin => recorder.tape().misplaced(),
        }
    }
    let comparison = recorder.tape();
    let found = std::mem::take(&mut comparison.found);
    match comparison.failure.take() {
        None => Ok(found),
        Some(error) => Err(Stopped { error, found: Box::new(found) }),
    }
}

/// A recording that could not be read to its end, and what was found before.
#[derive(Debug)]
pub struct Stopped {
    /// Why it could not.
    pub error: RecordError,
    /// What was found.
    pub found: Box<Replayed>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; the {} entries before it replayed the same", self.error, self.found.entries)
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Lets time pass from `now` to `at`. A machine is drained before time moves: whatever it still has to do or say is
/// not in the recording.
fn advance<M: Recordable, R: Read>(
    recorder: &mut Recorder<M, Comparison<'_, R>>,
    now: Instant,
    at: Instant,
    storage: &mut Vec<u8>,
) -> Instant {
    if at > now {
        drain(recorder, now, storage);
    }
    at
}

/// Polls a machine that has nothing to do or say, according to the recording. If it has, that is a difference.
fn drain<M: Recordable, R: Read>(
    recorder: &mut Recorder<M, Comparison<'_, R>>,
    now: Instant,
    storage: &mut Vec<u8>,
) {
    if recorder.poll_event().is_none() {
        recorder.poll_transmit(now, &mut Buf::new(storage));
    }
}

/// What the recording has next, in short. The bytes of a frame that arrived are beside it.
enum Next {
    Arrived { at: Instant, leg: Leg, ecn: Ecn },
    Timeout { at: Instant },
    Told { at: Instant, command: String },
    Passed,
    Made,
    Event,
    Origin,
    End(End),
}

/// A tape that compares instead of keeping.
#[derive(Debug)]
struct Comparison<'a, R> {
    reader: &'a mut Reader<R>,
    /// Whether the reader holds an entry that was not compared yet.
    in_hand: bool,
    found: Replayed,
    failure: Option<RecordError>,
}

impl<R: Read> Comparison<'_, R> {
    /// Takes the next entry in hand, and whether there is one and reason to look at it.
    fn look(&mut self) -> bool {
        if !self.is_running() {
            return false;
        }
        if !self.in_hand {
            match self.reader.advance() {
                Ok(is_there) => self.in_hand = is_there,
                Err(error) => self.failure = Some(error),
            }
        }
        self.in_hand
    }

    fn next(&self, storage: &mut Vec<u8>) -> Option<Next> {
        let Entry { at, what, .. } = self.reader.entry()?;
        Some(match what {
            What::Origin { .. } => Next::Origin,
            What::Arrived { leg, ecn, frame } => {
                storage.clear();
                storage.extend_from_slice(frame);
                Next::Arrived { at, leg, ecn }
            }
            What::Timeout { .. } => Next::Timeout { at },
            What::Told { command } => Next::Told { at, command: command.to_owned() },
            What::Passed { .. } => Next::Passed,
            What::Made { .. } => Next::Made,
            What::Event { .. } => Next::Event,
            What::End { why } => Next::End(why),
        })
    }

    /// The machine did not do what is in hand.
    fn miss(&mut self) {
        if let Some(Entry { at, what, .. }) = self.reader.entry().filter(|_| self.is_running()) {
            let (recorded, replayed) = (describe(&what), "nothing".to_owned());
            self.differ(at, Part::What, recorded, replayed);
        }
    }

    /// Memory that the machine found belongs before its life, and is read there ([`Reader::origin`]).
    fn misplaced(&mut self) {
        self.failure = Some(self.reader.damaged("memory that was found is not at the beginning"));
    }

    fn end(&mut self, why: End) {
        if self.is_running() {
            self.found.end = Some(why);
        }
    }

    fn differ(&mut self, at: Instant, part: Part, recorded: String, replayed: String) {
        let entry = self.reader.position() + u64::from(!self.in_hand);
        self.found.difference = Some(Difference { entry, at, part, recorded, replayed });
    }
}

impl<R: Read> Tape for Comparison<'_, R> {
    fn is_running(&self) -> bool {
        self.found.difference.is_none() && self.failure.is_none()
    }

    fn keep(&mut self, entry: &Entry<'_>) {
        let is_there = self.look();
        if !self.is_running() {
            return;
        }
        let Some(recorded) = self.reader.entry().filter(|_| is_there) else {
            // A recording that was cut off lacks what its last entry brought about.
            return;
        };
        if matches!(recorded.what, What::End { why: End::Full }) {
            return;
        }
        if let Some((part, recorded, replayed)) = compare(&recorded, entry) {
            return self.differ(entry.at, part, recorded, replayed);
        }
        self.in_hand = false;
        let found = &mut self.found;
        found.entries += 1;
        match entry.what {
            What::Arrived { .. } => found.arrived += 1,
            What::Passed { frame, .. } | What::Made { frame, .. } => {
                found.left += 1;
                found.left_bytes += frame.len() as u64;
            }
            What::Origin { .. }
            | What::Timeout { .. }
            | What::Told { .. }
            | What::Event { .. }
            | What::End { .. } => found.others += 1,
        }
    }
}

fn compare(recorded: &Entry<'_>, replayed: &Entry<'_>) -> Option<(Part, String, String)> {
    let [one, other] = [recorded, replayed].map(|entry| entry.what.to_string());
    if recorded.what.side() != replayed.what.side() || clip(&one) != clip(&other) {
        return Some((Part::What, describe(&recorded.what), describe(&replayed.what)));
    }
    let [one, other] = [recorded, replayed].map(|entry| entry.what.frame());
    if one != other {
        let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
        let [one, other] = [one, other].map(|bytes| excerpt(bytes, same));
        return Some((Part::Bytes { offset: same }, one, other));
    }
    let [one, other] = [recorded, replayed].map(|entry| clip(entry.note));
    (one != other).then(|| (Part::Note, one.to_owned(), other.to_owned()))
}

fn clip(text: &str) -> &str {
    super::writer::clipped(text)
}

fn describe(what: &What<'_>) -> String {
    match what.side() {
        Some(side) => format!("{what} ({} bytes, {side:?})", what.frame().len()),
        None => what.to_string(),
    }
}

fn excerpt(bytes: &[u8], from: usize) -> String {
    let shown = bytes.get(from..).unwrap_or(&[]);
    let mut text: Vec<String> = shown.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if shown.len() > SHOWN {
        text.push("…".to_owned());
    }
    if shown.is_empty() {
        text.push("the frame ends".to_owned());
    }
    format!("{} ({} bytes)", text.join(" "), bytes.len())
}
