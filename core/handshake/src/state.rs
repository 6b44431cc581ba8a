//! What is known of the peer, and every legal move between.

use gimlet_machine::Instant;

use crate::{Capabilities, Hello, HelloError, Refusal};

/// What is known of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing; the owner lets nothing else through.
    AwaitHello {
        /// After this the peer is refused.
        until: Instant,
    },
    /// Who it says it is, and what both can do. Terminal.
    Known(Agreed),
    /// That it and we cannot talk. Terminal.
    Refused(Refusal),
}

/// What both ends know once each has heard the other's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    version: u16,
    capabilities: Capabilities,
    hello: Hello,
}

impl Agreed {
    /// The newest version that both speak.
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// What both can do.
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// What the peer said.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The newest version that both speak: the older of the two newest, unless one end no longer
    /// speaks anything that old.
    fn between(ours: &Hello, hello: Hello) -> Result<Agreed, Refusal> {
        if hello.version() < ours.oldest() {
            return Err(Refusal::PeerTooOld { newest: hello.version(), required: ours.oldest() });
        }
        if ours.version() < hello.oldest() {
            return Err(Refusal::WeAreTooOld { newest: ours.version(), required: hello.oldest() });
        }
        let version = ours.version().min(hello.version());
        debug_assert!(version >= ours.oldest() && version >= hello.oldest(), "both speak it");
        Ok(Agreed { version, capabilities: ours.capabilities().intersection(hello.capabilities()), hello })
    }
}

impl State {
    /// AwaitHello → Known, or AwaitHello → Refused. Terminal states stay.
    pub(crate) fn on_hello(self, ours: &Hello, heard: Result<Hello, HelloError>) -> State {
        match self {
            State::AwaitHello { .. } => heard
                .map_err(Refusal::Malformed)
                .and_then(|hello| Agreed::between(ours, hello))
                .map_or_else(State::Refused, State::Known),
            State::Known(_) | State::Refused(_) => self,
        }
    }

    /// AwaitHello → Refused once the wait is over. Other states stay.
    pub(crate) fn on_timeout(self, now: Instant) -> State {
        match self {
            State::AwaitHello { until } if until <= now => State::Refused(Refusal::Silent),
            State::AwaitHello { .. } | State::Known(_) | State::Refused(_) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use alloc::string::String;
    use core::fmt::Write as _;

    fn speaks(oldest: u16, newest: u16) -> Hello {
        let hello = Hello::new(Role::Peer, Capabilities::NONE, "").unwrap();
        hello.with_versions(oldest, newest).unwrap()
    }

    fn name(state: &State) -> &'static str {
        match state {
            State::AwaitHello { .. } => "AwaitHello",
            State::Known(_) => "Known",
            State::Refused(_) => "Refused",
        }
    }

    #[test]
    fn the_transition_table_is_this_one() {
        let ours = speaks(2, 4);
        let until = Instant::from_millis(5);
        let known = State::AwaitHello { until }.on_hello(&ours, Ok(speaks(2, 4)));
        let mut table = String::new();
        for state in [State::AwaitHello { until }, known, State::Refused(Refusal::Silent)] {
            let mut row = |what: &str, next: State| {
                writeln!(table, "{} --{what}--> {}", name(&state), name(&next)).unwrap();
            };
            row("good hello", state.clone().on_hello(&ours, Ok(speaks(3, 9))));
            row("foreign version", state.clone().on_hello(&ours, Ok(speaks(5, 9))));
            row("malformed", state.clone().on_hello(&ours, Err(HelloError::Truncated)));
            row("early timeout", state.clone().on_timeout(Instant::ZERO));
            row("timeout", state.clone().on_timeout(until));
        }
        assert_eq!(
            table,
            "AwaitHello --good hello--> Known\n\
             AwaitHello --foreign version--> Refused\n\
             AwaitHello --malformed--> Refused\n\
             AwaitHello --early timeout--> AwaitHello\n\
             AwaitHello --timeout--> Refused\n\
             Known --good hello--> Known\n\
             Known --foreign version--> Known\n\
             Known --malformed--> Known\n\
             Known --early timeout--> Known\n\
             Known --timeout--> Known\n\
             Refused --good hello--> Refused\n\
             Refused --foreign version--> Refused\n\
             Refused --malformed--> Refused\n\
             Refused --early timeout--> Refused\n\
             Refused --timeout--> Refused\n"
        );
    }

    #[test]
    fn both_ends_agree_on_the_newest_common_version_or_both_refuse() {
        for (a, b, expected) in [
            (speaks(1, 1), speaks(1, 1), Some(1)),
            (speaks(1, 3), speaks(2, 9), Some(3)),
            (speaks(1, 3), speaks(3, 3), Some(3)),
            (speaks(1, 2), speaks(3, 4), None),
        ] {
            let one = Agreed::between(&a, b.clone()).map(|agreed| agreed.version());
            let other = Agreed::between(&b, a.clone()).map(|agreed| agreed.version());
            assert_eq!((one.ok(), other.ok()), (expected, expected), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn the_refusal_names_the_end_to_be_updated() {
        let (old, new) = (speaks(1, 2), speaks(3, 4));
        assert_eq!(Agreed::between(&new, old.clone()), Err(Refusal::PeerTooOld { newest: 2, required: 3 }));
        assert_eq!(Agreed::between(&old, new), Err(Refusal::WeAreTooOld { newest: 2, required: 3 }));
    }
}
