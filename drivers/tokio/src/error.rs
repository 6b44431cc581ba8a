//! Why something cannot be done any more.

use std::sync::Arc;
use std::{fmt, io};

/// Why the driver stopped.
#[derive(Clone, Debug)]
pub enum Stopped {
    /// It was closed, by [`Handle::close`](crate::Handle::close) or
    /// [`Handle::abort`](crate::Handle::abort).
    Closed,
    /// The runtime that ran it was shut down.
    RuntimeGone,
    /// A socket failed for good.
    Io(Arc<io::Error>),
    /// The machine, or a closure given to [`Handle::with`](crate::Handle::with), panicked. What the
    /// machine holds cannot be trusted any more.
    Panicked,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Closed => f.write_str("the driver was closed: spawn a new one"),
            Stopped::RuntimeGone => f.write_str("the runtime that ran the driver was shut down"),
            Stopped::Io(error) => write!(f, "a socket of the driver failed: {error}"),
            Stopped::Panicked => f.write_str("the driver panicked: see the panic message, spawn a new one"),
        }
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Stopped::Io(error) => Some(error),
            Stopped::Closed | Stopped::RuntimeGone | Stopped::Panicked => None,
        }
    }
}

/// Why a verb failed.
#[derive(Clone, Debug)]
pub enum Error<E> {
    /// The machine refused.
    Session(E),
    /// The driver is not running any more.
    Stopped(Stopped),
}

impl<E> Error<E> {
    /// The machine's own reason, if it is one.
    pub fn session(&self) -> Option<&E> {
        match self {
            Error::Session(error) => Some(error),
            Error::Stopped(_) => None,
        }
    }
}

impl<E> From<Stopped> for Error<E> {
    fn from(stopped: Stopped) -> Self {
        Error::Stopped(stopped)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Session(error) => error.fmt(f),
            Error::Stopped(stopped) => stopped.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Both print the inner error as their own text, so the chain goes on behind it.
            Error::Session(error) => error.source(),
            Error::Stopped(stopped) => stopped.source(),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<Error<E>> for io::Error {
    fn from(error: Error<E>) -> Self {
        let kind = match &error {
            Error::Session(_) => io::ErrorKind::Other,
            Error::Stopped(_) => io::ErrorKind::NotConnected,
        };
        io::Error::new(kind, error)
    }
}
