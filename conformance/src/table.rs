//! The case table: 68 things that an ICE, STUN and TURN implementation owes, judged beside the peers.
//!
//! A [`Case`] is one requirement with its section, the input in words, and a judge per implementation.
//! Most are judged on the wire: the same function drives Gimlet's agent, str0m's `is` and librice's
//! `rice-proto` with the same commands and the same bytes, and looks only at what comes out. Requests and
//! answers of the peer are written by hand (`wire.rs`); time is virtual; every byte is in a transcript that
//! `table --case N` prints.
//!
//! TURN clients are judged in the same way, against a server written by hand. What cannot be judged so (simulated
//! NATs, other people's programs) is judged by the named tests `case_NN_…` of the tree, which [`run_named`] runs through cargo. An implementation that has no call for what a
//! case needs, or does not show it, is [`Verdict::NotApplicable`] with the reason.

mod checks;
mod codec;
mod connected;
mod desk;
mod hostile;
mod named;
mod nomination;
mod ours;
mod pairs;
mod print;
mod relay;
mod rice;
mod roles;
mod str0m;
mod subject;
mod system;
mod transactions;
mod turn;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use named::{NamedTest, named_tests, read_named, run_named};
pub use print::{details, json, markdown, text};

use desk::{Desk, LOCAL, PEER, Transcript};
use subject::{Setup, Subject};

/// Who is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Implementation {
    /// Ours.
    Gimlet,
    /// str0m's ICE crate.
    Is,
    /// librice's.
    RiceProto,
    /// Ours, but for the fact that nobody ever hears it or is heard by it: a canary, which must not pass.
    Deaf,
}

impl Implementation {
    /// Those that the table is about, in the order of its columns.
    pub const ALL: [Self; 3] = [Self::Gimlet, Self::Is, Self::RiceProto];

    /// The head of its column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gimlet => "gimlet",
            Self::Is => "is 0.12",
            Self::RiceProto => "rice-proto 0.4",
            Self::Deaf => "a deaf agent",
        }
    }
}

/// What a judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did what is required.
    Pass,
    /// It did this instead.
    Fail(String),
    /// It has no such thing, or does not show it: why.
    NotApplicable(String),
    /// Nobody looked: why.
    NotRun(String),
}

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Fails(String),
    NotApplicable(String),
}

impl Finding {
    pub(crate) fn fails(what: String) -> Self {
        Self::Fails(what)
    }

    pub(crate) fn not_applicable(why: impl Into<String>) -> Self {
        Self::NotApplicable(why.into())
    }
}

pub(crate) type Outcome = Result<(), Finding>;

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::table::Finding::Fails(format!($($what)+)));
        }
    };
}
pub(crate) use ensure;

/// How a case is judged for one implementation.
#[derive(Clone, Copy)]
pub(crate) enum Judge {
    /// In process, by this function.
    InProcess(fn(&Bench) -> Outcome),
    /// By the named tests.
    Named,
    /// Not, and why: for `is`, for rice-proto.
    Inapplicable(&'static str, &'static str),
}

/// One requirement.
pub struct Case {
    /// 1 to 68.
    pub number: u8,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// Where it is required.
    pub section: &'static str,
    /// What goes in.
    pub input: &'static str,
    /// What has to come out.
    pub required: &'static str,
    pub(crate) ours: Judge,
    pub(crate) peers: Judge,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "case {}: {}", self.number, self.title)
    }
}

impl Case {
    /// A case that is judged for everybody by what one agent, or two, say on the wire.
    const fn on_wire(
        number: u8,
        title: &'static str,
        section: &'static str,
        judge: fn(&Bench) -> Outcome,
    ) -> Self {
        let (ours, peers) = (Judge::InProcess(judge), Judge::InProcess(judge));
        Self { number, title, section, input: "", required: "", ours, peers }
    }

    /// A case that is judged in process, but not for the peers.
    const fn ours(
        number: u8,
        title: &'static str,
        section: &'static str,
        judge: fn(&Bench) -> Outcome,
        (is, rice): (&'static str, &'static str),
    ) -> Self {
        Self { peers: Judge::Inapplicable(is, rice), ..Self::on_wire(number, title, section, judge) }
    }

