//! One end of one TCP connection: small, deterministic, and strict about what it is given.

mod incoming;
mod judge;
mod outgoing;
mod process;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::Instant;

use crate::invariant::{Breach, Invariant};
use crate::segment::{Options, Segment, flag};
use crate::stack::{App, READ_EVERY, Stack};
use incoming::Incoming;
use outgoing::Outgoing;
pub use process::refusal;

/// Retransmissions of one segment before the connection is given up (RFC 9293 §3.8.3, R2).
const RETRIES_MAX: u32 = 14;
/// Retransmissions of a SYN before the attempt is given up.
const SYN_RETRIES_MAX: u32 = 6;
/// 2 MSL, shorter than in life: no packet here is under way for longer.
const TIME_WAIT: Duration = Duration::from_secs(60);
/// The shift that may be used at most (RFC 7323 §2.3).
const SHIFT_MAX: u8 = 14;

/// Where a connection stands (RFC 9293 §3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The client's SYN was sent.
    SynSent,
    /// The server's SYN-ACK was sent.
    SynReceived,
    /// Both ends agree.
    Established,
    /// Our FIN was sent.
    FinWait1,
    /// Our FIN was acknowledged.
    FinWait2,
    /// Both FINs crossed.
    Closing,
    /// Over, remembered for stray segments.
    TimeWait,
    /// The peer's FIN was received.
    CloseWait,
    /// Our FIN was sent after the peer's.
    LastAck,
    /// Over.
    Closed,
}

/// How a connection ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The peer reset it.
    Reset,
    /// Our application reset it.
    Aborted,
    /// Nobody answered.
    TimedOut,
}

/// What a segment says in terms of the one who wrote it: numbers count from its own SYN and its peer's, so
/// whoever reads it can compare what they were given, in whatever space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ghost {
    /// SEG.SEQ, counted from the SYN.
    pub seq: i64,
    /// SEG.ACK, counted from the peer's SYN.
    pub ack: i64,
    /// SACK blocks, counted likewise.
    pub sacks: Vec<(i64, i64)>,
    /// TSval.
    pub clock: Option<u32>,
    /// The window in bytes.
    pub window: i64,
    /// Bits of [`flag`].
    pub flags: u8,
    /// The urgent pointer.
    pub urgent: u16,
    /// How many bytes of data a segment may have.
    pub size: u16,
}

/// What both SYNs agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Shifts of what we say and of what we hear, if both scale.
    pub shifts: Option<(u8, u8)>,
    /// Both know SACK.
    pub sack: bool,
    /// Both use timestamps.
    pub timestamps: bool,
}

/// Timers of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Retransmit,
    Acknowledge,
    Read,
    Resume,
    Forget,
}

/// Timestamps (RFC 7323 §3), one tick a millisecond.
#[derive(Debug)]
struct Clock {
    base: u32,
    /// TSvals sent, in order.
    sent: Vec<u32>,
    /// TS.Recent.
    recent: u32,
    /// What has to be taken from a TSval to get at what the peer wrote, once it is known.
    shift: Option<u32>,
}

/// One end of one connection.
#[derive(Debug)]
pub struct Endpoint {
    /// Its address.
    pub local: SocketAddr,
    /// Its peer's.
    pub remote: SocketAddr,
    stack: Stack,
    /// What its application and its peer's do.
    apps: [App; 2],
    state: State,
    failure: Option<Failure>,
    agreed: Agreed,
    clock: Clock,
    out: Outgoing,
    inn: Incoming,
    timers: [Option<Instant>; 5],
    queue: VecDeque<(Segment, Option<Ghost>)>,
}

/// What is known about a segment besides what it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// It was sent by the peer or by what stands in between, so it must be right.
    pub genuine: bool,
    /// What its writer meant, if nobody else has written it since.
    pub ghost: Option<&'a Ghost>,
    /// How many bytes the peer was promised at the beginning, if it is more than what was promised here: a
    /// box cannot keep what it learned from a server that has changed since.
    pub promised: u16,
}

impl Endpoint {
    /// A client that sends its SYN now. `apps` are its own application and the server's.
    pub fn connect(
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        iss: u32,
        stack: Stack,
        apps: [App; 2],
    ) -> Self {
        let mut endpoint = Self::new((local, remote), iss, stack, apps, State::SynSent);
        endpoint.out.nxt = 1;
        endpoint.out.max = 1;
        endpoint.send_syn(now);
        endpoint
    }

    /// A server that was given a SYN.
    pub fn accept(now: Instant, syn: &Segment, iss: u32, stack: Stack, apps: [App; 2]) -> Self {
        let mut endpoint = Self::new((syn.to, syn.from), iss, stack, apps, State::SynReceived);
        endpoint.inn.start(syn.seq);
        endpoint.agree(&syn.options);
        if let (true, Some((value, _))) = (endpoint.agreed.timestamps, syn.options.timestamps) {
            endpoint.clock.recent = value;
        }
        endpoint.out.edge = 1 + i64::from(syn.window);
        endpoint.out.cookie = endpoint.take_early(syn);
        endpoint.out.nxt = 1;
        endpoint.out.max = 1;
        endpoint.send_syn(now);
        endpoint
    }

