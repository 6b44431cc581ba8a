//! The life of a session. Legal transitions live here and nowhere else.

/// What a session awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The peer's first Initial packet.
    AwaitingInitial,
    /// The end of the TLS handshake.
    AwaitingHandshake,
    /// Nothing: data flows.
    Established,
    /// Stray packets after the end (closing or draining, RFC 9000 §10.2).
    AwaitingDrain,
    /// The owner to learn that the id is stale.
    Drained,
}

impl Phase {
    /// The TLS handshake began.
    pub(crate) fn begin(self) -> Option<Phase> {
        match self {
            Phase::AwaitingInitial => Some(Phase::AwaitingHandshake),
            Phase::AwaitingHandshake | Phase::Established | Phase::AwaitingDrain | Phase::Drained => None,
        }
    }

    /// Both ends proved who they are.
    pub(crate) fn establish(self) -> Option<Phase> {
        match self {
            Phase::AwaitingHandshake => Some(Phase::Established),
            Phase::AwaitingInitial | Phase::Established | Phase::AwaitingDrain | Phase::Drained => None,
        }
    }

    /// One end closed, or the connection was lost.
    pub(crate) fn end(self) -> Option<Phase> {
        match self {
            Phase::AwaitingInitial => Some(Phase::Drained),
            Phase::AwaitingHandshake | Phase::Established => Some(Phase::AwaitingDrain),
            Phase::AwaitingDrain | Phase::Drained => None,
        }
    }

    /// No stray packet is waited for any longer.
    pub(crate) fn drain(self) -> Option<Phase> {
        match self {
            Phase::AwaitingHandshake | Phase::Established | Phase::AwaitingDrain => Some(Phase::Drained),
            Phase::AwaitingInitial | Phase::Drained => None,
        }
    }

    /// The timer's name while in this phase, for people.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Phase::AwaitingInitial => "quic initial",
            Phase::AwaitingHandshake => "quic handshake",
            Phase::Established => "quic connection",
            Phase::AwaitingDrain => "quic drain",
            Phase::Drained => "quic drained",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const ALL: [Phase; 5] = [
        Phase::AwaitingInitial,
        Phase::AwaitingHandshake,
        Phase::Established,
        Phase::AwaitingDrain,
        Phase::Drained,
    ];

    /// A new edge shows up here, in review.
    #[test]
    fn the_transition_table_is_as_written() {
        let mut table = String::new();
        for from in ALL {
            let edges = [
                ("begin", from.begin()),
                ("establish", from.establish()),
                ("end", from.end()),
                ("drain", from.drain()),
            ];
            for (verb, to) in edges.into_iter().filter_map(|(verb, to)| to.map(|to| (verb, to))) {
                writeln!(table, "{from:?} --{verb}--> {to:?}").unwrap();
            }
        }
        let expected = "\
AwaitingInitial --begin--> AwaitingHandshake
AwaitingInitial --end--> Drained
AwaitingHandshake --establish--> Established
AwaitingHandshake --end--> AwaitingDrain
AwaitingHandshake --drain--> Drained
Established --end--> AwaitingDrain
Established --drain--> Drained
AwaitingDrain --drain--> Drained
";
        assert_eq!(table, expected);
    }
}
