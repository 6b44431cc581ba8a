//! Notices that a path has fallen silent, long before the idle timeout does.

use std::time::Duration;

use gimlet_machine::Instant;

/// How long an answer may take is one round trip and the delay of an acknowledgement (RFC 9000 §18.2,
/// `max_ack_delay`) when a timer expires, which has some patience of its own, and two otherwise; within these
/// bounds.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
const PATIENCE_MAX: Duration = Duration::from_secs(2);
const ACK_DELAY: Duration = Duration::from_millis(25);

/// What happens this long after the latest datagram, beyond eight round trips, has nothing to do with it: a timer
/// then is no probe timeout (RFC 9002 §6.2) but keeps an idle connection alive, and a datagram begins anew.
const IDLE: Duration = Duration::from_millis(500);

/// Since when a connection has been talking to itself. An acknowledgement wants no answer, and is told from
/// what does by what follows: the latter is repeated, or followed by more, and soon.
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

    /// A datagram leaves; says, once, how long nothing has been heard, if that is too long.
    pub(crate) fn on_sent(&mut self, now: Instant, rtt: Duration) -> Option<Duration> {
        let silent = self.judge(now, rtt, 2 * rtt);
        if self.since.is_none() || self.is_idle(now, rtt) {
            self.since = Some(now);
        }
        self.sent = now;
        silent
    }

    /// A timer of the connection expired; says the same.
    pub(crate) fn on_timeout(&mut self, now: Instant, rtt: Duration) -> Option<Duration> {
        self.judge(now, rtt, rtt)
    }

    fn judge(&mut self, now: Instant, rtt: Duration, patience: Duration) -> Option<Duration> {
        let silent = now.since(self.since?);
        let patient = silent < (patience + ACK_DELAY).clamp(PATIENCE_MIN, PATIENCE_MAX);
        if self.told || patient || self.is_idle(now, rtt) {
            return None;
        }
        self.told = true;
        Some(silent)
    }

    fn is_idle(&self, now: Instant, rtt: Duration) -> bool {
        now.since(self.sent) > 8 * rtt + IDLE
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
        assert_eq!(silence.on_sent(at(1_000), RTT), None);
        assert_eq!(silence.on_sent(at(1_010), RTT), None);
        assert_eq!(silence.on_timeout(at(1_060), RTT), None, "the answer may still come");
        assert_eq!(silence.on_timeout(at(1_070), RTT), Some(Duration::from_millis(70)));
        assert_eq!(silence.on_sent(at(1_070), RTT), None, "known");
        assert_eq!(silence.on_timeout(at(1_300), RTT), None, "known");
        silence.on_heard();
        silence.on_sent(at(2_000), RTT);
        assert!(silence.on_timeout(at(2_110), RTT).is_some(), "another silence");
    }

    #[test]
    fn whoever_goes_on_talking_notices_without_a_timer() {
        let mut silence = Silence::default();
        let noticed = (0..100).find(|n| silence.on_sent(at(1_000 + 5 * n), RTT).is_some());
        assert_eq!(noticed, Some(21));
    }

    #[test]
    fn a_connection_that_has_nothing_to_say_is_not_silent() {
        let mut silence = Silence::default();
        assert_eq!(silence.on_timeout(at(5_000), RTT), None);
        silence.on_sent(at(5_000), RTT);
        assert_eq!(silence.on_timeout(at(15_000), RTT), None, "an acknowledgement, and then nothing");
        assert_eq!(silence.on_sent(at(15_000), RTT), None, "a new beginning");
        assert_eq!(silence.on_sent(at(15_050), RTT), None);
    }
}
