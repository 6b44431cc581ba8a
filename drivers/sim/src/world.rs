//! The world: time, hosts, and everything between them.

mod drain;
mod faults;
mod route;
mod tcp;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use gimlet_machine::{FourTuple, Instant, Machine, Rng};

use crate::agenda::{Agenda, Due};
use crate::connections::Connections;
use crate::fault::Fault;
use crate::host::{Alarm, Host, HostConfig, HostId, Seat};
use crate::link::{Link, LinkConfig};
use crate::nat::{Nat, NatConfig};
use crate::net::{NatId, Net};
use crate::oracle::{Edge, direct_path_possible, punch_possible};
use crate::packet::Flight;
use crate::sockets::Sockets;
use crate::trace::{Counts, Observer, Trace, TraceHash};
use drain::Outgoing;

/// Events of machines that wait to be polled. Beyond it the oldest is dropped and counted.
pub const EVENTS_MAX: usize = 1 << 20;

/// Things that may happen at one moment. Beyond it the world panics: time stands still, because
/// machines answer each other over lines without delay, for ever.
pub const MOMENT_MAX: u64 = 1 << 21;

/// Something that a machine told its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening<E> {
    /// When.
    pub at: Instant,
    /// Whose machine.
    pub host: HostId,
    /// What.
    pub event: E,
}

/// A whole network in one value. See the [crate] for the picture.
pub struct World<M: Machine<Path = FourTuple>> {
    seed: u64,
    rng: Rng,
    now: Instant,
    agenda: Agenda,
    flight: Flight,
    hosts: Vec<Host<M>>,
    net: Net,
    faults: Vec<Fault>,
    trace: Trace,
    happenings: VecDeque<Happening<M::Event>>,
    /// Where a drained machine's packets wait until it is quiet; kept for its capacity.
    outbox: Vec<Outgoing>,
    /// How much has happened at this very moment.
    crowd: u64,
}

impl<M: Machine<Path = FourTuple>> World<M> {
    /// An empty world at [`Instant::ZERO`]. The seed decides everything that is left to chance.
    pub fn new(seed: u64) -> Self {
        let rng = Rng::from_u64(seed);
        Self {
            seed,
            now: Instant::ZERO,
            agenda: Agenda::default(),
            flight: Flight::default(),
            hosts: Vec::new(),
            net: Net::default(),
            faults: Vec::new(),
            trace: Trace::new(seed),
            happenings: VecDeque::new(),
            outbox: Vec::new(),
            crowd: 0,
            rng,
        }
    }

    /// The same world without a trace hash, for measurements.
    #[must_use]
    pub fn without_hash(mut self) -> Self {
        self.trace.without_hash();
        self
    }

    /// Adds a NAT whose outside is the internet. `link` is its line, in each direction.
    pub fn add_nat(&mut self, config: NatConfig, link: LinkConfig) -> NatId {
        self.net.add_gateway(&self.rng, None, config, link)
    }

    /// Adds a NAT whose outside is the inside of another: behind a carrier's NAT, or another router.
    pub fn add_nat_behind(&mut self, front: NatId, config: NatConfig, link: LinkConfig) -> NatId {
        self.net.add_gateway(&self.rng, Some(front), config, link)
    }

    /// Adds a host and drains its machine for the first time. It cannot be restarted:
    /// [`World::add_host_with`] is for those that can.
    pub fn add_host(&mut self, config: HostConfig, machine: M) -> HostId {
        let host = self.place(config);
        self.host_mut(host).machine = Some(machine);
        self.drain(host);
        host
    }

    /// Adds a host whose machines come from `factory`: the first one right away, and one more
    /// whenever it starts again ([`Fault::Start`], [`Fault::Restart`]).
    pub fn add_host_with(&mut self, config: HostConfig, factory: impl FnMut(Seat) -> M + 'static) -> HostId {
        let host = self.place(config);
        self.host_mut(host).factory = Some(Box::new(factory));
        self.start(host);
        host
    }

