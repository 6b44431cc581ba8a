//! Answers that wait for the driver, and requests that wait for the peer's credentials.

use alloc::boxed::Box;
use alloc::vec::Vec;

use gimlet_machine::{Instant, Path, Queue};
use gimlet_stun::{IntegrityAlgorithm, TransactionId};

use crate::Limits;
use crate::credentials::{Era, UFRAG_LEN};
use crate::pair::Nominated;

/// At most this many unknown attributes are listed in a 420.
const UNKNOWN_LISTED_MAX: usize = 8;

/// The length of an answer that is not signed: header, ERROR-CODE without a reason, FINGERPRINT.
const UNSIGNED_LEN: usize = 20 + 8 + 8;

/// The shortest request that gets one: header and a USERNAME of our fragment and a colon.
const REQUEST_LEN_MIN: usize = 20 + 4 + (UFRAG_LEN + 1).next_multiple_of(4);

// Nobody can use us to amplify.
const _: () = assert!(UNSIGNED_LEN <= REQUEST_LEN_MIN);

/// Over which time unsigned answers are counted.
const BUDGET_SECONDS: u64 = 1;

/// One answer: what to write, not the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) path: Path,
    pub(crate) id: TransactionId,
    pub(crate) kind: AnswerKind,
    /// Whose credentials the request named: they sign the answer.
    pub(crate) era: Era,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// The mapped address: the path's far end.
    Success(IntegrityAlgorithm),
    /// A signed error without further attributes.
    Error(IntegrityAlgorithm, u16),
    /// 420 with the attributes that were not understood.
    UnknownAttributes(IntegrityAlgorithm, Unknown),
    /// An error to somebody who proved nothing.
    Unsigned(u16),
}

/// A few attribute types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    kinds: [u16; UNKNOWN_LISTED_MAX],
    len: u8,
}

impl Unknown {
    /// The first few of `kinds`.
    pub(crate) fn first_of(kinds: impl Iterator<Item = u16>) -> Self {
        let mut unknown = Self::default();
        for (slot, kind) in unknown.kinds.iter_mut().zip(kinds) {
            *slot = kind;
            unknown.len += 1;
        }
        unknown
    }

    pub(crate) fn as_slice(&self) -> &[u16] {
        &self.kinds[..usize::from(self.len)]
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What an answered request says, to be acted on (RFC 8445 §7.3.1.3–7.3.1.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) path: Path,
    pub(crate) priority: u32,
    pub(crate) nominates: Option<Nominated>,
    /// The fragment by which the sender called itself.
    pub(crate) sender: &'a [u8],
}

/// The same, kept until it can be acted on.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    path: Path,
    priority: u32,
    nominates: Option<Nominated>,
    sender: Box<[u8]>,
}

impl Early {
    pub(crate) fn heard(&self) -> Heard<'_> {
        let Self { path, priority, nominates, sender } = self;
        Heard { path: *path, priority: *priority, nominates: *nominates, sender }
    }
}

/// Everything that leaves without being paced, and the requests remembered.
#[derive(Debug)]
pub(crate) struct Answers {
    queue: Queue<Answer>,
    early: Queue<Early>,
    /// The path in use is to be kept open by an indication.
    pub(crate) keepalive: bool,
    /// When unsigned answers began to be counted, and how many there were since.
    budget: (Instant, u32),
    unsigned_max: u32,
}

impl Answers {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            queue: Queue::new(limits.answers_max),
            early: Queue::new(limits.early_requests_max),
            keepalive: false,
            budget: (Instant::ZERO, 0),
            unsigned_max: limits.unauthenticated_answers_max,
        }
    }

    /// Queues an answer; says whether there was room.
    pub(crate) fn push(&mut self, answer: Answer) -> bool {
        self.queue.push(answer).is_ok()
    }

    /// Queues an unsigned error, unless the budget is spent.
    pub(crate) fn push_unsigned(&mut self, now: Instant, answer: Answer) -> bool {
        let (since, used) = self.budget;
        let used = if now.since(since).as_secs() >= BUDGET_SECONDS { 0 } else { used };
        if used >= self.unsigned_max || !self.push(answer) {
            return false;
        }
        self.budget = (if used == 0 { now } else { since }, used + 1);
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Answer> {
        self.queue.pop()
    }

    /// Remembers a request; says whether an older one was forgotten for it.
    pub(crate) fn remember(&mut self, heard: &Heard<'_>) -> bool {
        let same = |known: &Early| known.path == heard.path && *known.sender == *heard.sender;
        let before = self.early.iter().filter(|known| same(known)).find_map(|known| known.nominates);
        self.early.retain(|known| !same(known));
        let Heard { path, priority, sender, .. } = *heard;
        let nominates = heard.nominates.or(before);
        self.early.push_evicting(Early { path, priority, nominates, sender: sender.into() }).is_some()
    }

    /// The requests remembered, oldest first.
    pub(crate) fn take_early(&mut self) -> Vec<Early> {
        core::iter::from_fn(|| self.early.pop()).collect()
    }

    /// Forgets the requests remembered: they named another generation.
    pub(crate) fn forget_early(&mut self) {
        self.early.clear();
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.early.clear();
        self.keepalive = false;
    }
}
