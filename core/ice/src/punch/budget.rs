//! How many probes may still leave in this hour.

use gimlet_machine::Instant;

/// Probes are counted by five minutes.
const BUCKET_SECONDS: u64 = 300;

/// Twelve make an hour; with one more, no hour of sixty minutes, wherever it begins, has a probe that is not
/// counted.
const BUCKETS: usize = 13;

/// The probes of the last hour: a window that rolls on in steps of five minutes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    max: u16,
    /// The newest last.
    spent: [u16; BUCKETS],
    newest: u64,
}

impl Budget {
    pub(crate) const fn new(max: u16) -> Self {
        Self { max, spent: [0; BUCKETS], newest: 0 }
    }

    fn bucket(now: Instant) -> u64 {
        now.since(Instant::ZERO).as_secs() / BUCKET_SECONDS
    }

    /// What is counted at `now`, bucket by bucket.
    fn counted(&self, now: Instant) -> [u16; BUCKETS] {
        let gone = usize::try_from(Self::bucket(now).saturating_sub(self.newest)).unwrap_or(BUCKETS);
        core::array::from_fn(|nth| self.spent.get(nth.saturating_add(gone)).copied().unwrap_or(0))
    }

    /// How many may leave.
    pub(crate) fn room(&self, now: Instant) -> u16 {
        let spent = self.counted(now).iter().fold(0_u16, |sum, spent| sum.saturating_add(*spent));
        self.max.saturating_sub(spent)
    }

    /// One leaves.
    pub(crate) fn spend(&mut self, now: Instant) {
        debug_assert!(self.room(now) > 0, "the caller asks first");
        self.spent = self.counted(now);
        self.newest = self.newest.max(Self::bucket(now));
        let newest = &mut self.spent[BUCKETS - 1];
        *newest = newest.saturating_add(1);
    }

    /// From when on `cost` may leave, if nothing else does before.
    pub(crate) fn room_for(&self, now: Instant, cost: u16) -> Instant {
        let spent = self.counted(now);
        let mut left = spent.iter().fold(0_u16, |sum, spent| sum.saturating_add(*spent));
        let allowed = self.max.saturating_sub(cost.min(self.max));
        let mut at = now;
        for (nth, spent) in spent.iter().enumerate() {
            if left <= allowed {
                break;
            }
            left = left.saturating_sub(*spent);
            let bucket = Self::bucket(now).saturating_add(nth as u64 + 1);
            at = Instant::ZERO + core::time::Duration::from_secs(bucket.saturating_mul(BUCKET_SECONDS));
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use core::time::Duration;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_was_spent_comes_back_after_an_hour_and_not_before() {
        let mut budget = Budget::new(100);
        let start = Instant::from_millis(299_000);
        (0..100).for_each(|_| budget.spend(start));
        assert_eq!((budget.room(start), budget.room_for(start, 0)), (0, start));
        let back = budget.room_for(start, 1);
        assert!(back.since(start) >= HOUR && back.since(start) <= HOUR + Duration::from_secs(300));
        assert_eq!(budget.room(Instant::from_nanos(back.as_nanos() - 1)), 0);
        assert_eq!(budget.room(back), 100);
    }

    #[test]
    fn the_end_of_time_is_no_trouble() {
        let mut budget = Budget::new(1);
        let end = Instant::from_nanos(u64::MAX);
        budget.spend(end);
        assert_eq!((budget.room(end), budget.room_for(end, 1) <= end), (0, true));
    }

    proptest! {
        #[test]
        fn no_hour_has_more_than_the_budget_and_room_is_there_when_promised(
            steps in prop::collection::vec((0_u64..700, 1_u16..40), 1..200),
        ) {
            let (mut budget, mut now, mut sent) = (Budget::new(100), Instant::ZERO, VecDeque::new());
            for (seconds, wanted) in steps {
                now += Duration::from_secs(seconds);
                for _ in 0..wanted.min(budget.room(now)) {
                    budget.spend(now);
                    sent.push_back(now);
                }
                while sent.front().is_some_and(|at| now.since(*at) >= HOUR) {
                    sent.pop_front();
                }
                prop_assert!(sent.len() <= 100);
                prop_assert!(budget.room(budget.room_for(now, wanted)) >= wanted);
            }
        }
    }
}