    /// Dice for the `nth` thing called `label` that the caller adds to the world: a machine, a
    /// schedule. They depend on the seed, the label and the number, and on nothing else.
    pub fn rng(&self, label: &str, nth: u64) -> Rng {
        self.rng.fork("caller").fork_nth(label, nth)
    }

    /// Lets `reaction` have the events of `host` as they are polled, with the machine at hand for
    /// commands. An event that it returns is kept for [`World::poll_event`].
    pub fn react(
        &mut self,
        host: HostId,
        reaction: impl FnMut(&mut M, Instant, M::Event) -> Option<M::Event> + 'static,
    ) {
        self.host_mut(host).reaction = Some(Box::new(reaction));
    }

    /// Lets `observer` watch every step of every packet from here on.
    pub fn observe(&mut self, observer: impl Observer + 'static) {
        self.trace.observe(Box::new(observer));
    }

    /// Gives a command to the machine of `host`, and then drains it.
    ///
    /// # Panics
    ///
    /// If the host is stopped: ask [`World::is_up`].
    pub fn touch<T>(&mut self, host: HostId, command: impl FnOnce(&mut M, Instant) -> T) -> T {
        let now = self.now;
        let Some(machine) = &mut self.hosts[host.index()].machine else {
            panic!("{} is stopped and takes no commands", self.describe(host));
        };
        let result = command(machine, now);
        self.drain(host);
        result
    }

    /// The machine of `host`, to look at; `None` while it is stopped.
    pub fn machine(&self, host: HostId) -> Option<&M> {
        self.hosts[host.index()].machine.as_ref()
    }

    /// Whether `host` is running.
    pub fn is_up(&self, host: HostId) -> bool {
        self.machine(host).is_some()
    }

    /// The name of `host`.
    pub fn name(&self, host: HostId) -> &str {
        &self.hosts[host.index()].name
    }

