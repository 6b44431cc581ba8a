//! The driver's task: it waits for sockets, deadlines and the bell, and turns the machine.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use gimlet_machine::{Buf, Deadline, FourTuple, Instant, Io, Transmit, pump};
use gimlet_udp::{Outbox, RecvBatch, Sockets};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use crate::driven::Driven;
use crate::error::Stopped;
use crate::shared::{Audience, Phase, Shared};

/// Turns before the task lets others run: those who read, above all.
const TURNS_MAX: usize = 4;

/// Buffers between the machine, which writes under the lock, and the sockets, which are called
/// without it.
const OUTBOX_TRAINS: usize = 4;

/// The task. When it ends, for whatever reason, everybody who waits learns why.
pub(crate) struct Task<M: Driven> {
    shared: Arc<Shared<M>>,
    /// `None` once the task is done: the ports are free before anybody is told.
    network: Option<Network>,
    alarm: Alarm,
    woken: Vec<Waker>,
}

/// The sockets and everything between them and the machine.
struct Network {
    sockets: Sockets,
    watched: Vec<AsyncFd<OwnedFd>>,
    /// A full socket, by index, watched for room. Only while there is one: an idle socket reports room
    /// after each datagram that it sends, a wake-up for nothing.
    blocked: Option<(usize, AsyncFd<OwnedFd>)>,
    batch: RecvBatch,
    outbox: Outbox,
}

/// What the task does next.
enum Next {
    /// Another turn.
    Turn,
    /// Something has to happen first.
    Wait,
    /// Nothing, ever.
    End,
}

impl<M: Driven> Task<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, sockets: Sockets) -> io::Result<Self> {
        Ok(Self { shared, network: Some(Network::new(sockets)?), alarm: Alarm::new(), woken: Vec::new() })
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let Some(network) = &mut self.network else { return Ok(Next::End) };
        let mut more = network.receive(&self.shared, cx)?;

        let woken = &mut self.woken;
        let drained = self.shared.enter(|state| {
            state.reset_bell(cx.waker());
            if state.stopped().is_some() {
                return None;
            }
            let now = state.now();
            state.transmits_lost = network.outbox.dropped();
            let mut io = Exchange {
                outbox: &mut network.outbox,
                segments_max: network.sockets.segments_max(),
                audience: &mut state.audience,
                woken,
            };
            let deadline = pump(&mut state.machine, now, &mut io);
            let closing = matches!(state.phase, Phase::Closing);
            Some((now, deadline, closing && state.machine.is_closed()))
        });
        woken.drain(..).for_each(Waker::wake);
        let Some((now, deadline, closed)) = drained else { return Ok(Next::End) };

        // A machine that filled every buffer may have more to say.
        let filled = network.outbox.is_full();
        let blocked = network.flush(now, cx)?;
        if closed && !filled && network.outbox.is_empty() {
            return Ok(Next::End);
        }
        more |= filled && !blocked;
        // While a socket is full the machine cannot be drained, so its own deadline has to wait for
        // that socket, which is never long.
        let deadline = if blocked { network.outbox.deadline() } else { deadline };
        more |= self.alarm.is_due(&self.shared, now, deadline, cx);
        Ok(if more { Next::Turn } else { Next::Wait })
    }

    /// Gives up the sockets and says why.
    fn end(&mut self, why: Stopped) {
        self.network = None;
        self.shared.end(why);
    }
}

impl<M: Driven> Future for Task<M> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        for _ in 0..TURNS_MAX {
            let why = match task.turn(cx) {
                Ok(Next::Turn) => continue,
                Ok(Next::Wait) => return Poll::Pending,
                Ok(Next::End) => Stopped::Closed,
                Err(error) => Stopped::Io(Arc::new(error)),
            };
            task.end(why);
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<M: Driven> Drop for Task<M> {
    fn drop(&mut self) {
        // After an orderly end both are harmless repetitions.
        self.end(if thread::panicking() { Stopped::Panicked } else { Stopped::RuntimeGone });
    }
}

impl Network {
    fn new(sockets: Sockets) -> io::Result<Self> {
        let watched =
            sockets.iter().map(|socket| watch(socket, Interest::READABLE)).collect::<io::Result<_>>()?;
        let (batch, outbox) = (RecvBatch::new(), Outbox::new(OUTBOX_TRAINS));
        Ok(Self { sockets, watched, blocked: None, batch, outbox })
    }

