//! The state graphs of a node: legal transitions live here and nowhere else.
//!
//! An *attempt* tries to reach a peer; a *link* is an authenticated connection to it. A peer may have
//! both: a new attempt while an old link is still up replaces the link when it succeeds.
//!
//! ```text
//!  attempt                                            link
//!  ┌────────────────┐ introducer ┌─────────────┐      ┌────────────┐ hello ┌──────┐
//!  │ AwaitIntroducer├───────────►│ AwaitAnswer │      │ AwaitHello ├──────►│ Open │
//!  └────────────────┘            └──────┬──────┘      └─────┬──────┘       └──┬───┘
//!                                answer │                   │ close           │ close
//!  offer received ───────────────►┌─────▼─────┐             │        ┌────────▼──────┐
//!                                 │ AwaitPath │             └───────►│ AwaitDelivery │
//!                                 └─────┬─────┘                      └───────────────┘
//!                           path valid  │
//!  dial a ticket ──►┌───────────────────▼┐ connected
//!                   │ AwaitConnection    ├───────────► (becomes a link)
//!                   └────────────────────┘
//! ```

/// Whether the way of a link is in doubt, and what is awaited then.
///
/// ```text
///         doubt               restart
///   Idle ───────► AwaitPath ───────────► AwaitAnswer
///     ▲               │  ▲                    │
///     └──path found───┘  └─────answered───────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RepairState {
    /// Nothing is wrong.
    #[default]
    Idle,
    /// ICE looks for a path that works.
    AwaitPath,
    /// A new generation has begun here; the peer has not said that it knows.
    AwaitAnswer,
}

/// What moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepairStep {
    /// The path in use does not answer, or a new generation has to find one.
    Doubt,
    /// A path works.
    PathFound,
    /// We begin a new generation.
    Restart,
    /// The peer has begun it, too.
    Answered,
}

impl RepairState {
    /// The next state; `None` if the step means nothing here.
    pub(crate) const fn next(self, step: RepairStep) -> Option<RepairState> {
        use RepairState as S;
        match (self, step) {
            (S::Idle, RepairStep::Doubt) | (S::AwaitAnswer, RepairStep::Answered) => Some(S::AwaitPath),
            (S::AwaitPath, RepairStep::PathFound) => Some(S::Idle),
            (S::AwaitPath, RepairStep::Restart) => Some(S::AwaitAnswer),
            (S::Idle, RepairStep::PathFound | RepairStep::Restart | RepairStep::Answered)
            | (S::AwaitPath, RepairStep::Doubt | RepairStep::Answered)
            | (S::AwaitAnswer, RepairStep::Doubt | RepairStep::PathFound | RepairStep::Restart) => None,
        }
    }
}

/// How far two peers have come in arranging a punch ([`crate::punch`]). One of them, the one with the smaller id,
/// leads: it asks, and it says when. The other one follows.
///
/// ```text
///         want, asked                sampled             agreed             turn                begin
///   Idle ─────────────► AwaitProfile ───────► AwaitPeer ───────► AwaitTurn ────► AwaitMoment ───────► AwaitHit
///     ▲                                                                                                  │
///     └──────────────────────────────────── end: from anywhere ──────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HoleState {
    /// Nothing is arranged.
    #[default]
    Idle,
    /// What our own NAT does is being found out.
    AwaitProfile,
    /// We have said what our NAT does; the peer has to say what its does, or that it begins.
    AwaitPeer,
    /// Other punches are under way.
    AwaitTurn,
    /// The peer is told; by the time that it knows, we begin.
    AwaitMoment,
    /// The agents punch.
    AwaitHit,
}

/// What moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoleStep {
    /// No direct path works, or the peer says so.
    Want,
    /// Our profile is known, and said.
    Sampled,
    /// The peer has what it needs, and so have we.
    Agreed,
    /// There is room for one more punch.
    Turn,
    /// The agent is told to punch.
    Begin,
    /// It is over: a direct path works, or there is no point in going on.
    End,
}

impl HoleState {
    /// The next state; `None` if the step means nothing here.
    pub(crate) const fn next(self, step: HoleStep) -> Option<HoleState> {
        use HoleState as S;
        match (self, step) {
            (S::Idle, HoleStep::Want) => Some(S::AwaitProfile),
            (S::AwaitProfile, HoleStep::Sampled) => Some(S::AwaitPeer),
            (S::AwaitPeer, HoleStep::Agreed) => Some(S::AwaitTurn),
            (S::AwaitTurn, HoleStep::Turn) => Some(S::AwaitMoment),
            (S::AwaitMoment, HoleStep::Begin) => Some(S::AwaitHit),
            (S::AwaitProfile | S::AwaitPeer | S::AwaitTurn | S::AwaitMoment | S::AwaitHit, HoleStep::End) => {
                Some(S::Idle)
            }
            (
                S::Idle,
                HoleStep::Sampled | HoleStep::Agreed | HoleStep::Turn | HoleStep::Begin | HoleStep::End,
            )
            | (S::AwaitProfile, HoleStep::Want | HoleStep::Agreed | HoleStep::Turn | HoleStep::Begin)
            | (S::AwaitPeer, HoleStep::Want | HoleStep::Sampled | HoleStep::Turn | HoleStep::Begin)
            | (S::AwaitTurn, HoleStep::Want | HoleStep::Sampled | HoleStep::Agreed | HoleStep::Begin)
            | (S::AwaitMoment, HoleStep::Want | HoleStep::Sampled | HoleStep::Agreed | HoleStep::Turn)
            | (
                S::AwaitHit,
                HoleStep::Want | HoleStep::Sampled | HoleStep::Agreed | HoleStep::Turn | HoleStep::Begin,
            ) => None,
        }
    }
}

