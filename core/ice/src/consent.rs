//! Whether the path in use still works, and whether the peer still wants our data (RFC 7675).

use core::time::Duration;

use gimlet_machine::{Id, Instant, Rng};
use gimlet_stun::TransactionId;

use crate::pair::Pair;
use crate::state::{Liveness, LivenessStep};
use crate::{CONSENT_INTERVAL_MAX, CONSENT_INTERVAL_MIN};

/// How long an answer may take: two round trips, within these bounds, before it is late.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(2);
/// The same while no round trip has been measured.
const PATIENCE_DEFAULT: Duration = Duration::from_millis(500);

/// When paths that do not work get another chance: after the first wait, then twice that, and so on.
const RETURN_MIN: Duration = Duration::from_secs(5);
const RETURN_MAX: Duration = Duration::from_secs(160);

/// A path that was in use for so long before it died is not one that comes and goes.
const STEADY: Duration = RETURN_MAX;

/// So many late answers in a row end the trust in a path that loses nothing.
const TRUSTED: u8 = 3;

/// How many more late answers in a row are put up with on a path that came back from as many. Where a third of all
/// round trips fail, one probe in 20 begins three late answers in a row, and one in 1,000 seven.
const SURVIVED_MAX: u8 = 4;

/// So many answers in a row that are not late make the path as good as it was one loss ago.
const PUNCTUAL: u8 = 16;

/// What probes have shown about losses on our way to the peer, whichever path was in use: three answers in a row are
/// late on a path that died, and now and then on one that is merely bad.
#[derive(Clone, Copy, Debug)]
struct Losses {
    /// Late answers in a row.
    late: u8,
    /// How many of them were followed by an answer.
    survived: u8,
    /// Answers since the latest late one.
    punctual: u8,
}

impl Losses {
    const NONE: Self = Self { late: 0, survived: 0, punctual: 0 };

    fn on_late(&mut self) {
        *self = Self { late: self.late.saturating_add(1), punctual: 0, ..*self };
    }

    fn on_answer(&mut self) {
        let survived = self.survived.max(self.late.min(SURVIVED_MAX));
        self.punctual = if self.late == 0 { self.punctual + 1 } else { 0 };
        (self.late, self.survived) = (0, survived);
        if self.punctual >= PUNCTUAL {
            (self.punctual, self.survived) = (0, survived.saturating_sub(1));
        }
    }
}

/// The path in use that died last, and how long it is not gone back to although it works again: a path that
/// comes and goes shall not take the data with it each time.
#[derive(Clone, Copy, Debug)]
struct Relapse {
    pair: Option<Id<Pair>>,
    /// How often it died soon after it was gone back to.
    times: u8,
    until: Instant,
}

impl Relapse {
    const NONE: Self = Self { pair: None, times: 0, until: Instant::ZERO };
}

/// Whether a late answer is asked for again at once although there is nowhere else to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// No: knowing sooner is worth nothing.
    None,
    /// Until the next answer: the owner heard nothing.
    Once,
    /// Whenever one is late: the owner restarts ICE then.
    Always,
}

/// What is known about the path in use.
#[derive(Debug)]
pub(crate) struct Consent {
    /// The pair in use; `None` while there is none, or if the agent is lite.
    pair: Option<Id<Pair>>,
    /// Since when.
    since: Instant,
    liveness: Liveness,
    /// The latest request, until it is answered or late.
    awaited: Option<TransactionId>,
    /// A request is to leave as soon as the pacing allows.
    pub(crate) due: bool,
    /// Whether to probe even if there is nowhere else to go.
    pub(crate) urgency: Urgency,
    /// How often failed pairs were given another chance since something last worked.
    returns: u8,
    /// How many waits were drawn.
    drawn: u64,
    relapse: Relapse,
    losses: Losses,
}

impl Consent {
    pub(crate) const fn new() -> Self {
        Self {
            pair: None,
            since: Instant::ZERO,
            liveness: Liveness::Fresh,
            awaited: None,
            due: false,
            urgency: Urgency::None,
            returns: 0,
            drawn: 0,
            relapse: Relapse::NONE,
            losses: Losses::NONE,
        }
    }

