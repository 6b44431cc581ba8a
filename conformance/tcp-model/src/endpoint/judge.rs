//! What an endpoint can tell about a segment that was meant for it: whether its peer can have sent it.

use gimlet_machine::Instant;

use super::{Endpoint, Ghost, Known, State};
use crate::invariant::{Breach, Invariant};
use crate::segment::{Segment, flag};
use crate::stack::content;

/// The bits that a translation leaves alone.
const FLAGS: u8 = flag::FIN | flag::SYN | flag::RST | flag::PSH | flag::ACK | flag::URG;

impl Endpoint {
    /// Looks at a segment before it changes anything.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        segment: &Segment,
        known: Known<'_>,
        found: &mut Vec<Breach>,
    ) {
        let ghost = known.ghost;
        let mut wrong: Vec<(Invariant, String)> = Vec::new();
        self.judge_acknowledgment(segment, &mut wrong);
        self.judge_options(segment, ghost, &mut wrong);
        if self.inn.irs.is_some() && !segment.has(flag::SYN) && !segment.has(flag::RST) {
            self.judge_data(segment, known.promised, &mut wrong);
        }
        if let Some(ghost) = ghost.filter(|_| !segment.has(flag::SYN) && self.inn.irs.is_some()) {
            self.judge_translation(segment, ghost, &mut wrong);
        }
        let breaches = wrong
            .into_iter()
            .map(|(invariant, what)| self.breach(now, invariant, &format!("{what}: {segment}")));
        found.extend(breaches);
    }

    fn judge_acknowledgment(&self, segment: &Segment, wrong: &mut Vec<(Invariant, String)>) {
        if !segment.has(flag::ACK) || segment.has(flag::RST) {
            return;
        }
        let ack = self.out.unwrap(segment.ack);
        if ack > self.out.max || ack < 1 {
            let what = format!("acknowledges {ack} of {} octets sent", self.out.max);
            wrong.push((Invariant::Strict, what));
        }
        for (left, right) in &segment.options.sacks {
            let (left, right) = (self.out.unwrap(*left), self.out.unwrap(*right));
            if left >= right || right > self.out.max || left < 1 {
                let what = format!("a SACK block {left}-{right} of {} octets sent", self.out.max);
                wrong.push((Invariant::Strict, what));
            }
        }
    }

    fn judge_options(
        &mut self,
        segment: &Segment,
        ghost: Option<&Ghost>,
        wrong: &mut Vec<(Invariant, String)>,
    ) {
        let options = &segment.options;
        if segment.has(flag::SYN | flag::ACK) && self.state == State::SynSent {
            // RFC 9293 §3.1 and those of the options: an answer has nothing that was not asked for.
            let asked = [
                options.shift.is_none() || self.stack.shift.is_some(),
                !options.sack_permitted || self.stack.sack,
                options.timestamps.is_none() || self.stack.timestamps,
                options.unknown.is_none() && options.fast_open.is_none(),
            ];
            if asked.contains(&false) {
                wrong.push((Invariant::Strict, "an option that was not asked for".into()));
            }
        }
        if let Some((value, echo)) = options.timestamps {
            if segment.has(flag::ACK) && !segment.has(flag::RST) && !self.clock.knows(echo) {
                wrong.push((Invariant::Strict, format!("TSecr {echo:08x} was never sent")));
            }
            if let Some(true_value) = ghost.and_then(|ghost| ghost.clock).filter(|_| !segment.has(flag::SYN))
            {
                let shift = value.wrapping_sub(true_value);
                let known = *self.clock.shift.get_or_insert(shift);
                if shift != known {
                    let what = format!("the clock was moved by {shift:08x} and before by {known:08x}");
                    wrong.push((Invariant::I9Clock, what));
                }
            }
        }
        let settled = self.state > State::SynReceived && !segment.has(flag::RST) && !segment.has(flag::SYN);
        if settled && options.timestamps.is_some() != self.agreed.timestamps {
            wrong.push((Invariant::Strict, format!("timestamps were agreed on: {}", self.agreed.timestamps)));
        }
        if settled && !self.agreed.sack && !options.sacks.is_empty() {
            wrong.push((Invariant::Strict, "SACK blocks, which were not agreed on".into()));
        }
    }

    /// Numbers and bytes. The peer's FIN is at a place that everybody knows.
    fn judge_data(&self, segment: &Segment, promised: u16, wrong: &mut Vec<(Invariant, String)>) {
        let seq = self.inn.unwrap(segment.seq);
        let end = seq + segment.payload.len() as i64;
        let all = self.apps[1].sends;
        if seq < 0 || end > all + 2 {
            wrong.push((Invariant::I7Continuous, format!("octets {seq}-{end} of a stream of {all}")));
            return;
        }
        if segment.payload.is_empty() {
            if segment.has(flag::FIN) && seq != all + 1 {
                wrong.push((Invariant::I1Prefix, format!("ends after {} of {all} bytes", seq - 1)));
            }
            return;
        }
        let limit = self.inn.edge.max(self.inn.nxt).max(1 + i64::from(promised));
        if end > limit {
            wrong.push((Invariant::Strict, format!("{} bytes beyond the window", end - limit)));
        }
        if seq < 1
            || end > all + 1
            || content(self.apps[1].content, seq - 1, segment.payload.len()) != segment.payload
        {
            wrong.push((Invariant::I1Prefix, format!("octets {seq}-{end} are not what was sent there")));
        }
        if segment.has(flag::FIN) && end != all + 1 {
            wrong.push((Invariant::I1Prefix, format!("ends after {} of {all} bytes", end - 1)));
        }
    }

    /// The peer's own words, moved into our space, are these.
    fn judge_translation(&self, segment: &Segment, ghost: &Ghost, wrong: &mut Vec<(Invariant, String)>) {
        let seq = self.inn.unwrap(segment.seq);
        if seq != ghost.seq {
            wrong.push((Invariant::I7Continuous, format!("octet {seq}, and it was sent as {}", ghost.seq)));
        }
        let both = segment.flags & flag::ACK & ghost.flags != 0;
        if both && self.out.unwrap(segment.ack) != ghost.ack {
            let what =
                format!("acknowledges {}, and it was sent as {}", self.out.unwrap(segment.ack), ghost.ack);
            wrong.push((Invariant::Strict, what));
        }
        if (segment.flags ^ ghost.flags) & FLAGS != 0 || segment.urgent != ghost.urgent {
            wrong.push((
                Invariant::Strict,
                format!("flags {:02x}, and they were {:02x}", segment.flags, ghost.flags),
            ));
        }
        let blocks: Vec<_> =
            segment.options.sacks.iter().map(|(l, r)| (self.out.unwrap(*l), self.out.unwrap(*r))).collect();
        if self.agreed.sack && blocks != ghost.sacks {
            wrong.push((Invariant::Strict, format!("SACK {blocks:?}, and they were {:?}", ghost.sacks)));
        }
        let shift = self.agreed.shifts.map_or(0, |(_, theirs)| theirs);
        let window = i64::from(segment.window) << shift;
        let short = ghost.window - window;
        if !segment.has(flag::RST) && short < 0 {
            wrong.push((Invariant::I8Window, format!("{} bytes more than the window", -short)));
        }
        if !segment.has(flag::RST) && short >= 1 << shift && segment.window != u16::MAX {
            wrong.push((Invariant::I8Window, format!("{short} bytes less than the window")));
        }
    }
}
