//! What can be wrong with a recording.

use std::{fmt, io};

/// Why a recording cannot be read, or not to its end.
#[derive(Debug)]
pub enum RecordError {
    /// It is something else.
    NotARecording,
    /// It is a recording of a later version.
    Version(u32),
    /// It ends in the middle of a block.
    Cut {
        /// Where that block begins, bytes.
        at: u64,
    },
    /// Something in it cannot be.
    Damaged {
        /// Where the block begins in which it is, bytes.
        at: u64,
        /// What.
        why: &'static str,
    },
    /// It cannot be read.
    Io(io::Error),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::NotARecording => {
                f.write_str("not a recording of gimlet's: give a file that was made with --record")
            }
            RecordError::Version(version) => {
                write!(f, "a recording of version {version}: this program reads version {}", super::VERSION)
            }
            RecordError::Cut { at } => write!(
                f,
                "the recording ends in the middle of the block at byte {at}: whatever wrote it did not finish"
            ),
            RecordError::Damaged { at, why } => write!(f, "the recording is damaged at byte {at}: {why}"),
            RecordError::Io(error) => write!(f, "the recording cannot be read: {error}"),
        }
    }
}

impl std::error::Error for RecordError {}
