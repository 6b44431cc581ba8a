//! The agent's timers.

use gimlet_machine::Timer;

/// What the agent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// A check may leave: pacing and retransmission together.
    Check,
    /// A check is given up.
    Expire,
    /// The controlling agent stops waiting for a better pair.
    Nominate,
    /// The wait for peer-reflexive candidates ends (RFC 8863).
    Patience,
    /// The path in use needs a packet to stay open (RFC 8445 §11). Lite agents only.
    Keepalive,
    /// The peer is to be asked whether it still wants our data (RFC 7675 §5.1).
    Consent,
    /// The answer to the latest request on the path in use is late.
    Probe,
    /// The peer's consent ends.
    Expiry,
    /// Paths that did not work get another chance.
    Return,
    /// A name of the peer is given up.
    Name,
    /// A probe may leave, or a punch moves on by itself.
    Punch,
}

impl Timer for TimerKey {
    fn why(self) -> &'static str {
        match self {
            TimerKey::Check => "check",
            TimerKey::Expire => "check expires",
            TimerKey::Nominate => "nominate",
            TimerKey::Patience => "patience",
            TimerKey::Keepalive => "keepalive",
            TimerKey::Consent => "consent",
            TimerKey::Probe => "probe",
            TimerKey::Expiry => "consent expires",
            TimerKey::Return => "return",
            TimerKey::Name => "name expires",
            TimerKey::Punch => "punch",
        }
    }
}
