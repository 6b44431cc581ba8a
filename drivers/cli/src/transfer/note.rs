//! The notes that the two ends of a stream pass each other around the bytes.
//!
//! A note is a 2-byte big-endian length and so many bytes of postcard. The first byte of the first
//! note is the version of all of this.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Version of the protocol; another one is refused by name.
pub(crate) const VERSION: u8 = 1;

/// Length of one note; a longer one is a breach. Bytes.
pub(crate) const NOTE_MAX: usize = 2_048;

/// Length of a file's name in an offer: what common file systems allow. Bytes.
pub(crate) const OFFERED_NAME_MAX: usize = 255;

/// Length of a SHA-256.
pub(crate) const DIGEST_LEN: usize = 32;

/// A SHA-256.
pub(crate) type Digest = [u8; DIGEST_LEN];

/// The first note on a stream: what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// First on the wire, so that it can be read whatever follows.
    version: u8,
    purpose: Purpose,
}

/// What a stream is for. New ones are added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// One file.
    File(Offer),
    /// One text for a person: the rest of the stream, in UTF-8.
    Message,
    /// Bytes both ways, until both sides have ended.
    Pipe,
}

/// A file that somebody wants to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Its name without a folder, as the sender has it. The receiver decides what becomes of it.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Last change, in nanoseconds since 1970; tells two versions of equal size apart.
    pub(crate) modified: Option<u64>,
}

/// Whether the other side wants the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Yes.
    Ready(Held),
    /// No.
    Refused(Refusal),
}

/// What the receiver has already of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// So many bytes from the beginning; 0 for none, and for messages and pipes.
    pub(crate) length: u64,
    /// Their SHA-256.
    pub(crate) sha256: Digest,
}

/// Why a stream is not wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The opening is of another version; this is ours.
    Version(u8),
    /// Files are not accepted here.
    NoFiles,
    /// Messages are not accepted here.
    NoMessages,
    /// Nobody waits for a pipe here.
    NoPipe,
    /// The file is larger than the receiver accepts.
    TooLarge {
        /// What it accepts, in bytes.
        max: u64,
    },
    /// The receiver could not make room for it.
    Trouble(Trouble),
}

/// Where the sender begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// What the receiver has, or 0.
    pub(crate) at: u64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It is stored, or shown, whole.
    Stored {
        /// Under this name; empty for a message.
        name: String,
    },
    /// It is not.
    Failed(Trouble),
}

/// What went wrong at the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// The disk is full. What arrived is kept.
    DiskFull,
    /// What was stored does not have the SHA-256 that the sender computed.
    HashMismatch,
    /// The operating system said this.
    Io(String),
    /// The sender broke the protocol.
    Breach(String),
    /// The text is not UTF-8, or too long.
    NotText,
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// Its opening has this version.
    Version(u8),
    /// A note is longer than [`NOTE_MAX`].
    TooLong(usize),
    /// A note cannot be read.
    Malformed,
    /// It would begin where the receiver does not end.
    WrongStart(u64),
    /// Bytes follow after the end.
    Surplus,
    /// The stream ended early.
    CutOff,
}

impl Opening {
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self { version: VERSION, purpose }
    }

    /// Reads an opening; another version is recognised whatever follows it.
    pub(crate) fn read(note: &[u8]) -> Result<Purpose, Breach> {
        match note.first() {
            Some(&VERSION) => {}
            Some(&other) => return Err(Breach::Version(other)),
            None => return Err(Breach::Malformed),
        }
        let purpose = read::<Opening>(note)?.purpose;
        match &purpose {
            Purpose::File(offer) if offer.name.len() > OFFERED_NAME_MAX => Err(Breach::Malformed),
            Purpose::File(_) | Purpose::Message | Purpose::Pipe => Ok(purpose),
        }
    }
}

impl Held {
    /// Nothing: the SHA-256 of no bytes is part of FIPS 180-4's examples.
    pub(crate) fn nothing() -> Self {
        use sha2::Digest as _;
        Self { length: 0, sha256: sha2::Sha256::digest([]).into() }
    }
}

