//! What an endpoint does with a segment, in the order of RFC 9293 §3.10.7.

use gimlet_machine::Instant;

use super::{Endpoint, Failure, State, TIME_WAIT, Timer};
use crate::segment::{Segment, flag};

/// The largest window that there can be, in bytes: how old an acknowledgment may be (RFC 5961 §5).
const WINDOW_MAX: i64 = 65_535 << 14;

impl Endpoint {
    pub(super) fn process(&mut self, now: Instant, segment: &Segment) {
        match self.state {
            State::Closed => self.refuse(segment),
            State::SynSent => self.process_answer(now, segment),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::TimeWait
            | State::CloseWait
            | State::LastAck => self.process_established(now, segment),
        }
    }

    /// A connection that does not exist (§3.10.7.1).
    fn refuse(&mut self, segment: &Segment) {
        if let Some(reset) = refusal(segment) {
            self.queue.push_back((reset, None));
        }
    }

    /// SYN-SENT (§3.10.7.3).
    fn process_answer(&mut self, now: Instant, segment: &Segment) {
        let acknowledges = segment.has(flag::ACK);
        let fits = acknowledges && self.out.unwrap(segment.ack) == 1;
        if acknowledges && !fits {
            if !segment.has(flag::RST) {
                self.refuse(segment);
            }
            return;
        }
        if segment.has(flag::RST) {
            if fits {
                self.fail(Failure::Reset);
            }
            return;
        }
        // Simultaneous open is left out: servers here do not open connections.
        if !segment.has(flag::SYN) || !fits {
            return;
        }
        self.inn.start(segment.seq);
        self.agree(&segment.options);
        if let (true, Some((value, echo))) = (self.agreed.timestamps, segment.options.timestamps) {
            self.clock.recent = value;
            let age = self.ticks(now).wrapping_sub(echo);
            self.out.measured(std::time::Duration::from_millis(u64::from(age)));
        }
        self.out.una = 1;
        self.out.edge = 1 + i64::from(segment.window);
        self.out.newest = (0, 1);
        self.set(Timer::Retransmit, None);
        self.established(now);
        // Data goes out with the acknowledgment of the SYN, or that goes alone.
        if self.inn.told == 0 {
            self.acknowledge(now);
        }
    }

    fn established(&mut self, now: Instant) {
        self.state = State::Established;
        self.out.restart();
        self.read(now);
    }

    fn process_established(&mut self, now: Instant, segment: &Segment) {
        let seq = self.inn.unwrap(segment.seq);
        if self.is_outdated(segment) {
            if !segment.has(flag::RST) {
                self.acknowledge(now);
            }
            return;
        }
        let end = seq + i64::from(segment.length());
        let (nxt, edge) = (self.inn.nxt, self.inn.edge.max(self.inn.nxt));
        // §3.10.7.4, first step: something of it lies in the window.
        let fits = if segment.length() == 0 {
            seq == nxt || (nxt <= seq && seq < edge)
        } else {
            seq < edge.max(nxt + 1) && end > nxt
        };
        if segment.has(flag::RST) {
            self.on_reset(now, seq, fits);
            return;
        }
        if segment.has(flag::SYN) {
            self.on_syn(now, segment);
            return;
        }
        if !fits {
            if !segment.payload.is_empty() && seq >= 1 && end <= nxt {
                self.inn.duplicate = Some((seq, seq + segment.payload.len() as i64));
            }
            if segment.has(flag::FIN) && self.state == State::TimeWait {
                self.set(Timer::Forget, Some(now + TIME_WAIT));
            }
            self.acknowledge(now);
            // Its acknowledgment counts all the same (§3.10.7.4, on windows of zero).
            if segment.has(flag::ACK) && self.state != State::SynReceived {
                self.on_acknowledgment(now, segment, seq);
            }
            return;
        }
        if !segment.has(flag::ACK)
            || !self.on_acknowledgment(now, segment, seq)
            || self.state == State::Closed
        {
            return;
        }
        self.note_clock(segment, seq);
        self.on_data(now, segment, seq);
        if self.state != State::Closed {
            self.flush(now);
        }
    }

    /// PAWS (RFC 7323 §5.3) and segments without the timestamps that were agreed on (§3.2).
    fn is_outdated(&self, segment: &Segment) -> bool {
        if !self.agreed.timestamps || segment.has(flag::RST) || segment.has(flag::SYN) {
            return false;
        }
        segment.options.timestamps.is_none_or(|(value, _)| (value.wrapping_sub(self.clock.recent) as i32) < 0)
    }

    fn note_clock(&mut self, segment: &Segment, seq: i64) {
        if let (true, Some((value, _))) = (self.agreed.timestamps, segment.options.timestamps)
            && seq <= self.inn.told
        {
            self.clock.recent = value;
        }
    }

    /// RFC 5961 §3.2: exactly the next number resets, anything else in the window is questioned.
    fn on_reset(&mut self, now: Instant, seq: i64, fits: bool) {
        if seq == self.inn.nxt {
            self.fail(Failure::Reset);
        } else if fits {
            self.acknowledge(now);
        }
    }

    /// RFC 5961 §4.2, and the client's own SYN once more.
    fn on_syn(&mut self, now: Instant, segment: &Segment) {
        if self.state == State::SynReceived && Some(segment.seq) == self.inn.irs && !segment.has(flag::ACK) {
            if let Some((value, _)) = segment.options.timestamps {
                self.clock.recent = value;
            }
            self.send_syn(now);
        } else {
            self.acknowledge(now);
        }
    }