/// Where the connection to a relay stands that is spoken to over TCP or TLS.
///
/// ```text
///   Idle ──connect──► AwaitConnection ──connected──► AwaitSecurity ──secured──► Open
///    ▲                  ▲          │                      │                      │
///    │               connect      lost                   lost                   lost
///    │                  │          ▼                      ▼                      │
///    └──stop (any)── AwaitRetry ◄──┴──────────────────────┴──────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StreamState {
    /// None is wanted.
    #[default]
    Idle,
    /// The driver opens it.
    AwaitConnection,
    /// TLS is being agreed on. TCP alone passes through.
    AwaitSecurity,
    /// It carries what is written.
    Open,
    /// The last one was lost; another follows after a while.
    AwaitRetry,
}

/// What moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamStep {
    /// One is wanted.
    Connect,
    /// The driver has opened it.
    Connected,
    /// Nobody else can read it, or nobody minds.
    Secured,
    /// It is gone, or of no use.
    Lost,
    /// None is wanted any more.
    Stop,
}

impl StreamState {
    /// The next state; `None` if the step means nothing here.
    pub(crate) const fn next(self, step: StreamStep) -> Option<StreamState> {
        use StreamState as S;
        match (self, step) {
            (S::Idle | S::AwaitRetry, StreamStep::Connect) => Some(S::AwaitConnection),
            (S::AwaitConnection, StreamStep::Connected) => Some(S::AwaitSecurity),
            (S::AwaitSecurity, StreamStep::Secured) => Some(S::Open),
            (S::AwaitConnection | S::AwaitSecurity | S::Open, StreamStep::Lost) => Some(S::AwaitRetry),
            (S::AwaitConnection | S::AwaitSecurity | S::Open | S::AwaitRetry, StreamStep::Stop) => {
                Some(S::Idle)
            }
            (S::Idle, StreamStep::Connected | StreamStep::Secured | StreamStep::Lost | StreamStep::Stop)
            | (S::AwaitConnection, StreamStep::Connect | StreamStep::Secured)
            | (S::AwaitSecurity | S::Open, StreamStep::Connect | StreamStep::Connected)
            | (S::Open, StreamStep::Secured)
            | (S::AwaitRetry, StreamStep::Connected | StreamStep::Secured | StreamStep::Lost) => None,
        }
    }
}

/// What an attempt to reach a peer waits for.
#[allow(clippy::enum_variant_names, reason = "states are named by what they await")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttemptState {
    /// No introducer is connected yet.
    AwaitIntroducer,
    /// Our offer is on its way; the peer's answer is not here.
    AwaitAnswer,
    /// Candidates are being checked.
    AwaitPath,
    /// A path is valid, or the address was known: the QUIC handshake runs.
    AwaitConnection,
}

/// What moves an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptStep {
    /// An introducer took our offer.
    Offered,
    /// The introducer could not deliver; another one may.
    IntroducerLost,
    /// The peer's description is here.
    Described,
    /// Our own check succeeded on some path.
    PathValid,
}

impl AttemptState {
    /// The next state; `None` if the step means nothing here.
    pub(crate) const fn next(self, step: AttemptStep) -> Option<AttemptState> {
        use AttemptState as S;
        match (self, step) {
            (S::AwaitIntroducer, AttemptStep::Offered) => Some(S::AwaitAnswer),
            (S::AwaitAnswer, AttemptStep::IntroducerLost) => Some(S::AwaitIntroducer),
            (S::AwaitAnswer, AttemptStep::Described) => Some(S::AwaitPath),
            (S::AwaitPath, AttemptStep::PathValid) => Some(S::AwaitConnection),
            (
                S::AwaitIntroducer,
                AttemptStep::Described | AttemptStep::PathValid | AttemptStep::IntroducerLost,
            )
            | (S::AwaitAnswer, AttemptStep::Offered | AttemptStep::PathValid)
            | (S::AwaitPath, AttemptStep::Offered | AttemptStep::IntroducerLost | AttemptStep::Described)
            | (S::AwaitConnection, _) => None,
        }
    }
}