/// The note with its length in front. Notes of ours fit: names and texts are cut where they are made.
pub(crate) fn write(note: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_allocvec(note).unwrap_or_default();
    debug_assert!(!body.is_empty() && body.len() <= NOTE_MAX, "a note of {} bytes", body.len());
    let mut framed = (body.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&body);
    framed
}

/// Reads a note without its length. Surplus bytes are a breach: a later version says so in front.
pub(crate) fn read<'a, T: Deserialize<'a>>(note: &'a [u8]) -> Result<T, Breach> {
    match postcard::take_from_bytes(note) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Breach::Malformed),
    }
}

impl Trouble {
    /// What the operating system said, cut to what fits a note.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::DiskFull,
            _ => Trouble::Io(error.to_string().chars().take(200).collect()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Version(version) => {
                write!(f, "it speaks version {version} of the transfer protocol and we speak {VERSION}")
            }
            Refusal::NoFiles => f.write_str("it does not accept files"),
            Refusal::NoMessages => f.write_str("it does not accept messages"),
            Refusal::NoPipe => {
                f.write_str("nobody waits for a pipe there: run `gimlet pipe --via TICKET` on that side")
            }
            Refusal::TooLarge { max } => write!(f, "it accepts files of at most {max} bytes"),
            Refusal::Trouble(trouble) => trouble.fmt(f),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::DiskFull => f.write_str("the receiver's disk is full; what arrived is kept there: make room and send again to resume"),
            Trouble::HashMismatch => f.write_str("the hash does not match: the file changed while it was sent, or a disk is failing; send it again"),
            Trouble::Io(what) => write!(f, "the receiver cannot store it: {what}"),
            Trouble::Breach(what) => write!(f, "the receiver did not understand us: {what}"),
            Trouble::NotText => f.write_str("the message is not text, or too long"),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Version(version) => {
                write!(
                    f,
                    "version {version} of the transfer protocol, where {VERSION} is spoken: update the older side"
                )
            }
            Breach::TooLong(length) => write!(f, "a note of {length} bytes, where {NOTE_MAX} are allowed"),
            Breach::Malformed => f.write_str("a note that cannot be read"),
            Breach::WrongStart(at) => {
                write!(f, "a start at byte {at}, which is not where the receiver stands")
            }
            Breach::Surplus => f.write_str("bytes after the end"),
            Breach::CutOff => f.write_str("the stream ended early"),
        }
    }
}

impl std::error::Error for Breach {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(name: &str) -> Purpose {
        Purpose::File(Offer { name: name.into(), size: 7, modified: Some(1) })
    }

    #[test]
    fn another_version_is_named_whatever_follows_it() {
        let mut note = write(&Opening::new(offer("a")))[2..].to_vec();
        assert_eq!(Opening::read(&note), Ok(offer("a")));
        note[0] = 9;
        assert_eq!(Opening::read(&note), Err(Breach::Version(9)));
        assert_eq!(Opening::read(&[9]), Err(Breach::Version(9)));
        assert_eq!(Opening::read(&[]), Err(Breach::Malformed));
    }

    #[test]
    fn surplus_bytes_and_long_names_are_refused() {
        let mut note = write(&Opening::new(offer("a")))[2..].to_vec();
        note.push(0);
        assert_eq!(Opening::read(&note), Err(Breach::Malformed));
        let long = write(&Opening::new(offer(&"a".repeat(OFFERED_NAME_MAX + 1))));
        assert_eq!(Opening::read(&long[2..]), Err(Breach::Malformed));
    }

    #[test]
    fn the_longest_notes_fit() {
        let longest = [
            write(&Opening::new(Purpose::File(Offer {
                name: "a".repeat(OFFERED_NAME_MAX),
                size: u64::MAX,
                modified: Some(u64::MAX),
            }))),
            write(&Outcome::Failed(Trouble::from_io(&io::Error::other("\u{10ffff}".repeat(1_000))))),
        ];
        assert!(longest.iter().all(|note| note.len() <= NOTE_MAX + 2));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Opening::read(&bytes);
            let _ = read::<Reply>(&bytes);
            let _ = read::<Outcome>(&bytes);
            let _ = read::<Start>(&bytes);
        }
    }
}
