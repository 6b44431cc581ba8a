//! What became of each pair: the answer to "why is it not direct?".

use core::fmt;
use core::time::Duration;

use gimlet_machine::Path;

use crate::{Candidate, PairError, PairState};

/// One pair, for people and for logs.
#[derive(Clone, Debug)]
pub struct PairReport<'a> {
    /// Our candidate, which stands for its base.
    pub local: &'a Candidate,
    /// The peer's.
    pub remote: &'a Candidate,
    /// The path that the pair checks.
    pub path: Path,
    /// RFC 8445 §6.1.2.3.
    pub priority: u64,
    /// Where the pair stands.
    pub state: PairState,
    /// Whether nomination settled on it.
    pub selected: bool,
    /// Which session of the agent the pair belongs to: 0, and one more with every restart.
    pub generation: u16,
    /// How many checks were sent, retransmissions included.
    pub checks: u16,
    /// How many authenticated answers came back, errors included.
    pub answers: u16,
    /// The latest measured round trip.
    pub rtt: Option<Duration>,
    /// Why the latest check did not succeed.
    pub error: Option<PairError>,
}

impl fmt::Display for PairReport<'_> {
    /// One line: `host 192.0.2.1:4000 -> srflx 203.0.113.1:5000: Failed, 7 sent, 0 answered, no answer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, theirs) = (self.local, self.remote);
        write!(f, "{} {} -> {} {}", ours.kind, self.path.on_wire().local, theirs.kind, theirs.address)?;
        write!(f, ": {:?}, {} sent, {} answered", self.state, self.checks, self.answers)?;
        if let Some(rtt) = self.rtt {
            write!(f, ", rtt {} ms", rtt.as_millis())?;
        }
        if let Some(error) = self.error {
            write!(f, ", {error}")?;
        }
        f.write_str(if self.selected { ", selected" } else { "" })
    }
}
