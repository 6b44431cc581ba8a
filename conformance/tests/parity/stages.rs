//! The drivers, each as a place where nodes run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Instant, Rng};
use gimlet_mio::Driver;
use gimlet_node::{Config, Event, Identity, Node};
use gimlet_sim::{HostConfig, HostId, LinkConfig, World, seeded_provider};
use gimlet_tokio::Handle;
use gimlet_udp::{Clock, Sockets};

use crate::scenario::{Scenario, Stage};

/// How much time one turn takes.
const TURN: Duration = Duration::from_millis(1);

/// The same node on every driver: identity and seed come from its place in the cast.
fn node(nth: usize, public: bool, addresses: Vec<SocketAddr>, clock: Clock, now: Instant) -> Node {
    let rng = Rng::from_u64(1).fork_nth("node", nth as u64);
    let identity = Identity::from_secret([nth as u8 + 1; 32]);
    let provider = seeded_provider(rng.fork("tls"));
    let (origin, epoch) = (clock.origin(), clock.unix_time_at_origin());
    let mut config = Config::new(identity, rng.fork("node").bytes(), addresses, origin, epoch, provider);
    config.public = public;
    Node::new(now, config).expect("the configuration is complete")
}

/// In the simulator: three public addresses, 5 ms from each other.
pub(crate) struct Simulated {
    world: World<Node>,
    hosts: BTreeMap<String, (HostId, SocketAddr)>,
}

impl Simulated {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut world = World::new(1);
        let mut hosts = BTreeMap::new();
        for (nth, (name, public)) in scenario.cast().into_iter().enumerate() {
            let address = SocketAddr::from(([198, 51, 100, nth as u8 + 1], 4_000));
            let line = LinkConfig::with_latency(Duration::from_micros(2_500));
            let config = HostConfig::new(&name, [address]).link(line);
            let clock = Clock::start();
            let host =
                world.add_host_with(config, move |seat| node(nth, public, vec![address], clock, seat.now));
            hosts.insert(name, (host, address));
        }
        Self { world, hosts }
    }
}

impl Stage for Simulated {
    fn verb<R>(&mut self, name: &str, verb: impl FnOnce(&mut Node, Instant) -> R) -> R {
        self.world.touch(self.hosts[name].0, verb)
    }
    fn turn(&mut self) {
        self.world.run_for(TURN);
    }
    fn events(&mut self, name: &str) -> Vec<Event> {
        let host = self.hosts[name].0;
        std::iter::from_fn(|| self.world.poll_event_of(host)).map(|(_, event)| event).collect()
    }
    fn elapsed(&self) -> Duration {
        self.world.now().since(Instant::ZERO)
    }
    fn address(&self, name: &str) -> SocketAddr {
        self.hosts[name].1
    }
}

/// One node on real sockets, under a driver.
pub(crate) trait Seat: Sized {
    fn sit(node: Node, sockets: Sockets, clock: Clock) -> Self;
    fn verb<R>(&mut self, verb: impl FnOnce(&mut Node, Instant) -> R) -> R;
    fn turn(&mut self);
    fn poll_event(&mut self) -> Option<Event>;
}

/// Nodes on loopback.
pub(crate) struct Looped<S> {
    seats: BTreeMap<String, (S, SocketAddr)>,
    begun: std::time::Instant,
    // Dropped after the seats, which live in it.
    _runtime: tokio::runtime::Runtime,
}

impl<S: Seat> Looped<S> {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let guard = runtime.enter();
        let mut seats = BTreeMap::new();
        for (nth, (name, public)) in scenario.cast().into_iter().enumerate() {
            let sockets = Sockets::bind([SocketAddr::from(([127, 0, 0, 1], 0))]).expect("a free port");
            let addresses: Vec<SocketAddr> = sockets.local_addresses().collect();
            let (address, clock) = (addresses[0], Clock::start());
            let node = node(nth, public, addresses, clock, clock.now());
            seats.insert(name, (S::sit(node, sockets, clock), address));
        }
        drop(guard);
        Self { seats, begun: std::time::Instant::now(), _runtime: runtime }
    }
}

impl<S: Seat> Stage for Looped<S> {
    fn verb<R>(&mut self, name: &str, verb: impl FnOnce(&mut Node, Instant) -> R) -> R {
        self.seats.get_mut(name).expect("one of the cast").0.verb(verb)
    }
    fn turn(&mut self) {
        self.seats.values_mut().for_each(|(seat, _)| seat.turn());
    }
    fn events(&mut self, name: &str) -> Vec<Event> {
        let seat = &mut self.seats.get_mut(name).expect("one of the cast").0;
        std::iter::from_fn(|| seat.poll_event()).collect()
    }
    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
    fn address(&self, name: &str) -> SocketAddr {
        self.seats[name].1
    }
}

pub(crate) struct OnMio(Driver<Node>);

impl Seat for OnMio {
    fn sit(node: Node, sockets: Sockets, clock: Clock) -> Self {
        Self(Driver::new(node, sockets, clock).expect("a poll loop"))
    }
    fn verb<R>(&mut self, verb: impl FnOnce(&mut Node, Instant) -> R) -> R {
        self.0.with(verb)
    }
    fn turn(&mut self) {
        self.0.turn(Some(TURN)).expect("a turn");
    }
    fn poll_event(&mut self) -> Option<Event> {
        self.0.poll_event()
    }
}

pub(crate) struct OnTokio(Handle<Node>);

impl Seat for OnTokio {
    fn sit(node: Node, sockets: Sockets, clock: Clock) -> Self {
        Self(gimlet_tokio::spawn(node, sockets, clock).expect("a task"))
    }
    fn verb<R>(&mut self, verb: impl FnOnce(&mut Node, Instant) -> R) -> R {
        self.0.with(verb).expect("the driver runs")
    }
    fn turn(&mut self) {
        std::thread::sleep(TURN);
    }
    fn poll_event(&mut self) -> Option<Event> {
        let mut next = std::pin::pin!(self.0.next_event());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Ready(event) => Some(event.expect("the driver runs")),
            std::task::Poll::Pending => None,
        }
    }
}

/// A stage that loses the first thing that `b` is told.
pub(crate) struct Deaf<S> {
    stage: S,
    lost: bool,
}

impl<S> Deaf<S> {
    pub(crate) fn new(stage: S) -> Self {
        Self { stage, lost: false }
    }
}

impl<S: Stage> Stage for Deaf<S> {
    fn verb<R>(&mut self, name: &str, verb: impl FnOnce(&mut Node, Instant) -> R) -> R {
        self.stage.verb(name, verb)
    }
    fn turn(&mut self) {
        self.stage.turn();
    }
    fn events(&mut self, name: &str) -> Vec<Event> {
        let mut events = self.stage.events(name);
        let first = events.iter().position(|event| matches!(event, Event::Connected { .. }));
        if let Some(first) = first.filter(|_| name == "b" && !self.lost) {
            events.remove(first);
            self.lost = true;
        }
        events
    }
    fn elapsed(&self) -> Duration {
        self.stage.elapsed()
    }
    fn address(&self, name: &str) -> SocketAddr {
        self.stage.address(name)
    }
}
