//! What is judged: an ICE agent, whoever wrote it.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::FourTuple;

use super::Finding;
use super::wire::{OUR_PWD, OUR_UFRAG, PEER_PWD, PEER_UFRAG};

/// One of the agent's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// Of an interface.
    Host(SocketAddr),
    /// As a STUN server sees `base`.
    Reflexive { mapped: SocketAddr, base: SocketAddr, server: SocketAddr },
    /// At a relay that `base` talks to.
    Relayed { address: SocketAddr, base: SocketAddr, server: SocketAddr },
}

/// How the agent begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) controlling: bool,
    pub(crate) lite: bool,
    /// `None` leaves Ta as the implementation has it.
    pub(crate) ta: Option<Duration>,
    /// Where the implementation lets its owner choose.
    pub(crate) tiebreaker: Option<u64>,
    /// Of everything random, where the implementation takes one.
    pub(crate) seed: u64,
    pub(crate) name: Name,
}

/// Under which credentials an agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Those of the agent that is judged.
    Ours,
    /// Those of its peer: for a second agent opposite of the first.
    Peer,
}

impl Name {
    /// The username fragment and the password.
    pub(crate) const fn credentials(self) -> (&'static str, &'static str) {
        match self {
            Self::Ours => (OUR_UFRAG, OUR_PWD),
            Self::Peer => (PEER_UFRAG, PEER_PWD),
        }
    }
}

impl Setup {
    pub(crate) const CONTROLLING: Self =
        Self { controlling: true, lite: false, ta: None, tiebreaker: None, seed: 1, name: Name::Ours };
    pub(crate) const CONTROLLED: Self = Self { controlling: false, ..Self::CONTROLLING };

    pub(crate) const fn role(controlling: bool) -> Self {
        Self { controlling, ..Self::CONTROLLING }
    }
}

/// An ICE agent under judgement. Time is what has passed since it was made.
///
/// What an implementation has no call for is [`Finding::NotApplicable`], with the reason.
pub(crate) trait Subject {
    fn add_local(&mut self, now: Duration, local: Local) -> Result<(), String>;
    /// Takes the peer's candidate as a candidate attribute (RFC 8839 §5.1).
    fn add_remote(&mut self, now: Duration, line: &str) -> Result<(), String>;
    fn set_remote_credentials(&mut self, now: Duration, ufrag: &str, pwd: &str);
    fn end_of_candidates(&mut self, now: Duration) -> Result<(), Finding>;
    /// Begins a new session, and says under which credentials.
    fn restart(&mut self, now: Duration) -> Result<(String, String), Finding>;
    fn hear(&mut self, now: Duration, path: FourTuple, bytes: &[u8]);
    /// The deadline has come, or the owner calls for no reason.
    fn wake(&mut self, now: Duration);
    fn deadline(&mut self, now: Duration) -> Option<Duration>;
    fn transmit(&mut self, now: Duration) -> Option<(FourTuple, Vec<u8>)>;
    /// The next event, as text.
    fn event(&mut self) -> Option<String>;
    fn is_controlling(&self) -> bool;
    /// Where the agent tells its owner to send.
    fn selected(&self) -> Option<FourTuple>;
    /// Whether the agent has told its owner that it gave up.
    fn has_failed(&self) -> bool;
    /// How many of the peer's addresses it holds.
    fn remote_candidates(&self) -> usize;
    /// Its own candidates as attributes.
    fn local_lines(&self) -> Vec<String>;
    /// The priorities of its pairs.
    fn pair_priorities(&self) -> Result<Vec<u64>, Finding>;
}
