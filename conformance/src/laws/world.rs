//! Two machines, what is under way between them, and everything that they ever said.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use gimlet_machine::{Answer, Buf, CloseReason, Input, Instant, Machine, Request, Rng, Verdict};
use gimlet_testkit::Checked;

use super::schedule::{Schedule, Step};
use super::{Side, Subject};

/// How many datagrams may be under way; older ones are lost.
const UNDER_WAY_MAX: usize = 64;
/// How many rounds of timeout and drain one moment may take.
const ROUNDS_MAX: usize = 10_000;
/// A train of datagrams may be this long, as with segmentation offload.
const SEGMENTS_MAX: usize = 8;

/// Everything that came out, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    at: Instant,
    side: Side,
    /// An event, a path, or a verdict, as text.
    what: String,
    bytes: Vec<u8>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {} ", self.at, self.side, self.what)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Trace {
    /// The first lines in which two traces differ.
    pub fn difference(&self, other: &Trace) -> Option<(String, String)> {
        let text = |line: Option<&Line>| line.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let longest = self.0.len().max(other.0.len());
        let first = (0..longest).find(|index| self.0.get(*index) != other.0.get(*index))?;
        Some((text(self.0.get(first)), text(other.0.get(first))))
    }
}

struct Datagram<P> {
    to: Side,
    path: P,
    bytes: Vec<u8>,
}

pub(super) struct World<S: Subject> {
    now: Instant,
    a: Checked<S::Machine>,
    b: Checked<S::Machine>,
    under_way: VecDeque<Datagram<<S::Machine as Machine>::Path>>,
    trace: Trace,
    storage: Vec<u8>,
}

impl<S: Subject> World<S> {
    /// What came out, and whether a machine had arrived at any moment.
    pub(super) fn run(schedule: &Schedule) -> (Trace, bool) {
        let (mut world, mut arrived) = (Self::new(schedule.seed), false);
        for step in &schedule.steps {
            world.step(step);
            arrived |= S::has_arrived(world.a.inner()) || S::has_arrived(world.b.inner());
        }
        (world.trace, arrived)
    }

