//! The loop: frames from two sides through one machine.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use gimlet_machine::{Buf, Deadline, Input, Instant, Io, Machine, Transmit, Verdict, pump};
use gimlet_tcp::{Leg, Side};

use crate::clock::Clock;
use crate::offload::Offload;
use crate::port::{Port, PortCounters};
use crate::sys::batch::BATCH_MAX;
use crate::sys::send::{Leaving, SendCounters};
use crate::sys::{self, Bell};

/// What the program around a [`Bump`] wants to hear of and say.
pub trait Owner<M: Machine> {
    /// The machine told something. Commands on it are allowed here.
    fn event(&mut self, machine: &mut M, now: Instant, event: M::Event);
    /// More than one frame has arrived, and this is one of those that the machine will hear at once: whoever knows what it
    /// will look up can have that fetched.
    #[inline]
    fn foresee(&self, machine: &M, leg: Leg, frame: &[u8]) {
        let _ = (machine, leg, frame);
    }
    /// Somebody rang ([`Waker::wake`]). Commands on the machine are allowed here; `Break` ends the loop.
    fn woken(&mut self, machine: &mut M, now: Instant, counters: BumpCounters) -> ControlFlow<()>;
}

/// Wakes a [`Bump`] from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Bell>);

impl Waker {
    /// Lets the loop call [`Owner::woken`] soon.
    pub fn wake(&self) {
        self.0.ring();
    }
}

/// What became of the frames of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BumpCounters {
    /// On the client's side.
    pub client: PortCounters,
    /// On the server's side.
    pub server: PortCounters,
    /// Not said: the machine gave a leg that asks for offloads that its frame cannot have.
    pub undescribed: u64,
    /// Not said: the machine gave a range outside of the frame, or wanted none of it ([`Verdict::NotMine`]).
    pub unplaced: u64,
}

/// A bump in the wire: two interfaces and what is between them. Neither needs an address, and the frames of both are
/// seen by nobody else on this host who answers them.
#[derive(Debug)]
pub struct Bump {
    ports: [Port; 2],
    bell: Arc<Bell>,
    out: Outbox,
}

impl Bump {
    /// A bump between a port on the clients' side and one on the servers'.
    pub fn new(client: Port, server: Port) -> io::Result<Self> {
        Ok(Self { ports: [client, server], bell: Arc::new(Bell::new()?), out: Outbox::default() })
    }

    /// A bell for other threads.
    pub fn waker(&self) -> Waker {
        Waker(self.bell.clone())
    }

    /// What became of the frames.
    pub fn counters(&mut self) -> BumpCounters {
        let [client, server] = &mut self.ports;
        BumpCounters {
            client: client.counters(),
            server: server.counters(),
            undescribed: self.out.undescribed,
            unplaced: self.out.unplaced,
        }
    }

    /// Carries frames until the owner breaks off or the kernel fails us. `machine` lives by [`Clock`].
    pub fn run<M: Machine<Path = Leg>>(
        &mut self,
        machine: &mut M,
        owner: &mut impl Owner<M>,
    ) -> io::Result<()> {
        sys::be_punctual();
        let mut deadline = self.drain(machine, Clock.now(), owner, None);
        loop {
            let [client, server] = &self.ports;
            let due = [deadline.map(|deadline| deadline.at), client.looked_for(), server.looked_for()];
            let limit = due.into_iter().flatten().min().map(|at| Clock.until(at));
            let [client, server, rang] = sys::wait([client.fd(), server.fd(), self.bell.fd()], limit)?;
            let now = Clock.now();
            self.ports.iter_mut().try_for_each(|port| port.look(now))?;
            for (side, ready) in [(0, client), (1, server)] {
                if ready {
                    self.carry(machine, now, owner, side)?;
                }
            }
            if rang && self.bell.rang() {
                let counters = self.counters();
                if owner.woken(machine, now, counters).is_break() {
                    self.drain(machine, now, owner, None);
                    return Ok(());
                }
            }
            deadline = self.drain(machine, now, owner, None);
        }
    }

    /// Carries what has arrived on one side.
    fn carry<M: Machine<Path = Leg>>(
        &mut self,
        machine: &mut M,
        now: Instant,
        owner: &mut impl Owner<M>,
        from: usize,
    ) -> io::Result<()> {
        let count = self.ports[from].receive()?;
        if count == 0 {
            return Ok(());
        }
        // Not more at a time than the processor remembers.
        for first in (0..count).step_by(BATCH_MAX) {
            let some = first..count.min(first + BATCH_MAX);
            if some.len() > 1 {
                for nth in some.clone() {
                    let (leg, _) = self.arrived(from, nth);
                    owner.foresee(machine, leg, self.ports[from].frame(nth));
                }
            }
            for nth in some {
                self.hand_in(machine, now, from, nth);
                self.drain(machine, now, owner, Some(from));
            }
        }
        self.flush(Some(from));
        self.ports[from].release();
        Ok(())
    }

    /// The leg of a frame that has arrived, and what the kernel said of it.
    fn arrived(&self, from: usize, nth: usize) -> (Leg, Offload) {
        let side = if from == 0 { Side::Client } else { Side::Server };
        let arrived = self.ports[from].arrived(nth);
        (arrived.offload.leg(side, arrived.tag), arrived.offload)
    }