    /// Data in a SYN, if its cookie is ours (RFC 7413 §4.2), and the cookie to give to whoever asks for one.
    fn take_early(&mut self, syn: &Segment) -> Option<Vec<u8>> {
        let (offered, cookie) = syn.options.fast_open.as_ref().zip(self.stack.fast_open)?;
        if *offered == cookie && !syn.payload.is_empty() {
            self.inn.offer(0);
            let right = (1 + syn.payload.len() as i64).min(self.inn.edge);
            self.inn.take(1, right);
            return None;
        }
        Some(cookie.to_vec())
    }

    fn new(
        (local, remote): (SocketAddr, SocketAddr),
        iss: u32,
        stack: Stack,
        apps: [App; 2],
        state: State,
    ) -> Self {
        Self {
            local,
            remote,
            stack,
            apps,
            state,
            failure: None,
            agreed: Agreed::default(),
            clock: Clock { base: iss.rotate_left(9) ^ 0x5bd1_e995, sent: Vec::new(), recent: 0, shift: None },
            out: Outgoing::new(iss, &stack),
            inn: Incoming::new(&stack),
            timers: [None; 5],
            queue: VecDeque::new(),
        }
    }

    /// What it says next, and what that means.
    pub fn poll(&mut self) -> Option<(Segment, Option<Ghost>)> {
        self.queue.pop_front()
    }

    /// When it wants [`Endpoint::timeout`].
    pub fn due(&self) -> Option<Instant> {
        self.timers.iter().flatten().min().copied()
    }