    /// One batch from each socket that has one, to the machine. Says whether a socket has more; each
    /// other one wakes the task when it has.
    fn receive<M: Driven>(&mut self, shared: &Shared<M>, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut more = false;
        for index in 0..self.watched.len() {
            let Poll::Ready(guard) = self.watched[index].poll_read_ready(cx) else { continue };
            let mut guard = guard?;
            let Some(socket) = self.sockets.at_mut(index) else { continue };
            socket.recv(&mut self.batch)?;
            if self.batch.is_full() {
                more = true;
            } else {
                // A call that came back less than full has emptied the socket: whatever arrives later
                // is reported anew.
                guard.clear_ready();
                more |= self.watched[index].poll_read_ready(cx).is_ready();
            }
            for run in self.batch.runs() {
                shared.enter(|state| {
                    let now = state.now();
                    for input in run {
                        self.sockets.deliver(&mut state.machine, now, input);
                    }
                });
            }
        }
        Ok(more)
    }

    /// Sends what the machine wrote. Says whether a full socket stopped it; that one wakes the task
    /// when it has room.
    fn flush(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<bool> {
        while let Some(index) = self.outbox.flush(&mut self.sockets, now) {
            let Some(socket) = self.sockets.at_mut(index) else { break };
            let blocked = match self.blocked.take() {
                Some((known, watched)) if known == index => watched,
                _ => watch(socket, Interest::WRITABLE)?,
            };
            let has_room = match blocked.poll_write_ready(cx) {
                Poll::Ready(guard) => {
                    guard?.clear_ready();
                    true
                }
                Poll::Pending => false,
            };
            self.blocked = Some((index, blocked));
            if !has_room {
                return Ok(true);
            }
        }
        self.blocked = None;
        Ok(false)
    }
}

/// Watches a duplicate of the socket's descriptor, so that the registration can neither outlive the
/// descriptor nor borrow the socket.
#[expect(
    deprecated,
    reason = "its unsafe successor guards against types that swap descriptors; OwnedFd cannot"
)]
fn watch(socket: &impl AsFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket.as_fd().try_clone_to_owned()?, interest)
}

/// What the pump sees of the task.
struct Exchange<'a, M: Driven> {
    outbox: &'a mut Outbox,
    segments_max: usize,
    audience: &'a mut Audience<M>,
    woken: &'a mut Vec<Waker>,
}

impl<M: Driven> Io<M> for Exchange<'_, M> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        self.outbox.buf(self.segments_max)
    }

    fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        self.outbox.push(transmit);
    }

    fn event(&mut self, machine: &mut M, now: Instant, event: M::Event) {
        self.audience.on_event(machine, now, event, self.woken);
    }
}

/// The runtime's timer, moved as rarely as possible: a deadline that moves away lets it go off early
/// once instead of being followed step by step.
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    set_for: Instant,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: None, set_for: Instant::FAR }
    }

    /// Whether `deadline` has come. If not, the task is woken when it does.
    fn is_due<M: Driven>(
        &mut self,
        shared: &Shared<M>,
        now: Instant,
        deadline: Option<Deadline>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(at) = deadline.map(|deadline| deadline.at) else { return false };
        if at <= now {
            return true;
        }
        if self.set_for <= at && now < self.set_for {
            return false;
        }
        let Some(when) = shared.clock.at(at) else { return false };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(when.into())));
        sleep.as_mut().reset(when.into());
        self.set_for = at;
        sleep.as_mut().poll(cx).is_ready()
    }
}
