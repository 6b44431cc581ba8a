//! Why a transfer failed, as one side sees it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use gimlet_node::Error as NodeError;

use super::note::{Breach, Refusal, Trouble};
use super::pace::STALL_MAX;
use crate::failure::{Exit, Failure};

/// Why a stream did not do what it was opened for.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The other side did not want it.
    Refused(Refusal),
    /// We did not want it.
    Declined(Refusal),
    /// The other side could not store it.
    Failed(Trouble),
    /// The other side broke the protocol.
    Breach(Breach),
    /// The stream or the connection ended.
    Lost(String),
    /// Nothing moved for too long.
    Stalled,
    /// The same file is being sent again, and this transfer did not move any more.
    Superseded,
    /// Our own file or disk.
    Local(io::Error),
    /// What we stored does not have the sender's hash.
    HashMismatch,
    /// It ended early, and this is where the beginning of the file is kept.
    Partial(Box<Fault>, PathBuf),
}

impl Fault {
    /// The peer stopped before the end: it was interrupted, or had a failure of its own.
    pub(crate) fn ended_early() -> Self {
        Fault::Lost("the peer stopped before the end".into())
    }

    /// The failure that a command ends with, about the file or message called `what`.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let exit = match self {
            Fault::Local(_) => Exit::Local,
            Fault::Refused(_)
            | Fault::Declined(_)
            | Fault::Failed(_)
            | Fault::Breach(_)
            | Fault::Lost(_)
            | Fault::Stalled
            | Fault::Superseded
            | Fault::HashMismatch
            | Fault::Partial(..) => Exit::Transfer,
        };
        let failure = Failure::new(exit, format_args!("{what}: {self}"));
        match self {
            Fault::Lost(_) | Fault::Stalled => {
                failure.remedy("run the same command again; it resumes where it stopped")
            }
            Fault::Refused(_)
            | Fault::Declined(_)
            | Fault::Failed(_)
            | Fault::Breach(_)
            | Fault::Local(_)
            | Fault::Superseded
            | Fault::HashMismatch
            | Fault::Partial(..) => failure,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused(refusal) => write!(f, "the peer refused: {refusal}"),
            Fault::Declined(refusal) => match refusal {
                Refusal::Version(version) => Breach::Version(*version).fmt(f),
                Refusal::NoFiles => f.write_str("refused: no files are accepted here"),
                Refusal::NoMessages => f.write_str("refused: no messages are accepted here"),
                Refusal::NoPipe => f.write_str("refused: a pipe, and this command does not take any"),
                Refusal::TooLarge { max } => write!(f, "refused: larger than {max} bytes (--max-size)"),
                Refusal::Trouble(trouble) => write!(f, "refused: {trouble}"),
            },
            Fault::Failed(trouble) => trouble.fmt(f),
            Fault::Breach(breach) => write!(f, "the peer broke the protocol: {breach}"),
            Fault::Lost(why) => write!(f, "interrupted: {why}"),
            Fault::Stalled => write!(f, "nothing moved for {} s", STALL_MAX.as_secs()),
            Fault::Superseded => f.write_str("the sender came back"),
            Fault::Local(error) if error.kind() == io::ErrorKind::StorageFull => {
                write!(f, "{error}; what arrived is kept: make room here, and sending again resumes")
            }
            Fault::Local(error) => error.fmt(f),
            Fault::HashMismatch => Trouble::HashMismatch.fmt(f),
            Fault::Partial(cause, kept) => {
                write!(f, "{cause}; what arrived is kept in {}, and sending again resumes", kept.display())
            }
        }
    }
}

impl From<Breach> for Fault {
    fn from(breach: Breach) -> Self {
        Fault::Breach(breach)
    }
}

impl From<gimlet_tokio::Error<NodeError>> for Fault {
    fn from(error: gimlet_tokio::Error<NodeError>) -> Self {
        Fault::Lost(error.to_string())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Local(error)
    }
}

/// A blocking task ended without a result: it panicked, or the runtime is going away.
impl From<tokio::task::JoinError> for Fault {
    fn from(error: tokio::task::JoinError) -> Self {
        Fault::Local(io::Error::other(error))
    }
}