    /// §3.10.7.4, fifth step. False: the rest of the segment does not count.
    fn on_acknowledgment(&mut self, now: Instant, segment: &Segment, seq: i64) -> bool {
        let ack = self.out.unwrap(segment.ack);
        if self.state == State::SynReceived {
            if ack != 1 {
                self.refuse(segment);
                return false;
            }
            self.out.una = 1;
            self.set(Timer::Retransmit, None);
            self.take_window(segment, seq, ack);
            self.established(now);
            return true;
        }
        if ack > self.out.max || ack < self.out.una - WINDOW_MAX {
            self.acknowledge(now);
            return false;
        }
        if self.agreed.sack {
            let blocks: Vec<_> = segment
                .options
                .sacks
                .iter()
                .map(|(l, r)| (self.out.unwrap(*l), self.out.unwrap(*r)))
                .collect();
            self.out.note_blocks(blocks.into_iter());
        }
        let edge = self.out.edge;
        let is_progress = ack > self.out.una;
        self.take_window(segment, seq, ack);
        if is_progress {
            let echo = segment.options.timestamps.filter(|_| self.agreed.timestamps).map(|(_, echo)| echo);
            self.on_progress(now, ack, echo);
            self.on_finished(now);
        } else if ack == self.out.una && segment.length() == 0 && self.out.edge == edge && self.out.max > ack
        {
            self.on_duplicate(now);
        }
        if self.state != State::Closed {
            self.flush(now);
        }
        true
    }

    /// SND.WND from the newest segment only.
    fn take_window(&mut self, segment: &Segment, seq: i64, ack: i64) {
        if (seq, ack) >= self.out.newest && ack >= self.out.una {
            let shift = self.agreed.shifts.map_or(0, |(_, theirs)| theirs);
            let edge = ack + (i64::from(segment.window) << shift);
            self.out.newest = (seq, ack);
            if edge > self.out.edge && self.out.max == self.out.una {
                // A shut window opened: the probe timer has done its work.
                self.set(Timer::Retransmit, None);
            }
            self.out.edge = edge;
        }
    }

    /// What follows if our FIN was acknowledged.
    fn on_finished(&mut self, now: Instant) {
        if self.out.una <= self.apps[0].sends + 1 {
            return;
        }
        match self.state {
            State::FinWait1 => self.state = State::FinWait2,
            State::Closing => self.wait(now),
            State::LastAck => {
                self.state = State::Closed;
                self.timers = [None; 5];
            }
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait2
            | State::TimeWait
            | State::CloseWait
            | State::Closed => {}
        }
    }

    fn wait(&mut self, now: Instant) {
        self.state = State::TimeWait;
        self.timers = [None; 5];
        self.set(Timer::Forget, Some(now + TIME_WAIT));
    }

    fn on_data(&mut self, now: Instant, segment: &Segment, seq: i64) {
        if segment.length() == 0 {
            return;
        }
        let left = seq;
        let right = (seq + segment.payload.len() as i64).min(self.inn.edge.max(self.inn.nxt));
        let mut in_order = false;
        if segment.has(flag::FIN) && right == seq + segment.payload.len() as i64 {
            self.inn.fin = Some(right);
        }
        if right > left {
            in_order = self.inn.take(left, right);
        }
        if self.inn.fin == Some(self.inn.nxt) {
            self.inn.nxt += 1;
            in_order = false;
            self.on_end(now);
        }
        if self.state == State::Closed {
            return;
        }
        self.inn.unacknowledged += 1;
        if !in_order || self.inn.unacknowledged >= 2 || segment.payload.len() as i64 > self.out.mss {
            self.acknowledge(now);
        } else if self.timers[Timer::Acknowledge as usize].is_none() {
            self.set(Timer::Acknowledge, Some(now + self.stack.delayed_ack));
        }
        if self.timers[Timer::Read as usize].is_none() {
            self.read(now);
        }
    }

    /// The peer's FIN is next.
    fn on_end(&mut self, now: Instant) {
        self.state = match self.state {
            State::SynReceived | State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => {
                self.wait(now);
                State::TimeWait
            }
            other @ (State::SynSent
            | State::Closing
            | State::TimeWait
            | State::CloseWait
            | State::LastAck
            | State::Closed) => other,
        };
    }

    /// An acknowledgment now.
    pub(super) fn acknowledge(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        let mut segment = self.blank(now);
        segment.seq = self.out.wire(self.out.nxt.max(self.out.una));
        if self.state == State::SynReceived {
            segment.seq = self.out.wire(1);
        }
        if self.agreed.sack {
            segment.options.sacks = self.inn.blocks(self.agreed.timestamps);
        }
        let seq = self.out.unwrap(segment.seq);
        self.acknowledged();
        self.push(segment, seq);
    }
}

/// What a host says about a connection that it does not have (RFC 9293 §3.10.7.1).
pub fn refusal(segment: &Segment) -> Option<Segment> {
    if segment.has(flag::RST) {
        return None;
    }
    let mut reset = Segment::new(segment.to, segment.from);
    if segment.has(flag::ACK) {
        reset.seq = segment.ack;
        reset.flags = flag::RST;
    } else {
        reset.ack = segment.seq.wrapping_add(segment.length());
        reset.flags = flag::RST | flag::ACK;
    }
    Some(reset)
}
