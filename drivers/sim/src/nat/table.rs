//! The table of mappings: who is whom outside, who may answer, and until when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_machine::{Arena, Id, Instant};

use super::behaviour::{Filtering, Mapping};
use crate::packed::{Packed, PackedMap};

/// Filter entries per mapping. Beyond it the one closest to its expiry gives way.
pub(super) const PERMISSIONS_MAX: usize = 4_096;

/// Which destinations share a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

impl Scope {
    pub(super) const fn new(mapping: Mapping, remote: SocketAddr) -> Self {
        match mapping {
            Mapping::EndpointIndependent => Scope::All,
            Mapping::AddressDependent => Scope::Address(remote.ip()),
            Mapping::AddressAndPortDependent => Scope::Endpoint(remote),
        }
    }

    fn pack(self) -> Packed {
        match self {
            Scope::All => Packed::default(),
            Scope::Address(ip) => Packed::address(ip, 1),
            Scope::Endpoint(remote) => Packed::endpoint(remote),
        }
    }
}

/// Who may send to a mapping: an address and port, or an address with port 0.
fn permission(filtering: Filtering, remote: SocketAddr) -> Option<SocketAddr> {
    match filtering {
        Filtering::EndpointIndependent => None,
        Filtering::AddressDependent => Some(SocketAddr::new(remote.ip(), 0)),
        Filtering::AddressAndPortDependent => Some(remote),
    }
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) inside: SocketAddr,
    pub(super) outside: SocketAddr,
    scope: Scope,
    expires: Instant,
    permissions: BTreeMap<SocketAddr, Instant>,
}

/// All rows, reachable from the inside and from the outside.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Arena<Row>,
    by_inside: PackedMap<(Packed, Packed), Id<Row>>,
    by_outside: PackedMap<Packed, Id<Row>>,
    /// One entry per row, never later than the row's expiry: use moves the expiry, and the entry
    /// follows when its turn comes.
    expiries: BinaryHeap<Reverse<(Instant, Id<Row>)>>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().map(|(_, row)| row)
    }

    pub(super) fn find(&self, inside: SocketAddr, scope: Scope) -> Option<Id<Row>> {
        self.by_inside.get(&(Packed::endpoint(inside), scope.pack())).copied()
    }

    pub(super) fn find_outside(&self, outside: SocketAddr) -> Option<Id<Row>> {
        self.by_outside.get(&Packed::endpoint(outside)).copied()
    }

    pub(super) fn is_taken(&self, outside: SocketAddr) -> bool {
        self.by_outside.contains_key(&Packed::endpoint(outside))
    }

    pub(super) fn row(&self, id: Id<Row>) -> &Row {
        self.rows.get(id).expect("ids of removed rows do not leave the table")
    }

    pub(super) fn insert(
        &mut self,
        inside: SocketAddr,
        scope: Scope,
        outside: SocketAddr,
        expires: Instant,
    ) -> Id<Row> {
        let id = self.rows.insert(Row { inside, outside, scope, expires, permissions: BTreeMap::new() });
        let earlier = self.by_inside.insert((Packed::endpoint(inside), scope.pack()), id);
        assert_eq!(earlier, None, "a mapping is made once");
        let earlier = self.by_outside.insert(Packed::endpoint(outside), id);
        assert_eq!(earlier, None, "an outside endpoint is handed out once");
        self.expiries.push(Reverse((expires, id)));
        id
    }

    /// A packet from the inside uses row `id` to reach `remote`.
    pub(super) fn use_outbound(
        &mut self,
        now: Instant,
        id: Id<Row>,
        remote: SocketAddr,
        filtering: Filtering,
        lives: Duration,
    ) {
        let row = self.rows.get_mut(id).expect("the row was just found");
        row.expires = now + lives;
        let Some(permission) = permission(filtering, remote) else { return };
        if row.permissions.len() >= PERMISSIONS_MAX && !row.permissions.contains_key(&permission) {
            let idlest = row.permissions.iter().min_by_key(|(remote, expires)| (**expires, **remote));
            if let Some(idlest) = idlest.map(|(remote, _)| *remote) {
                row.permissions.remove(&idlest);
            }
        }
        row.permissions.insert(permission, now + lives);
    }

    /// A packet from `remote` arrives for row `id`: whether it is let in. If `refresh` says how
    /// long, it keeps the row and its own permission alive.
    pub(super) fn use_inbound(
        &mut self,
        now: Instant,
        id: Id<Row>,
        remote: SocketAddr,
        filtering: Filtering,
        refresh: Option<Duration>,
    ) -> bool {
        let row = self.rows.get_mut(id).expect("the row was just found");
        if let Some(permission) = permission(filtering, remote) {
            let Some(expires) = row.permissions.get_mut(&permission).filter(|expires| **expires > now) else {
                return false;
            };
            if let Some(lives) = refresh {
                *expires = now + lives;
            }
        }
        if let Some(lives) = refresh {
            row.expires = now + lives;
        }
        true
    }

    /// When the next row may expire.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes and returns one row that has expired.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Row> {
        let (at, _) = self.refresh_head()?;
        if at > now { None } else { self.pop_head() }
    }

    /// Removes and returns the row closest to its expiry.
    pub(super) fn pop_idlest(&mut self) -> Option<Row> {
        self.refresh_head()?;
        self.pop_head()
    }

    /// Moves stale entries down until the head of the heap tells the truth.
    fn refresh_head(&mut self) -> Option<(Instant, Id<Row>)> {
        loop {
            let Reverse((listed, id)) = *self.expiries.peek()?;
            let expires = self.row(id).expires;
            debug_assert!(listed <= expires, "use only ever prolongs a mapping");
            if listed == expires {
                return Some((expires, id));
            }
            self.expiries.pop();
            self.expiries.push(Reverse((expires, id)));
        }
    }

    fn pop_head(&mut self) -> Option<Row> {
        let Reverse((_, id)) = self.expiries.pop()?;
        let row = self.rows.remove(id)?;
        self.by_inside.remove(&(Packed::endpoint(row.inside), row.scope.pack()));
        self.by_outside.remove(&Packed::endpoint(row.outside));
        Some(row)
    }
}