    /// A case that is judged by the named tests, for us.
    const fn named(
        number: u8,
        title: &'static str,
        section: &'static str,
        (is, rice): (&'static str, &'static str),
    ) -> Self {
        let (ours, peers) = (Judge::Named, Judge::Inapplicable(is, rice));
        Self { number, title, section, input: "", required: "", ours, peers }
    }

    const fn given(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    const fn requires(self, required: &'static str) -> Self {
        Self { required, ..self }
    }
}

/// Makes agents of one implementation.
pub(crate) struct Bench {
    pub(crate) who: Implementation,
    pub(crate) transcript: Transcript,
}

impl Bench {
    pub(crate) fn desk(&self, setup: Setup) -> Result<Desk, Finding> {
        let subject: Box<dyn Subject> = match self.who {
            Implementation::Gimlet => Box::new(ours::Ours::new(setup)),
            Implementation::Deaf => Box::new(ours::Ours::deaf(setup)),
            Implementation::Is => Box::new(str0m::Str0m::new(setup)),
            Implementation::RiceProto => Box::new(rice::Rice::new(setup)?),
        };
        Ok(Desk::new(subject, setup, &self.transcript))
    }

    /// A desk at which agent and peer know each other, with one pair to check.
    pub(crate) fn pair(&self, setup: Setup) -> Result<Desk, Finding> {
        let mut desk = self.desk(setup)?;
        desk.host(LOCAL)?;
        desk.remote(PEER)?;
        desk.credentials();
        Ok(desk)
    }
}

/// One cell of the table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Pass, or why not.
    pub verdict: Verdict,
    /// What went in and came out, where the case was judged in process.
    pub transcript: Vec<String>,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// What was asked.
    pub case: &'static Case,
    /// The answers, in the order of [`Implementation::ALL`].
    pub cells: Vec<Cell>,
}

/// All 68 cases, by number.
pub fn cases() -> Vec<&'static Case> {
    let parts = [
        codec::CASES,
        transactions::CASES,
        pairs::CASES,
        checks::CASES,
        roles::CASES,
        nomination::CASES,
        connected::CASES,
        hostile::CASES,
        relay::CASES,
        system::CASES,
    ];
    let mut cases: Vec<_> = parts.into_iter().flatten().collect();
    cases.sort_by_key(|case| case.number);
    cases
}

impl Case {
    /// Whether our column is judged by named tests.
    pub fn is_named(&self) -> bool {
        matches!(self.ours, Judge::Named)
    }

    /// Judges one implementation, in this process. A case of named tests is [`Verdict::NotRun`].
    pub fn judge(&self, who: Implementation) -> Cell {
        let judge = match who {
            Implementation::Gimlet | Implementation::Deaf => self.ours,
            Implementation::Is | Implementation::RiceProto => self.peers,
        };
        let bench = Bench { who, transcript: Transcript::default() };
        let verdict = match judge {
            Judge::InProcess(function) => {
                verdict(catch_unwind(AssertUnwindSafe(|| function(&bench))).map_err(|panic| said(&*panic)))
            }
            Judge::Named => Verdict::NotRun("judged by the tests case_NN_… of the tree".into()),
            Judge::Inapplicable(is, _) if who == Implementation::Is => Verdict::NotApplicable(is.into()),
            Judge::Inapplicable(_, rice) => Verdict::NotApplicable(rice.into()),
        };
        Cell { verdict, transcript: bench.transcript.lines() }
    }
}

fn verdict(outcome: Result<Outcome, String>) -> Verdict {
    match outcome {
        Ok(Ok(())) => Verdict::Pass,
        Ok(Err(Finding::Fails(what))) => Verdict::Fail(what),
        Ok(Err(Finding::NotApplicable(why))) => Verdict::NotApplicable(why),
        Err(panic) => Verdict::Fail(format!("panicked: {panic}")),
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}