/// What a link waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkState {
    /// The connection is authenticated; the peer's hello is not here.
    AwaitHello,
    /// In use.
    Open,
    /// Closing: what was accepted is still being delivered.
    AwaitDelivery,
}

/// What moves a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkStep {
    /// An acceptable hello arrived.
    Hello,
    /// The application closes.
    Close,
}

impl LinkState {
    /// The next state; `None` if the step means nothing here.
    pub(crate) const fn next(self, step: LinkStep) -> Option<LinkState> {
        use LinkState as S;
        match (self, step) {
            (S::AwaitHello, LinkStep::Hello) => Some(S::Open),
            (S::AwaitHello | S::Open, LinkStep::Close) => Some(S::AwaitDelivery),
            (S::Open | S::AwaitDelivery, LinkStep::Hello) | (S::AwaitDelivery, LinkStep::Close) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole graph as text: a new edge shows up in review.
    #[test]
    fn the_transition_tables_are_the_ones_drawn_above() {
        use AttemptState as A;
        use AttemptStep as T;
        use HoleState as H;
        use HoleStep as P;
        use StreamState as R;
        use StreamStep as Q;
        let mut rows = Vec::new();
        for state in [A::AwaitIntroducer, A::AwaitAnswer, A::AwaitPath, A::AwaitConnection] {
            for step in [T::Offered, T::IntroducerLost, T::Described, T::PathValid] {
                if let Some(next) = state.next(step) {
                    rows.push(format!("{state:?} --{step:?}--> {next:?}"));
                }
            }
        }
        for state in [LinkState::AwaitHello, LinkState::Open, LinkState::AwaitDelivery] {
            for step in [LinkStep::Hello, LinkStep::Close] {
                if let Some(next) = state.next(step) {
                    rows.push(format!("{state:?} --{step:?}--> {next:?}"));
                }
            }
        }
        for state in [RepairState::Idle, RepairState::AwaitPath, RepairState::AwaitAnswer] {
            for step in [RepairStep::Doubt, RepairStep::PathFound, RepairStep::Restart, RepairStep::Answered]
            {
                if let Some(next) = state.next(step) {
                    rows.push(format!("{state:?} --{step:?}--> {next:?}"));
                }
            }
        }
        for state in [H::Idle, H::AwaitProfile, H::AwaitPeer, H::AwaitTurn, H::AwaitMoment, H::AwaitHit] {
            for step in [P::Want, P::Sampled, P::Agreed, P::Turn, P::Begin, P::End] {
                if let Some(next) = state.next(step) {
                    rows.push(format!("{state:?} --{step:?}--> {next:?}"));
                }
            }
        }
        for state in [R::Idle, R::AwaitConnection, R::AwaitSecurity, R::Open, R::AwaitRetry] {
            for step in [Q::Connect, Q::Connected, Q::Secured, Q::Lost, Q::Stop] {
                if let Some(next) = state.next(step) {
                    rows.push(format!("{state:?} --{step:?}--> {next:?}"));
                }
            }
        }
        let drawn = [
            "AwaitIntroducer --Offered--> AwaitAnswer",
            "AwaitAnswer --IntroducerLost--> AwaitIntroducer",
            "AwaitAnswer --Described--> AwaitPath",
            "AwaitPath --PathValid--> AwaitConnection",
            "AwaitHello --Hello--> Open",
            "AwaitHello --Close--> AwaitDelivery",
            "Open --Close--> AwaitDelivery",
            "Idle --Doubt--> AwaitPath",
            "AwaitPath --PathFound--> Idle",
            "AwaitPath --Restart--> AwaitAnswer",
            "AwaitAnswer --Answered--> AwaitPath",
            "Idle --Want--> AwaitProfile",
            "AwaitProfile --Sampled--> AwaitPeer",
            "AwaitProfile --End--> Idle",
            "AwaitPeer --Agreed--> AwaitTurn",
            "AwaitPeer --End--> Idle",
            "AwaitTurn --Turn--> AwaitMoment",
            "AwaitTurn --End--> Idle",
            "AwaitMoment --Begin--> AwaitHit",
            "AwaitMoment --End--> Idle",
            "AwaitHit --End--> Idle",
            "Idle --Connect--> AwaitConnection",
            "AwaitConnection --Connected--> AwaitSecurity",
            "AwaitConnection --Lost--> AwaitRetry",
            "AwaitConnection --Stop--> Idle",
            "AwaitSecurity --Secured--> Open",
            "AwaitSecurity --Lost--> AwaitRetry",
            "AwaitSecurity --Stop--> Idle",
            "Open --Lost--> AwaitRetry",
            "Open --Stop--> Idle",
            "AwaitRetry --Connect--> AwaitConnection",
            "AwaitRetry --Stop--> Idle",
        ];
        assert_eq!(rows, drawn);
    }
}
