//! A way in for other threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use gimlet_machine::{Instant, Machine};
use gimlet_udp::Clock;
use mio::Waker;

/// Calls that wait for the driver, and calls that one turn runs. [`Remote::call`] refuses more.
pub const CALLS_MAX: usize = 1_024;

type Call<M> = Box<dyn FnOnce(&mut M, Instant) + Send>;

/// Why a call was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// [`CALLS_MAX`] calls wait already: the driver is behind; try again later.
    Full,
    /// The driver was dropped.
    Gone,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Full => write!(f, "{CALLS_MAX} calls wait for the driver already: try again later"),
            CallError::Gone => f.write_str("the driver was dropped: start a new one"),
        }
    }
}

impl std::error::Error for CallError {}

/// Runs closures on the driver's thread, between two turns. Clones lead to the same driver.
pub struct Remote<M> {
    calls: SyncSender<Call<M>>,
    bell: Arc<Bell>,
}

/// Wakes the driver once for any number of calls.
#[derive(Debug)]
struct Bell {
    waker: Waker,
    rung: AtomicBool,
}

impl<M: Machine> Remote<M> {
    /// Has `call` run on the driver's thread. Send the answer, if there is one, from inside the
    /// closure: through a channel, for example.
    ///
    /// # Errors
    ///
    /// The driver is behind or gone; then `call` does not run.
    pub fn call(&self, call: impl FnOnce(&mut M, Instant) + Send + 'static) -> Result<(), CallError> {
        self.calls.try_send(Box::new(call)).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Full,
            TrySendError::Disconnected(_) => CallError::Gone,
        })?;
        if !self.bell.rung.swap(true, Ordering::SeqCst) {
            self.bell.waker.wake().map_err(|_| CallError::Gone)?;
        }
        Ok(())
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), bell: self.bell.clone() }
    }
}

impl<M> fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// The driver's end.
pub(crate) struct Calls<M> {
    remote: Remote<M>,
    waiting: Receiver<Call<M>>,
    has_more: bool,
}

impl<M: Machine> Calls<M> {
    pub(crate) fn new(waker: Waker) -> Self {
        let (calls, waiting) = sync_channel(CALLS_MAX);
        let bell = Arc::new(Bell { waker, rung: AtomicBool::new(false) });
        Self { remote: Remote { calls, bell }, waiting, has_more: false }
    }

    pub(crate) fn remote(&self) -> Remote<M> {
        self.remote.clone()
    }

    /// Runs what waits, at most [`CALLS_MAX`] calls; says whether there was any.
    pub(crate) fn run(&mut self, machine: &mut M, clock: Clock) -> bool {
        // The bell is reset first: a call that comes in after this is either run below or rings again.
        if !self.remote.bell.rung.swap(false, Ordering::SeqCst) && !self.has_more {
            return false;
        }
        let mut ran = 0;
        for call in self.waiting.try_iter().take(CALLS_MAX) {
            call(machine, clock.now());
            ran += 1;
        }
        self.has_more = ran == CALLS_MAX;
        ran > 0
    }

    /// Whether the last run stopped at its limit.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }
}

impl<M> fmt::Debug for Calls<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}
