//! Why a frame could not be read or written.

use core::error::Error;
use core::fmt;

/// Why a frame could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The peer announced a message over the limit. Where the next message begins is unknown from
    /// here on: abandon the stream.
    Desynchronised {
        /// The announced length. Bytes.
        claimed: u32,
        /// The decoder's limit. Bytes.
        max: u32,
    },
    /// The stream ended inside a message.
    Truncated {
        /// How many bytes of the unfinished frame arrived, its prefix included.
        have: usize,
    },
    /// The message to be sent is over the limit. Nothing was queued.
    TooLong {
        /// The message's length. Bytes.
        length: usize,
        /// The encoder's limit. Bytes.
        max: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Desynchronised { claimed, max } => write!(
                f,
                "the peer announced a message of {claimed} bytes, over the limit of {max}; the stream is \
                 desynchronised: abandon it, or raise the limit on a new one"
            ),
            Self::Truncated { have } => write!(
                f,
                "the stream ended {have} bytes into a frame: the last message is lost, ask the peer to resend it"
            ),
            Self::TooLong { length, max } => write!(
                f,
                "a message of {length} bytes is over the limit of {max}: split it, or raise the limit on both ends"
            ),
        }
    }
}

impl Error for FrameError {}
