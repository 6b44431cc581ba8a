//! What a discovery waits for.

/// One of the two is armed at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Ask once more.
    Round,
    /// No more is asked: end the step with what is known.
    Patience,
}

impl gimlet_machine::Timer for Timer {
    fn why(self) -> &'static str {
        match self {
            Timer::Round => "round",
            Timer::Patience => "patience",
        }
    }
}
