//! One stream to one peer, and its two halves.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gimlet_machine::{Instant, Interest};

use crate::driven::DrivenSession;
use crate::error::{Error, Stopped};
use crate::handle::Handle;
use crate::waiters::Key;
use crate::when::Place;

mod bytes_io;

/// Messages that a stream takes from the machine at once, so that small ones do not cost a lock each.
/// They count as read for the peer's flow control.
pub const RECEIVE_BATCH_MAX: usize = 256;

/// Bytes after which a stream takes no further message at once.
pub const RECEIVE_BATCH_BYTES_MAX: usize = 64 << 10;

/// A stream. It carries messages ([`Stream::send`], [`Stream::receive`]) or plain bytes
/// ([`Stream::write`], [`Stream::read`], or tokio's `AsyncRead` and `AsyncWrite`), as its two ends
/// agree.
///
/// Dropping it finishes it: what was accepted is still delivered. What the peer sends after that is
/// refused.
#[derive(Debug)]
pub struct Stream<M: DrivenSession> {
    sender: SendHalf<M>,
    receiver: ReceiveHalf<M>,
}

/// The half that sends. Dropping it finishes it.
pub struct SendHalf<M: DrivenSession> {
    lifeline: Arc<Lifeline<M>>,
    finished: bool,
    place: Place<Interest<M::Peer, M::Stream>>,
}

/// The half that receives.
pub struct ReceiveHalf<M: DrivenSession> {
    lifeline: Arc<Lifeline<M>>,
    place: Place<Interest<M::Peer, M::Stream>>,
    inbox: Inbox<M::Error>,
}

/// What was taken from the machine and not yet from us.
struct Inbox<E> {
    ready: VecDeque<Bytes>,
    /// What comes after the last of them.
    end: Option<E>,
}

impl<M: DrivenSession> Stream<M> {
    pub(crate) fn new(handle: Handle<M>, id: M::Stream) -> Self {
        let lifeline = Arc::new(Lifeline { handle, id, one_way: AtomicBool::new(false) });
        Self {
            sender: SendHalf {
                lifeline: lifeline.clone(),
                finished: false,
                place: Place::new(Key::Interest(Interest::Writable(id))),
            },
            receiver: ReceiveHalf {
                lifeline,
                place: Place::new(Key::Interest(Interest::Readable(id))),
                inbox: Inbox { ready: VecDeque::new(), end: None },
            },
        }
    }

    /// How the machine names the stream.
    pub fn id(&self) -> M::Stream {
        self.sender.lifeline.id
    }

    /// The two halves, for two tasks. The stream ends when both are dropped.
    pub fn split(self) -> (SendHalf<M>, ReceiveHalf<M>) {
        (self.sender, self.receiver)
    }

    /// See [`SendHalf::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error<M::Error>> {
        self.sender.send(message).await
    }

    /// See [`ReceiveHalf::receive`].
    pub async fn receive(&mut self) -> Result<Bytes, Error<M::Error>> {
        self.receiver.receive().await
    }

    /// See [`SendHalf::write`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error<M::Error>> {
        self.sender.write(bytes).await
    }

    /// See [`SendHalf::write_all`].
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error<M::Error>> {
        self.sender.write_all(bytes).await
    }

    /// See [`ReceiveHalf::read`].
    pub async fn read(&mut self, max: usize) -> Result<Option<Bytes>, Error<M::Error>> {
        self.receiver.read(max).await
    }

    /// See [`SendHalf::finish`].
    pub async fn finish(&mut self) -> Result<(), Error<M::Error>> {
        self.sender.finish().await
    }

    /// Abandons both halves: what is under way may or may not arrive, and the other side reads an
    /// error with `code`.
    pub fn abandon(self, code: u32) {
        self.sender.lifeline.abandon(code);
    }
}

impl<M: DrivenSession> SendHalf<M> {
    /// Sends one message. Returns when the machine has accepted it, which it delays while the peer or
    /// the network is behind: the back-pressure. Cancel-safe: a message is accepted whole, and then
    /// the future is ready, or not at all.
    ///
    /// # Errors
    ///
    /// The stream or the connection is gone, or the message is longer than the machine's limit.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error<M::Error>> {
        let id = self.lifeline.id;
        self.lifeline
            .handle
            .when_roughly(Interest::Writable(id), |machine, now| match machine.send(now, id, message) {
                Ok(accepted) => accepted.then_some(Ok(())),
                Err(error) => Some(Err(error)),
            })
            .await?
            .map_err(Error::Session)
    }

    /// Sends some of `bytes`, at least one unless there are none; returns how many were accepted.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// The stream or the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error<M::Error>> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let id = self.lifeline.id;
        self.lifeline
            .handle
            .when_roughly(Interest::Writable(id), |machine, now| write(machine, now, id, bytes))
            .await?
            .map_err(Error::Session)
    }

    /// Sends all of `bytes`. Not cancel-safe: a part may have been accepted.
    ///
    /// # Errors
    ///
    /// The stream or the connection is gone.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Error<M::Error>> {
        while !bytes.is_empty() {
            let taken = self.write(bytes).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Ends our half and waits until the peer has acknowledged everything. Cancel-safe: our half ends
    /// at once, and calling it again waits on.
    ///
    /// # Errors
    ///
    /// The stream or the connection was gone before everything was acknowledged.
    pub async fn finish(&mut self) -> Result<(), Error<M::Error>> {
        self.end()?.map_err(Error::Session)?;
        let id = self.lifeline.id;
        self.lifeline
            .handle
            .when(Interest::Writable(id), |machine, _| {
                machine.is_delivered(id).map(|is| is.then_some(())).transpose()
            })
            .await?
            .map_err(Error::Session)
    }

    fn end(&mut self) -> Result<Result<(), M::Error>, Stopped> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(Ok(()));
        }
        let id = self.lifeline.id;
        self.lifeline.handle.with(|machine, now| machine.finish(now, id))
    }
}

