//! The life of one request (RFC 8489 §6.2): the only place that knows when to send it again.
//!
//! ```text
//!              Send (1 … rc)
//!              ┌───┐
//!              ▼   │      last one sent            rm · rto later
//!   new ──► Sending ┴──────────────────► Listening ──────────────► Expired
//!              │                             ▲
//!              └──────── cancel ─────────────┘
//! ```

use core::time::Duration;

use gimlet_machine::Instant;

/// The first wait between two sends unless a round trip has been measured (RFC 8489 §6.2.1).
pub const RTO_DEFAULT: Duration = Duration::from_millis(500);
/// How often a request is sent at most: Rc (RFC 8489 §6.2.1).
pub const RC_DEFAULT: u32 = 7;
/// How many RTOs to listen after the last send: Rm (RFC 8489 §6.2.1).
pub const RM_DEFAULT: u32 = 16;
/// How long to wait for the answer to a request on a reliable transport: Ti (RFC 8489 §6.2.2).
pub const TI_DEFAULT: Duration = Duration::from_millis(39_500);

/// The shortest wait that [`Retransmission`] accepts; shorter ones become this. A request must not
/// be due again at the moment it was sent.
pub const RTO_MIN: Duration = Duration::from_millis(1);

/// The longest wait that [`Retransmission`] accepts, and the most of them after the last send; longer and
/// more become these. More than an hour, and more than ten days.
pub const RTO_MAX: Duration = Duration::from_micros(u32::MAX as u64);
/// See [`RTO_MAX`].
pub const RM_MAX: u32 = u8::MAX as u32;

/// The most sends that [`Retransmission`] accepts; more become this. The wait before the last one is
/// then 2³¹ RTOs, which is for ever.
pub const RC_MAX: u32 = 32;

/// When to send a request, when to send it again, when to give up.
///
/// With the defaults it is sent at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, and fails at
/// 39500 ms. Each wait begins when the send was asked for, so a driver that wakes late stretches the
/// ladder and never bunches it.
///
/// ```
/// use core::time::Duration;
/// use gimlet_machine::Instant;
/// use gimlet_stun::{Due, Retransmission};
///
/// let (start, rto) = (Instant::ZERO, Duration::from_millis(500));
/// let mut request = Retransmission::new(start, rto, 2, 16);
/// assert_eq!(request.due(start), Due::Send);
/// assert_eq!(request.due(start), Due::Nothing);
/// assert_eq!(request.deadline(), Some(start + rto));
/// assert_eq!(request.due(start + rto), Due::Send);
/// assert_eq!(request.deadline(), Some(start + rto + 16 * rto));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// When the phase ends.
    at: Instant,
    /// Microseconds: there may be hundreds of these, and each keeps to 16 bytes.
    rto: u32,
    rm: u8,
    rc: u8,
    sent: u8,
    phase: Phase,
}

/// States are named by what they await.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An answer, or the moment to send.
    Sending,
    /// An answer, or the end.
    Listening,
    /// Nothing.
    Expired,
}

/// What a [`Retransmission`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send the request, the same bytes every time.
    Send,
    /// Give up: no answer came. Said once.
    Expired,
    /// Wait.
    Nothing,
}

impl Retransmission {
    /// A request to be sent at once, at most `rc` times (from once to [`RC_MAX`] times): first `rto`
    /// apart, then twice that, and so on; given up `rm · rto` after the last send.
    pub const fn new(now: Instant, rto: Duration, rc: u32, rm: u32) -> Self {
        let rc = if rc == 0 {
            1
        } else if rc > RC_MAX {
            RC_MAX as u8
        } else {
            rc as u8
        };
        let rm = if rm == 0 {
            1
        } else if rm > RM_MAX {
            RM_MAX as u8
        } else {
            rm as u8
        };
        Self { at: now, rto: micros(rto), rm, rc, sent: 0, phase: Phase::Sending }
    }

    /// A request over a reliable transport: sent once, given up after [`TI_DEFAULT`]
    /// (RFC 8489 §6.2.2).
    pub const fn reliable(now: Instant) -> Self {
        Self::new(now, TI_DEFAULT, 1, 1)
    }

    /// What is to be done at `now`. Asking is doing: after `Send` the next wait has begun.
    pub fn due(&mut self, now: Instant) -> Due {
        match self.phase {
            Phase::Sending if self.at <= now => {
                self.sent += 1;
                self.at = now + self.wait_after_send(self.sent);
                self.phase = if self.sent < self.rc { Phase::Sending } else { Phase::Listening };
                Due::Send
            }
            Phase::Listening if self.at <= now => {
                self.phase = Phase::Expired;
                Due::Expired
            }
            Phase::Sending | Phase::Listening | Phase::Expired => Due::Nothing,
        }
    }