    /// Turns to `pair`; says whether that is another one.
    pub(crate) fn watch(&mut self, now: Instant, pair: Option<Id<Pair>>) -> bool {
        if self.pair == pair {
            return false;
        }
        let Self { returns, drawn, relapse, urgency, .. } = *self;
        let losses = Losses { late: 0, ..self.losses };
        *self = Self { pair, since: now, returns, drawn, relapse, urgency, losses, ..Self::new() };
        self.calm();
        true
    }

    pub(crate) const fn pair(&self) -> Option<Id<Pair>> {
        self.pair
    }

    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    pub(crate) const fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// Takes `step`; says whether anything changed.
    pub(crate) fn step(&mut self, step: LivenessStep) -> bool {
        if step == LivenessStep::Alarm {
            // One more late answer is enough, whatever the former network was like.
            self.losses = Losses { late: TRUSTED - 1, ..Losses::NONE };
        }
        let Some(next) = self.liveness.after(step) else { return false };
        self.liveness = next;
        true
    }

    /// Whether a request is under way or about to leave.
    pub(crate) const fn is_asking(&self) -> bool {
        self.due || self.awaited.is_some()
    }

    /// A request left.
    pub(crate) fn on_sent(&mut self, id: TransactionId) {
        self.due = false;
        self.awaited = Some(id);
    }

    /// The answer is late; says whether one was awaited.
    pub(crate) fn on_late(&mut self) -> bool {
        let awaited = self.awaited.take().is_some();
        if awaited {
            self.losses.on_late();
        }
        awaited
    }

    /// Whether the path has come back from so many late answers in a row before, so that these do not end the trust.
    pub(crate) fn is_patient(&self) -> bool {
        let doubtful = self.liveness == Liveness::Twice;
        doubtful && self.losses.late < TRUSTED + self.losses.survived
    }

    /// The peer answered on the pair; says whether that was in doubt.
    pub(crate) fn on_answer(&mut self) -> bool {
        self.awaited = None;
        self.losses.on_answer();
        self.calm();
        self.step(LivenessStep::Answer)
    }

    /// The owner heard nothing.
    pub(crate) fn urge(&mut self) {
        if self.urgency == Urgency::None {
            self.urgency = Urgency::Once;
        }
    }

    fn calm(&mut self) {
        if self.urgency == Urgency::Once {
            self.urgency = Urgency::None;
        }
    }

    /// How long an answer may take on a pair with round trip `rtt`.
    pub(crate) fn patience(rtt: Option<Duration>) -> Duration {
        rtt.map_or(PATIENCE_DEFAULT, |rtt| (2 * rtt).clamp(PATIENCE_MIN, PATIENCE_MAX))
    }

    /// How long the answer to the next probe may take: longer each time once the path is not trusted any more.
    pub(crate) fn next_patience(&self, rtt: Option<Duration>) -> Duration {
        let patience = Self::patience(rtt);
        match self.liveness {
            Liveness::Fresh | Liveness::Once | Liveness::Twice => patience,
            Liveness::Suspect => {
                let beyond = self.losses.late.saturating_sub(TRUSTED + self.losses.survived);
                patience.saturating_mul(2 << beyond.min(5)).min(PATIENCE_MAX)
            }
        }
    }

    /// A number that tells apart the waits that are drawn.
    pub(crate) fn next_draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// How long until the next request: 5 s × U[0.8, 1.2] (RFC 7675 §5.1).
    pub(crate) fn interval(rng: &mut Rng) -> Duration {
        let spread = CONSENT_INTERVAL_MAX.saturating_sub(CONSENT_INTERVAL_MIN);
        let extra = rng.below(u64::try_from(spread.as_micros()).unwrap_or(u64::MAX));
        CONSENT_INTERVAL_MIN + Duration::from_micros(extra)
    }

