//! A check as it is kept.

use core::time::Duration;

use gimlet_machine::{Id, Instant};
use gimlet_stun::{RC_DEFAULT, RM_DEFAULT, Retransmission, TI_DEFAULT};

use crate::CONSENT_TIMEOUT;
use crate::pair::Pair;

/// A check that awaits its answer. There may be a hundred of them and more in every agent, so each takes 16 bytes:
/// its transaction id is computed from its number, its RTO from the pairs that were active when it left, and the
/// moment at which it left from the one at which it is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it is sent again, or given up.
    at: Instant,
    /// Where its pair is. A pair that goes takes its checks with it ([`super::Checks::forget`]), so the next one
    /// in its place is never mistaken for it.
    place: u16,
    /// The low half of its number.
    number: u16,
    /// N of RFC 8445 §14.3; 0 for a request that is sent once.
    active: u16,
    /// The epoch of the role it claims.
    epoch: u8,
    progress: Progress,
}

const _: () = assert!(size_of::<Record>() == 16);

/// How often a check was sent, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress(u8);

impl Progress {
    const SENT: u8 = 0b0111;
    /// The pair has moved on: the answer counts, its absence does not.
    const CANCELLED: u8 = 0b1000;
    /// It carries USE-CANDIDATE.
    const NOMINATES: u8 = 0b1_0000;

    const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    const fn sent(self) -> u32 {
        (self.0 & Self::SENT) as u32
    }
}

const _: () = assert!(RC_DEFAULT <= Progress::SENT as u32, "every send is counted");

/// What the retransmission timeout is made of (RFC 8445 §14.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) ta: Duration,
    pub(crate) rto_min: Duration,
}

impl Pace {
    const fn rto(self, active: u16) -> Duration {
        let rto = self.ta.saturating_mul(active as u32);
        if rto.as_nanos() > self.rto_min.as_nanos() { rto } else { self.rto_min }
    }

    /// From send number `sent` to the next, or to the end.
    fn wait_after(self, active: u16, sent: u32) -> Duration {
        Retransmission::wait_after(self.rto(active), RC_DEFAULT, RM_DEFAULT, sent)
    }

    /// From send number `sent` to the end.
    fn rest_after(self, active: u16, sent: u32) -> Duration {
        (sent..=RC_DEFAULT).map(|sent| self.wait_after(active, sent)).sum()
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) pair: Id<Pair>,
    /// The epoch of the role it claims.
    pub(crate) epoch: u8,
    /// Whether it carries USE-CANDIDATE.
    pub(crate) nominates: bool,
    /// Whether nothing gets lost on the way: it is sent once, and its silence decides (RFC 8489 §6.2.2).
    pub(crate) reliable: bool,
}

impl Record {
    /// A check that leaves at this moment for the first time.
    pub(crate) fn check(now: Instant, number: u32, subject: Subject, active: u16, pace: Pace) -> Self {
        debug_assert!(active > 0, "the pair itself is active");
        let marks = if subject.nominates { Progress::NOMINATES } else { 0 };
        Self {
            at: now + pace.wait_after(active, 1),
            place: place(subject.pair),
            number: number as u16,
            active,
            epoch: subject.epoch,
            progress: Progress(1 | marks),
        }
    }

    /// A check that leaves at this moment, through a connection.
    pub(crate) fn reliable(now: Instant, number: u32, subject: Subject) -> Self {
        let marks = if subject.nominates { Progress::NOMINATES } else { 0 };
        Self {
            at: now + TI_DEFAULT,
            place: place(subject.pair),
            number: number as u16,
            active: 0,
            epoch: subject.epoch,
            progress: Progress(RC_DEFAULT as u8 | marks),
        }
    }

    /// A request that leaves at this moment, once, and is listened to for as long as it may tell something.
    pub(crate) fn once(now: Instant, number: u32, subject: Subject) -> Self {
        Self {
            at: now + CONSENT_TIMEOUT,
            place: place(subject.pair),
            number: number as u16,
            active: 0,
            epoch: subject.epoch,
            progress: Progress(1 | Progress::CANCELLED),
        }
    }

    pub(crate) const fn at(&self) -> Instant {
        self.at
    }