    /// How it speaks.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// How it failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether nothing more is to be expected of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closed | State::TimeWait)
    }

    /// Bytes of the stream that it received in order.
    pub fn received(&self) -> i64 {
        self.inn.stream(self.apps[1].sends)
    }

    /// Whether it received all there is and knows that it was all.
    pub fn is_complete(&self) -> bool {
        self.inn.nxt > self.apps[1].sends + 1
    }

    /// One past the last octet that it ever sent, its SYN being 0.
    pub fn sent_max(&self) -> i64 {
        self.out.max
    }

    /// The latest octet that it acknowledged, and the end of the window that it showed, the peer's SYN being 0.
    pub fn told(&self) -> (i64, i64) {
        (self.inn.told, self.inn.edge)
    }

    /// What both SYNs agreed on.
    pub fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// What it knows about the peer's first number and about its own.
    pub fn numbers(&self) -> (u32, Option<u32>) {
        (self.out.iss, self.inn.irs)
    }

    /// A segment arrived. What is wrong with it comes back.
    pub fn handle(&mut self, now: Instant, segment: &Segment, known: Known<'_>) -> Vec<Breach> {
        let mut found = Vec::new();
        // After the end anything may still arrive, from a peer that began anew for all we know.
        if known.genuine && !self.is_over() {
            self.judge(now, segment, known, &mut found);
        }
        self.process(now, segment);
        found
    }

    /// Somebody on the way says that a segment which begins with `seq` is longer than `mtu` (RFC 1191, RFC 8201).
    pub fn too_big(&mut self, now: Instant, seq: u32, mtu: usize) -> Option<Breach> {
        let at = self.out.unwrap(seq);
        if at < self.out.una {
            return None;
        }
        if at >= self.out.max {
            let what = format!("too big: octet {at} of {} sent", self.out.max);
            return Some(self.breach(now, Invariant::Strict, &what));
        }
        let headers =
            if self.local.is_ipv4() { 40 } else { 60 } + if self.agreed.timestamps { 12 } else { 0 };
        self.out.mss = self.out.mss.min((mtu as i64 - headers).max(88));
        self.out.nxt = self.out.una;
        self.flush(now);
        None
    }

    /// Timers that are due.
    pub fn timeout(&mut self, now: Instant) {
        for timer in [Timer::Retransmit, Timer::Acknowledge, Timer::Read, Timer::Resume, Timer::Forget] {
            if self.timers[timer as usize].is_none_or(|at| at > now) {
                continue;
            }
            self.timers[timer as usize] = None;
            match timer {
                Timer::Retransmit => self.retransmit(now),
                Timer::Acknowledge => self.acknowledge(now),
                Timer::Read => self.read(now),
                Timer::Resume => self.flush(now),
                Timer::Forget => self.state = State::Closed,
            }
        }
    }

    fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.timers[timer as usize] = at;
    }

    /// What the application reads, and what follows from it.
    fn read(&mut self, now: Instant) {
        let available = self.inn.stream(self.apps[1].sends) - self.inn.read;
        let portion = self.apps[0].reads.map_or(available, |portion| available.min(i64::from(portion)));
        self.inn.read += portion;
        if self.inn.read < self.inn.stream(self.apps[1].sends) {
            self.set(Timer::Read, Some(now + READ_EVERY));
        }
        if self.apps[0].aborts_after.is_some_and(|after| self.inn.read >= after) && !self.is_over() {
            self.abort(now);
            return;
        }
        let news = self.inn.edge_now() - self.inn.edge;
        if portion > 0 && self.state >= State::Established && news >= self.inn.worthwhile() {
            self.acknowledge(now);
        }
        self.flush(now);
    }

    /// The application resets the connection.
    fn abort(&mut self, now: Instant) {
        let reset =
            Segment { seq: self.out.wire(self.out.nxt), flags: flag::RST | flag::ACK, ..self.blank(now) };
        self.push(reset, self.out.nxt);
        self.fail(Failure::Aborted);
    }

    fn fail(&mut self, failure: Failure) {
        self.failure = self.failure.or(Some(failure));
        self.state = State::Closed;
        self.timers = [None; 5];
    }

    fn agree(&mut self, theirs: &Options) {
        let shifts = self.stack.shift.zip(theirs.shift);
        self.agreed = Agreed {
            shifts: shifts.map(|(ours, theirs)| (ours, theirs.min(SHIFT_MAX))),
            sack: self.stack.sack && theirs.sack_permitted,
            timestamps: self.stack.timestamps && theirs.timestamps.is_some(),
        };
        let room = if self.agreed.timestamps { 12 } else { 0 };
        self.out.mss = i64::from(theirs.mss.unwrap_or(536).min(self.stack.mss)) - room;
        self.out.congestion = self.out.mss * i64::from(self.stack.initial_segments);
    }

    fn ticks(&self, now: Instant) -> u32 {
        self.clock.base.wrapping_add(now.as_millis() as u32)
    }

    /// A segment with addresses, acknowledgment, window and timestamps.
    fn blank(&mut self, now: Instant) -> Segment {
        let mut segment = Segment::new(self.local, self.remote);
        if let Some(irs) = self.inn.irs {
            segment.flags = flag::ACK;
            segment.ack = irs.wrapping_add(self.inn.nxt as u32);
            self.inn.told = self.inn.nxt;
        }
        let shift = self.agreed.shifts.map_or(0, |(ours, _)| ours);
        let window = self.inn.offer(shift);
        segment.window = (window >> shift) as u16;
        if self.agreed.timestamps {
            let value = self.ticks(now);
            segment.options.timestamps = Some((value, self.clock.recent));
            self.clock.note(value);
        }
        segment
    }

    /// Our SYN or SYN-ACK, again with the time of day.
    fn send_syn(&mut self, now: Instant) {
        let mut syn = Segment::new(self.local, self.remote);
        let answers = self.inn.irs.is_some();
        syn.seq = self.out.iss;
        syn.flags = flag::SYN;
        if let Some(irs) = self.inn.irs {
            syn.flags |= flag::ACK;
            syn.ack = irs.wrapping_add(self.inn.nxt as u32);
            self.inn.told = self.inn.nxt;
            syn.options.fast_open.clone_from(&self.out.cookie);
        }
        syn.window = self.inn.offer(0) as u16;
        syn.options.mss = Some(self.stack.mss);
        syn.options.shift = self.stack.shift.filter(|_| !answers || self.agreed.shifts.is_some());
        syn.options.sack_permitted = self.stack.sack && (!answers || self.agreed.sack);
        if self.stack.timestamps && (!answers || self.agreed.timestamps) {
            let value = self.ticks(now);
            syn.options.timestamps = Some((value, self.clock.recent));
            self.clock.note(value);
        }
        self.push(syn, 0);
        self.set(Timer::Retransmit, Some(now + self.out.timeout()));
    }

    fn push(&mut self, segment: Segment, seq: i64) {
        let blocks = segment.options.sacks.iter();
        let shift = if segment.has(flag::SYN) { 0 } else { self.agreed.shifts.map_or(0, |(ours, _)| ours) };
        let ghost = Ghost {
            seq,
            ack: self.inn.told,
            sacks: blocks.map(|(left, right)| (self.inn.unwrap(*left), self.inn.unwrap(*right))).collect(),
            clock: segment.options.timestamps.map(|(value, _)| value),
            window: i64::from(segment.window) << shift,
            flags: segment.flags,
            urgent: segment.urgent,
            size: self.out.mss as u16,
        };
        self.queue.push_back((segment, Some(ghost)));
    }

    fn breach(&self, now: Instant, invariant: Invariant, what: &str) -> Breach {
        Breach { at: now, invariant, what: format!("at {}: {what}", self.local) }
    }
}

impl Clock {
    fn note(&mut self, value: u32) {
        if self.sent.last() != Some(&value) {
            self.sent.push(value);
        }
    }

    /// Whether this was ever sent.
    fn knows(&self, value: u32) -> bool {
        let since = |sent: &u32| sent.wrapping_sub(self.base);
        self.sent.binary_search_by_key(&since(&value), since).is_ok()
    }
}
