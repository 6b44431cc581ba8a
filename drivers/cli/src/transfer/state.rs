//! The two state graphs of a transfer. Legal transitions live here and nowhere else.
//!
//! ```text
//!   sending:    AwaitReply ─ready─► AwaitCompare ─start─► AwaitBytes ─trailer─► AwaitOutcome ─outcome─► Over
//!                    └─refused──────────────────────────────────┴─ an early outcome (disk full) ───────► Over
//!
//!   receiving:  AwaitOpening ─opened─► AwaitDecision ─accept─► AwaitStart ─start─► AwaitBytes ─last─► AwaitTrailer
//!                                         ├─accept a message or a pipe─► Raw                             │trailer
//!                                         └─refuse─► Over  ◄────────────decide── AwaitVerdict ◄──────────┘
//! ```

/// Where the sending end of a file is, named by what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// The receiver's reply.
    AwaitReply,
    /// Our own comparison of what the receiver has with what we have.
    AwaitCompare,
    /// Our own bytes: `left` more.
    AwaitBytes { left: u64 },
    /// The receiver's outcome.
    AwaitOutcome,
    /// Nothing.
    Over,
}

/// What moves a [`Sending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendStep {
    Ready,
    Refused,
    Start { left: u64 },
    Sent { bytes: u64 },
    Trailer,
    Outcome,
}

impl Sending {
    /// The state after `step`, or `None` where that step is not legal.
    pub(crate) fn next(self, step: SendStep) -> Option<Sending> {
        match (self, step) {
            (Sending::AwaitReply, SendStep::Ready) => Some(Sending::AwaitCompare),
            (Sending::AwaitCompare, SendStep::Start { left }) => Some(Sending::AwaitBytes { left }),
            (Sending::AwaitBytes { left }, SendStep::Sent { bytes }) => {
                left.checked_sub(bytes).map(|left| Sending::AwaitBytes { left })
            }
            (Sending::AwaitBytes { left: 0 }, SendStep::Trailer) => Some(Sending::AwaitOutcome),
            (Sending::AwaitReply, SendStep::Refused)
            | (Sending::AwaitBytes { .. } | Sending::AwaitOutcome, SendStep::Outcome) => Some(Sending::Over),
            (
                Sending::AwaitReply
                | Sending::AwaitCompare
                | Sending::AwaitBytes { .. }
                | Sending::AwaitOutcome
                | Sending::Over,
                _step,
            ) => None,
        }
    }
}

/// Where the receiving end is, named by what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// The peer's opening.
    AwaitOpening,
    /// Our owner's word whether we want it.
    AwaitDecision,
    /// Where the sender begins; it may say `held` or 0.
    AwaitStart { size: u64, held: u64 },
    /// The file's bytes: `left` more.
    AwaitBytes { left: u64 },
    /// The sender's hash.
    AwaitTrailer,
    /// Our owner's word whether all is well.
    AwaitVerdict,
    /// The bytes of a message or a pipe, which are not ours to understand.
    Raw,
    /// Nothing.
    Over,
}

/// What moves a [`Receiving`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveStep {
    Opened,
    AcceptFile { size: u64, held: u64 },
    AcceptRaw,
    Refuse,
    Start { at: u64 },
    Got { bytes: u64 },
    Trailer,
    Verdict,
}

impl Receiving {
    /// The state after `step`, or `None` where that step is not legal.
    pub(crate) fn next(self, step: ReceiveStep) -> Option<Receiving> {
        let bytes = |left| if left == 0 { Receiving::AwaitTrailer } else { Receiving::AwaitBytes { left } };
        match (self, step) {
            (Receiving::AwaitOpening, ReceiveStep::Opened) => Some(Receiving::AwaitDecision),
            (Receiving::AwaitDecision, ReceiveStep::AcceptFile { size, held }) if held <= size => {
                Some(Receiving::AwaitStart { size, held })
            }
            (Receiving::AwaitDecision, ReceiveStep::AcceptRaw) => Some(Receiving::Raw),
            (Receiving::AwaitStart { size, held }, ReceiveStep::Start { at }) if at == 0 || at == held => {
                Some(bytes(size - at))
            }
            (Receiving::AwaitBytes { left }, ReceiveStep::Got { bytes: got }) => {
                left.checked_sub(got).map(bytes)
            }
            (Receiving::AwaitTrailer, ReceiveStep::Trailer) => Some(Receiving::AwaitVerdict),
            // Trouble with the disk or the sender may end it anywhere.
            (Receiving::AwaitOpening | Receiving::AwaitDecision, ReceiveStep::Refuse)
            | (
                Receiving::AwaitStart { .. }
                | Receiving::AwaitBytes { .. }
                | Receiving::AwaitTrailer
                | Receiving::AwaitVerdict
                | Receiving::Raw,
                ReceiveStep::Verdict,
            ) => Some(Receiving::Over),
            (
                Receiving::AwaitOpening
                | Receiving::AwaitDecision
                | Receiving::AwaitStart { .. }
                | Receiving::AwaitBytes { .. }
                | Receiving::AwaitTrailer
                | Receiving::AwaitVerdict
                | Receiving::Raw
                | Receiving::Over,
                _step,
            ) => None,
        }
    }
}
