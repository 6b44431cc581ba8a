//! Every legal transition of the three graphs of an agent. Nothing outside this file decides what may
//! follow what.
//!
//! ```text
//! pair        Frozen ⇄ Waiting ──check──► InProgress ──succeed──► Succeeded
//!                         ▲                 │   │                     │
//!                         ├─────trigger─────┘   └──fail──► Failed ◄───┘ fail (its nomination)
//!                         └─────────────trigger──────────────┘
//!
//! agent       New ──start──► Checking ──validate──► Connected ──select──► Completed
//!                             ▲    ▲ └─fail─► Failed    │
//!                             │    └──start─────┘       │
//!                             └──────────lose───────────┘          any ──close──► Closed
//!
//! nomination  Undecided ──validate──► Provisional ──request──► Requested ──confirm──► Selected
//!                 ▲                    │  ▲  └──────accept─────────┼────────────────────►▲
//!                 └────────lose────────┘  └─────────refuse─────────┘
//! ```

use core::fmt;

/// Where a pair stands (RFC 8445 §6.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairState {
    /// Awaits the outcome of another pair of the same foundation.
    Frozen,
    /// Awaits its turn to be checked.
    Waiting,
    /// Awaits the answer to a check.
    InProgress,
    /// A check succeeded.
    Succeeded,
    /// A check failed or was never answered.
    Failed,
}

/// What may happen to a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairStep {
    /// Its foundation is known to work, or is idle (RFC 8445 §6.1.4.2, §7.2.5.3.3).
    Unfreeze,
    /// Before any check, a better pair of the same foundation appeared (RFC 8838 §12).
    Outrank,
    /// Its check is sent.
    Check,
    /// The peer checked it, or its check has to be repeated under another role (RFC 8445 §7.3.1.4,
    /// §7.2.5.1).
    Trigger,
    /// Its check was answered with success.
    Succeed,
    /// Its check was answered with an error, asymmetrically or not at all.
    Fail,
}

impl PairState {
    /// All states, in the order of a pair's usual life.
    pub const ALL: [PairState; 5] = [
        PairState::Frozen,
        PairState::Waiting,
        PairState::InProgress,
        PairState::Succeeded,
        PairState::Failed,
    ];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: PairStep) -> Option<PairState> {
        use PairState::{Failed, Frozen, InProgress, Succeeded, Waiting};
        match step {
            PairStep::Unfreeze => match self {
                Frozen => Some(Waiting),
                Waiting | InProgress | Succeeded | Failed => None,
            },
            PairStep::Outrank => match self {
                Waiting => Some(Frozen),
                Frozen | InProgress | Succeeded | Failed => None,
            },
            PairStep::Check => match self {
                Waiting => Some(InProgress),
                Frozen | InProgress | Succeeded | Failed => None,
            },
            PairStep::Trigger => match self {
                Frozen | Waiting | InProgress | Failed => Some(Waiting),
                // RFC 8445 §7.3.1.4: nothing further is done. A check here would be answered by a check.
                Succeeded => None,
            },
            PairStep::Succeed => match self {
                // Waiting and Failed: the answer to a cancelled or abandoned check still counts.
                Waiting | InProgress | Failed | Succeeded => Some(Succeeded),
                Frozen => None,
            },
            PairStep::Fail => match self {
                InProgress | Succeeded => Some(Failed),
                Frozen | Waiting | Failed => None,
            },
        }
    }

    /// Whether the outcome is still open.
    pub const fn is_open(self) -> bool {
        match self {
            PairState::Frozen | PairState::Waiting | PairState::InProgress => true,
            PairState::Succeeded | PairState::Failed => false,
        }
    }
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Awaits the peer's credentials. Requests are answered already.
    New,
    /// Awaits a first valid path.
    Checking,
    /// Has a valid path, awaits the end of nomination. Data may be sent.
    Connected,
    /// Both sides agreed on a path.
    Completed,
    /// No pair works, and none can be added any more. A check from the peer revives the agent.
    Failed,
    /// Closed by its owner. It does nothing more.
    Closed,
}

/// What may happen to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is something to check.
    Start,
    /// A first pair became valid.
    Validate,
    /// Nomination finished.
    Select,
    /// The last valid pair was lost before nomination finished.
    Lose,
    /// Every pair failed and no more can come.
    Fail,
    /// The owner closed it.
    Close,
}

impl State {
    /// All states, in the order of an agent's usual life.
    pub const ALL: [State; 6] =
        [State::New, State::Checking, State::Connected, State::Completed, State::Failed, State::Closed];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: Step) -> Option<State> {
        use State::{Checking, Closed, Completed, Connected, Failed, New};
        match step {
            Step::Start => match self {
                New | Failed => Some(Checking),
                Checking | Connected | Completed | Closed => None,
            },
            Step::Validate => match self {
                Checking | Failed => Some(Connected),
                New | Connected | Completed | Closed => None,
            },
            Step::Select => match self {
                Connected => Some(Completed),
                New | Checking | Completed | Failed | Closed => None,
            },
            Step::Lose => match self {
                Connected => Some(Checking),
                New | Checking | Completed | Failed | Closed => None,
            },
            Step::Fail => match self {
                Checking => Some(Failed),
                New | Connected | Completed | Failed | Closed => None,
            },
            Step::Close => match self {
                New | Checking | Connected | Completed | Failed => Some(Closed),
                Closed => None,
            },
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::New => "new",
            State::Checking => "checking",
            State::Connected => "connected",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Closed => "closed",
        })
    }
}

/// Where nomination stands (RFC 8445 §8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Nomination {
    /// Awaits a valid pair.
    Undecided,
    /// Has a valid pair, awaits the outcome of better ones (controlling) or the peer's choice.
    Provisional,
    /// Awaits the answer to the check with USE-CANDIDATE. Controlling only.
    Requested,
    /// Done.
    Selected,
}

/// What may happen to nomination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NominationStep {
    /// A first pair became valid.
    Validate,
    /// We ask for the best valid pair.
    Request,
    /// The peer agreed to our request.
    Confirm,
    /// The peer's request named a pair that is valid here too.
    Accept,
    /// Our request failed, or we lost the right to make it with our role.
    Refuse,
    /// The last valid pair was lost.
    Lose,
}

impl Nomination {
    #[cfg(test)]
    const ALL: [Nomination; 4] =
        [Nomination::Undecided, Nomination::Provisional, Nomination::Requested, Nomination::Selected];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: NominationStep) -> Option<Nomination> {
        use Nomination::{Provisional, Requested, Selected, Undecided};
        match step {
            NominationStep::Validate => match self {
                Undecided => Some(Provisional),
                Provisional | Requested | Selected => None,
            },
            NominationStep::Request => match self {
                Provisional => Some(Requested),
                Undecided | Requested | Selected => None,
            },
            NominationStep::Confirm => match self {
                Requested => Some(Selected),
                Undecided | Provisional | Selected => None,
            },
            NominationStep::Accept => match self {
                // Selected: without renomination, the better of two nominated pairs is used.
                Provisional | Selected => Some(Selected),
                Undecided | Requested => None,
            },
            NominationStep::Refuse => match self {
                Requested => Some(Provisional),
                Undecided | Provisional | Selected => None,
            },
            NominationStep::Lose => match self {
                Provisional => Some(Undecided),
                Undecided | Requested | Selected => None,
            },
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
