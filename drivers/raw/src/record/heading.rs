//! What stands before the first entry: everything that makes the machine again.

use std::fmt::Write as _;

use gimlet_machine::Instant;

use super::RecordError;

/// The version of recordings that is written and read.
pub(crate) const VERSION: u32 = 1;
/// How the first comment begins.
const GREETING: &str = "gimlet recording ";

/// Everything that makes a machine again as it was when its recording began. **It holds the machine's secrets.**
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// The kind of machine: a word.
    pub machine: String,
    /// The version of the program that recorded it: a word.
    pub version: String,
    /// The seed of all its random numbers.
    pub seed: [u8; 32],
    /// When it was made, by its clock.
    pub begun: Instant,
    /// What it was told to be, in a form that its owner chose; up to 65,535 bytes.
    pub configuration: String,
}

impl Heading {
    /// The comment that says everything but the configuration.
    pub(crate) fn comment(&self) -> String {
        let Heading { machine, version, seed, begun, configuration: _ } = self;
        let mut text = format!(
            "{GREETING}{VERSION}\nmachine {machine}\nversion {version}\nbegun {}\n",
            begun.as_nanos()
        );
        text.push_str("seed ");
        for byte in seed {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Reads it again.
    pub(crate) fn read(comment: &str, configuration: &str) -> Result<Self, RecordError> {
        let mut lines = comment.lines();
        let version =
            lines.next().and_then(|line| line.strip_prefix(GREETING)).and_then(|text| text.parse().ok());
        match version {
            None => return Err(RecordError::NotARecording),
            Some(VERSION) => {}
            Some(other) => return Err(RecordError::Version(other)),
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let mut heading = || {
            Some(Heading {
                machine: value("machine")?,
                version: value("version")?,
                begun: Instant::from_nanos(value("begun")?.parse().ok()?),
                seed: seed(&value("seed")?)?,
                configuration: configuration.to_owned(),
            })
        };
        heading().ok_or(RecordError::Damaged { at: 0, why: "its first comment cannot be read" })
    }
}

fn seed(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut seed = [0; 32];
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| (digit as char).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(seed)
}
