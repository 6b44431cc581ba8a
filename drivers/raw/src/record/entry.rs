//! What a recording is made of: one entry for each thing that happened to a machine, and for each that it did.

use std::fmt;

use gimlet_machine::{Ecn, Instant};
use gimlet_tcp::{Checksum, Leg, Side};

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When, by the machine's clock.
    pub at: Instant,
    /// What.
    pub what: What<'a>,
    /// What the machine made of it, for people: the verdict, the counters that moved, how the flow stands.
    pub note: &'a str,
}

/// What happened to a machine (an input, a timeout, a command), or what it did (a frame, an event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// Before everything else: a piece of the memory that it found when it was made. What is in no piece was zero.
    Origin {
        /// Where the piece begins.
        offset: u64,
        /// What is in it.
        bytes: &'a [u8],
    },
    /// A frame arrived.
    Arrived {
        /// On this leg.
        leg: Leg,
        /// Marked like this by the network, as its driver says.
        ecn: Ecn,
        /// Its bytes before the machine rewrote them.
        frame: &'a [u8],
    },
    /// The frame that arrived last left.
    Passed {
        /// On this leg.
        leg: Leg,
        /// Its bytes as they left.
        frame: &'a [u8],
    },
    /// The machine made a frame.
    Made {
        /// It left on this leg.
        leg: Leg,
        /// To be marked like this.
        ecn: Ecn,
        /// A train of datagrams of this length, if it is one.
        segment: Option<u16>,
        /// Its bytes.
        frame: &'a [u8],
    },
    /// A timer was due.
    Timeout {
        /// Which; nothing if it came before its time.
        why: &'a str,
    },
    /// The owner told the machine something.
    Told {
        /// What.
        command: &'a str,
    },
    /// The machine told its owner something.
    Event {
        /// What.
        text: &'a str,
    },
    /// Nothing more is recorded.
    End {
        /// Why.
        why: End,
    },
}

/// Why a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its owner ended it. The machine had nothing more to do or say.
    Finished,
    /// The next entry would have gone beyond its limit.
    Full,
}

impl What<'_> {
    /// Whether it happened to the machine. The rest is what the machine did.
    pub(crate) const fn is_cause(&self) -> bool {
        match self {
            What::Origin { .. }
            | What::Arrived { .. }
            | What::Timeout { .. }
            | What::Told { .. }
            | What::End { .. } => true,
            What::Passed { .. } | What::Made { .. } | What::Event { .. } => false,
        }
    }

    /// The side of the box that it is on; none for what concerns the machine alone.
    pub(crate) const fn side(&self) -> Option<Side> {
        match self {
            What::Arrived { leg, .. } | What::Passed { leg, .. } | What::Made { leg, .. } => Some(leg.side),
            What::Origin { .. }
            | What::Timeout { .. }
            | What::Told { .. }
            | What::Event { .. }
            | What::End { .. } => None,
        }
    }

    /// The bytes that are in the recording as a frame.
    pub(crate) const fn frame(&self) -> &[u8] {
        match self {
            What::Origin { bytes, .. } => bytes,
            What::Arrived { frame, .. } | What::Passed { frame, .. } | What::Made { frame, .. } => frame,
            What::Timeout { .. } | What::Told { .. } | What::Event { .. } | What::End { .. } => &[],
        }
    }
}

/// The comment that says what an entry is, without its side and its bytes: `arrived checksum=partial gso=1448`.
impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Arrived { leg, ecn, .. } => {
                f.write_str("arrived")?;
                write_leg(f, *leg, *ecn, None)
            }
            What::Passed { leg, .. } => {
                f.write_str("passed")?;
                write_leg(f, *leg, Ecn::NotEct, None)
            }
            What::Made { leg, ecn, segment, .. } => {
                f.write_str("made")?;
                write_leg(f, *leg, *ecn, *segment)
            }
            What::Origin { offset, .. } => write!(f, "origin {offset}"),
            What::Timeout { why } => write!(f, "timeout {why}"),
            What::Told { command } => write!(f, "told {command}"),
            What::Event { text } => write!(f, "event {text}"),
            What::End { why: End::Finished } => f.write_str("end finished"),
            What::End { why: End::Full } => f.write_str("end full"),
        }
    }
}