    /// Hands one frame to the machine.
    fn hand_in<M: Machine<Path = Leg>>(&mut self, machine: &mut M, now: Instant, from: usize, nth: usize) {
        let (leg, offload) = self.arrived(from, nth);
        match machine.handle_input(now, Input::new(leg, self.ports[from].frame_mut(nth))) {
            Verdict::Consumed => {}
            Verdict::NotMine => self.out.unplaced += 1,
            Verdict::Pass { path, range } => {
                let frame = self.ports[from].frame(nth);
                // What the kernel said of the frame still holds if the machine says the same of it.
                let is_same = (path.checksum, path.gso) == (leg.checksum, leg.gso) && range.start == 0;
                self.out.pass(nth, frame, range, path, is_same.then_some(offload));
            }
        }
    }

    /// Lets the machine say all that it has to say. Frames that pass are in the port `from`.
    fn drain<M: Machine<Path = Leg>>(
        &mut self,
        machine: &mut M,
        now: Instant,
        owner: &mut impl Owner<M>,
        from: Option<usize>,
    ) -> Option<Deadline> {
        loop {
            let deadline = pump(machine, now, &mut Mouth { out: &mut self.out, owner });
            let is_full = self.out.is_full();
            // Between the frames of a batch, what leaves may wait for the others.
            if is_full || from.is_none() {
                self.flush(from);
            }
            if !is_full {
                return deadline;
            }
        }
    }

    /// Hands what leaves to the kernel.
    fn flush(&mut self, from: Option<usize>) {
        for to in [0, 1] {
            if self.out.queues[to].is_empty() {
                continue;
            }
            let mut counters = SendCounters::default();
            for some in self.out.queues[to].chunks(BATCH_MAX) {
                let mut frames = [Leaving { offload: Offload::default(), tag: None, bytes: &[] }; BATCH_MAX];
                for (frame, entry) in frames.iter_mut().zip(some) {
                    let whole = match (entry.from, from) {
                        (From::Made(nth), _) => &self.out.made[nth][..],
                        (From::Passing(nth), Some(from)) => self.ports[from].frame(nth),
                        (From::Passing(_), None) => unreachable!("frames pass while their port holds them"),
                    };
                    *frame = Leaving {
                        offload: entry.offload,
                        tag: entry.tag,
                        bytes: &whole[entry.range.0 as usize..entry.range.1 as usize],
                    };
                }
                self.ports[to].send(&frames[..some.len()], &mut counters);
            }
            self.ports[to].count_sent(counters);
            self.out.queues[to].clear();
        }
        self.out.made_used = 0;
    }
}

/// What is about to leave, by side.
#[derive(Debug, Default)]
struct Outbox {
    queues: [Vec<Entry>; 2],
    /// Frames that the machine made, in storage that is used again.
    made: Vec<Vec<u8>>,
    made_used: usize,
    undescribed: u64,
    unplaced: u64,
}

#[derive(Debug)]
struct Entry {
    from: From,
    range: (u32, u32),
    offload: Offload,
    tag: Option<u16>,
}

/// Where the bytes are.
#[derive(Clone, Copy, Debug)]
enum From {
    /// In the port that received them.
    Passing(usize),
    /// In [`Outbox::made`].
    Made(usize),
}

impl Outbox {
    fn is_full(&self) -> bool {
        self.made_used >= BATCH_MAX || self.queues.iter().any(|queue| queue.len() >= BATCH_MAX)
    }

    fn pass(&mut self, nth: usize, frame: &[u8], range: Range<usize>, leg: Leg, known: Option<Offload>) {
        match frame.get(range.clone()) {
            Some(bytes) => {
                let offload = known.or_else(|| Offload::of(leg, bytes));
                self.push(From::Passing(nth), range, leg, offload);
            }
            None => self.unplaced += 1,
        }
    }

    fn push(&mut self, from: From, range: Range<usize>, leg: Leg, offload: Option<Offload>) {
        let Some(offload) = offload else {
            self.undescribed += 1;
            return;
        };
        let range = (range.start as u32, range.end as u32);
        self.queues[leg.side as usize].push(Entry { from, range, offload, tag: leg.tag });
    }
}

/// What [`pump`] speaks into.
struct Mouth<'a, O> {
    out: &'a mut Outbox,
    owner: &'a mut O,
}

impl<M: Machine<Path = Leg>, O: Owner<M>> Io<M> for Mouth<'_, O> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        if self.out.is_full() {
            return None;
        }
        if self.out.made.len() == self.out.made_used {
            self.out.made.push(Vec::new());
        }
        Some(Buf::new(&mut self.out.made[self.out.made_used]))
    }

    fn transmit(&mut self, transmit: Transmit<Leg>) {
        let nth = self.out.made_used;
        let made = &self.out.made[nth];
        let (offload, whole) = (Offload::of(transmit.path, made), 0..made.len());
        self.out.made_used += 1;
        self.out.push(From::Made(nth), whole, transmit.path, offload);
    }

    fn event(&mut self, machine: &mut M, now: Instant, event: M::Event) {
        self.owner.event(machine, now, event);
    }
}
