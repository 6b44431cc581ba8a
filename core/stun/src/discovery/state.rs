//! The order of the steps (RFC 5780 §4): the only place that knows what follows what.
//!
//! ```text
//!   Basic ──► Sampling ──► Mapping ──┬── Full ──► Filtering ──┬──► Hairpin ──► Done
//!     │                              └── Plain ───────────────┘                 ▲
//!     └── Silence ─────────────────────────────────────────────────────────────┘
//! ```

use core::fmt;

/// What is being found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Which servers answer, and which of them has a second address (RFC 5780 §4.2).
    Basic,
    /// Which ports fresh sockets are mapped to, one after the other.
    Sampling,
    /// What the server's other addresses see (RFC 5780 §4.3).
    Mapping,
    /// Which of the server's other addresses get through to us unasked (RFC 5780 §4.4).
    Filtering,
    /// Whether our own packets to our outside address come back in (RFC 5780 §4.5).
    Hairpin,
    /// Nothing more.
    Done,
}

/// What there is to stand on at the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ground {
    /// No server answers.
    Silence,
    /// A server that only says what it sees, or only one socket.
    Plain,
    /// A server with another address, and a socket that has not spoken with it.
    Full,
}

impl Step {
    /// The step that follows.
    pub(super) const fn after(self, ground: Ground) -> Step {
        match (self, ground) {
            (Step::Basic, Ground::Plain | Ground::Full) => Step::Sampling,
            (Step::Sampling, Ground::Silence | Ground::Plain | Ground::Full) => Step::Mapping,
            (Step::Mapping, Ground::Full) => Step::Filtering,
            (Step::Mapping, Ground::Silence | Ground::Plain)
            | (Step::Filtering, Ground::Silence | Ground::Plain | Ground::Full) => Step::Hairpin,
            (Step::Basic, Ground::Silence)
            | (Step::Hairpin | Step::Done, Ground::Silence | Ground::Plain | Ground::Full) => Step::Done,
        }
    }

    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Basic => "basic",
            Step::Sampling => "sampling",
            Step::Mapping => "mapping",
            Step::Filtering => "filtering",
            Step::Hairpin => "hairpin",
            Step::Done => "done",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::fmt::Write as _;

    /// The transition table: a new edge shows up in the snapshot, and so in review.
    #[test]
    fn legal_transitions_are_these_and_no_others() {
        let mut table = String::new();
        for step in [Step::Basic, Step::Sampling, Step::Mapping, Step::Filtering, Step::Hairpin, Step::Done] {
            for ground in [Ground::Silence, Ground::Plain, Ground::Full] {
                writeln!(table, "{step:9} {:7} {}", alloc::format!("{ground:?}"), step.after(ground))
                    .unwrap();
            }
        }
        assert_eq!(table, include_str!("../../snapshots/discovery.txt"));
    }
}
