//! What a machine must offer to be driven here.

use std::fmt::Debug;

use gimlet_machine::{
    Answer, Buf, Deadline, FourTuple, Input, Instant, Interest, Machine, Request, Session, Transmit, Verdict,
};

/// Whom an event wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake<I> {
    /// Nobody.
    Nobody,
    /// Whoever waits for this.
    One(I),
    /// Everybody: something changed that may concern all who wait.
    Everybody,
}

/// A machine at the socket, with names for what its users may wait for.
///
/// Every [`Session`] is one. A machine without sessions becomes one inside [`Plain`].
pub trait Driven: Machine<Path = FourTuple, Event: Send> + Send + 'static {
    /// Names what to wait for.
    type Interest: Copy + Ord + Debug + Send;
    /// Whom `event` wakes.
    fn wakes(event: &Self::Event) -> Wake<Self::Interest>;
    /// Whether a machine that was told to close has nothing left to do.
    fn is_closed(&self) -> bool;
}

/// A [`Session`] at the socket. Implemented for all of them; never implement it.
pub trait DrivenSession:
    Session<Peer: Send + Unpin, Stream: Send + Unpin, Error: Send + Sync + Unpin + 'static>
    + Machine<Path = FourTuple, Event: Send>
    + Send
    + 'static
{
}

impl<M> DrivenSession for M where
    M: Session<Peer: Send + Unpin, Stream: Send + Unpin, Error: Send + Sync + Unpin + 'static>
        + Machine<Path = FourTuple, Event: Send>
        + Send
        + 'static
{
}

impl<M: DrivenSession> Driven for M {
    type Interest = Interest<M::Peer, M::Stream>;

    fn wakes(event: &M::Event) -> Wake<Self::Interest> {
        match <M as Session>::wakes(event) {
            None => Wake::Nobody,
            // A peer that comes or goes decides the fate of all its streams. It is rare enough to
            // have everybody look.
            Some(Interest::Peer(_)) => Wake::Everybody,
            Some(
                interest @ (Interest::Accept
                | Interest::Streams(_)
                | Interest::Readable(_)
                | Interest::Writable(_)
                | Interest::Datagrams(_)),
            ) => Wake::One(interest),
        }
    }

    fn is_closed(&self) -> bool {
        Session::is_closed(self)
    }
}

/// Any machine at the socket. Each event wakes everybody who waits.
#[derive(Clone, Debug, Default)]
pub struct Plain<M>(pub M);

impl<M: Machine> Machine for Plain<M> {
    type Path = M::Path;
    type Event = M::Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, M::Path>) -> Verdict<M::Path> {
        self.0.handle_input(now, input)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        self.0.poll_event()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<M::Path>> {
        self.0.poll_transmit(now, out)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.0.poll_timeout()
    }

    fn poll_request(&mut self) -> Option<Request> {
        self.0.poll_request()
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        self.0.handle_answer(now, answer);
    }
}

impl<M: Machine<Path = FourTuple, Event: Send> + Send + 'static> Driven for Plain<M> {
    type Interest = ();

    fn wakes(_: &M::Event) -> Wake<()> {
        Wake::Everybody
    }

    fn is_closed(&self) -> bool {
        true
    }
}