    /// Every host, in the order of addition.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<M> {
        (0..self.hosts.len() as u32).map(HostId)
    }

    /// A NAT, to look at.
    pub fn nat(&self, nat: NatId) -> &Nat {
        &self.net.gateways[nat.index()].nat
    }

    /// The next event, of any host, in the order in which they happened.
    pub fn poll_event(&mut self) -> Option<Happening<M::Event>> {
        self.happenings.pop_front()
    }

    /// The next event of `host`. Those of others stay, and are looked through the next time: in
    /// a large world, [`World::poll_event`] is the quicker way.
    pub fn poll_event_of(&mut self, host: HostId) -> Option<(Instant, M::Event)> {
        let nth = self.happenings.iter().position(|happening| happening.host == host)?;
        self.happenings.remove(nth).map(|happening| (happening.at, happening.event))
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The seed this world grew from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What became of the packets.
    pub fn counts(&self) -> &Counts {
        &self.trace.counts
    }

    /// The hash of everything that happened so far; all zeros in a world
    /// [without](World::without_hash) one.
    pub fn trace_hash(&self) -> TraceHash {
        self.trace.hash().unwrap_or(TraceHash([0; 32]))
    }

    /// Packets on their way.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Whether `a` and `b` can find a direct path, by reasoning about the NATs between them alone
    /// ([`crate::direct_path_possible`]).
    pub fn direct_path_possible(&self, a: HostId, b: HostId) -> bool {
        self.path_possible(a, b, |a, b| {
            direct_path_possible(Edge::of(a.iter().copied()), Edge::of(b.iter().copied()))
        })
    }

    /// Whether they can if ports are guessed as well ([`crate::punch_possible`]).
    pub fn punch_possible(&self, a: HostId, b: HostId) -> bool {
        self.path_possible(a, b, punch_possible)
    }

    fn path_possible(&self, a: HostId, b: HostId, judge: fn(&[&NatConfig], &[&NatConfig]) -> bool) -> bool {
        let (a, b) = (&self.hosts[a.index()], &self.hosts[b.index()]);
        [false, true].into_iter().enumerate().any(|(family, is_ipv6)| {
            let speaks =
                |host: &Host<M>| host.sockets.given().iter().any(|socket| socket.is_ipv6() == is_ipv6);
            speaks(a) && speaks(b) && self.net.path_possible(a.realms[family], b.realms[family], judge)
        })
    }

    /// Lets the next thing happen and says when that was; `None` if nothing is left to happen:
    /// no packet is under way, no machine waits for a timer, no fault is scheduled.
    pub fn step(&mut self) -> Option<Instant> {
        let next = self.next_at()?;
        self.advance(next);
        let (_, due) = self.agenda.pop()?;
        self.crowd += 1;
        assert!(
            self.crowd <= MOMENT_MAX,
            "time stands still at {} (seed {}): {MOMENT_MAX} things happened at one moment",
            self.now,
            self.seed
        );
        match due {
            Due::Arrival(slot) => self.arrive(slot),
            Due::Wake(host) => self.wake(HostId(host)),
            Due::Timeout(host) => self.hasten(HostId(host)),
            Due::Fault(nth) => {
                let fault = self.faults[nth as usize].clone();
                self.inject(&fault);
            }
        }
        Some(self.now)
    }

    /// Lets everything happen that is due until `end`, included; then it is `end`.
    pub fn run_until(&mut self, end: Instant) {
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.advance(end.max(self.now));
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Lets things happen until `done` says so, asking it before each; whether it did so before
    /// `limit` passed or nothing was left to happen. `done` may poll events and give commands.
    pub fn run_to(&mut self, limit: Instant, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if self.next_at().is_none_or(|at| at > limit) {
                return false;
            }
            self.step();
        }
    }

    /// Lets things happen until nothing is left to; whether that was before `limit` passed.
    pub fn run_to_quiet(&mut self, limit: Instant) -> bool {
        self.run_to(limit, |world| world.next_at().is_none())
    }

    /// When the next thing happens.
    pub fn next_at(&mut self) -> Option<Instant> {
        loop {
            let (at, due) = self.agenda.next()?;
            let is_stale = match due {
                Due::Wake(host) => self.hosts[host as usize].alarm.planned != Some(at),
                Due::Timeout(host) => self.hosts[host as usize].connections.planned != Some(at),
                Due::Arrival(_) | Due::Fault(_) => false,
            };
            if !is_stale {
                return Some(at);
            }
            self.agenda.pop();
        }
    }

    fn place(&mut self, config: HostConfig) -> HostId {
        let id = u32::try_from(self.hosts.len()).expect("fewer than 2^32 hosts");
        let HostConfig { name, sockets, listens, behind, uplink, downlink, segments_max, opened_max } =
            config;
        assert!(!sockets.is_empty(), "host `{name}` needs a socket");
        let rng = self.rng.fork_nth("host", u64::from(id));
        self.hosts.push(Host {
            machine: None,
            factory: None,
            reaction: None,
            incarnation: 0,
            realms: self.net.attach(id, &sockets, behind),
            connections: Connections::new(rng.fork("connections"), listens),
            sockets: Sockets::new(rng.fork("sockets"), sockets, opened_max),
            uplink: Link::new(rng.fork("uplink"), uplink),
            downlink: Link::new(rng.fork("downlink"), downlink),
            alarm: Alarm::default(),
            segments_max,
            name,
        });
        HostId(id)
    }

    fn advance(&mut self, to: Instant) {
        assert!(to >= self.now, "time does not go backwards");
        if to > self.now {
            (self.now, self.crowd) = (to, 0);
        }
    }

    fn host_mut(&mut self, host: HostId) -> &mut Host<M> {
        &mut self.hosts[host.index()]
    }

    /// What a panic says about where and when, so that it can be replayed.
    fn describe(&self, host: HostId) -> String {
        format!("host `{}` at {} (seed {})", self.name(host), self.now, self.seed)
    }
}

impl<M: Machine<Path = FourTuple>> fmt::Debug for World<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("hosts", &self.hosts)
            .field("in_flight", &self.flight.len())
            .field("counts", &self.trace.counts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
