//! What is seen at the boxes, and what has to be true of it: an accountant that knows no translator.

use std::collections::BTreeMap;
use std::time::Duration;

use gimlet_machine::Instant;

use super::host::tuple_of;
use crate::invariant::{Breach, Invariant};
use crate::middle::{Side, Tuple, Wire};
use crate::oracle::{Rules, agree, inverse, is_translated, translate};
use crate::segment::{Segment, Unreadable, flag};

/// Every handshake ends within this time from its first answer on: 30 seconds for the server to answer, and
/// the last of the retransmissions.
const HANDSHAKE_MAX: Duration = Duration::from_secs(35);

/// What a SYN-ACK may acknowledge beyond the SYN: data that went along with it.
const EARLY_MAX: u32 = 1_460;

/// A client that acknowledges a number farther away than this from a box's was not told that number.
const SPACE: u32 = 1 << 20;

/// What a box was given.
#[derive(Debug)]
pub struct Given {
    from: Side,
    wire: Wire,
    segment: Result<Segment, Unreadable>,
    genuine: bool,
}

impl Given {
    /// A frame that is about to be given to a box; `genuine` if a host wrote it and nothing has damaged it.
    pub fn new(from: Side, wire: &Wire, genuine: bool) -> Self {
        Self { from, wire: wire.clone(), segment: Segment::read(&wire.bytes, wire.partial), genuine }
    }
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    /// For each place, whether the box there translates.
    translates: Vec<bool>,
    entries: BTreeMap<Tuple, Entry>,
    /// The shift in the SYN of a client with this first number.
    asked: BTreeMap<(Tuple, u32), Option<u8>>,
    /// What does not hold.
    pub breaches: Vec<Breach>,
}

/// One connection that was answered by a box.
#[derive(Debug)]
struct Entry {
    at: Instant,
    spoof: Segment,
    /// The answer as it was given, and has to be given again.
    frame: Option<Vec<u8>>,
    real: Option<Segment>,
    state: Stage,
    /// The client has acknowledged the answer.
    proven: bool,
}

