//! The application's end.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use gimlet_machine::{Instant, Interest};
use gimlet_udp::{Clock, ConnectionsCounters, Socket, Sockets, SocketsCounters};
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;

use crate::connection::Connection;
use crate::driven::{Driven, DrivenSession};
use crate::error::{Error, Stopped};
use crate::order::Order;
use crate::shared::{Phase, Shared};
use crate::task::Task;
use crate::waiters::Key;
use crate::when::{Moment, Registration, When};

/// Drives `machine`, which was built with moments of `clock`, over `sockets`, in a task of the
/// current runtime.
///
/// # Errors
///
/// The runtime cannot watch the sockets: the process is out of files.
///
/// # Panics
///
/// Outside a tokio runtime with I/O and time enabled.
pub fn spawn<M: Driven>(machine: M, sockets: Sockets, clock: Clock) -> io::Result<Handle<M>> {
    let shared = Arc::new(Shared::new(machine, clock, sockets.local_addresses().collect()));
    // The task bounds its own work; a budget that ran out in between would hide wake-ups from it.
    tokio::spawn(unconstrained(Task::new(shared.clone(), sockets)?));
    Ok(Handle { owner: Arc::new(Owner { shared }) })
}

/// A way to a driven machine. Clones lead to the same one. When the last handle, [`Connection`] and
/// [`Stream`](crate::Stream) is dropped, the driver stops as by [`Handle::abort`].
pub struct Handle<M: Driven> {
    owner: Arc<Owner<M>>,
}

/// Stops the driver when nobody can reach it any more.
struct Owner<M: Driven> {
    shared: Arc<Shared<M>>,
}

impl<M: Driven> Drop for Owner<M> {
    fn drop(&mut self) {
        self.shared.stop(Stopped::Closed);
    }
}

impl<M: Driven> Handle<M> {
    /// Calls a verb of the machine and has the driver carry out what it causes. Any number of calls
    /// before the driver gets its turn cost it one.
    ///
    /// The verb runs under a lock that every user of the machine shares: it must be quick. After the
    /// end it still works, to read what the machine knows; it causes nothing any more.
    ///
    /// # Errors
    ///
    /// [`Stopped::Panicked`] only.
    pub fn with<R>(&self, verb: impl FnOnce(&mut M, Instant) -> R) -> Result<R, Stopped> {
        self.shared().enter_and_ring(|state| {
            let now = state.now();
            state.trusted().map(|machine| verb(machine, now))
        })
    }

    /// Reads something off the machine, without bothering the driver.
    ///
    /// # Errors
    ///
    /// [`Stopped::Panicked`] only.
    pub fn read<R>(&self, getter: impl FnOnce(&M) -> R) -> Result<R, Stopped> {
        self.shared().enter(|state| state.trusted().map(|machine| getter(machine)))
    }

    /// Waits until `verb` returns `Some`. It is tried at once, and again whenever an event wakes
    /// `interest`. `None` must mean that nothing was changed.
    ///
    /// Cancel-safe: a future that is dropped before it is ready has done nothing.
    pub fn when<R, F>(&self, interest: M::Interest, verb: F) -> When<'_, M, F>
    where
        F: FnMut(&mut M, Instant) -> Option<R>,
    {
        When::new(self.shared(), interest, Moment::Exact, verb)
    }

    /// Like [`Handle::when`] for verbs that are called a million times a second and to which time
    /// means little.
    pub(crate) fn when_roughly<R, F>(&self, interest: M::Interest, verb: F) -> When<'_, M, F>
    where
        F: FnMut(&mut M, Instant) -> Option<R>,
    {
        When::new(self.shared(), interest, Moment::Rough, verb)
    }

    /// The next thing the machine wants its owner to know. Each event goes to one caller; the latest
    /// [`EVENTS_MAX`](crate::EVENTS_MAX) wait for one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The driver stopped, and all events have been read.
    pub async fn next_event(&self) -> Result<M::Event, Stopped> {
        let mut registration = Registration::new(self.shared(), Key::Event);
        poll_fn(|cx| {
            registration.poll(cx, |state| match state.audience.events.pop() {
                Some(event) => Poll::Ready(Ok(event)),
                None => state.stopped().cloned().map_or(Poll::Pending, |why| Poll::Ready(Err(why))),
            })
        })
        .await
    }

    /// Events dropped because more than [`EVENTS_MAX`](crate::EVENTS_MAX) waited.
    pub fn events_lost(&self) -> u64 {
        self.shared().enter(|state| state.audience.events_lost)
    }

    /// Transmits given up because a socket stayed full
    /// ([`OUTBOX_BLOCKED_MAX`](gimlet_udp::OUTBOX_BLOCKED_MAX)).
    pub fn transmits_lost(&self) -> u64 {
        self.shared().enter(|state| state.lost.transmits)
    }

