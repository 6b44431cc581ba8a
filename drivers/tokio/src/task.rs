//! The driver's task: it waits for sockets, deadlines and the bell, and turns the machine.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use gimlet_machine::{Answer, Buf, Deadline, FourTuple, Instant, Io, Request, Transmit, pump};
use gimlet_udp::{Outbox, Sockets};
use tokio::time::Sleep;

use crate::driven::Driven;
use crate::error::Stopped;
use crate::network::Network;
use crate::shared::{Audience, Phase, Shared};

/// Turns before the task lets others run: those who read, above all.
const TURNS_MAX: usize = 4;

/// The task. When it ends, for whatever reason, everybody who waits learns why.
pub(crate) struct Task<M: Driven> {
    shared: Arc<Shared<M>>,
    /// `None` once the task is done: the ports are free before anybody is told.
    network: Option<Network>,
    alarm: Alarm,
    woken: Vec<Waker>,
    requests: Vec<Request>,
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
        let network = Some(Network::new(sockets)?);
        Ok(Self { shared, network, alarm: Alarm::new(), woken: Vec::new(), requests: Vec::new() })
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let Some(network) = &mut self.network else { return Ok(Next::End) };
        network.ready.listen(cx.waker());
        network.receive(&self.shared)?;

        let (woken, requests) = (&mut self.woken, &mut self.requests);
        let drained = self.shared.enter(|state| {
            state.reset_bell(cx.waker());
            if state.stopped().is_some() {
                return None;
            }
            let now = state.now();
            state.lost = network.lost();
            let mut io = Exchange {
                outbox: &mut network.outbox,
                segments_max: network.sockets.segments_max(),
                audience: &mut state.audience,
                woken,
                requests,
            };
            let deadline = pump(&mut state.machine, now, &mut io);
            let closing = matches!(state.phase, Phase::Closing);
            let orders = std::mem::take(&mut state.orders);
            Some((now, deadline, closing && state.machine.is_closed(), orders))
        });
        woken.drain(..).for_each(Waker::wake);
        let Some((now, deadline, closed, orders)) = drained else { return Ok(Next::End) };

        // A machine that filled every buffer may have more to say.
        let filled = network.outbox.is_full();
        let blocked = network.flush(now, cx)?;
        let asked = !self.requests.is_empty();
        let answers: Vec<Answer<'_>> =
            self.requests.drain(..).filter_map(|request| network.request(now, &request)).collect();
        self.shared.answer(answers);
        let ordered = !orders.is_empty();
        for order in orders {
            order.carry_out(network, &self.shared);
        }
        if closed && !filled && network.outbox.is_empty() && !network.connections.is_leaving() {
            return Ok(Next::End);
        }
        let mut more = asked || ordered || filled && !blocked || !network.ready.is_empty();
        // While a socket is full the machine cannot be drained, so its own deadline has to wait for
        // that socket, which is never long.
        let deadline = if blocked { network.outbox.deadline() } else { deadline };
        let deadline = Deadline::earliest([deadline, network.connections.deadline()]);
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

/// What the pump sees of the task.
struct Exchange<'a, M: Driven> {
    outbox: &'a mut Outbox,
    segments_max: usize,
    audience: &'a mut Audience<M>,
    woken: &'a mut Vec<Waker>,
    /// What the machine asks for, to be done without the lock.
    requests: &'a mut Vec<Request>,
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

    fn request(&mut self, request: Request) -> Option<Answer<'static>> {
        self.requests.push(request);
        None
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
