//! The set of sockets that a machine speaks through.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gimlet_machine::{CloseReason, FourTuple, Input, Instant, Machine, SocketId, Transmit, Verdict};

use crate::{Blocked, RecvBatch, Socket, close_reason};

/// Sockets that an owner gives a set: every address of a well-connected host. [`Sockets::add`] refuses
/// more.
pub const SOCKETS_MAX: usize = 64;

/// Sockets that a machine has open beside those it was given: a relay needs one for each client.
/// [`Sockets::open`] refuses more with [`CloseReason::TooMany`].
pub const REQUESTED_SOCKETS_MAX: usize = 4_096;

gimlet_machine::counters! {
    /// What was dropped between a set of sockets and its machine.
    pub struct SocketsCounters {
        /// Not sent: no socket of the set has the local address of the path.
        no_socket,
        /// Received: the machine said it was not for it.
        not_mine,
        /// Not passed on: the socket was full.
        pass_blocked,
        /// Not opened: the machine asked for more than [`REQUESTED_SOCKETS_MAX`], or the system had no more.
        open_too_many,
        /// Not opened, for any other reason.
        open_failed,
        /// Opened for the machine and closed again, because the system said it was broken.
        requested_failed,
    }
}

/// Sockets by local address. Each has an index, which stays the same as long as the socket is in the set
/// and is given to another one afterwards.
#[derive(Debug, Default)]
pub struct Sockets {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_local: BTreeSet<Place>,
    by_id: BTreeMap<SocketId, usize>,
    /// How many sockets take trains of which length.
    trains: BTreeMap<usize, usize>,
    /// Where the latest datagram left from, and through which socket: the next one mostly does the same.
    latest: Option<(SocketAddr, usize)>,
    counters: SocketsCounters,
}

#[derive(Debug)]
struct Slot {
    socket: Socket,
    /// `None`: the owner gave it.
    id: Option<SocketId>,
}

/// Port, address, and which socket has both: link-local addresses of two interfaces may be equal.
type Place = (u16, IpAddr, usize);

impl Sockets {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds one socket to each of `addresses`.
    ///
    /// # Errors
    ///
    /// The first address that cannot be bound; see [`Socket::bind`].
    pub fn bind(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Self> {
        let mut sockets = Self::new();
        for address in addresses {
            sockets.add(Socket::bind(address)?)?;
        }
        Ok(sockets)
    }

    /// Adds a socket of the owner's; returns its index.
    ///
    /// # Errors
    ///
    /// The owner has added [`SOCKETS_MAX`] already.
    pub fn add(&mut self, socket: Socket) -> io::Result<usize> {
        if self.len() - self.by_id.len() >= SOCKETS_MAX {
            let what =
                format!("a set takes at most {SOCKETS_MAX} sockets: remove one, or bind fewer addresses");
            return Err(io::Error::other(what));
        }
        Ok(self.insert(Slot { socket, id: None }))
    }

    /// Opens the socket that a machine asks for by [`Request::Bind`](gimlet_machine::Request::Bind); returns
    /// its index. Its buffers are smaller than those of [`Socket::bind`].
    ///
    /// # Errors
    ///
    /// What to answer. A second socket of the same name is refused, too: the machine would have no word for
    /// either.
    pub fn open(&mut self, id: SocketId, local: SocketAddr) -> Result<usize, CloseReason> {
        let opened = if self.by_id.len() >= REQUESTED_SOCKETS_MAX {
            Err(CloseReason::TooMany)
        } else if self.by_id.contains_key(&id) {
            Err(CloseReason::Failed)
        } else {
            Socket::bind_requested(local).map_err(|error| close_reason(&error))
        };
        match opened {
            Ok(socket) => {
                let index = self.insert(Slot { socket, id: Some(id) });
                self.by_id.insert(id, index);
                Ok(index)
            }
            Err(why) => {
                let too_many = why == CloseReason::TooMany;
                self.counters.open_too_many += u64::from(too_many);
                self.counters.open_failed += u64::from(!too_many);
                Err(why)
            }
        }
    }

    fn insert(&mut self, slot: Slot) -> usize {
        let (local, longest) = (slot.socket.local_address(), slot.socket.segments_max());
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(slot);
        self.by_local.insert((local.port(), local.ip(), index));
        *self.trains.entry(longest).or_default() += 1;
        self.latest = None;
        index
    }

    /// Takes the socket at `index` out of the set. Its port is free when it, and whatever else holds its
    /// [`Socket::descriptor`], is dropped.
    pub fn remove(&mut self, index: usize) -> Option<Socket> {
        let Slot { socket, id } = self.slots.get_mut(index)?.take()?;
        let local = socket.local_address();
        let had_place = self.by_local.remove(&(local.port(), local.ip(), index));
        assert!(had_place, "every socket has its place");
        if let Some(id) = id {
            self.by_id.remove(&id);
        }
        self.free.push(index);
        self.forget_train(socket.segments_max());
        self.latest = None;
        Some(socket)
    }

    /// The index of the socket that the machine calls `id`.
    pub fn requested(&self, id: SocketId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// What the machine calls the socket at `index`, if it asked for it.
    pub fn id_of(&self, index: usize) -> Option<SocketId> {
        self.slots.get(index)?.as_ref()?.id
    }

    /// The index of the owner's socket that is bound to exactly `local`.
    pub fn given(&self, local: SocketAddr) -> Option<usize> {
        let mut here = self.by_local.range(places(local.port(), local.ip())).map(|(.., index)| *index);
        here.find(|index| {
            self.slots[*index]
                .as_ref()
                .is_some_and(|slot| slot.id.is_none() && slot.socket.local_address() == local)
        })
    }

    /// Where the owner's sockets are bound, in order of their indices, which is the order of their addition
    /// as long as none was removed.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let given = self.slots.iter().flatten().filter(|slot| slot.id.is_none());
        given.map(|slot| slot.socket.local_address())
    }

    /// All sockets with their indices, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Socket)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, &slot.as_ref()?.socket)))
    }

