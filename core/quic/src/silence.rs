//! Notices that a path has fallen silent, long before the idle timeout does.

use std::time::Duration;

use gimlet_machine::Instant;

/// How long an answer may take: two round trips, within these bounds.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A timer that expires this long after the latest datagram, beyond eight round trips, is no probe timeout
/// (RFC 9002 §6.2): it keeps an idle connection alive.
const PROBE_MAX: Duration = Duration::from_millis(500);

/// Since when a connection has been talking to itself. An acknowledgement wants no answer, and is told from
/// what does by what follows: quinn-proto's timers expire soon after the one, and late after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silence {
    /// The first datagram after the latest one that was heard left then.
    since: Option<Instant>,
    /// The latest datagram left then.
    sent: Instant,
    /// The owner knows.
    told: bool,
}

impl Silence {
    /// A datagram arrived.
    pub(crate) fn on_heard(&mut self) {
        (self.since, self.told) = (None, false);
    }

    /// A datagram left.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.sent = now;
    }

    /// A timer of the connection expired; says, once, how long nothing has been heard, if that is too long.
    pub(crate) fn on_timeout(&mut self, now: Instant, rtt: Duration) -> Option<Duration> {
        let silent = now.since(self.since?);
        let patient = silent < (2 * rtt).clamp(PATIENCE_MIN, PATIENCE_MAX);
        let idle = now.since(self.sent) > 8 * rtt + PROBE_MAX;
        if self.told || patient || idle {
            return None;
        }
        self.told = true;
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_probe_timeout_without_an_answer_is_told_once() {
        let mut silence = Silence::default();
        silence.on_sent(at(1_000));
        silence.on_sent(at(1_010));
        assert_eq!(silence.on_timeout(at(1_070), RTT), None, "the answer may still come");
        assert_eq!(silence.on_timeout(at(1_120), RTT), Some(Duration::from_millis(120)));
        silence.on_sent(at(1_120));
        assert_eq!(silence.on_timeout(at(1_300), RTT), None, "known");
        silence.on_heard();
        silence.on_sent(at(2_000));
        assert!(silence.on_timeout(at(2_100), RTT).is_some(), "another silence");
    }

    #[test]
    fn a_connection_that_has_nothing_to_say_is_not_silent() {
        let mut silence = Silence::default();
        assert_eq!(silence.on_timeout(at(5_000), RTT), None);
        silence.on_sent(at(5_000));
        assert_eq!(silence.on_timeout(at(15_000), RTT), None, "an acknowledgement, and then nothing");
    }
}