    /// Sends what the machines themselves have said, as it was and damaged, and noise, from everywhere;
    /// calls `after` after each.
    pub(super) fn flood(datagrams: u32, after: impl Fn()) {
        let mut world = Self::new(1);
        let mut rng = Rng::from_u64(1).fork("flood");
        for _ in 0..datagrams {
            let (mut to, mut bytes) = (Side::A, vec![0; rng.below(120) as usize]);
            if let Some(said) = world.pick(rng.u32() as u8).and_then(|index| world.under_way.get(index)) {
                (to, bytes) = (said.to, said.bytes.clone());
            }
            match rng.below(3) {
                // A replay, from another place more often than not.
                0 => {}
                1 => rng.fill(&mut bytes),
                _ => {
                    let index = rng.below(bytes.len() as u64) as usize;
                    bytes.get_mut(index).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8));
                }
            }
            world.arrive(to, S::path(to, rng.below(250) as u8), bytes);
            world.now += core::time::Duration::from_micros(50);
            world.settle(Side::A);
            world.settle(Side::B);
            world.trace.0.clear();
            after();
        }
    }

    fn new(seed: u64) -> Self {
        let mut a = S::build(seed, Side::A);
        let mut b = S::build(seed.wrapping_add(1), Side::B);
        S::introduce(Instant::ZERO, &mut a, &mut b);
        let mut world = Self {
            now: Instant::ZERO,
            a: Checked::new(a),
            b: Checked::new(b),
            under_way: VecDeque::new(),
            trace: Trace::default(),
            storage: Vec::new(),
        };
        world.settle(Side::A);
        world.settle(Side::B);
        world
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(duration) => self.wait(self.now + *duration),
            Step::Oversleep(duration) => {
                self.now += *duration;
                self.settle(Side::A);
                self.settle(Side::B);
            }
            Step::PollAgain(side) => self.settle(*side),
            Step::EarlyTimeout(side) => self.early_timeout(*side),
            Step::DeliverAll => {
                for _ in 0..self.under_way.len() {
                    let Some(datagram) = self.under_way.pop_front() else { break };
                    self.arrive(datagram.to, datagram.path, datagram.bytes);
                }
            }
            Step::Deliver(which) => {
                if let Some(datagram) = self.pick(*which).and_then(|index| self.under_way.remove(index)) {
                    self.arrive(datagram.to, datagram.path, datagram.bytes);
                }
            }
            Step::Duplicate(which) => self.copy(*which, |_| {}),
            Step::Damage { which, byte, flip } => self.copy(*which, |datagram| {
                let index = usize::from(*byte) % datagram.bytes.len().max(1);
                match datagram.bytes.get_mut(index) {
                    Some(byte) if *flip != 0 => *byte ^= flip,
                    Some(_) | None => datagram.bytes.truncate(index),
                }
            }),
            Step::Stray { which, path } => {
                self.copy(*which, |datagram| datagram.path = S::path(datagram.to, *path));
            }
            Step::Lose(which) => {
                self.pick(*which).and_then(|index| self.under_way.remove(index));
            }
            Step::Garbage { side, path, bytes } => self.garbage(*side, *path, bytes),
            Step::Command { side, which } => {
                let (now, side, which) = (self.now, *side, *which);
                self.machine(side).command(now, |machine| S::command(now, machine, side, which));
                self.settle(side);
            }
        }
    }

    /// Moves time forward from deadline to deadline.
    fn wait(&mut self, until: Instant) {
        let (mut rounds, mut before) = (0, self.now);
        while self.now < until {
            let deadlines = [self.a.poll_timeout(), self.b.poll_timeout()];
            let next = deadlines.into_iter().flatten().map(|deadline| deadline.at).min();
            self.now = next.map_or(until, |at| at.clamp(self.now, until));
            self.settle(Side::A);
            self.settle(Side::B);
            rounds = if self.now > before { 0 } else { rounds + 1 };
            before = self.now;
            assert!(rounds < ROUNDS_MAX, "law 4: time stands still at {}", self.now);
        }
    }

    /// After a drain nothing is due, so that a timeout has nothing to do.
    fn early_timeout(&mut self, side: Side) {
        let (now, said) = (self.now, self.trace.0.len());
        self.machine(side).handle_timeout(now);
        self.settle(side);
        let more = self.trace.0.get(said).map(ToString::to_string);
        assert!(
            more.is_none(),
            "law 4: a timeout that was not due made it say\n  {}",
            more.unwrap_or_default()
        );
    }

    fn garbage(&mut self, side: Side, path: u8, bytes: &[u8]) {
        let (counted, said) = (S::counted(self.machine(side).inner()), self.trace.0.len());
        let consumed = self.arrive(side, S::path(side, path), bytes.to_vec());
        let noticed = S::counted(self.machine(side).inner()) != counted || self.trace.0.len() > said + 1;
        assert!(
            !consumed || noticed,
            "law 5: {} bytes of garbage vanished without a count: {bytes:02x?}",
            bytes.len()
        );
    }

    fn copy(&mut self, which: u8, change: impl FnOnce(&mut Datagram<<S::Machine as Machine>::Path>)) {
        let Some(original) = self.pick(which).and_then(|index| self.under_way.get(index)) else { return };
        let mut copy = Datagram { to: original.to, path: original.path, bytes: original.bytes.clone() };
        change(&mut copy);
        self.arrive(copy.to, copy.path, copy.bytes);
    }

    fn pick(&self, which: u8) -> Option<usize> {
        usize::from(which).checked_rem(self.under_way.len())
    }

    /// Hands over a datagram and drains; says whether it was consumed.
    fn arrive(&mut self, to: Side, path: <S::Machine as Machine>::Path, mut bytes: Vec<u8>) -> bool {
        let now = self.now;
        let verdict = self.machine(to).handle_input(now, Input::new(path, &mut bytes));
        self.trace.0.push(Line { at: now, side: to, what: format!("{verdict:?}"), bytes: Vec::new() });
        self.settle(to);
        matches!(verdict, Verdict::Consumed)
    }

    /// Drains one machine at this moment, its due timers included.
    fn settle(&mut self, side: Side) {
        for _ in 0..ROUNDS_MAX {
            let now = self.now;
            if self.machine(side).poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                self.machine(side).handle_timeout(now);
            }
            let said = self.trace.0.len();
            while let Some(event) = self.machine(side).poll_event() {
                self.trace.0.push(Line { at: now, side, what: format!("{event:?}"), bytes: Vec::new() });
            }
            while let Some(request) = self.machine(side).poll_request() {
                self.answer(side, &request);
            }
            while self.transmit(side) {}
            let due = self.machine(side).poll_timeout().is_some_and(|deadline| deadline.at <= now);
            if !due && self.trace.0.len() == said {
                return;
            }
        }
        panic!("law 4: {side:?} is never done at {}", self.now);
    }

    /// Opens every other socket that is asked for, and no connection.
    fn answer(&mut self, side: Side, request: &Request) {
        let now = self.now;
        self.trace.0.push(Line { at: now, side, what: format!("{request:?}"), bytes: Vec::new() });
        let answer = match *request {
            Request::Bind { id, local } if id.0.is_multiple_of(2) => {
                let port = if local.port() == 0 { 40_000 + (id.0 % 20_000) as u16 } else { local.port() };
                Some(Answer::Bound { id, local: SocketAddr::new(local.ip(), port) })
            }
            Request::Bind { .. }
            | Request::Connect { .. }
            | Request::Write { .. }
            | Request::Close { .. } => request.refusal(CloseReason::TooMany),
        };
        if let Some(answer) = answer {
            self.machine(side).handle_answer(now, answer);
        }
    }

    fn transmit(&mut self, side: Side) -> bool {
        let now = self.now;
        let mut storage = std::mem::take(&mut self.storage);
        let mut buf = Buf::new(&mut storage).with_segments_max(SEGMENTS_MAX);
        let transmit = self.machine(side).poll_transmit(now, &mut buf);
        if let Some(transmit) = transmit {
            let segment = transmit.segment.map_or(storage.len(), usize::from);
            for bytes in storage.chunks(segment) {
                self.send(side, transmit.path, bytes);
            }
        }
        self.storage = storage;
        transmit.is_some()
    }

    fn send(&mut self, from: Side, path: <S::Machine as Machine>::Path, bytes: &[u8]) {
        let line = Line { at: self.now, side: from, what: format!("{path:?}"), bytes: bytes.to_vec() };
        self.trace.0.push(line);
        if let Some(path) = S::arrives(from, path) {
            if self.under_way.len() == UNDER_WAY_MAX {
                self.under_way.pop_front();
            }
            self.under_way.push_back(Datagram { to: from.other(), path, bytes: bytes.to_vec() });
        }
    }

    fn machine(&mut self, side: Side) -> &mut Checked<S::Machine> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}