impl Entry {
    /// A segment goes through a box that translates: whether that joins both spaces.
    fn joins(&mut self, given: &Given, segment: &Segment, same: bool) {
        if self.state != Stage::Opening || given.from != Side::Client || !self.proven {
            return;
        }
        if given.genuine && self.real.is_some() && is_translated(segment.flags) {
            self.state = Stage::Complete;
        } else if !same {
            // Far translates by what it had heard before Near began anew, and this ledger with it.
            self.state = Stage::Lost;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    /// What follows is translated.
    Complete,
    /// It ended before it was complete.
    Ended,
    /// A box that forgot it has taken the place of the one that answered.
    Lost,
}

impl Ledger {
    /// Books for boxes of which some translate.
    pub fn new(translates: Vec<bool>) -> Self {
        Self { translates, ..Self::default() }
    }

    /// The box at `place` has looked at what it was given; `passed` is what goes on. Says whether that is still to be
    /// trusted. The box `knows` the connection or not.
    pub fn taken(
        &mut self,
        now: Instant,
        place: usize,
        (given, passed): (&Given, Option<&Wire>),
        knows: impl FnOnce(Tuple) -> bool,
    ) -> bool {
        let Ok(segment) = &given.segment else {
            if let Some(passed) = passed {
                self.damaged(now, given, passed);
            }
            return true;
        };
        let tuple = tuple_of(segment, given.from == Side::Server);
        self.note(place, tuple, given.from, segment);
        let Some(passed) = passed else { return true };
        self.expect(
            passed.bytes.len() <= given.wire.bytes.len() || segment.has(flag::SYN),
            now,
            Invariant::I16Hostile,
            || format!("{} bytes became {}: {segment}", given.wire.bytes.len(), passed.bytes.len()),
        );
        let after = Segment::read(&passed.bytes, passed.partial);
        self.expect(after.is_ok(), now, Invariant::I3Checksum, || format!("{after:?} after {segment}"));
        let forgotten = passed.bytes == given.wire.bytes && !knows(tuple);
        self.passed(now, (place, tuple), given, (segment, passed), forgotten)
    }

    /// A frame that nobody should believe stays one.
    fn damaged(&mut self, now: Instant, given: &Given, passed: &Wire) {
        let grew = passed.bytes.len() > given.wire.bytes.len();
        self.expect(!grew, now, Invariant::I16Hostile, || "a damaged frame grew".into());
        if given.segment == Err(Unreadable::Checksum) {
            let after = Segment::read(&passed.bytes, passed.partial);
            self.expect(after.is_err(), now, Invariant::I3Checksum, || {
                format!("was wrong, and is not: {after:?}")
            });
        }
    }

    fn note(&mut self, place: usize, tuple: Tuple, from: Side, segment: &Segment) {
        if from == Side::Client && segment.has(flag::SYN) && !segment.has(flag::ACK) {
            self.asked.insert((tuple, segment.seq), segment.options.shift);
        }
        let translates = self.translates[place];
        let Some(entry) = self.entries.get_mut(&tuple) else { return };
        if from == Side::Client {
            entry.proven |= segment.has(flag::ACK) && segment.ack.wrapping_sub(entry.spoof.seq) == 1;
        } else if segment.has(flag::RST) && segment.seq.wrapping_sub(entry.spoof.seq) == 1 {
            // A server that knows nothing of the connection ends it, in the numbers that the client was told.
            if entry.state == Stage::Opening {
                entry.state = Stage::Ended;
            }
        } else if translates
            && segment.has(flag::SYN | flag::ACK)
            && segment.ack.wrapping_sub(entry.spoof.ack) <= EARLY_MAX
            && (entry.state == Stage::Opening || entry.state == Stage::Ended && entry.real.is_none())
        {
            entry.real = Some(segment.clone());
        }
    }

    fn passed(
        &mut self,
        now: Instant,
        (place, tuple): (usize, Tuple),
        given: &Given,
        (segment, passed): (&Segment, &Wire),
        forgotten: bool,
    ) -> bool {
        let (from, same) = (given.from, passed.bytes == given.wire.bytes);
        let entry = self.entries.get_mut(&tuple).filter(|_| self.translates[place]);
        let Some(entry) = entry else {
            // A SYN may lose options that would not be answered, and gain a request for a cookie. Whoever did not
            // ask for the cookie does not get it.
            let gives = segment.options.fast_open.is_some();
            let edited = segment.has(flag::SYN) && (!segment.has(flag::ACK) || gives);
            self.expect(same || edited, now, Invariant::I12Untouched, || format!("changed: {segment}"));
            return true;
        };
        entry.joins(given, segment, same);
        let (state, proven) = (entry.state, entry.proven);
        let answered = segment.ack.wrapping_sub(entry.spoof.seq);
        let agrees = given.genuine && segment.has(flag::ACK) && answered > SPACE;
        match state {
            Stage::Complete if is_translated(segment.flags) => {}
            Stage::Lost => return false,
            Stage::Ended | Stage::Complete => return !(segment.has(flag::SYN) || same),
            Stage::Opening if from == Side::Client && same && agrees => {
                // The client heard the server itself, before or instead of the box: both go on without it.
                self.entries.remove(&tuple);
                return true;
            }
            Stage::Opening => {
                let early = from == Side::Client && given.genuine && !segment.payload.is_empty() && !proven;
                self.expect(!early, now, Invariant::I5Proven, || format!("early: {segment}"));
                // A SYN goes on as it came, but for options; a segment that does is one that will not be known.
                return !is_translated(segment.flags) || !same;
            }
        }
        if forgotten {
            // Long forgotten: it goes through as it is, and whoever gets it will not know it.
            return false;
        }
        let Some(rules) = self.rules(tuple) else { return false };
        let expected = translate(&given.wire.bytes, from, given.wire.partial, &rules);
        let right = expected.as_ref().is_some_and(|expected| agree(expected, &passed.bytes));
        self.expect(right, now, Invariant::Oracle, || {
            let after = Segment::read(&passed.bytes, passed.partial);
            format!(
                "{segment}\n  became {}\n  by {rules:08x?}",
                after.map_or_else(|why| format!("{why:?}"), |after| after.to_string())
            )
        });
        if !rules.hides_sack && rules.server_shifts.is_none() && rules.client_shifts.is_none() {
            let back = translate(&passed.bytes, from, passed.partial, &inverse(&rules));
            let undone = back.is_some_and(|back| agree(&back, &given.wire.bytes));
            self.expect(undone, now, Invariant::I4Bijection, || format!("cannot be undone: {segment}"));
        }
        true
    }

    fn rules(&self, tuple: Tuple) -> Option<Rules> {
        let entry = self.entries.get(&tuple)?;
        let (spoof, real) = (&entry.spoof, entry.real.as_ref()?);
        let told = spoof.options.shift;
        let used = real.options.shift;
        let asked = self.asked.get(&(tuple, spoof.ack.wrapping_sub(1))).copied().flatten();
        let clocks = spoof.options.timestamps.zip(real.options.timestamps);
        Some(Rules {
            delta: spoof.seq.wrapping_sub(real.seq),
            clock: clocks.map(|((shown, _), (true_one, _))| shown.wrapping_sub(true_one)),
            server_shifts: told.map(|told| (told, used.unwrap_or(0))).filter(|(told, used)| told != used),
            client_shifts: told.zip(asked).filter(|_| used.is_none()).map(|(_, asked)| (asked, 0)),
            hides_sack: spoof.options.sack_permitted && !real.options.sack_permitted,
        })
    }

    /// A box sends something of its own.
    pub fn sent(&mut self, now: Instant, place: usize, to: Side, wire: &Wire) {
        let segment = match Segment::read(&wire.bytes, wire.partial) {
            Ok(segment) => segment,
            // Messages of ICMP are no segments.
            Err(Unreadable::Form) => return,
            Err(why) => return self.complain(now, Invariant::I3Checksum, format!("a box sent {why:?}")),
        };
        let tuple = tuple_of(&segment, to == Side::Client);
        if to == Side::Client && segment.has(flag::SYN | flag::ACK) {
            return self.answered(now, tuple, segment, wire);
        }
        let translates = self.translates[place];
        let Some(entry) = self.entries.get_mut(&tuple) else { return };
        if to == Side::Client && segment.has(flag::RST) && entry.state == Stage::Opening {
            entry.state = Stage::Ended;
        }
        if to == Side::Server && translates && is_translated(segment.flags) && !segment.has(flag::RST) {
            let (proven, opening) = (entry.proven, entry.state == Stage::Opening);
            if opening && entry.real.is_some() {
                entry.state = Stage::Complete;
            }
            let early = !segment.payload.is_empty() && !proven;
            self.expect(!early, now, Invariant::I5Proven, || format!("unproven: {segment}"));
        }
    }

    /// A SYN-ACK from a box.
    fn answered(&mut self, now: Instant, tuple: Tuple, spoof: Segment, wire: &Wire) {
        if let Some(entry) = self
            .entries
            .get_mut(&tuple)
            .filter(|entry| entry.spoof.ack == spoof.ack && entry.state != Stage::Lost)
        {
            let same = entry.frame.as_ref().is_none_or(|frame| *frame == wire.bytes);
            // What is over may be answered anew. If the answer is the same, it was not over.
            if entry.state != Stage::Ended {
                let before = entry.spoof.clone();
                self.expect(same, now, Invariant::I15SameAnswer, || format!("{before}\n  and then {spoof}"));
                return;
            }
            if same {
                entry.state = Stage::Opening;
                return;
            }
        }
        let entry = Entry {
            at: now,
            frame: Some(wire.bytes.clone()),
            spoof,
            real: None,
            state: Stage::Opening,
            proven: false,
        };
        self.entries.insert(tuple, entry);
    }

    /// The box tells that a handshake is over or will not be looked at.
    pub fn settled(&mut self, tuple: Tuple) {
        if let Some(entry) = self.entries.get_mut(&tuple).filter(|entry| entry.state == Stage::Opening) {
            entry.state = Stage::Ended;
        }
    }

    /// The box has forgotten this connection, which is not over: somebody's RST has looked like the end of it, and then
    /// nobody has said anything for a while.
    pub fn forgotten(&mut self, tuple: Tuple) {
        if let Some(entry) = self.entries.get_mut(&tuple) {
            entry.state = Stage::Lost;
        }
    }

    /// A box was replaced.
    pub fn replaced(&mut self, keeps_table: bool) {
        for entry in self.entries.values_mut() {
            // Answers may be written anew.
            entry.frame = None;
            if entry.state == Stage::Opening || !keeps_table {
                entry.state = Stage::Lost;
            }
        }
    }

    /// The window in a box's answer, if the server's own was smaller.
    pub fn promised(&self, tuple: Tuple) -> u16 {
        let entry = self.entries.get(&tuple);
        let windows = entry.and_then(|entry| Some((entry.spoof.window, entry.real.as_ref()?.window)));
        windows.filter(|(promised, real)| promised > real).map_or(0, |(promised, _)| promised)
    }

    /// Whether the box that answered this connection is gone with what it knew.
    pub fn is_lost(&self, tuple: Tuple) -> bool {
        self.entries.get(&tuple).is_some_and(|entry| entry.state == Stage::Lost)
    }

    /// Whether a box ended this connection.
    pub fn is_ended(&self, tuple: Tuple) -> bool {
        self.entries.get(&tuple).is_some_and(|entry| entry.state == Stage::Ended)
    }

    /// Whether a box answered this connection.
    pub fn is_answered(&self, tuple: Tuple) -> bool {
        self.entries.contains_key(&tuple)
    }

    /// Handshakes that should have come to an end by now.
    pub fn overdue(&mut self, now: Instant) {
        let late = |entry: &&mut Entry| {
            entry.state == Stage::Opening && entry.proven && entry.at + HANDSHAKE_MAX < now
        };
        let late: Vec<_> = self
            .entries
            .iter_mut()
            .filter_map(|(tuple, entry)| {
                late(&entry).then(|| {
                    entry.state = Stage::Ended;
                    *tuple
                })
            })
            .collect();
        for tuple in late {
            self.complain(now, Invariant::I14Ends, format!("{tuple:?} was answered, and then nothing"));
        }
    }

    /// Takes note of what does not hold.
    pub fn expect(&mut self, holds: bool, now: Instant, invariant: Invariant, what: impl FnOnce() -> String) {
        if !holds {
            self.complain(now, invariant, what());
        }
    }

    fn complain(&mut self, at: Instant, invariant: Invariant, what: String) {
        self.breaches.push(Breach { at, invariant, what });
    }
}
