//! The set of sockets that a machine speaks through.

use std::io;
use std::net::SocketAddr;

use gimlet_machine::{FourTuple, Input, Instant, Machine, Transmit, Verdict};

use crate::{Blocked, Socket};

/// Sockets in one set: every address of a well-connected host. [`Sockets::add`] refuses more.
pub const SOCKETS_MAX: usize = 64;

gimlet_machine::counters! {
    /// What was dropped between a set of sockets and its machine.
    pub struct SocketsCounters {
        /// Not sent: no socket of the set has the local address of the path.
        no_socket,
        /// Received: the machine said it was not for it.
        not_mine,
        /// Not passed on: the socket was full.
        pass_blocked,
    }
}

/// Sockets by local address.
#[derive(Debug, Default)]
pub struct Sockets {
    list: Vec<Socket>,
    counters: SocketsCounters,
}

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

    /// Adds `socket`.
    ///
    /// # Errors
    ///
    /// The set holds [`SOCKETS_MAX`] already.
    pub fn add(&mut self, socket: Socket) -> io::Result<()> {
        if self.list.len() >= SOCKETS_MAX {
            return Err(io::Error::other(format!("a set holds at most {SOCKETS_MAX} sockets")));
        }
        self.list.push(socket);
        Ok(())
    }

    /// Where each socket is bound, in the order they were added.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.list.iter().map(Socket::local_address)
    }

    /// All sockets, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.list.iter()
    }

    /// The socket that was added as number `index`, from 0.
    pub fn at_mut(&mut self, index: usize) -> Option<&mut Socket> {
        self.list.get_mut(index)
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What was dropped between the sockets and the machine.
    pub fn counters(&self) -> &SocketsCounters {
        &self.counters
    }

    /// Which socket sends from `local`: the one bound to it, else one that is bound to every
    /// address of its family on the same port.
    pub fn index_of(&self, local: SocketAddr) -> Option<usize> {
        let has_port = |socket: &Socket| socket.local_address().port() == local.port();
        let exact = |socket: &Socket| has_port(socket) && socket.local_address().ip() == local.ip();
        let wildcard = |socket: &Socket| {
            let bound = socket.local_address();
            has_port(socket) && bound.ip().is_unspecified() && bound.is_ipv4() == local.is_ipv4()
        };
        self.list.iter().position(exact).or_else(|| self.list.iter().position(wildcard))
    }

    /// The longest train worth writing for any socket. A socket that takes shorter ones cuts it.
    pub fn segments_max(&self) -> usize {
        self.list.iter().map(Socket::segments_max).max().unwrap_or(1)
    }

    /// Sends on the socket that [`Sockets::index_of`] names; without one the datagrams are dropped
    /// and counted.
    ///
    /// # Errors
    ///
    /// The socket is full; see [`Socket::send`].
    pub fn send(&mut self, transmit: &Transmit<FourTuple>, bytes: &[u8]) -> Result<(), Blocked> {
        if let Some(index) = self.index_of(transmit.path.local) {
            self.list[index].send(transmit, bytes)
        } else {
            self.counters.no_socket += 1;
            Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_address_is_preferred_to_a_wildcard_on_the_same_port() {
        let exact = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = exact.local_address().port();
        let mut sockets = Sockets::bind(["[::]:0".parse().unwrap()]).unwrap();
        sockets.add(exact).unwrap();
        assert_eq!(sockets.index_of(SocketAddr::new([127, 0, 0, 1].into(), port)), Some(1));
        assert_eq!(sockets.index_of(SocketAddr::new([127, 0, 0, 2].into(), port)), None);
        let v6 = sockets.local_addresses().next().unwrap().port();
        assert_eq!(sockets.index_of(format!("[::1]:{v6}").parse().unwrap()), Some(0));
        assert_eq!(sockets.index_of(SocketAddr::new([127, 0, 0, 1].into(), v6)), None);
    }

    #[test]
    fn a_path_without_a_socket_is_counted_and_dropped() {
        let mut sockets = Sockets::new();
        let path = FourTuple::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(sockets.send(&Transmit::new(path), b"lost"), Ok(()));
        assert_eq!(sockets.counters().no_socket, 1);
    }
}
