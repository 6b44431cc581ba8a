//! The TCP connections that a machine asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use gimlet_machine::{Answer, CloseReason, Deadline, Instant, SocketId};

use crate::close_reason;
use crate::connection::{Connection, Readiness};

/// Connections at a time, those included that are on their way out. [`Connections::connect`] refuses more
/// with [`CloseReason::TooMany`].
pub const CONNECTIONS_MAX: usize = 1_024;

/// Bytes that one connection holds because the system does not take them. A machine that limits what was not
/// [written](Answer::Written) never gets there; one that does not loses the connection
/// ([`CloseReason::Failed`]), and it is counted.
pub const WRITE_BACKLOG_MAX: usize = 1 << 20;

/// How long a peer may take to accept a connection. Then it is [`CloseReason::Unreachable`]. Systems try for two
/// minutes; whoever waits has something else to try by then.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what was written may take to leave after the machine has closed. Then the rest is dropped and
/// counted.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that one read takes at most: what fits the processor's cache.
const ROOM: usize = 1 << 16;

gimlet_machine::counters! {
    /// What did not come about between connections and their machine.
    pub struct ConnectionsCounters {
        /// Not opened: [`CONNECTIONS_MAX`], or the system's own limit.
        connect_too_many,
        /// Not opened: refused at once, by the system or for a name that is in use.
        connect_failed,
        /// Given up: the peer did not accept within [`CONNECT_TIMEOUT`].
        connect_timed_out,
        /// Broken off: the machine wrote more than [`WRITE_BACKLOG_MAX`] beyond what the system took.
        backlog_overflows,
        /// Bytes written by the machine that did not leave before the end of their connection.
        bytes_dropped,
        /// Writes to connections that are not open.
        writes_to_nowhere,
    }
}

/// TCP connections by the names that a machine gave them. Each has an index, which stays the same as long as
/// it is in the set and is given to another one afterwards.
#[derive(Default)]
pub struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    by_id: BTreeMap<SocketId, usize>,
    /// When patience with which one ends.
    timers: BTreeSet<(Instant, usize)>,
    room: Vec<u8>,
    counters: ConnectionsCounters,
}

/// What a driver has to do about a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Nothing: there is no such connection.
    Nothing,
    /// Call [`Connections::serve`] soon, with what is known of its readiness.
    Serve(usize),
    /// Watch it no longer. If there is a reason, tell the machine.
    Forget(usize, Option<CloseReason>),
}

impl Connections {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `remote` for the connection that a machine calls `id`; returns its index. The driver watches
    /// [`Connections::descriptor`] for both directions and calls [`Connections::serve`] when it has news.
    ///
    /// # Errors
    ///
    /// What to answer. A second connection of the same name is refused, too.
    pub fn connect(
        &mut self,
        now: Instant,
        id: SocketId,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<usize, CloseReason> {
        let opened = if self.len() >= CONNECTIONS_MAX {
            Err(CloseReason::TooMany)
        } else if self.by_id.contains_key(&id) {
            Err(CloseReason::Failed)
        } else {
            Connection::open(now, id, local, remote).map_err(|error| close_reason(&error))
        };
        match opened {
            Ok(connection) => Ok(self.insert(connection)),
            Err(why) => {
                let too_many = why == CloseReason::TooMany;
                self.counters.connect_too_many += u64::from(too_many);
                self.counters.connect_failed += u64::from(!too_many);
                Err(why)
            }
        }
    }

    fn insert(&mut self, connection: Connection) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_id.insert(connection.id(), index);
        self.timers.extend(connection.until().map(|until| (until, index)));
        self.slots[index] = Some(connection);
        self.room.resize(ROOM, 0);
        index
    }

    /// Writes to the connection called `id`.
    pub fn write(&mut self, id: SocketId, bytes: &[u8]) -> Todo {
        let Some((index, connection)) = self.known(id) else {
            self.counters.writes_to_nowhere += 1;
            return Todo::Nothing;
        };
        if connection.write(bytes) {
            return Todo::Serve(index);
        }
        self.counters.backlog_overflows += 1;
        self.counters.bytes_dropped += bytes.len() as u64;
        self.remove(index);
        Todo::Forget(index, Some(CloseReason::Failed))
    }