    /// When [`Retransmission::due`] next has something to say; `None` once expired.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Sending | Phase::Listening => Some(self.at),
            Phase::Expired => None,
        }
    }

    /// How often the request has been sent.
    pub const fn sent(&self) -> u32 {
        self.sent as u32
    }

    /// Whether it may be sent again.
    pub const fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Sending)
    }

    /// Sends no more, and still listens until the moment at which it would have given up
    /// (RFC 8445 §7.3.1.4: a cancelled check may yet be answered).
    pub fn cancel(&mut self) {
        if self.phase == Phase::Sending {
            let waits = (self.sent + 1..=self.rc).map(|sent| self.wait_after_send(sent));
            self.at = waits.fold(self.at, |until, wait| until + wait);
            self.phase = Phase::Listening;
        }
    }

    /// How long a request of these parameters (see [`Retransmission::new`]) waits after send number `sent`, counted
    /// from 1: for owners of so many requests that they keep only what they cannot compute.
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use gimlet_stun::Retransmission;
    /// let rto = Duration::from_millis(500);
    /// let waits = [1, 2, 3].map(|sent| Retransmission::wait_after(rto, 3, 16, sent));
    /// assert_eq!(waits, [rto, 2 * rto, 16 * rto]);
    /// ```
    pub const fn wait_after(rto: Duration, rc: u32, rm: u32, sent: u32) -> Duration {
        let rtos = if sent == 0 {
            0
        } else if sent < rc && sent <= RC_MAX {
            1 << (sent - 1)
        } else if rm > RM_MAX {
            RM_MAX as u64
        } else {
            rm as u64
        };
        Duration::from_micros(micros(rto) as u64 * rtos)
    }

    fn wait_after_send(&self, sent: u8) -> Duration {
        let rto = Duration::from_micros(self.rto.into());
        Self::wait_after(rto, self.rc.into(), self.rm.into(), sent.into())
    }
}

/// An RTO within its bounds.
const fn micros(rto: Duration) -> u32 {
    if rto.as_nanos() < RTO_MIN.as_nanos() {
        RTO_MIN.as_micros() as u32
    } else if rto.as_nanos() > RTO_MAX.as_nanos() {
        RTO_MAX.as_micros() as u32
    } else {
        rto.as_micros() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Everything that happens when `request` is asked exactly at its deadlines: milliseconds.
    fn ladder(mut request: Retransmission) -> Vec<(u64, Due)> {
        core::iter::from_fn(|| request.deadline().map(|at| (at.as_millis(), request.due(at)))).collect()
    }

    #[test]
    fn defaults_give_the_ladder_of_rfc_8489_section_6_2_1() {
        let request = Retransmission::new(Instant::ZERO, RTO_DEFAULT, RC_DEFAULT, RM_DEFAULT);
        let sends = [0, 500, 1500, 3500, 7500, 15_500, 31_500].map(|at| (at, Due::Send));
        let expected: Vec<_> = sends.into_iter().chain([(39_500, Due::Expired)]).collect();
        assert_eq!(ladder(request), expected);
    }

    #[test]
    fn a_reliable_transport_sends_once_and_waits_as_long() {
        let expected = [(0, Due::Send), (39_500, Due::Expired)];
        assert_eq!(ladder(Retransmission::reliable(Instant::ZERO)), expected);
    }

    #[test]
    fn a_cancelled_request_listens_exactly_as_long_as_it_would_have() {
        for asked in 0..=7 {
            let mut request = Retransmission::new(Instant::ZERO, RTO_DEFAULT, RC_DEFAULT, RM_DEFAULT);
            for _ in 0..asked {
                request.due(request.deadline().unwrap());
            }
            request.cancel();
            assert_eq!((request.sent(), ladder(request)), (asked, [(39_500, Due::Expired)].to_vec()));
        }
    }

    #[test]
    fn waking_late_stretches_the_ladder_and_never_bunches_it() {
        let mut request = Retransmission::new(Instant::ZERO, RTO_DEFAULT, RC_DEFAULT, RM_DEFAULT);
        assert_eq!(request.due(Instant::ZERO), Due::Send);
        let late = Instant::from_millis(10_000);
        assert_eq!((request.due(late), request.due(late)), (Due::Send, Due::Nothing));
        assert_eq!(request.deadline(), Some(Instant::from_millis(11_000)));
    }

    #[test]
    fn senseless_settings_still_end_and_never_spin() {
        let request = Retransmission::new(Instant::ZERO, Duration::ZERO, 0, 0);
        assert_eq!(ladder(request), [(0, Due::Send), (1, Due::Expired)]);
        let mut endless = Retransmission::new(Instant::FAR, Duration::MAX, u32::MAX, u32::MAX);
        assert_eq!(endless.due(Instant::FAR), Due::Send);
        endless.due(Instant::FAR);
        assert_eq!(endless.deadline(), Some(Instant::FAR));
    }

    #[test]
    fn it_is_small_because_an_agent_holds_hundreds() {
        assert_eq!(size_of::<Retransmission>(), 16);
    }

    /// The transition table: a new edge shows up here in review.
    #[test]
    fn legal_transitions_are_these_and_no_others() {
        let name = |request: &Retransmission| match request.phase {
            Phase::Sending => "Sending",
            Phase::Listening => "Listening",
            Phase::Expired => "Expired",
        };
        let mut edges = Vec::new();
        let mut states = Vec::from([Retransmission::new(Instant::ZERO, RTO_DEFAULT, 2, 1)]);
        let mut explored = 0;
        while let Some(from) = states.get(explored).copied() {
            explored += 1;
            let (mut due, mut cancelled) = (from, from);
            due.due(from.deadline().unwrap_or(Instant::FAR));
            cancelled.cancel();
            for (verb, to) in [("due", due), ("cancel", cancelled)] {
                edges.push((name(&from), verb, name(&to)));
                if !states.contains(&to) {
                    states.push(to);
                }
            }
        }
        edges.sort_unstable();
        edges.dedup();
        let expected = [
            ("Expired", "cancel", "Expired"),
            ("Expired", "due", "Expired"),
            ("Listening", "cancel", "Listening"),
            ("Listening", "due", "Expired"),
            ("Sending", "cancel", "Listening"),
            ("Sending", "due", "Listening"),
            ("Sending", "due", "Sending"),
        ];
        assert_eq!(edges, expected);
    }
}
