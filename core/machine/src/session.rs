//! The second contract: what a machine that talks to peers over streams offers an application.
//!
//! [`Machine`] says how a driver turns the crank. [`Session`] says how an application uses what
//! comes out at the other end, in verbs that never wait: each either does its work or says "not
//! now", and an [`Interest`] names what to wait for. An async driver parks tasks on interests; a
//! poll loop just tries again. Neither needs to know which protocols are inside.

use core::error::Error;
use core::fmt::Debug;

use bytes::Bytes;

use crate::{Instant, Machine};

/// Whether a stream carries bytes one way or both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the opener to the other side only.
    Unidirectional,
    /// Both ways.
    Bidirectional,
}

/// What a waiting application waits for. [`Session::wakes`] reads it off an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest<P, S> {
    /// The peer connected, failed to connect, or went away. Waking this also wakes whoever waits for
    /// the peer's `Streams` or `Datagrams`.
    Peer(P),
    /// A peer that we did not dial connected.
    Accept,
    /// The peer opened a stream, or gave us credit to open one.
    Streams(P),
    /// The stream has a message, bytes, or an end to read.
    Readable(S),
    /// The stream takes bytes again, or everything sent on it was acknowledged.
    Writable(S),
    /// The peer sent an unreliable datagram.
    Datagrams(P),
}

/// Peers, streams, messages. Every verb is a command: it returns at once.
///
/// `Ok(None)` and `Ok(false)` always mean "not now: wait for the named interest and try again".
/// A stream carries messages (`send`, `receive`) or plain bytes (`write`, `read`), as its two ends
/// agree; mixing both on one direction of one stream is an error the other side will notice.
pub trait Session: Machine {
    /// Names a peer.
    type Peer: Copy + Ord + Debug;
    /// Names one stream to one peer.
    type Stream: Copy + Ord + Debug;
    /// Why a verb failed for good.
    type Error: Error + Clone;

    /// Starts connecting to `peer`; idempotent. Wait for [`Interest::Peer`].
    fn connect(&mut self, now: Instant, peer: Self::Peer) -> Result<(), Self::Error>;
    /// Whether `peer` is connected; `Ok(false)` while that is under way ([`Interest::Peer`]).
    fn is_connected(&self, peer: Self::Peer) -> Result<bool, Self::Error>;
    /// The next peer that connected to us, each once ([`Interest::Accept`]).
    fn accept(&mut self, now: Instant) -> Option<Self::Peer>;
    /// Opens a stream to `peer` ([`Interest::Streams`]).
    fn open(
        &mut self,
        now: Instant,
        peer: Self::Peer,
        direction: Direction,
    ) -> Result<Option<Self::Stream>, Self::Error>;
    /// The next stream that `peer` opened ([`Interest::Streams`]).
    fn accept_stream(&mut self, now: Instant, peer: Self::Peer) -> Result<Option<Self::Stream>, Self::Error>;

    /// Queues one message, whole or not at all ([`Interest::Writable`]). Small messages share
    /// packets, whatever the pattern of calls.
    fn send(&mut self, now: Instant, stream: Self::Stream, message: &[u8]) -> Result<bool, Self::Error>;
    /// The next whole message ([`Interest::Readable`]); an error once the stream has ended.
    fn receive(&mut self, now: Instant, stream: Self::Stream) -> Result<Option<Bytes>, Self::Error>;
    /// Queues some of `bytes`; returns how many were taken, 0 for "not now" ([`Interest::Writable`]).
    fn write(&mut self, now: Instant, stream: Self::Stream, bytes: &[u8]) -> Result<usize, Self::Error>;
    /// The next chunk of at most `max` bytes ([`Interest::Readable`]); an empty chunk is the end.
    fn read(&mut self, now: Instant, stream: Self::Stream, max: usize) -> Result<Option<Bytes>, Self::Error>;
    /// Ends our half: what was queued is still delivered, and the other side then reads the end.
    fn finish(&mut self, now: Instant, stream: Self::Stream) -> Result<(), Self::Error>;
    /// Whether everything up to [`Session::finish`] was acknowledged ([`Interest::Writable`]).
    fn is_delivered(&self, stream: Self::Stream) -> Result<bool, Self::Error>;
    /// Abandons both halves; the other side reads an error with `code`.
    fn abandon(&mut self, now: Instant, stream: Self::Stream, code: u32);

    /// Sends one unreliable datagram; `Ok(false)` if it does not fit the path right now.
    fn send_datagram(&mut self, now: Instant, peer: Self::Peer, bytes: &[u8]) -> Result<bool, Self::Error>;
    /// The next datagram ([`Interest::Datagrams`]).
    fn receive_datagram(&mut self, now: Instant, peer: Self::Peer) -> Result<Option<Bytes>, Self::Error>;

    /// Finishes every stream to `peer`, and closes the connection once everything that was accepted
    /// has been delivered ([`Interest::Peer`]).
    fn close(&mut self, now: Instant, peer: Self::Peer);
    /// Closes every connection; the machine is done when [`Session::is_closed`].
    fn close_all(&mut self, now: Instant);
    /// Whether nothing is left to deliver or to wait for after [`Session::close_all`].
    fn is_closed(&self) -> bool;

    /// Whom an event wakes.
    fn wakes(event: &Self::Event) -> Option<Interest<Self::Peer, Self::Stream>>;
}
