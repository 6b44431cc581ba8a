//! What has to hold, by name.

use std::fmt;

use gimlet_machine::Instant;

/// What has to hold in every world, whatever is lost, damaged or sent by strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What one end received is a prefix of what the other sent.
    I1Prefix,
    /// It is all of it in the end, where nothing but loss was in the way.
    I2Complete,
    /// A translated checksum is right exactly if it was right before.
    I3Checksum,
    /// A translation can be undone: what was sent follows from what arrived.
    I4Bijection,
    /// No byte reaches the server that the client did not send after proof that it heard the SYN-ACK.
    I5Proven,
    /// The client hears no acknowledgment of what the server has not acknowledged.
    I6NoLocalAck,
    /// The client sees one continuous space of sequence numbers.
    I7Continuous,
    /// The window shown to the client ends no later than the server's.
    I8Window,
    /// The timestamps that the client sees are the server's clock, moved once and for all.
    I9Clock,
    /// Memory stays below its bound, and is given back when all flows have ended.
    I10Memory,
    /// The same inputs give the same outputs; a table handed over goes on as if nothing had been.
    I11Replay,
    /// What is not translated leaves as it came.
    I12Untouched,
    /// No output without an input or a timer; no timer in the past.
    I13Quiet,
    /// Every handshake ends in time.
    I14Ends,
    /// One SYN has one answer, however often it is given.
    I15SameAnswer,
    /// Whatever arrives, nothing panics, and nothing grows on the way.
    I16Hostile,
    /// A frame was translated otherwise than the table of rules says.
    Oracle,
    /// An endpoint was given something that its peer cannot have sent.
    Strict,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 18] = [
        Invariant::I1Prefix,
        Invariant::I2Complete,
        Invariant::I3Checksum,
        Invariant::I4Bijection,
        Invariant::I5Proven,
        Invariant::I6NoLocalAck,
        Invariant::I7Continuous,
        Invariant::I8Window,
        Invariant::I9Clock,
        Invariant::I10Memory,
        Invariant::I11Replay,
        Invariant::I12Untouched,
        Invariant::I13Quiet,
        Invariant::I14Ends,
        Invariant::I15SameAnswer,
        Invariant::I16Hostile,
        Invariant::Oracle,
        Invariant::Strict,
    ];
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// When it was noticed.
    pub at: Instant,
    /// What does not hold.
    pub invariant: Invariant,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.at, self.invariant, self.what)
    }
}
