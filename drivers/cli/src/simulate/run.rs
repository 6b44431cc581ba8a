//! Plays one simulation.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gimlet_machine::{Instant, Path, Session};
use gimlet_node::{Event, Node};
use gimlet_sim::{HostId, TraceHash, World};

use super::plan::{NAMES, Network, Plan};
use super::talker::{Errand, Talker};
use super::trace::{Teller, elapsed};
use crate::failure::Failure;
use crate::line::Line;
use crate::report::Report;

/// Virtual time after which a simulation is given up. Attempts to connect end after 30 s, closing
/// after 10 s, and lost packets are repeated meanwhile.
const LIMIT: Duration = Duration::from_secs(120);

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The path between the peers when everything was said; `None` without a connection.
    pub(crate) path: Option<Path>,
    /// From Alice's wish to her connection.
    pub(crate) connected_in: Option<Duration>,
    /// Why it is not all well, if so.
    pub(crate) trouble: Option<String>,
    /// When both peers had closed.
    pub(crate) ended_at: Instant,
    /// Packets that all hosts sent.
    pub(crate) packets: u64,
    pub(crate) trace: TraceHash,
    /// Whether NATs of these kinds allow a direct path.
    pub(crate) is_possible: bool,
}

impl Outcome {
    /// Connected directly, everything delivered, closed in order.
    pub(crate) fn is_ok(&self) -> bool {
        self.trouble.is_none() && self.path.is_some_and(|path| path.is_direct())
    }
}

/// What Alice's connection has come to.
#[derive(Debug, Default)]
struct Progress {
    connected_at: Option<Instant>,
    trouble: Option<String>,
}

type Cell<T> = Rc<RefCell<T>>;

/// Plays `plan`; tells `report`, if there is one.
pub(crate) fn play(plan: &Plan, report: Option<&Report>) -> Result<Outcome, Failure> {
    let mut network = plan.network()?;
    if let Some(report) = report {
        for (id, name) in network.ids.into_iter().zip(NAMES) {
            report.name(id, name);
        }
        network.world.observe(Teller { report: report.clone() });
    }
    let is_possible = network.world.direct_path_possible(network.alice, network.bob);
    let limit = Instant::ZERO + LIMIT;
    let progress = Cell::<Progress>::default();
    let path = act(&mut network, plan, limit, &progress, report);
    close(&mut network, limit, &progress, report);
    let Network { world, .. } = &network;
    let Progress { connected_at, trouble } = progress.take();
    Ok(Outcome {
        path: path.map(|(path, _)| path),
        connected_in: connected_at.zip(path).map(|(at, (_, began))| at.since(began)),
        trouble,
        ended_at: world.now(),
        packets: world.counts().sent,
        trace: world.trace_hash(),
        is_possible,
    })
}

/// Everything up to the last byte; the path it took, and when Alice began to look for it.
fn act(
    network: &mut Network,
    plan: &Plan,
    limit: Instant,
    progress: &Cell<Progress>,
    report: Option<&Report>,
) -> Option<(Path, Instant)> {
    let (alice, bob) = (network.alice, network.bob);
    let [public, alice_id, bob_id] = network.ids;
    let joined = network.world.run_to(limit, |world| {
        tell(world, report);
        [alice, bob].iter().all(|host| {
            world.machine(*host).is_some_and(|node| matches!(node.is_connected(public), Ok(true)))
        })
    });
    if !joined {
        progress.borrow_mut().trouble = Some("the public node was not reached".into());
        return None;
    }
    let errands = [Errand::Message("hello, bob".into()), Errand::File(plan.bytes)];
    let talkers = [
        Rc::new(RefCell::new(Talker::new(bob_id, errands, 1))),
        Rc::new(RefCell::new(Talker::new(alice_id, [Errand::Message("hello, alice".into())], 2))),
    ];
    for (host, talker) in [alice, bob].into_iter().zip(&talkers) {
        let (talker, progress, is_alice) = (talker.clone(), progress.clone(), host == alice);
        network.world.react(host, move |node, now, event| {
            if is_alice {
                progress.borrow_mut().note(now, bob_id, &event);
            }
            talker.borrow_mut().advance(node, now);
            Some(event)
        });
    }
    let began = network.world.now();
    if let Err(error) = network.world.touch(alice, |node, now| node.connect(now, bob_id)) {
        progress.borrow_mut().trouble = Some(error.to_string());
    }
    let finished = network.world.run_to(limit, |world| {
        tell(world, report);
        for (host, talker) in [alice, bob].into_iter().zip(&talkers) {
            let mut talker = talker.borrow_mut();
            while let Some(line) = talker.said.pop_front() {
                say(world, host, &line, report);
            }
            if let Some(trouble) = talker.trouble.take() {
                progress.borrow_mut().trouble = Some(trouble);
            }
        }
        progress.borrow().trouble.is_some() || talkers.iter().all(|talker| talker.borrow().is_done())
    });
    if !finished {
        let mut progress = progress.borrow_mut();
        let connected = progress.connected_at.is_some();
        let trouble =
            if connected { "not everything was delivered in time" } else { "not connected in time" };
        progress.trouble.get_or_insert_with(|| trouble.into());
    }
    let path = network.world.machine(alice).and_then(|node| node.path(bob_id));
    path.map(|path| (path, began))
}

impl Progress {
    fn note(&mut self, now: Instant, peer: gimlet_machine::PeerId, event: &Event) {
        match event {
            Event::Connected { peer: who, .. } if *who == peer => self.connected_at = Some(now),
            Event::Failed { peer: who, cause } if *who == peer => self.trouble = Some(cause.to_string()),
            Event::Lost { peer: who, cause, .. } if *who == peer => self.trouble = Some(cause.to_string()),
            Event::Connected { .. }
            | Event::Failed { .. }
            | Event::Lost { .. }
            | Event::Incoming { .. }
            | Event::PathChanged { .. }
            | Event::StreamsReady { .. }
            | Event::Readable { .. }
            | Event::Writable { .. }
            | Event::DatagramReceived { .. }
            | Event::Progress { .. } => {}
        }
    }
}

/// Both peers close, Alice first; what they accepted is delivered before.
fn close(network: &mut Network, limit: Instant, progress: &Cell<Progress>, report: Option<&Report>) {
    let trouble = progress.borrow().trouble.clone();
    for host in [network.alice, network.bob] {
        network.world.touch(host, Session::close_all);
    }
    let peers = [network.alice, network.bob];
    let closed = network.world.run_to(limit + LIMIT, |world| {
        tell(world, report);
        peers.iter().all(|host| world.machine(*host).is_some_and(Session::is_closed))
    });
    // From here on a lost connection is what was asked for.
    progress.borrow_mut().trouble = trouble.or_else(|| (!closed).then(|| "the peers did not close".into()));
}

/// Tells the events that have happened since the last call.
fn tell(world: &mut World<Node>, report: Option<&Report>) {
    while let Some(happening) = world.poll_event() {
        let Some(report) = report else { continue };
        if let Some(line) = Line::of(&happening.event, false) {
            report.say_at(elapsed(happening.at), NAMES.get(happening.host.index()).copied(), &line);
        }
    }
}

fn say(world: &World<Node>, host: HostId, line: &Line, report: Option<&Report>) {
    if let Some(report) = report {
        report.say_at(elapsed(world.now()), NAMES.get(host.index()).copied(), line);
    }
}