fn write_leg(f: &mut fmt::Formatter<'_>, leg: Leg, ecn: Ecn, segment: Option<u16>) -> fmt::Result {
    match leg.checksum {
        Checksum::Complete => {}
        Checksum::Partial => f.write_str(" checksum=partial")?,
    }
    if leg.gso != 0 {
        write!(f, " gso={}", leg.gso)?;
    }
    if let Some(tag) = leg.tag {
        write!(f, " vlan={tag}")?;
    }
    if ecn != Ecn::NotEct {
        write!(f, " ecn={}", ecn as u8)?;
    }
    match segment {
        Some(segment) => write!(f, " segment={segment}"),
        None => Ok(()),
    }
}

/// Reads what [`What`]'s `Display` writes; says what is wrong if it cannot.
pub(crate) fn parse<'a>(
    side: Option<Side>,
    comment: &'a str,
    frame: &'a [u8],
) -> Result<What<'a>, &'static str> {
    let (word, rest) = comment.split_once(' ').unwrap_or((comment, ""));
    let what = match (word, side) {
        ("origin", None) => {
            let offset = rest.parse().map_err(|_| "a piece of memory does not say where it was")?;
            return Ok(What::Origin { offset, bytes: frame });
        }
        ("timeout", None) => What::Timeout { why: rest },
        ("told", None) => What::Told { command: rest },
        ("event", None) => What::Event { text: rest },
        ("end", None) => What::End {
            why: match rest {
                "finished" => End::Finished,
                "full" => End::Full,
                _ => return Err("it ends for a reason that this version does not know"),
            },
        },
        ("arrived" | "passed" | "made", Some(side)) => {
            let Beside { leg, ecn, segment } =
                beside(side, rest).ok_or("a comment beside a frame cannot be read")?;
            match word {
                "arrived" if segment.is_none() => What::Arrived { leg, ecn, frame },
                "passed" if segment.is_none() && ecn == Ecn::NotEct => What::Passed { leg, frame },
                "made" => What::Made { leg, ecn, segment, frame },
                _ => return Err("a comment says of a frame what such a frame cannot have"),
            }
        }
        _ => return Err("a comment says what this version does not know, or of the wrong interface"),
    };
    if side.is_none() && !frame.is_empty() {
        return Err("an entry of the machine's has bytes");
    }
    Ok(what)
}

struct Beside {
    leg: Leg,
    ecn: Ecn,
    segment: Option<u16>,
}

fn beside(side: Side, text: &str) -> Option<Beside> {
    let mut beside = Beside { leg: Leg::new(side), ecn: Ecn::NotEct, segment: None };
    for word in text.split_ascii_whitespace() {
        let (name, value) = word.split_once('=')?;
        match name {
            "checksum" if value == "partial" => beside.leg.checksum = Checksum::Partial,
            "gso" => beside.leg.gso = value.parse().ok()?,
            "vlan" => beside.leg.tag = Some(value.parse().ok()?),
            "ecn" => beside.ecn = Ecn::from_bits(value.parse().ok().filter(|bits| *bits < 4)?),
            "segment" => beside.segment = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_read_as_it_was_written() {
        let leg = Leg { side: Side::Server, checksum: Checksum::Partial, gso: 1448, tag: Some(0x2042) };
        let frame = &b"bytes"[..];
        let all = [
            What::Arrived { leg, ecn: Ecn::Ce, frame },
            What::Arrived { leg: Leg::new(Side::Client), ecn: Ecn::NotEct, frame },
            What::Passed { leg, frame },
            What::Made { leg, ecn: Ecn::Ect0, segment: Some(100), frame },
            What::Origin { offset: 4_096, bytes: frame },
            What::Timeout { why: "retransmit" },
            What::Timeout { why: "" },
            What::Told { command: "drain" },
            What::Event { text: "Established { early: 3 }" },
            What::End { why: End::Finished },
            What::End { why: End::Full },
        ];
        for what in all {
            assert_eq!(parse(what.side(), &what.to_string(), what.frame()), Ok(what), "{what}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let server = Some(Side::Server);
        for comment in
            ["", "left", "arrived gso", "arrived gso=70000", "arrived ecn=4", "passed ecn=1", "timeout x"]
        {
            assert!(parse(server, comment, b"frame").is_err(), "{comment:?}");
        }
        for comment in ["arrived", "end", "end of the world", ""] {
            assert!(parse(None, comment, b"").is_err(), "{comment:?}");
        }
        assert!(parse(None, "timeout", b"frame").is_err());
    }
}