    /// The socket at `index`.
    pub fn at(&self, index: usize) -> Option<&Socket> {
        Some(&self.slots.get(index)?.as_ref()?.socket)
    }

    /// How many sockets there are, given and requested.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was dropped between the sockets and the machine.
    pub fn counters(&self) -> &SocketsCounters {
        &self.counters
    }

    /// Which socket sends from `local`: the one bound to it, else one that is bound to every
    /// address of its family on the same port.
    pub fn index_of(&self, local: SocketAddr) -> Option<usize> {
        let every = match local.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let at = |ip| self.by_local.range(places(local.port(), ip)).next().map(|(.., index)| *index);
        at(local.ip()).or_else(|| at(every))
    }

    /// The longest train worth writing for any socket. A socket that takes shorter ones cuts it.
    pub fn segments_max(&self) -> usize {
        self.trains.last_key_value().map_or(1, |(longest, _)| *longest)
    }

    /// Fills `batch` from the socket at `index`: [`Socket::recv`].
    ///
    /// # Errors
    ///
    /// What the socket cannot recover from.
    pub fn recv(&mut self, index: usize, batch: &mut RecvBatch) -> io::Result<()> {
        batch.clear();
        let Some(Some(slot)) = self.slots.get_mut(index) else { return Ok(()) };
        slot.socket.recv(batch)
    }

    /// Gives up the requested socket at `index`, which `error` says is broken; returns what to tell the
    /// machine.
    ///
    /// # Errors
    ///
    /// `error`, if the owner gave the socket: then it concerns the owner.
    pub fn give_up(&mut self, index: usize, error: io::Error) -> io::Result<(SocketId, CloseReason)> {
        let Some(id) = self.id_of(index) else { return Err(error) };
        self.counters.requested_failed += 1;
        self.remove(index);
        Ok((id, close_reason(&error)))
    }

    /// Sends on the socket that [`Sockets::index_of`] names; without one the datagrams are dropped
    /// and counted.
    ///
    /// # Errors
    ///
    /// The socket is full; see [`Socket::send`].
    pub fn send(&mut self, transmit: &Transmit<FourTuple>, bytes: &[u8]) -> Result<(), Blocked> {
        let local = transmit.path.local;
        if self.latest.is_none_or(|(known, _)| known != local) {
            self.latest = self.index_of(local).map(|index| (local, index));
        }
        let Some((_, index)) = self.latest else {
            self.counters.no_socket += 1;
            return Ok(());
        };
        let Some(Slot { socket, .. }) = &mut self.slots[index] else { return Ok(()) };
        let longest = socket.segments_max();
        let result = socket.send(transmit, bytes);
        let shorter = socket.segments_max();
        if shorter != longest {
            self.forget_train(longest);
            *self.trains.entry(shorter).or_default() += 1;
        }
        result
    }

    fn forget_train(&mut self, longest: usize) {
        if let Some(sockets) = self.trains.get_mut(&longest) {
            *sockets -= 1;
            if *sockets == 0 {
                self.trains.remove(&longest);
            }
        }
    }

    /// Hands one received datagram to `machine` and sends it on if the machine passes it.
    pub fn deliver<M>(&mut self, machine: &mut M, now: Instant, input: Input<'_, FourTuple>)
    where
        M: Machine<Path = FourTuple>,
    {
        let Input { path, ecn, bytes } = input;
        match machine.handle_input(now, Input { path, ecn, bytes: &mut *bytes }) {
            Verdict::Consumed => {}
            Verdict::NotMine => self.counters.not_mine += 1,
            Verdict::Pass { path, range } => {
                let transmit = Transmit { path, ecn, segment: None };
                let blocked = self.send(&transmit, &bytes[range]).is_err();
                self.counters.pass_blocked += u64::from(blocked);
            }
        }
    }
}

/// Every place with this port and address.
fn places(port: u16, ip: IpAddr) -> std::ops::RangeInclusive<Place> {
    (port, ip, 0)..=(port, ip, usize::MAX)
}

#[cfg(test)]
mod tests;
