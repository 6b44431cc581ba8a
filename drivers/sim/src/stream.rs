//! One end of a TCP connection: as much of RFC 9293 as a machine behind a driver can tell.
//!
//! Bytes arrive in order or not at all; what the network loses is sent again and arrives late (RFC 6298);
//! a peer that forgot answers with a reset; one that is silent is given up.
//!
//! There is no congestion control: a window of constant size is under way. There is no TIME-WAIT and no initial
//! sequence number, because nobody forges segments here and ports are drawn at random. There are no
//! options: segments fit the smallest path.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use gimlet_machine::{CloseReason, Instant};

/// Payload bytes of one segment: what fits the least MTU that IPv6 allows (RFC 8200 §5), so that no path
/// needs to be measured.
pub(crate) const SEGMENT_MAX: usize = 1_280 - 40 - HEADER_LEN;
/// Bytes that the network takes before the peer has to acknowledge some: the system's send buffer.
pub(crate) const WINDOW: usize = 65_536;
/// The length of a TCP header without options. Ours has the same length and other fields.
pub(crate) const HEADER_LEN: usize = 20;

/// The first retransmission timeout (RFC 6298 §2.1), and the bounds of later ones. The RFC's lower bound is a
/// second; systems take 200 ms.
const RTO_FIRST: Duration = Duration::from_secs(1);
const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(60);
/// How often the first segment is sent: nobody answers for 15 s, nobody is there.
const OPENING_TRIES_MAX: u32 = 4;
/// How often any other is.
const TRIES_MAX: u32 = 8;
/// Acknowledgements of the same byte after which the next is taken for lost (RFC 5681 §3.2).
const DUPLICATES: u32 = 3;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// SYN.
    Open = 1,
    /// SYN and ACK.
    Accept = 2,
    /// Bytes, or none: an acknowledgement.
    Data = 3,
    /// FIN.
    End = 4,
    /// RST.
    Reset = 5,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) kind: Kind,
    /// Where in the stream its bytes are. The end of a stream takes the place of one byte.
    pub(crate) sequence: u64,
    /// What the sender expects next.
    pub(crate) acknowledged: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    pub(crate) const RESET: Segment<'static> =
        Segment { kind: Kind::Reset, sequence: 0, acknowledged: 0, bytes: &[] };

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.acknowledged.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }

    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, bytes) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let kind = [Kind::Open, Kind::Accept, Kind::Data, Kind::End, Kind::Reset];
        let kind = kind.into_iter().find(|kind| *kind as u8 == header[0])?;
        let number = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Segment { kind, sequence: number(4)?, acknowledged: number(12)?, bytes })
    }
}

/// What the machine learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Connected,
    Received(Vec<u8>),
    Written(usize),
    /// The last.
    Closed(CloseReason),
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// We asked.
    Opening,
    /// We were asked.
    Accepting,
    /// Both know each other.
    Open,
    /// Nothing.
    Over,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    phase: Phase,
    news: VecDeque<News>,
    /// The machine waits for no more news.
    is_closed: bool,
    sending: Sending,
    receiving: Receiving,
    timer: Timer,
}

#[derive(Debug, Default)]
struct Sending {
    /// What the machine wrote and the network has not taken.
    waiting: VecDeque<Bytes>,
    /// What the network has taken and the peer has not acknowledged.
    taken: VecDeque<u8>,
    /// The first unacknowledged byte.
    acknowledged: u64,
    /// The next to leave.
    next: u64,
    /// Nothing follows what is waiting.
    ends: bool,
    /// Acknowledgements in a row that acknowledged nothing.
    duplicates: u32,
    /// The first unacknowledged segment, or the handshake's, is to leave now.
    again: bool,
}

#[derive(Debug, Default)]
struct Receiving {
    /// The next byte for the machine.
    next: u64,
    /// Segments that overtook others.
    ahead: BTreeMap<u64, Vec<u8>>,
    /// Where the stream ends, once that is known.
    end: Option<u64>,
    /// Acknowledgements to send.
    owed: u32,
}

/// When to send again (RFC 6298).
#[derive(Debug)]
struct Timer {
    at: Option<Instant>,
    rto: Duration,
    tries: u32,
    /// Round-trip time and its variation, smoothed.
    smoothed: Option<(Duration, Duration)>,
    /// What is being timed: the byte whose acknowledgement ends it, and when it began.
    timed: Option<(u64, Instant)>,
}

impl Stream {
    /// Asks the peer for a connection.
    pub(crate) fn open() -> Self {
        Self::new(Phase::Opening)
    }

    /// The peer asked for one.
    pub(crate) fn accept() -> Self {
        Self::new(Phase::Accepting)
    }

    fn new(phase: Phase) -> Self {
        Self {
            phase,
            news: VecDeque::new(),
            is_closed: false,
            sending: Sending { again: true, ..Sending::default() },
            receiving: Receiving::default(),
            timer: Timer { at: None, rto: RTO_FIRST, tries: 0, smoothed: None, timed: None },
        }
    }

