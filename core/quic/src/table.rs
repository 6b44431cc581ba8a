//! All sessions, and the ways to find one: by id, by path, by quinn-proto's handle, by deadline.

use std::collections::BTreeSet;
use std::fmt;

use gimlet_machine::{Arena, Deadline, Id, Instant, Path, Rng, SeededMap};
use quinn_proto::ConnectionHandle;

use crate::session::Session;

/// Names a connection of an [`Endpoint`](crate::Endpoint). It outlives the connection harmlessly.
pub type ConnectionId = Id<Session>;

/// Connections that share one path, say an old one that drains and its successor. On overflow the
/// one that was quiet for longest no longer hears from that path.
const PATH_SESSIONS_MAX: usize = 8;

pub(crate) struct Table {
    sessions: Arena<Session>,
    /// Most recently heard first.
    by_path: SeededMap<Path, Vec<ConnectionId>>,
    /// The last answer of [`Table::first_on_path`]: packets come in bursts, and comparing a path is
    /// cheaper than hashing it.
    recent: Option<(Path, ConnectionId)>,
    by_handle: Vec<Option<ConnectionId>>,
    deadlines: BTreeSet<(Instant, ConnectionId)>,
}

impl Table {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            sessions: Arena::new(),
            by_path: SeededMap::new(rng),
            recent: None,
            by_handle: Vec::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub(crate) fn insert(&mut self, session: Session) -> ConnectionId {
        let paths: Vec<Path> = session.routes.paths().collect();
        let id = self.sessions.insert(session);
        for path in paths {
            self.enlist(path, id);
        }
        id
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Session> {
        self.sessions.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        self.sessions.get_mut(id)
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.sessions.iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Forgets the session and every way to it.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Session> {
        self.set_deadline(id, None);
        let session = self.sessions.remove(id)?;
        for path in session.routes.paths() {
            self.strike(&path, id);
        }
        if let Some(link) = &session.link {
            self.release(link.handle, id);
        }
        Some(session)
    }

    /// quinn-proto's `handle` means `id` from here on.
    pub(crate) fn bind(&mut self, handle: ConnectionHandle, id: ConnectionId) {
        if self.by_handle.len() <= handle.0 {
            self.by_handle.resize(handle.0 + 1, None);
        }
        self.by_handle[handle.0] = Some(id);
    }

    /// quinn-proto reuses `handle`; only its present owner may let go of it.
    pub(crate) fn release(&mut self, handle: ConnectionHandle, id: ConnectionId) {
        if self.by_handle.get(handle.0) == Some(&Some(id)) {
            self.by_handle[handle.0] = None;
        }
    }

    pub(crate) fn by_handle(&self, handle: ConnectionHandle) -> Option<ConnectionId> {
        self.by_handle.get(handle.0).copied().flatten()
    }

    /// The connections that listen on `path`, most recently heard first.
    pub(crate) fn on_path(&self, path: &Path) -> &[ConnectionId] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// The connection that was heard on `path` last.
    pub(crate) fn first_on_path(&mut self, path: &Path) -> Option<ConnectionId> {
        if let Some((recent, id)) = &self.recent
            && recent == path
        {
            return Some(*id);
        }
        let first = *self.by_path.get(path)?.first()?;
        self.recent = Some((*path, first));
        Some(first)
    }

    /// `id` was just heard on `path`: ask it first next time.
    pub(crate) fn heard(&mut self, path: &Path, id: ConnectionId) {
        let Some(tenants) = self.by_path.get_mut(path) else { return };
        let Some(place) = tenants.iter().position(|tenant| *tenant == id) else { return };
        tenants[..=place].rotate_right(1);
        self.recent = Some((*path, id));
    }

    /// Lets `id` listen on `path`; `address` stands for `path` if its peer roams.
    pub(crate) fn admit(&mut self, id: ConnectionId, path: Path, address: std::net::SocketAddr) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.routes.address_from(&path).is_some() {
            return;
        }
        if let Some(evicted) = session.routes.admit(path, address) {
            self.strike(&evicted, id);
        }
        self.enlist(path, id);
    }

    /// Stops `id` from listening on `path`.
    pub(crate) fn dismiss(&mut self, id: ConnectionId, path: &Path) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.routes.dismiss(path);
        if session.routes.address_from(path).is_none() {
            self.strike(path, id);
        }
    }

    /// Arms or disarms the deadline of `id`.
    pub(crate) fn set_deadline(&mut self, id: ConnectionId, at: Option<Instant>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.deadline == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut session.deadline, at) {
            self.deadlines.remove(&(old, id));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, id));
        }
    }

    /// Disarms and returns the earliest deadline that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<ConnectionId> {
        let (_, id) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.set_deadline(id, None);
        Some(id)
    }

    /// The earliest deadline, and what it is for.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let (at, id) = *self.deadlines.first()?;
        let why = self.sessions.get(id).map_or("quic", |session| session.phase.why());
        Some(Deadline { at, why })
    }

    fn enlist(&mut self, path: Path, id: ConnectionId) {
        self.recent = None;
        let Some(tenants) = self.by_path.get_mut(&path) else {
            self.by_path.insert(path, vec![id]);
            return;
        };
        debug_assert!(!tenants.contains(&id), "a session is enlisted once per path");
        let evicted = if tenants.len() >= PATH_SESSIONS_MAX { tenants.pop() } else { None };
        tenants.insert(0, id);
        if let Some(session) = evicted.and_then(|evicted| self.sessions.get_mut(evicted)) {
            session.routes.dismiss(&path);
        }
    }

    fn strike(&mut self, path: &Path, id: ConnectionId) {
        self.recent = None;
        let Some(tenants) = self.by_path.get_mut(path) else { return };
        tenants.retain(|tenant| *tenant != id);
        if tenants.is_empty() {
            self.by_path.remove(path);
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}
