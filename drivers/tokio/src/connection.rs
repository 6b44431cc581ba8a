//! One peer.

use std::fmt;

use bytes::Bytes;
use gimlet_machine::{Direction, Interest};

use crate::driven::DrivenSession;
use crate::error::Error;
use crate::handle::Handle;
use crate::stream::Stream;

/// A connection to one peer. Clones name the same connection; dropping them all does not close it,
/// [`Connection::close`] does.
pub struct Connection<M: DrivenSession> {
    handle: Handle<M>,
    peer: M::Peer,
}

impl<M: DrivenSession> Connection<M> {
    pub(crate) fn new(handle: Handle<M>, peer: M::Peer) -> Self {
        Self { handle, peer }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> M::Peer {
        self.peer
    }

    /// The machine's handle.
    pub fn handle(&self) -> &Handle<M> {
        &self.handle
    }

    /// Opens a stream, when the peer gives credit for one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn open(&self, direction: Direction) -> Result<Stream<M>, Error<M::Error>> {
        let opened = self
            .handle
            .when(Interest::Streams(self.peer), |machine, now| {
                machine.open(now, self.peer, direction).transpose()
            })
            .await?;
        Ok(Stream::new(self.handle.clone(), opened.map_err(Error::Session)?))
    }

    /// The next stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn accept_stream(&self) -> Result<Stream<M>, Error<M::Error>> {
        let accepted = self
            .handle
            .when(Interest::Streams(self.peer), |machine, now| {
                machine.accept_stream(now, self.peer).transpose()
            })
            .await?;
        Ok(Stream::new(self.handle.clone(), accepted.map_err(Error::Session)?))
    }

    /// Sends one unreliable datagram. `false`: it does not fit the path at present, and is dropped.
    ///
    /// # Errors
    ///
    /// The connection is gone, or carries no datagrams.
    pub fn send_datagram(&self, bytes: &[u8]) -> Result<bool, Error<M::Error>> {
        self.handle.with(|machine, now| machine.send_datagram(now, self.peer, bytes))?.map_err(Error::Session)
    }

    /// The next unreliable datagram. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn receive_datagram(&self) -> Result<Bytes, Error<M::Error>> {
        self.handle
            .when(Interest::Datagrams(self.peer), |machine, now| {
                machine.receive_datagram(now, self.peer).transpose()
            })
            .await?
            .map_err(Error::Session)
    }

    /// Closes the connection once everything that was accepted is delivered, and waits for that. The
    /// driver goes on. Cancelling it does not undo it.
    ///
    /// # Errors
    ///
    /// The driver stopped before it was done.
    pub async fn close(&self) -> Result<(), Error<M::Error>> {
        self.handle.with(|machine, now| machine.close(now, self.peer))?;
        let is_gone = |machine: &mut M| !matches!(machine.is_connected(self.peer), Ok(true));
        self.handle.when(Interest::Peer(self.peer), |machine, _| is_gone(machine).then_some(())).await?;
        Ok(())
    }
}

impl<M: DrivenSession> Clone for Connection<M> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), peer: self.peer }
    }
}

impl<M: DrivenSession> fmt::Debug for Connection<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
