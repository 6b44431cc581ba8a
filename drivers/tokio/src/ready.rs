//! Which sockets and connections may have something to do: told by their wakers, so that a thousand idle ones cost
//! nothing.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The signals that were given and not yet seen, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    list: Arc<List>,
}

#[derive(Debug, Default)]
struct List(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    signals: VecDeque<Arc<Signal>>,
    task: Option<Waker>,
}

/// Says that one socket or connection may have something to do, once until it is seen.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) what: What,
    is_given: AtomicBool,
    list: Arc<List>,
}

/// What a signal is about, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Socket(usize),
    Connection(usize),
}

/// A descriptor that the runtime watches, and the signal that its events give.
#[derive(Debug)]
pub(crate) struct Watched<T: AsRawFd> {
    pub(crate) io: AsyncFd<T>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) waker: Waker,
}

impl Ready {
    /// Wakes `task` whenever a signal is given.
    pub(crate) fn listen(&self, task: &Waker) {
        match &mut self.list.lock().task {
            Some(known) => known.clone_from(task),
            none @ None => *none = Some(task.clone()),
        }
    }

    /// Takes the signals that were given, and lets them be given again.
    pub(crate) fn take(&self, seen: &mut VecDeque<Arc<Signal>>) {
        std::mem::swap(seen, &mut self.list.lock().signals);
        for signal in &*seen {
            signal.is_given.store(false, Ordering::SeqCst);
        }
    }

    /// Whether nobody has given a signal.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.lock().signals.is_empty()
    }

    /// Has the runtime watch `io`. What happened before is not reported, so its signal is given at once.
    pub(crate) fn watch<T: AsRawFd>(&self, what: What, io: T) -> io::Result<Watched<T>> {
        let signal = Arc::new(Signal { what, is_given: AtomicBool::new(false), list: self.list.clone() });
        let interest = match what {
            What::Socket(_) => Interest::READABLE,
            What::Connection(_) => Interest::READABLE | Interest::WRITABLE,
        };
        let watched =
            Watched { io: register(io, interest)?, waker: signal.clone().into(), signal: signal.clone() };
        signal.give();
        Ok(watched)
    }
}

impl List {
    fn lock(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signal {
    /// Has it looked at again, without waking the task. Returns whom to wake if it may sleep.
    pub(crate) fn give(self: &Arc<Self>) -> Option<Waker> {
        if self.is_given.swap(true, Ordering::SeqCst) {
            return None;
        }
        let mut given = self.list.lock();
        given.signals.push_back(self.clone());
        given.task.take()
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(task) = self.give() {
            task.wake();
        }
    }
}

#[expect(
    deprecated,
    reason = "its unsafe successor guards against types that swap descriptors; those we watch cannot"
)]
pub(crate) fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(io, interest)
}
