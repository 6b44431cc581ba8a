//! What an endpoint sends, and when it sends it again. Octets count from its own SYN, which is 0.

use std::time::Duration;

use gimlet_machine::Instant;

use super::{Endpoint, RETRIES_MAX, SYN_RETRIES_MAX, State, Timer};
use crate::segment::{Segment, flag};
use crate::stack::{Stack, content};

/// RFC 6298 §2, with the smaller minimum that most stacks have.
const TIMEOUT_FIRST: Duration = Duration::from_secs(1);
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
const TIMEOUT_MAX: Duration = Duration::from_secs(8);
/// Duplicates after which a segment counts as lost (RFC 5681 §3.2).
const DUPLICATES: u32 = 3;

/// The sending half.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) iss: u32,
    /// SND.UNA.
    pub(super) una: i64,
    /// SND.NXT.
    pub(super) nxt: i64,
    /// One past the last octet that was ever sent.
    pub(super) max: i64,
    /// The end of the peer's window.
    pub(super) edge: i64,
    /// The segment that the window was last taken from: SND.WL1 and SND.WL2.
    pub(super) newest: (i64, i64),
    /// Data in one segment.
    pub(super) mss: i64,
    /// The congestion window in bytes.
    pub(super) congestion: i64,
    /// The cookie that the client asked for: it goes out with our SYN (RFC 7413 §4.1.2).
    pub(super) cookie: Option<Vec<u8>>,
    pub(super) loss: Loss,
    pub(super) pace: Pace,
}

/// What is known to be lost (RFC 2018, RFC 6675 in spirit).
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Acknowledged out of order, in no order.
    sacked: Vec<(i64, i64)>,
    duplicates: u32,
    /// Until here recovery goes, and from here the next hole is looked for.
    recovery: Option<(i64, i64)>,
}

/// When to try again (RFC 6298).
#[derive(Debug)]
pub(super) struct Pace {
    smoothed: Option<(Duration, Duration)>,
    timeout: Duration,
    retries: u32,
    /// A segment that is timed without timestamps: its end and when it was sent.
    timed: Option<(i64, Instant)>,
    /// The pause that the application makes, and whether it has made it.
    paused: Option<Instant>,
}

impl Outgoing {
    pub(super) fn new(iss: u32, stack: &Stack) -> Self {
        let pace = Pace { smoothed: None, timeout: TIMEOUT_FIRST, retries: 0, timed: None, paused: None };
        Self {
            iss,
            una: 0,
            nxt: 0,
            max: 0,
            edge: 1,
            newest: (i64::MIN, i64::MIN),
            mss: i64::from(stack.mss.min(536)),
            congestion: 1,
            cookie: None,
            loss: Loss::default(),
            pace,
        }
    }

    pub(super) fn wire(&self, offset: i64) -> u32 {
        self.iss.wrapping_add(offset as u32)
    }

    pub(super) fn unwrap(&self, number: u32) -> i64 {
        self.una + i64::from(number.wrapping_sub(self.wire(self.una)) as i32)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.pace.timeout
    }

    /// RFC 6298 §2.
    pub(super) fn measured(&mut self, sample: Duration) {
        let (smoothed, varied) = match self.pace.smoothed {
            None => (sample, sample / 2),
            Some((smoothed, varied)) => {
                ((smoothed * 7 + sample) / 8, (varied * 3 + smoothed.abs_diff(sample)) / 4)
            }
        };
        self.pace.smoothed = Some((smoothed, varied));
        self.pace.timeout = (smoothed + varied * 4).clamp(TIMEOUT_MIN, TIMEOUT_MAX);
    }

    /// The handshake is over: what it waited for does not count any more (RFC 6298 §5.7).
    pub(super) fn restart(&mut self) {
        self.pace.retries = 0;
        self.pace.timeout = match self.pace.smoothed {
            Some((smoothed, varied)) => (smoothed + varied * 4).clamp(TIMEOUT_MIN, TIMEOUT_MAX),
            None => TIMEOUT_FIRST,
        };
    }

    fn back_off(&mut self) {
        self.pace.retries += 1;
        self.pace.timeout = (self.pace.timeout * 2).min(TIMEOUT_MAX);
        self.pace.timed = None;
    }