    /// The machine writes. Returns how much the network took at once.
    pub(crate) fn write(&mut self, bytes: Bytes) -> usize {
        if self.is_closed || self.sending.ends {
            return 0;
        }
        self.sending.waiting.push_back(bytes);
        match self.phase {
            // Nothing is taken before there is a connection.
            Phase::Opening | Phase::Accepting | Phase::Over => 0,
            Phase::Open => self.sending.take(),
        }
    }

    /// The machine closes: what it wrote is sent, and it hears no more.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.news.clear();
        match self.phase {
            Phase::Opening | Phase::Accepting if self.sending.waiting.is_empty() => self.phase = Phase::Over,
            Phase::Opening | Phase::Accepting | Phase::Open => self.sending.ends = true,
            Phase::Over => {}
        }
    }

    /// Nothing more comes of it.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over && self.news.is_empty()
    }

    pub(crate) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timer.at.filter(|_| self.phase != Phase::Over)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        self.timer.tries += 1;
        let most = if self.phase == Phase::Open { TRIES_MAX } else { OPENING_TRIES_MAX };
        if self.timer.tries >= most {
            return self.end(CloseReason::Unreachable);
        }
        // RFC 6298 §5.5, and everything from the lost segment on again.
        self.timer.rto = (self.timer.rto * 2).min(RTO_MAX);
        (self.timer.at, self.timer.timed) = (None, None);
        self.sending.next = self.sending.acknowledged;
        self.sending.again = self.phase != Phase::Open;
    }

    /// A segment from the peer.
    pub(crate) fn handle_segment(&mut self, now: Instant, segment: &Segment<'_>) {
        match (self.phase, segment.kind) {
            (Phase::Over, _) | (Phase::Opening, Kind::Open | Kind::Data | Kind::End) => return,
            (Phase::Opening, Kind::Reset) => return self.end(CloseReason::Refused),
            (Phase::Accepting | Phase::Open, Kind::Reset) => return self.end(CloseReason::Reset),
            (Phase::Opening, Kind::Accept) => {
                self.establish(now);
                self.receiving.owed += 1;
                return;
            }
            (Phase::Accepting, Kind::Open) => return self.sending.again = true,
            // Our acknowledgement of it was lost.
            (Phase::Accepting | Phase::Open, Kind::Accept) | (Phase::Open, Kind::Open) => {
                self.receiving.owed += 1;
                return;
            }
            (Phase::Accepting, Kind::Data | Kind::End) => self.establish(now),
            (Phase::Open, Kind::Data | Kind::End) => {}
        }
        self.on_acknowledged(now, segment);
        if self.phase == Phase::Open {
            self.on_bytes(segment);
        }
    }

    /// Writes the next segment, if there is one to send.
    pub(crate) fn poll_segment(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let acknowledged = self.receiving.next + u64::from(self.receiving.is_complete());
        let sending = &mut self.sending;
        let mut part = [0; SEGMENT_MAX];
        let empty = |kind, sequence| Segment { kind, sequence, acknowledged, bytes: &[] };
        let segment = match self.phase {
            Phase::Over => return false,
            Phase::Opening | Phase::Accepting if !std::mem::take(&mut sending.again) => return false,
            Phase::Opening => empty(Kind::Open, 0),
            Phase::Accepting => empty(Kind::Accept, 0),
            Phase::Open => {
                let sequence =
                    if std::mem::take(&mut sending.again) { sending.acknowledged } else { sending.next };
                let length = sending.read(sequence, &mut part);
                if length > 0 {
                    Segment { kind: Kind::Data, sequence, acknowledged, bytes: &part[..length] }
                } else if sending.is_at_end(sequence) {
                    empty(Kind::End, sequence)
                } else if self.receiving.owed > 0 {
                    self.receiving.owed -= 1;
                    empty(Kind::Data, sequence).write(out);
                    return true;
                } else {
                    return false;
                }
            }
        };
        self.receiving.owed = 0;
        let after = segment.sequence + segment.bytes.len() as u64 + u64::from(segment.kind == Kind::End);
        if self.phase == Phase::Open && after > sending.next {
            sending.next = after;
            // RFC 6298 §3 (Karn): only what is sent once is timed.
            if self.timer.tries == 0 && self.timer.timed.is_none() {
                self.timer.timed = Some((after, now));
            }
        }
        segment.write(out);
        if self.phase != Phase::Open && self.timer.tries == 0 && self.timer.timed.is_none() {
            self.timer.timed = Some((0, now));
        }
        if self.timer.at.is_none() {
            self.timer.at = Some(now + self.timer.rto);
        }
        true
    }

    fn establish(&mut self, now: Instant) {
        self.phase = Phase::Open;
        self.sending.again = false;
        self.timer.measure(now, 0);
        self.timer.stop();
        self.tell(News::Connected);
        self.pour();
    }

    fn on_acknowledged(&mut self, now: Instant, segment: &Segment<'_>) {
        let sending = &mut self.sending;
        let acknowledged = segment.acknowledged.min(sending.sent_max());
        if acknowledged > sending.acknowledged {
            let count = acknowledged - sending.acknowledged;
            let is_last = sending.waiting.is_empty() && count > sending.taken.len() as u64;
            sending.taken.drain(..sending.taken.len().min(count as usize));
            sending.acknowledged = acknowledged;
            sending.next = sending.next.max(acknowledged);
            sending.duplicates = 0;
            self.timer.measure(now, acknowledged);
            self.timer.stop();
            if sending.next > acknowledged {
                self.timer.at = Some(now + self.timer.rto);
            }
            if is_last {
                self.phase = Phase::Over;
            }
            self.pour();
        } else if segment.kind == Kind::Data
            && segment.bytes.is_empty()
            && sending.next > sending.acknowledged
        {
            sending.duplicates += 1;
            if sending.duplicates == DUPLICATES {
                (sending.again, self.timer.timed) = (true, None);
            }
        }
    }

    fn on_bytes(&mut self, segment: &Segment<'_>) {
        let receiving = &mut self.receiving;
        if segment.kind == Kind::End {
            receiving.end = Some(segment.sequence);
            receiving.owed += 1;
        }
        if !segment.bytes.is_empty() {
            receiving.owed += 1;
            // A sender keeps to its window; whoever does not is not one of ours.
            if segment.sequence >= receiving.next && segment.sequence <= receiving.next + WINDOW as u64 {
                receiving.ahead.insert(segment.sequence, segment.bytes.to_vec());
            }
        }
        let mut arrived = Vec::new();
        while let Some(entry) = receiving.ahead.first_entry() {
            if *entry.key() > receiving.next {
                break;
            }
            let (sequence, bytes) = entry.remove_entry();
            // The same bytes may have come in segments of other sizes.
            let known = (receiving.next - sequence).min(bytes.len() as u64) as usize;
            receiving.next += (bytes.len() - known) as u64;
            arrived.extend_from_slice(&bytes[known..]);
        }
        let is_complete = receiving.is_complete();
        if !arrived.is_empty() {
            self.tell(News::Received(arrived));
        }
        if is_complete && !self.is_closed {
            self.tell(News::Closed(CloseReason::Ended));
            // The peer reads no more either: a machine that closes closes both ways.
            self.is_closed = true;
            self.sending.waiting.clear();
            self.sending.ends = true;
        }
    }

    /// Lets the network take what it has room for.
    fn pour(&mut self) {
        let taken = self.sending.take();
        if taken > 0 {
            self.tell(News::Written(taken));
        }
    }

    fn end(&mut self, why: CloseReason) {
        self.tell(News::Closed(why));
        (self.is_closed, self.phase) = (true, Phase::Over);
    }

    fn tell(&mut self, news: News) {
        if !self.is_closed {
            self.news.push_back(news);
        }
    }
}