    /// Closes the connection called `id` when everything written to it has left. The name is free at once.
    pub fn close(&mut self, now: Instant, id: SocketId) -> Todo {
        let Some((index, connection)) = self.known(id) else { return Todo::Nothing };
        let before = connection.until();
        let remains = connection.close(now);
        let after = connection.until();
        self.by_id.remove(&id);
        if remains {
            self.move_timer(index, before, after);
            return Todo::Serve(index);
        }
        self.remove_with(index, before);
        Todo::Forget(index, None)
    }

    /// Does what `ready` allows with the connection at `index` and tells `answer` what came of it. Returns what
    /// may still be ready; `None`: the connection is over, and not to be watched any longer.
    pub fn serve(
        &mut self,
        index: usize,
        now: Instant,
        ready: Readiness,
        mut answer: impl FnMut(Answer<'_>),
    ) -> Option<Readiness> {
        let connection = self.slots.get_mut(index)?.as_mut()?;
        let before = connection.until();
        let left = connection.serve(now, ready, &mut self.room, &mut answer);
        let (id, is_known, after) = (connection.id(), connection.is_known(), connection.until());
        if left.is_none() {
            self.remove_with(index, before);
            return None;
        }
        if !is_known && self.by_id.get(&id) == Some(&index) {
            self.by_id.remove(&id);
        }
        self.move_timer(index, before, after);
        left
    }

    /// Gives up the next connection whose time has come, if there is one: its index, and what to tell the
    /// machine. It is not to be watched any longer.
    pub fn expire(&mut self, now: Instant) -> Option<(usize, Option<Answer<'static>>)> {
        let (at, index) = *self.timers.first()?;
        if at > now {
            return None;
        }
        let connection = self.slots[index].as_ref()?;
        let (id, is_known) = (connection.id(), connection.is_known());
        self.remove_with(index, Some(at));
        self.counters.connect_timed_out += u64::from(is_known);
        Some((index, is_known.then_some(Answer::Closed { id, why: CloseReason::Unreachable })))
    }

    /// When to call [`Connections::expire`].
    pub fn deadline(&self) -> Option<Deadline> {
        self.timers.first().map(|(at, _)| Deadline { at: *at, why: "connection timeout" })
    }

    /// Takes the connection at `index` out of the set, which resets it if anything is under way.
    pub fn remove(&mut self, index: usize) {
        let until = self.slots.get(index).and_then(|slot| slot.as_ref()?.until());
        self.remove_with(index, until);
    }

    /// For an event loop to watch: whoever holds it keeps the connection open.
    pub fn descriptor(&self, index: usize) -> Option<Arc<TcpStream>> {
        Some(self.slots.get(index)?.as_ref()?.descriptor())
    }

    /// Whether a closed connection still holds something that the machine wrote.
    pub fn is_leaving(&self) -> bool {
        self.slots.iter().flatten().any(Connection::is_leaving)
    }

    /// How many there are, those included that are on their way out.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What did not come about.
    pub fn counters(&self) -> &ConnectionsCounters {
        &self.counters
    }

    fn known(&mut self, id: SocketId) -> Option<(usize, &mut Connection)> {
        let index = *self.by_id.get(&id)?;
        Some((index, self.slots[index].as_mut()?))
    }

    fn remove_with(&mut self, index: usize, until: Option<Instant>) {
        let Some(connection) = self.slots.get_mut(index).and_then(Option::take) else { return };
        let id = connection.id();
        if self.by_id.get(&id) == Some(&index) {
            self.by_id.remove(&id);
        }
        self.move_timer(index, until, None);
        self.counters.bytes_dropped += connection.backlog() as u64;
        self.free.push(index);
    }

    fn move_timer(&mut self, index: usize, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, index));
        }
        self.timers.extend(after.map(|after| (after, index)));
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("slots", &self.slots).field("counters", &self.counters).finish()
    }
}

#[cfg(test)]
mod tests;