    pub(super) fn note_blocks(&mut self, blocks: impl Iterator<Item = (i64, i64)>) {
        for (left, right) in blocks {
            if left >= self.una
                && right <= self.max
                && left < right
                && !self.loss.sacked.contains(&(left, right))
            {
                self.loss.sacked.retain(|(from, to)| *from < left || *to > right);
                self.loss.sacked.push((left, right));
            }
        }
    }

    /// The next hole below what was acknowledged out of order, at or after `from`.
    fn hole(&self, from: i64) -> Option<(i64, i64)> {
        let highest = self.loss.sacked.iter().map(|(_, right)| *right).max().unwrap_or(self.una + 1);
        let mut at = from.max(self.una);
        while let Some((_, right)) = self.loss.sacked.iter().find(|(left, right)| *left <= at && at < *right)
        {
            at = *right;
        }
        let end = self
            .loss
            .sacked
            .iter()
            .map(|(left, _)| *left)
            .filter(|left| *left > at)
            .min()
            .unwrap_or(self.max);
        (at < highest.max(self.una + 1) && at < self.max).then_some((at, end.min(at + self.mss)))
    }
}

impl Endpoint {
    /// One past the last byte that the application will send; the FIN is there.
    fn end(&self) -> i64 {
        self.apps[0].sends + 1
    }

    /// One past the last byte that the application has written.
    fn written(&mut self, now: Instant) -> i64 {
        let app = self.apps[0];
        if self.inn.read < app.starts_after {
            return 1;
        }
        let Some((at, pause)) = app.pause.filter(|(at, _)| *at < app.sends) else { return self.end() };
        match self.out.pace.paused {
            Some(until) if until <= now => self.end(),
            Some(_) => at + 1,
            None => {
                self.out.pace.paused = Some(now + pause);
                self.set(Timer::Resume, Some(now + pause));
                at + 1
            }
        }
    }

    /// Sends what may be sent.
    pub(super) fn flush(&mut self, now: Instant) {
        if !matches!(
            self.state,
            State::Established | State::CloseWait | State::FinWait1 | State::Closing | State::LastAck
        ) {
            return;
        }
        let (written, end) = (self.written(now), self.end());
        let limit = self.out.edge.min(self.out.una + self.out.congestion);
        let train = i64::from(self.stack.train.max(1));
        while self.out.nxt < written.min(limit) {
            let room = written.min(limit) - self.out.nxt;
            // A last piece waits for its acknowledgment unless nothing else is under way (RFC 9293 §3.8.6.2.1).
            if room < self.out.mss && self.out.nxt + room < written && self.out.nxt > self.out.una {
                break;
            }
            let right = self.out.nxt + room.min(self.out.mss * train);
            self.send(now, self.out.nxt, right);
        }
        let closes = written == end && self.inn.read >= self.apps[0].closes_after;
        if closes && self.out.nxt == end {
            self.send(now, end, end);
        }
        self.arm(now);
    }

    /// Sends `[left, right)`, with a FIN if the stream ends there.
    fn send(&mut self, now: Instant, left: i64, right: i64) {
        let mut segment = self.blank(now);
        segment.seq = self.out.wire(left);
        let end = self.end();
        let right = right.min(end);
        if right > left {
            segment.payload = content(self.apps[0].content, left - 1, (right - left) as usize).to_vec();
        }
        let last = right == end;
        if last {
            segment.flags |= flag::PSH;
        }
        let closes = last && self.inn.read >= self.apps[0].closes_after;
        if closes {
            segment.flags |= flag::FIN;
            self.state = match self.state {
                State::Established => State::FinWait1,
                State::CloseWait => State::LastAck,
                other => other,
            };
        }
        if self.apps[0].urgent && left == 1 && right > left {
            segment.flags |= flag::URG;
            segment.urgent = 1;
        }
        let after = right + i64::from(closes);
        if left == self.out.max && self.out.pace.timed.is_none() {
            self.out.pace.timed = Some((after, now));
        }
        self.out.nxt = self.out.nxt.max(after);
        self.out.max = self.out.max.max(after);
        self.acknowledged();
        self.push(segment, left);
    }