    /// How long until failed pairs get their next chance.
    pub(crate) fn return_wait(&self) -> Duration {
        RETURN_MIN.saturating_mul(1 << self.returns.min(8)).min(RETURN_MAX)
    }

    pub(crate) fn on_return(&mut self) {
        self.returns = self.returns.saturating_add(1);
    }

    /// The pair in use died.
    pub(crate) fn on_died(&mut self, now: Instant, pair: Id<Pair>) {
        let steady = now.since(self.since) >= STEADY;
        let again = self.relapse.pair == Some(pair) && !steady;
        let times = if again { self.relapse.times.saturating_add(1) } else { 0 };
        let wait = RETURN_MIN.saturating_mul(1 << times.min(8)).min(RETURN_MAX);
        self.relapse = Relapse { pair: Some(pair), times, until: now + wait };
    }

    /// Whether `pair` died too lately to be gone back to.
    pub(crate) fn is_shunned(&self, now: Instant, pair: Id<Pair>) -> bool {
        self.relapse.pair == Some(pair) && now < self.relapse.until
    }

    /// The network is another one: what was learned about paths is void.
    pub(crate) fn forgive(&mut self) {
        (self.relapse, self.losses) = (Relapse::NONE, Losses::NONE);
    }

    /// Something changed: hope is fresh.
    pub(crate) fn reset_returns(&mut self) {
        self.returns = 0;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_wait_is_five_seconds_more_or_less_a_fifth() {
        let waits = (0..10_000).map(|nth| Consent::interval(&mut Rng::from_u64(nth)).as_millis());
        let (least, most) = waits.fold((u128::MAX, 0), |(least, most), ms| (least.min(ms), most.max(ms)));
        assert!((4_000..4_010).contains(&least) && (5_990..6_000).contains(&most), "{least} {most}");
    }

    #[test]
    fn an_answer_may_take_two_round_trips_within_reason() {
        let patience = |ms| Consent::patience(Some(Duration::from_millis(ms))).as_millis();
        assert_eq!([1, 80, 9_000].map(patience), [100, 160, 2_000]);
        assert_eq!(Consent::patience(None), PATIENCE_DEFAULT);
    }

    /// Late answers in a row until the trust ends.
    fn trust(consent: &mut Consent) -> u8 {
        for late in 1..=u8::MAX {
            consent.on_sent(TransactionId([late; 12]));
            assert!(consent.on_late());
            if !consent.is_patient() {
                consent.step(LivenessStep::Miss);
            }
            if consent.liveness() == Liveness::Suspect {
                consent.on_answer();
                return late;
            }
        }
        u8::MAX
    }

    #[test]
    fn a_path_that_came_back_from_losses_is_given_up_later_until_it_loses_no_more() {
        let mut consent = Consent::new();
        let trusted: Vec<u8> = (0..4).map(|_| trust(&mut consent)).collect();
        assert_eq!(trusted, [3, 6, 7, 7]);
        for _ in 0..2 * PUNCTUAL {
            consent.on_answer();
        }
        assert_eq!(trust(&mut consent), 5);
        consent.forgive();
        assert_eq!(trust(&mut consent), 3, "another network");
    }

    #[test]
    fn a_path_that_is_not_trusted_is_probed_ever_more_rarely() {
        let (mut consent, rtt) = (Consent::new(), Some(Duration::from_millis(100)));
        let mut waits = Vec::new();
        for late in 0..8 {
            waits.push(consent.next_patience(rtt).as_millis());
            consent.on_sent(TransactionId([late; 12]));
            consent.on_late();
            consent.step(LivenessStep::Miss);
        }
        assert_eq!(waits, [200, 200, 200, 400, 800, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn chances_become_rarer_until_something_changes() {
        let mut consent = Consent::new();
        let mut waits = [0; 7];
        for wait in &mut waits {
            *wait = consent.return_wait().as_secs();
            consent.on_return();
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 160]);
        consent.reset_returns();
        assert_eq!(consent.return_wait(), RETURN_MIN);
    }
}
