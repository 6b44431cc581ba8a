//! When handshakes want attention.
//!
//! Established flows have no timers: each carries the moment it was last seen, whoever looks a flow up
//! notices that its time is over, and a sweep that looks at a few slots a second forgets the rest. So a timer
//! costs something only while a handshake lasts, and there are at most [`HALF_OPEN_MAX`](crate::HALF_OPEN_MAX)
//! of those: an ordered set is exact, and needs no ticks when nothing is due.

use alloc::collections::BTreeSet;
use core::time::Duration;

use gimlet_machine::{Deadline, Instant};

/// First retransmission of a SYN, and of a SYN-ACK (RFC 6298 §2.1).
pub const SYN_RTO: Duration = Duration::from_secs(1);
/// How often a SYN is sent at most: at 0, 1, 3, 7 and 15 s.
pub const SYN_TRIES_MAX: u8 = 5;
/// How often a SYN-ACK that the client does not answer is sent at most, unless the client asks again: at 0, 1, 3 and 7 s.
pub const SYN_ACK_TRIES_MAX: u8 = 4;
/// How long a server may take to answer before the client is told that it does not.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to answer our SYN-ACK.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A repeated SYN of a client is forwarded if the last one left at least this long ago: half of [`SYN_RTO`].
pub const SYN_REPEAT: Duration = Duration::from_millis(500);
/// How long a SYN waits for data to take along (Fast Open).
pub const FAST_OPEN_WAIT: Duration = Duration::from_millis(3);
/// How long an established flow may be idle (RFC 5382 REQ-5: at least 2 h 4 min).
pub const ESTABLISHED_IDLE: Duration = Duration::from_secs(2 * 3_600 + 4 * 60);
/// How long a flow with one FIN may be idle (RFC 5382 REQ-5: at least 4 min).
pub const HALF_CLOSED_IDLE: Duration = Duration::from_secs(4 * 60);
/// How long a flow with two FINs is remembered after its last segment.
pub const TIME_WAIT: Duration = Duration::from_secs(120);
/// How long a flow is remembered after a RST if room in the table is short; if it is not, as long as an idle one, for
/// the RST may have been forged.
pub const LINGER: Duration = Duration::from_secs(10);
/// How long a flow that is not touched is remembered after its last segment.
pub const BYPASS_IDLE: Duration = Duration::from_secs(60);
/// How long the sweep takes to look at every slot.
pub const SWEEP_ROUND: Duration = Duration::from_secs(16);
/// Slots that it looks at in one go, unless the table is small: more would make frames wait.
pub const SWEEP_SLOTS_MAX: usize = 4_096;
/// Goes in a round, at least.
const SWEEPS_MIN: usize = 16;

/// How many slots to look at in one go, and how long to wait for the next, in a table of `slots`.
pub(crate) fn sweep(slots: usize) -> (usize, Duration) {
    let goes = slots.div_ceil(SWEEP_SLOTS_MAX).max(SWEEPS_MIN);
    (slots.div_ceil(goes), SWEEP_ROUND / goes as u32)
}

/// Doubling, from [`SYN_RTO`] on, for the wait after the `tries`-th transmission.
pub(crate) fn backoff(tries: u8) -> Duration {
    SYN_RTO * (1 << tries.clamp(1, 6).saturating_sub(1))
}

/// At most one alarm per handshake.
#[derive(Clone, Debug)]
pub(crate) struct Alarms<K> {
    pending: BTreeSet<(Instant, K)>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Self {
        Self { pending: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Alarms<K> {
    /// Moves the alarm of `key` from `old` to `new`; either may be none.
    pub(crate) fn reset(&mut self, key: K, old: Option<Instant>, new: Option<Instant>) {
        if old != new {
            if let Some(old) = old {
                self.pending.remove(&(old, key));
            }
            if let Some(new) = new {
                self.pending.insert((new, key));
            }
        }
    }

    /// Takes the earliest alarm that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let first = self.pending.first().copied().filter(|(at, _)| *at <= now)?;
        self.pending.remove(&first);
        Some(first.1)
    }

    /// The earliest alarm.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.pending.first().map(|(at, _)| Deadline { at: *at, why: "handshake" })
    }

    /// All of them, the earliest first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.pending.iter().map(|(_, key)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_once_at_its_last_setting() {
        let mut alarms = Alarms::default();
        let at = Instant::from_millis;
        alarms.reset(7, None, Some(at(5)));
        alarms.reset(3, None, Some(at(9)));
        alarms.reset(7, Some(at(5)), Some(at(10)));
        assert_eq!(alarms.deadline().map(|deadline| deadline.at), Some(at(9)));
        assert_eq!((alarms.pop(at(8)), alarms.pop(at(20)), alarms.pop(at(20))), (None, Some(3), Some(7)));
        alarms.reset(3, None, Some(at(1)));
        alarms.reset(3, Some(at(1)), None);
        assert_eq!((alarms.deadline(), alarms.keys().count()), (None, 0));
    }

    #[test]
    fn a_round_of_the_sweep_takes_as_long_for_every_table_and_no_go_takes_long() {
        for slots in [1, 385, 131_201, 2_097_281, 8_388_737] {
            let (count, wait) = sweep(slots);
            let goes = slots.div_ceil(count) as u32;
            assert!(
                count <= SWEEP_SLOTS_MAX && wait >= Duration::from_millis(7),
                "{slots}: {count}, {wait:?}"
            );
            assert!(wait * goes <= SWEEP_ROUND, "{slots}");
        }
    }

    #[test]
    fn waits_double_from_one_second() {
        assert_eq!([1, 2, 3, 4, 5].map(|tries| backoff(tries).as_secs()), [1, 2, 4, 8, 16]);
        assert_eq!((backoff(0).as_secs(), backoff(255).as_secs()), (1, 32));
    }
}
