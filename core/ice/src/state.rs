//! Every legal transition of the graphs of an agent, but for that of a punch (`punch/state.rs`). Nothing
//! outside this file decides what may follow what.
//!
//! ```text
//! pair        Frozen ⇄ Waiting ──check──► InProgress ──succeed──► Succeeded
//!                         ▲                 │   │                     │
//!                         ├─────trigger─────┘   └──fail──► Failed ◄───┘ fail (its nomination, consent)
//!                         └─────────────trigger──────────────┘        any ──believe──► Succeeded (lite)
//!
//! agent       New ──start──► Checking ──validate──► Connected ◄─select/unselect─► Completed
//!                             ▲    ▲ └─fail─► Failed    │                             │
//!                             │    └──start─────┘       │                             │
//!                             └──────────lose───────────┴─────────────────────────────┘
//!                                                                  any ──close──► Closed
//!
//! nomination  Undecided ──validate──► Provisional ──request──► Requested ──confirm──► Selected
//!                 ▲                    ▲ │  ▲ └─────accept─────────┼────────────────────►▲ │
//!                 ├────────lose────────┼─┘  └───────refuse─────────┘                     │ │ move
//!                 │                    │                                 confirm, accept │ ▼
//!                 └── lose, restart ───┴────────────────release───────────────────────── Moved
//!
//! liveness    Fresh ──miss──► Once ──miss──► Twice ──miss──► Suspect
//!               ▲   └─────────alarm─────────►▲ │               │
//!               └──────────────answer──────────┴───────────────┘
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
    /// Its check was answered with an error, asymmetrically or not at all; or its consent is over.
    Fail,
    /// The peer says that it works, and we are lite: we do not check (RFC 8445 §7.3.2).
    Believe,
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
            PairStep::Believe => match self {
                Frozen | Waiting | InProgress | Failed => Some(Succeeded),
                Succeeded => None,
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
    /// Both sides agreed on a path. It stays so when another path that works takes its place.
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
    /// The last valid pair was lost.
    Lose,
    /// The agreed path is gone or belongs to an earlier generation, and there is another.
    Unselect,
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
                Connected | Completed => Some(Checking),
                New | Checking | Failed | Closed => None,
            },
            Step::Unselect => match self {
                Completed => Some(Connected),
                New | Checking | Connected | Failed | Closed => None,
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
    /// Uses another pair than was agreed on, because that one died or this one is better; awaits the
    /// peer's agreement.
    Moved,
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
    /// Another valid pair takes the place of the selected one.
    Move,
    /// The selected pair is gone, and the others are valid but have to be looked at first.
    Release,
    /// A new generation begins (RFC 8445 §9).
    Restart,
}

impl Nomination {
    #[cfg(test)]
    const ALL: [Nomination; 5] = [
        Nomination::Undecided,
        Nomination::Provisional,
        Nomination::Requested,
        Nomination::Selected,
        Nomination::Moved,
    ];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: NominationStep) -> Option<Nomination> {
        use Nomination::{Moved, Provisional, Requested, Selected, Undecided};
        match step {
            NominationStep::Validate => match self {
                Undecided => Some(Provisional),
                Provisional | Requested | Selected | Moved => None,
            },
            NominationStep::Request => match self {
                Provisional => Some(Requested),
                Undecided | Requested | Selected | Moved => None,
            },
            NominationStep::Confirm => match self {
                Requested | Moved => Some(Selected),
                Undecided | Provisional | Selected => None,
            },
            NominationStep::Accept => match self {
                // Selected: the peer chose again, or of two plain choices this is the better one.
                Provisional | Selected | Moved => Some(Selected),
                Undecided | Requested => None,
            },
            NominationStep::Refuse => match self {
                Requested => Some(Provisional),
                Undecided | Provisional | Selected | Moved => None,
            },
            NominationStep::Lose => match self {
                Provisional | Selected | Moved => Some(Undecided),
                Undecided | Requested => None,
            },
            NominationStep::Move => match self {
                Selected | Moved => Some(Moved),
                Undecided | Provisional | Requested => None,
            },
            NominationStep::Release => match self {
                Selected | Moved => Some(Provisional),
                Undecided | Provisional | Requested => None,
            },
            NominationStep::Restart => match self {
                Provisional | Requested | Selected | Moved => Some(Undecided),
                Undecided => None,
            },
        }
    }
}

/// Whether the path in use still answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Liveness {
    /// The latest request was answered, or its answer is not late yet.
    Fresh,
    /// One answer is late.
    Once,
    /// Two answers in a row are late: other ways are looked for.
    Twice,
    /// Three: whatever else works is better.
    Suspect,
}

/// What may happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LivenessStep {
    /// An answer is late.
    Miss,
    /// The owner knows that the network changed: one more late answer is enough.
    Alarm,
    /// The peer answered.
    Answer,
}

impl Liveness {
    #[cfg(test)]
    const ALL: [Liveness; 4] = [Liveness::Fresh, Liveness::Once, Liveness::Twice, Liveness::Suspect];

    /// The state after `step`; `None` if nothing changes.
    pub(crate) const fn after(self, step: LivenessStep) -> Option<Liveness> {
        use Liveness::{Fresh, Once, Suspect, Twice};
        match step {
            LivenessStep::Miss => match self {
                Fresh => Some(Once),
                Once => Some(Twice),
                Twice => Some(Suspect),
                Suspect => None,
            },
            LivenessStep::Alarm => match self {
                Fresh | Once => Some(Twice),
                Twice | Suspect => None,
            },
            LivenessStep::Answer => match self {
                Once | Twice | Suspect => Some(Fresh),
                Fresh => None,
            },
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
