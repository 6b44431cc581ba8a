//! How the command ends when it does not end well: what happened, what to do about it, and a number
//! for scripts.

use std::fmt;
use std::io;
use std::path::Path;

/// The exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  all of it worked
  1  it failed for a reason that no other code names (also: interrupted)
  2  the command line is wrong: an unknown option, a damaged ticket
  3  could not connect: no answer, an expired ticket, no path between the networks
  4  a transfer failed or the hash did not match; what arrived is kept, send again to resume
  5  this machine is in the way: disk full, port in use, file not readable";

/// An exit code other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Transfer = 4,
    Local = 5,
}

/// Why a command ends early: the cause, a remedy where there is one, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) cause: String,
    pub(crate) remedy: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, cause: impl fmt::Display) -> Self {
        Self { exit, cause: cause.to_string(), remedy: None }
    }

    /// The same failure with something that the reader can do.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// Something on this machine refused: a file, a folder, a socket.
    pub(crate) fn local(doing: impl fmt::Display, error: &io::Error) -> Self {
        let failure = Self::new(Exit::Local, format!("cannot {doing}: {error}"));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failure.remedy("make room on the disk, then run the same command again")
            }
            io::ErrorKind::PermissionDenied => {
                failure.remedy("check the permissions, or choose another place")
            }
            io::ErrorKind::NotFound => failure.remedy("check the spelling"),
            _ => failure,
        }
    }

    /// The same for a path.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::local(format_args!("{doing} {}", path.display()), error)
    }

    /// The user asked to stop.
    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Failed, "interrupted")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  what helps: {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_code() {
        for exit in [Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Transfer, Exit::Local] {
            assert!(
                EXIT_CODES.lines().any(|line| line.starts_with(&format!("  {}  ", exit as u8))),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn a_full_disk_is_a_local_failure_with_a_remedy() {
        let failure = Failure::local("write x", &io::ErrorKind::StorageFull.into());
        assert_eq!(failure.exit, Exit::Local);
        assert!(failure.to_string().contains("make room"), "{failure}");
    }
}