    pub(crate) const fn place(&self) -> u16 {
        self.place
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    pub(crate) const fn epoch(&self) -> u8 {
        self.epoch
    }

    pub(crate) fn is_of(&self, pair: Id<Pair>) -> bool {
        self.place == place(pair)
    }

    pub(crate) const fn nominates(&self) -> bool {
        self.progress.has(Progress::NOMINATES)
    }

    pub(crate) const fn is_cancelled(&self) -> bool {
        self.progress.has(Progress::CANCELLED)
    }

    /// Whether it is a request for consent, or one whose answer is worth no more than that by now.
    pub(crate) const fn is_consent(&self) -> bool {
        self.is_cancelled() && !self.nominates()
    }

    /// Whether it will be sent again.
    pub(crate) const fn is_sending(&self) -> bool {
        !self.is_cancelled() && self.progress.sent() < RC_DEFAULT
    }

    /// It leaves once more.
    pub(crate) fn retransmit(&mut self, now: Instant, pace: Pace) {
        debug_assert!(self.is_sending(), "only what is overdue is retransmitted");
        self.progress.0 += 1;
        self.at = now + pace.wait_after(self.active, self.progress.sent());
    }

    /// Sends no more, and still listens until the moment at which it would have been given up (RFC 8445 §7.3.1.4).
    pub(crate) fn cancel(&mut self, pace: Pace) {
        if self.is_sending() {
            self.at += pace.rest_after(self.active, self.progress.sent() + 1);
        }
        self.progress.0 |= Progress::CANCELLED;
    }

    /// How long ago it left, unless it was retransmitted: then the answer may belong to an earlier send
    /// (RFC 8489 §6.2.1, Karn's algorithm).
    pub(crate) fn age(&self, now: Instant, pace: Pace) -> Option<Duration> {
        let wait = match (self.active, self.is_sending()) {
            // Sent once through a connection, as if it were for the last time.
            (0, _) if self.progress.sent() == RC_DEFAULT => return Some((now + TI_DEFAULT).since(self.at)),
            (0, _) => CONSENT_TIMEOUT,
            (active, true) => pace.wait_after(active, 1),
            (active, false) => pace.rest_after(active, 1),
        };
        // In this order nothing is cut off where time begins.
        (self.progress.sent() == 1).then(|| (now + wait).since(self.at))
    }
}

/// A pair's place in the checklist, which has no more than 65,535 ([`crate::Limits::pairs_max`]).
fn place(pair: Id<Pair>) -> u16 {
    debug_assert!(u16::try_from(pair.index()).is_ok(), "the list is limited");
    pair.index() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::{Added, Candidates};
    use crate::checklist::{Checklist, Formed};
    use crate::{Candidate, Limits, Role};
    use gimlet_stun::Due;

    const PACE: Pace = Pace { ta: Duration::from_millis(50), rto_min: Duration::from_millis(500) };

    fn subject() -> Subject {
        let (mut candidates, limits) = (Candidates::new(), Limits::default());
        let host = |text: &str| Candidate::host(text.parse().unwrap());
        let local = candidates.add_local(host("192.0.2.1:1"), &limits).unwrap().unwrap();
        let Ok(Added::New(remote)) = candidates.add_remote(host("192.0.2.2:2"), &limits) else { panic!() };
        let ends = candidates.ends(local, remote).unwrap();
        let Formed::New(pair) = Checklist::new(1).form(ends, Role::Controlling, false) else { panic!() };
        Subject { pair, epoch: 0, nominates: false, reliable: false }
    }

    /// A record and the graph that it stands for, after `sends` sends that were each so late.
    fn both(sends: u32, late: Duration) -> (Record, Retransmission) {
        let start = Instant::from_millis(7);
        let mut record = Record::check(start, 0, subject(), 20, PACE);
        let mut graph = Retransmission::new(start, Duration::from_secs(1), RC_DEFAULT, RM_DEFAULT);
        assert_eq!(graph.due(start), Due::Send);
        for _ in 1..sends {
            let now = record.at() + late;
            record.retransmit(now, PACE);
            assert_eq!(graph.due(now), Due::Send);
        }
        (record, graph)
    }

    #[test]
    fn a_record_is_due_whenever_its_graph_is_cancelled_or_not() {
        for late in [0, 300].map(Duration::from_millis) {
            for sends in 1..=RC_DEFAULT {
                let (mut record, mut graph) = both(sends, late);
                assert_eq!((Some(record.at()), record.is_sending()), (graph.deadline(), graph.is_sending()));
                record.cancel(PACE);
                graph.cancel();
                assert_eq!((Some(record.at()), record.is_sending()), (graph.deadline(), false));
                record.cancel(PACE);
                assert_eq!(Some(record.at()), graph.deadline(), "once is enough");
            }
        }
    }

    #[test]
    fn the_moment_at_which_it_left_is_known_until_it_leaves_again() {
        let (left, now) = (Instant::from_millis(7), Instant::from_millis(100));
        let age = Some(now.since(left));
        let (mut record, _) = both(1, Duration::ZERO);
        assert_eq!(record.age(now, PACE), age);
        record.cancel(PACE);
        assert_eq!(record.age(now, PACE), age);
        assert_eq!(Record::once(left, 0, subject()).age(now, PACE), age);
        let mut reliable = Record::reliable(left, 0, subject());
        assert_eq!((reliable.age(now, PACE), reliable.is_sending()), (age, false));
        reliable.cancel(PACE);
        assert_eq!((reliable.age(now, PACE), reliable.at()), (age, left + TI_DEFAULT));
        assert_eq!(both(2, Duration::ZERO).0.age(now, PACE), None, "the answer may belong to either");
    }
}