    /// What was dropped between the sockets and the machine, as of the driver's latest turn.
    pub fn sockets_counters(&self) -> SocketsCounters {
        self.shared().enter(|state| state.lost.sockets)
    }

    /// What did not come about between the machine's connections and their peers, as of the driver's latest
    /// turn.
    pub fn connections_counters(&self) -> ConnectionsCounters {
        self.shared().enter(|state| state.lost.connections)
    }

    /// Where the owner's sockets are bound, in the order they were added.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.shared().enter(|state| state.local_addresses.clone())
    }

    /// Lets the machine speak through one more socket: an interface has come up. Tell the machine of its
    /// address afterwards, if it wants to know. Cancelling does not undo it.
    ///
    /// # Errors
    ///
    /// The owner has given [`SOCKETS_MAX`](gimlet_udp::SOCKETS_MAX) already, the runtime cannot watch more,
    /// or the driver stopped.
    pub async fn add_socket(&self, socket: Socket) -> io::Result<()> {
        let told = self.order(|told| Order::Add(socket, told)).await;
        told.map_err(|why| io::Error::new(io::ErrorKind::NotConnected, why))?
    }

    /// Takes away the socket that is bound to exactly `local`: its interface is gone. Its port is free
    /// then. Says whether there was such a socket among those that the owner gave; what a machine asked for
    /// is its own. Cancelling does not undo it.
    ///
    /// # Errors
    ///
    /// The driver stopped: no socket is left.
    pub async fn remove_socket(&self, local: SocketAddr) -> Result<bool, Stopped> {
        self.order(|told| Order::Remove(local, told)).await
    }

    async fn order<R>(&self, order: impl FnOnce(oneshot::Sender<R>) -> Order) -> Result<R, Stopped> {
        let (tell, told) = oneshot::channel();
        self.shared().enter_and_ring(|state| match state.stopped() {
            None => {
                state.orders.push(order(tell));
                Ok(())
            }
            Some(why) => Err(why.clone()),
        })?;
        match told.await {
            Ok(told) => Ok(told),
            // An order is dropped only when the driver stops.
            Err(_) => Err(self.stopped().await),
        }
    }

    /// The clock the machine lives by.
    pub fn clock(&self) -> Clock {
        self.shared().clock
    }

    /// Stops the driver where it stands. Peers are not told; everybody who waits gets
    /// [`Stopped::Closed`].
    pub fn abort(&self) {
        self.shared().stop(Stopped::Closed);
    }

    /// Waits until the driver has stopped; its ports are free then. Cancel-safe.
    pub async fn stopped(&self) -> Stopped {
        let mut registration = Registration::new(self.shared(), Key::Stopped);
        poll_fn(|cx| registration.poll(cx, |state| state.ended().cloned().map_or(Poll::Pending, Poll::Ready)))
            .await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<M>> {
        &self.owner.shared
    }
}

impl<M: DrivenSession> Handle<M> {
    /// Connects to `peer`, or waits for the attempt that is under way. Cancel-safe: the attempt goes
    /// on, and the next call finds it.
    ///
    /// # Errors
    ///
    /// The machine's reason why it will not be.
    pub async fn connect(&self, peer: M::Peer) -> Result<Connection<M>, Error<M::Error>> {
        self.with(|machine, now| machine.connect(now, peer))?.map_err(Error::Session)?;
        self.when(Interest::Peer(peer), |machine, _| {
            machine.is_connected(peer).map(|is| is.then_some(())).transpose()
        })
        .await?
        .map_err(Error::Session)?;
        Ok(Connection::new(self.clone(), peer))
    }

    /// The next peer that connected to us. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The driver stopped.
    pub async fn accept(&self) -> Result<Connection<M>, Stopped> {
        let peer = self.when(Interest::Accept, M::accept).await?;
        Ok(Connection::new(self.clone(), peer))
    }

    /// The connection to `peer`, whether or not there is one: its verbs will tell.
    pub fn connection(&self, peer: M::Peer) -> Connection<M> {
        Connection::new(self.clone(), peer)
    }

    /// Closes every connection and ends the driver: everything that `send` and `write` accepted is
    /// delivered first, to every peer that is still there. Then the ports are free.
    ///
    /// Cancelling it does not undo it; [`Handle::abort`] cuts it short.
    ///
    /// # Errors
    ///
    /// The driver stopped for another reason.
    pub async fn close(&self) -> Result<(), Stopped> {
        self.shared().enter_and_ring(|state| {
            if let Phase::Running = state.phase {
                state.phase = Phase::Closing;
                let now = state.now();
                state.machine.close_all(now);
            }
        });
        match self.stopped().await {
            Stopped::Closed => Ok(()),
            why @ (Stopped::RuntimeGone | Stopped::Io(_) | Stopped::Panicked) => Err(why),
        }
    }
}

impl<M: Driven> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone() }
    }
}

impl<M: Driven> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("shared", &self.owner.shared).finish()
    }
}
