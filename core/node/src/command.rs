//! Everything an application can do to a node, as values: what a recording holds and a fuzzer makes.

use core::net::SocketAddr;

use gimlet_machine::{Bytes, Direction, Instant, PeerId, Session};

use crate::error::Error;
use crate::node::Node;
use crate::streams::Stream;
use crate::ticket::{Ticket, TicketError};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// [`Node::add_ticket`]
    AddTicket(Ticket),
    /// [`Node::set_local_addresses`]
    SetLocalAddresses(Vec<SocketAddr>),
    /// [`Session::connect`]
    Connect(PeerId),
    /// [`Session::accept`]
    Accept,
    /// [`Session::open`]
    Open(PeerId, Direction),
    /// [`Session::accept_stream`]
    AcceptStream(PeerId),
    /// [`Session::send`]
    Send(Stream, Bytes),
    /// [`Session::receive`]
    Receive(Stream),
    /// [`Session::write`]
    Write(Stream, Bytes),
    /// [`Session::read`]
    Read(Stream, usize),
    /// [`Session::finish`]
    Finish(Stream),
    /// [`Session::abandon`]
    Abandon(Stream, u32),
    /// [`Session::send_datagram`]
    SendDatagram(PeerId, Bytes),
    /// [`Session::receive_datagram`]
    ReceiveDatagram(PeerId),
    /// [`Session::close`]
    Close(PeerId),
    /// [`Session::close_all`]
    CloseAll,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; there is nothing to report.
    Done,
    /// Not now: wait and try again.
    NotNow,
    /// A peer.
    Peer(PeerId),
    /// A stream.
    Stream(Stream),
    /// How many bytes were taken.
    Taken(usize),
    /// Application data.
    Data(Bytes),
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The ticket was refused.
    Ticket(TicketError),
    /// A session verb failed.
    Session(Error),
}

impl Node {
    /// Carries out a command given as a value.
    pub fn apply(&mut self, now: Instant, command: Command) -> Result<Outcome, CommandError> {
        let or_not_now = |done: bool| if done { Outcome::Done } else { Outcome::NotNow };
        let stream = |stream: Option<Stream>| stream.map_or(Outcome::NotNow, Outcome::Stream);
        let data = |data: Option<Bytes>| data.map_or(Outcome::NotNow, Outcome::Data);
        Ok(match command {
            Command::AddTicket(ticket) => Outcome::Peer(self.add_ticket(now, &ticket)?),
            Command::SetLocalAddresses(addresses) => {
                self.set_local_addresses(now, addresses).map(|()| Outcome::Done)?
            }
            Command::Connect(peer) => self.connect(now, peer).map(|()| Outcome::Done)?,
            Command::Accept => self.accept(now).map_or(Outcome::NotNow, Outcome::Peer),
            Command::Open(peer, direction) => self.open(now, peer, direction).map(stream)?,
            Command::AcceptStream(peer) => self.accept_stream(now, peer).map(stream)?,
            Command::Send(stream, message) => self.send(now, stream, &message).map(or_not_now)?,
            Command::Receive(stream) => self.receive(now, stream).map(data)?,
            Command::Write(stream, bytes) => self.write(now, stream, &bytes).map(Outcome::Taken)?,
            Command::Read(stream, max) => self.read(now, stream, max).map(data)?,
            Command::Finish(stream) => self.finish(now, stream).map(|()| Outcome::Done)?,
            Command::Abandon(stream, code) => {
                self.abandon(now, stream, code);
                Outcome::Done
            }
            Command::SendDatagram(peer, bytes) => self.send_datagram(now, peer, &bytes).map(or_not_now)?,
            Command::ReceiveDatagram(peer) => self.receive_datagram(now, peer).map(data)?,
            Command::Close(peer) => {
                self.close(now, peer);
                Outcome::Done
            }
            Command::CloseAll => {
                self.close_all(now);
                Outcome::Done
            }
        })
    }
}

impl From<TicketError> for CommandError {
    fn from(error: TicketError) -> Self {
        CommandError::Ticket(error)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        CommandError::Session(error)
    }
}

impl core::fmt::Display for CommandError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CommandError::Ticket(error) => error.fmt(f),
            CommandError::Session(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CommandError {}