    /// What is sent carries an acknowledgment.
    pub(super) fn acknowledged(&mut self) {
        self.inn.unacknowledged = 0;
        self.set(Timer::Acknowledge, None);
    }

    /// Retransmission while something is under way, a probe while the window is shut.
    fn arm(&mut self, now: Instant) {
        let waits = self.out.max > self.out.una;
        let written = self.written(now);
        let shut = !waits && self.out.nxt < written && self.out.edge <= self.out.nxt;
        let timer = &mut self.timers[Timer::Retransmit as usize];
        if !waits && !shut {
            *timer = None;
        } else if timer.is_none() {
            *timer = Some(now + self.out.pace.timeout);
        }
    }

    /// The retransmission timer (RFC 6298 §5), which also probes windows (RFC 9293 §3.8.6.1).
    pub(super) fn retransmit(&mut self, now: Instant) {
        let opening = matches!(self.state, State::SynSent | State::SynReceived);
        let most = if opening { SYN_RETRIES_MAX } else { RETRIES_MAX };
        let waits = self.out.max > self.out.una;
        if self.out.pace.retries >= most && waits {
            self.fail(super::Failure::TimedOut);
            return;
        }
        self.out.back_off();
        if opening {
            self.send_syn(now);
            return;
        }
        if !waits {
            // An octet that was acknowledged already: the answer tells the window.
            let probe = Segment { seq: self.out.wire(self.out.una - 1), ..self.blank(now) };
            self.push(probe, self.out.una - 1);
            self.out.pace.retries = self.out.pace.retries.min(1);
            self.set(Timer::Retransmit, Some(now + self.out.pace.timeout));
            return;
        }
        self.out.loss = Loss::default();
        self.out.congestion = self.out.mss;
        self.out.nxt = self.out.una;
        if self.out.edge <= self.out.una {
            // The window was taken back: what is under way counts as a probe.
            self.out.edge = self.out.una + 1;
        }
        self.flush(now);
        self.set(Timer::Retransmit, Some(now + self.out.pace.timeout));
    }

    /// `ack` acknowledges something new.
    pub(super) fn on_progress(&mut self, now: Instant, ack: i64, echo: Option<u32>) {
        if let Some(echo) = echo {
            let age = self.ticks(now).wrapping_sub(echo);
            self.out.measured(Duration::from_millis(u64::from(age)));
        } else if let Some((end, sent)) = self.out.pace.timed
            && ack >= end
        {
            self.out.measured(now.since(sent));
        }
        self.out.pace.timed = self.out.pace.timed.filter(|(end, _)| ack < *end);
        self.out.congestion += (ack - self.out.una).min(self.out.mss * 2);
        self.out.una = ack;
        self.out.nxt = self.out.nxt.max(ack);
        self.out.pace.retries = 0;
        self.out.loss.duplicates = 0;
        self.out.loss.sacked.retain(|(_, right)| *right > ack);
        self.timers[Timer::Retransmit as usize] = None;
        match self.out.loss.recovery {
            Some((until, _)) if ack >= until => self.out.loss.recovery = None,
            Some((until, from)) => self.repair(now, until, from.max(ack)),
            None => {}
        }
    }

    /// The same acknowledgment again.
    pub(super) fn on_duplicate(&mut self, now: Instant) {
        self.out.loss.duplicates += 1;
        match self.out.loss.recovery {
            Some((until, from)) => self.repair(now, until, from),
            None if self.out.loss.duplicates >= DUPLICATES => {
                self.out.congestion = (self.out.congestion / 2).max(self.out.mss * 2);
                self.repair(now, self.out.max, self.out.una);
            }
            None => {}
        }
    }

    fn repair(&mut self, now: Instant, until: i64, from: i64) {
        let Some((left, right)) = self.out.hole(from) else {
            self.out.loss.recovery = Some((until, from));
            return;
        };
        self.out.loss.recovery = Some((until, right.max(left + 1)));
        let nxt = self.out.nxt;
        self.out.pace.timed = None;
        self.send(now, left, right.min(self.end()));
        self.out.nxt = self.out.nxt.max(nxt);
    }
}