impl Sending {
    /// Moves what fits from what is waiting to what is taken; returns how much.
    fn take(&mut self) -> usize {
        let before = self.taken.len();
        while let Some(first) = self.waiting.front_mut() {
            let length = first.len().min(WINDOW - self.taken.len());
            self.taken.extend(first.split_to(length));
            if !first.is_empty() {
                break;
            }
            self.waiting.pop_front();
        }
        self.taken.len() - before
    }

    /// Copies taken bytes from `sequence` on.
    fn read(&self, sequence: u64, part: &mut [u8; SEGMENT_MAX]) -> usize {
        let from = sequence.saturating_sub(self.acknowledged) as usize;
        let bytes = self.taken.iter().skip(from).take(SEGMENT_MAX);
        part.iter_mut().zip(bytes).map(|(to, byte)| *to = *byte).count()
    }

    /// Where everything taken ends.
    fn end(&self) -> u64 {
        self.acknowledged + self.taken.len() as u64
    }

    /// Whether only the stream's end is left to send at `sequence`.
    fn is_at_end(&self, sequence: u64) -> bool {
        self.ends && self.waiting.is_empty() && sequence == self.end()
    }

    /// The most that a peer can acknowledge.
    fn sent_max(&self) -> u64 {
        self.end() + u64::from(self.ends)
    }
}

impl Receiving {
    fn is_complete(&self) -> bool {
        self.end == Some(self.next)
    }
}

impl Timer {
    fn stop(&mut self) {
        (self.at, self.tries) = (None, 0);
    }

    /// `acknowledged` has arrived: RFC 6298 §2.2 and §2.3, with the weights of the RFC.
    fn measure(&mut self, now: Instant, acknowledged: u64) {
        let Some((_, since)) = self.timed.filter(|(until, _)| *until <= acknowledged) else { return };
        self.timed = None;
        let rtt = now.since(since);
        let (smoothed, variation) = match self.smoothed {
            None => (rtt, rtt / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + rtt) / 8, (variation * 3 + smoothed.abs_diff(rtt)) / 4)
            }
        };
        self.smoothed = Some((smoothed, variation));
        self.rto = (smoothed + variation * 4).clamp(RTO_MIN, RTO_MAX);
    }
}

#[cfg(test)]
mod tests;