fn write<M: DrivenSession>(
    machine: &mut M,
    now: Instant,
    id: M::Stream,
    bytes: &[u8],
) -> Option<Result<usize, M::Error>> {
    match machine.write(now, id, bytes) {
        Ok(0) => None,
        result => Some(result),
    }
}

impl<M: DrivenSession> Drop for SendHalf<M> {
    fn drop(&mut self) {
        self.place.leave(self.lifeline.handle.shared());
        // A stream that the peer opened one way has no half of ours to finish.
        let one_way = matches!(self.end(), Ok(Err(_)));
        self.lifeline.one_way.fetch_or(one_way, Ordering::Relaxed);
    }
}

impl<M: DrivenSession> ReceiveHalf<M> {
    /// The next message. Cancel-safe: no message is lost.
    ///
    /// # Errors
    ///
    /// The stream has ended, in good order or not, or the connection is gone; the machine's error says
    /// which. Everything that came before is returned first.
    pub async fn receive(&mut self) -> Result<Bytes, Error<M::Error>> {
        loop {
            if let Some(message) = self.inbox.ready.pop_front() {
                return Ok(message);
            }
            if let Some(error) = &self.inbox.end {
                return Err(Error::Session(error.clone()));
            }
            let (id, inbox) = (self.lifeline.id, &mut self.inbox);
            self.lifeline
                .handle
                .when_roughly(Interest::Readable(id), |machine, now| inbox.fill(machine, now, id))
                .await?;
        }
    }

    /// The next chunk of at most `max` bytes; `None` once the peer has finished. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The peer abandoned the stream, or the connection is gone.
    pub async fn read(&mut self, max: usize) -> Result<Option<Bytes>, Error<M::Error>> {
        let id = self.lifeline.id;
        let chunk = self
            .lifeline
            .handle
            .when_roughly(Interest::Readable(id), |machine, now| machine.read(now, id, max).transpose())
            .await?
            .map_err(Error::Session)?;
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

impl<E: Clone> Inbox<E> {
    /// Takes a batch of messages; `None` if there is nothing at all.
    fn fill<M: DrivenSession<Error = E>>(
        &mut self,
        machine: &mut M,
        now: Instant,
        id: M::Stream,
    ) -> Option<()> {
        let mut bytes = 0;
        while self.ready.len() < RECEIVE_BATCH_MAX && bytes < RECEIVE_BATCH_BYTES_MAX {
            match machine.receive(now, id) {
                Ok(Some(message)) => {
                    bytes += message.len();
                    self.ready.push_back(message);
                }
                Ok(None) => break,
                Err(error) => {
                    self.end = Some(error);
                    break;
                }
            }
        }
        (!self.ready.is_empty() || self.end.is_some()).then_some(())
    }
}

impl<M: DrivenSession> Drop for ReceiveHalf<M> {
    fn drop(&mut self) {
        self.place.leave(self.lifeline.handle.shared());
    }
}

/// Ends the stream when both halves are gone.
struct Lifeline<M: DrivenSession> {
    handle: Handle<M>,
    id: M::Stream,
    /// There is no half of ours to deliver.
    one_way: AtomicBool,
}

impl<M: DrivenSession> Lifeline<M> {
    fn abandon(&self, code: u32) {
        // A machine that panicked has no streams left to abandon.
        let _ = self.handle.with(|machine, now| machine.abandon(now, self.id, code));
    }
}

impl<M: DrivenSession> Drop for Lifeline<M> {
    fn drop(&mut self) {
        if *self.one_way.get_mut() {
            self.abandon(0);
            return;
        }
        // What was accepted is delivered first. By then nobody is here to see it, so the driver does
        // the rest.
        let interest = Interest::Writable(self.id);
        self.handle.shared().enter_and_ring(|state| {
            let now = state.now();
            if state.stopped().is_none() && !forsake(&mut state.machine, now, interest) {
                state.audience.chores.insert(interest, forsake::<M>);
            }
        });
    }
}

/// Lets go of a stream that nobody holds, unless something of it is still to be delivered. Says
/// whether it did.
fn forsake<M: DrivenSession>(machine: &mut M, now: Instant, interest: Interest<M::Peer, M::Stream>) -> bool {
    let Interest::Writable(id) = interest else { return true };
    if matches!(machine.is_delivered(id), Ok(false)) {
        return false;
    }
    machine.abandon(now, id, 0);
    true
}

impl<M: DrivenSession> fmt::Debug for SendHalf<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lifeline, finished, place: _ } = self;
        f.debug_struct("SendHalf")
            .field("id", &lifeline.id)
            .field("finished", finished)
            .finish_non_exhaustive()
    }
}

impl<M: DrivenSession> fmt::Debug for ReceiveHalf<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lifeline, place: _, inbox } = self;
        let ready = inbox.ready.len();
        f.debug_struct("ReceiveHalf").field("id", &lifeline.id).field("ready", &ready).finish_non_exhaustive()
    }
}
