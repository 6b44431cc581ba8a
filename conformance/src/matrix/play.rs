//! Plays one world.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gimlet_machine::{Direction, Instant, PeerId, Session};
use gimlet_node::{Error, Event, Node, Stream};
use gimlet_sim::{Happening, HostId, Observer, TraceHash};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::expect::Expected;
use super::hard::Hard;
use super::plan::{Plan, RelayKind, Scene, is_server, touch};
use crate::inhabitant::Inhabitant;

/// The size of the file.
pub const FILE_BYTES: usize = 100_000;
/// For both peers to reach the public node.
const JOINS: Duration = Duration::from_secs(60);
/// For the two to be connected, or to be told that they cannot be.
const MEETS: Duration = Duration::from_secs(120);
/// For a file to arrive.
const ARRIVES: Duration = Duration::from_secs(120);
/// For a connection that began at a relay to end up on a direct path.
const SETTLES: Duration = Duration::from_secs(60);
/// For both to have closed.
const CLOSES: Duration = Duration::from_secs(60);

/// What came of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Never connected to the public node.
    NotJoined,
    /// Told that there is no way.
    Failed(String),
    /// Connected, at least one of them sending through the relay.
    Relayed,
    /// Connected, both sending straight to each other.
    Direct,
}

/// A world that was played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// Which.
    pub seed: u64,
    /// Its cell.
    pub cell: String,
    /// The relay, if there was one.
    pub relay: RelayKind,
    /// The least that had to come of it.
    pub expected: Expected,
    /// If only guessing can make it direct: what there is to guess.
    pub hard: Option<Hard>,
    /// Loss from peer to peer, in percent.
    pub loss: u32,
    /// Whether it would have to be direct if no NAT minded who sends first.
    pub clashes: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// From the wish to the connection.
    pub connected_in: Option<Duration>,
    /// What is wrong, if anything is.
    pub defect: Option<String>,
    /// Equal whenever the seed is played.
    pub trace: TraceHash,
}

/// Plays the world of `seed`. A panic is a defect as well.
pub fn play(seed: u64) -> Played {
    play_before(&Plan::draw(seed), &mut |_| {}, None)
}

/// Plays `plan` before an audience: `tell` gets what it is made of and every event, `observer` sees every packet.
pub fn play_before(plan: &Plan, tell: &mut dyn FnMut(&str), observer: Option<Box<dyn Observer>>) -> Played {
    tell(&plan.to_string());
    catch_unwind(AssertUnwindSafe(|| Play::new(plan, tell, observer).run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Played {
            seed: plan.seed,
            cell: plan.cell(),
            relay: plan.relay,
            expected: Expected::Failed,
            hard: None,
            loss: plan.loss,
            clashes: false,
            outcome: Outcome::NotJoined,
            connected_in: None,
            defect: Some(format!("panic: {text}")),
            trace: TraceHash([0; 32]),
        }
    })
}

struct Play<'t> {
    scene: Scene,
    names: [PeerId; 2],
    public: PeerId,
    joined: [bool; 2],
    met: [bool; 2],
    /// Whether a guess may make it direct.
    may_move: bool,
    /// Why there is no connection.
    failed: Option<String>,
    /// Connections between the peers that broke.
    lost: Vec<String>,
    /// The stream at the receiving end, and what came through it.
    incoming: Option<Stream>,
    received: Vec<Vec<u8>>,
    tell: &'t mut dyn FnMut(&str),
}

impl<'t> Play<'t> {
    fn new(plan: &Plan, tell: &'t mut dyn FnMut(&str), observer: Option<Box<dyn Observer>>) -> Self {
        let scene = plan.open(observer);
        let name = |host| node(&scene, host).peer_id();
        let (names, public) = (scene.peers.map(name), name(scene.public));
        Self {
            scene,
            names,
            public,
            joined: [false; 2],
            met: [false; 2],
            may_move: false,
            failed: None,
            lost: Vec::new(),
            incoming: None,
            received: Vec::new(),
            tell,
        }
    }

    fn run(mut self, plan: &Plan) -> Played {
        let [a, b] = self.scene.peers;
        let expected = Expected::of(plan, &self.scene.world, a, b);
        let world = &self.scene.world;
        let hard = Hard::of(plan, world, a, b);
        let clashes = plan.clashes() && world.direct_path_possible(a, b);
        let mut connected_in = None;
        self.may_move = hard.is_some_and(|hard| hard != Hard::Both);
        let (outcome, mut defect) = self.act(plan, expected, &mut connected_in);
        self.tell_pairs();
        let reached = match &outcome {
            Outcome::NotJoined | Outcome::Failed(_) => Expected::Failed,
            Outcome::Relayed => Expected::Relayed,
            Outcome::Direct => Expected::Direct,
        };
        if defect.is_none() && reached < expected {
            defect = Some(format!("{outcome:?} where {expected:?} was possible"));
        }
        let defect = defect.or_else(|| self.close().err());
        Played {
            seed: plan.seed,
            cell: plan.cell(),
            relay: plan.relay,
            expected,
            hard,
            loss: plan.loss,
            clashes,
            outcome,
            connected_in,
            defect,
            trace: self.scene.world.trace_hash(),
        }
    }

    fn act(
        &mut self,
        plan: &Plan,
        expected: Expected,
        connected_in: &mut Option<Duration>,
    ) -> (Outcome, Option<String>) {
        if !self.wait(JOINS, |it| it.joined == [true; 2]) {
            return (Outcome::NotJoined, None);
        }
        let ([a, _], [_, peer_b], began) = (self.scene.peers, self.names, self.scene.world.now());
        if let Err(error) = touch(&mut self.scene.world, a, |node, now| node.connect(now, peer_b)) {
            return (Outcome::Failed(error.to_string()), Some(format!("connect: {error}")));
        }
        let settled = self.wait(MEETS, |it| it.met == [true; 2] || it.failed.is_some());
        if let Some(why) = self.failed.take() {
            return (Outcome::Failed(why), None);
        }
        if !settled {
            let outcome = Outcome::Failed("no answer".into());
            return (outcome, Some("neither connected nor told why not".into()));
        }
        *connected_in = Some(self.scene.world.now().since(began));
        let defect = self.send_files(plan, expected).err();
        let outcome = if self.is_direct() { Outcome::Direct } else { Outcome::Relayed };
        (outcome, defect)
    }

    fn send_files(&mut self, plan: &Plan, expected: Expected) -> Result<(), String> {
        self.send_file(plan.seed)?;
        self.settle(expected, "it never moved to the direct path")?;
        if let Some(silence) = plan.silence {
            let end = self.scene.world.now() + silence;
            self.wait(silence, |_| false);
            self.scene.world.run_until(end);
            self.send_file(plan.seed ^ 1)?;
            self.settle(expected, "it did not return to the direct path")?;
        }
        match self.lost.first() {
            Some(lost) => Err(format!("the connection was lost: {lost}")),
            None => Ok(()),
        }
    }

    fn settle(&mut self, expected: Expected, otherwise: &str) -> Result<(), String> {
        let due = expected == Expected::Direct;
        let settled = !(due || self.may_move) || self.wait(SETTLES, Self::is_direct);
        if settled || !due { Ok(()) } else { Err(otherwise.into()) }
    }

    /// One file, on a stream of its own.
    fn send_file(&mut self, seed: u64) -> Result<(), String> {
        let ([a, _], [_, peer_b]) = (self.scene.peers, self.names);
        let mut file = vec![0; FILE_BYTES];
        gimlet_machine::Rng::from_u64(seed).fork("file").fill(&mut file);
        (self.incoming, self.received) = (None, Vec::new());
        let sent = touch(&mut self.scene.world, a, |node, now| {
            let Some(stream) = node.open(now, peer_b, Direction::Unidirectional)? else { return Ok(false) };
            let is_taken = node.send(now, stream, &file)?;
            node.finish(now, stream)?;
            Ok::<_, Error>(is_taken)
        });
        match sent {
            Ok(true) => {}
            Ok(false) => return Err("a fresh connection takes no file".into()),
            Err(error) => return Err(format!("sending: {error}")),
        }
        if !self.wait(ARRIVES, |it| !it.received.is_empty()) {
            return Err("the file did not arrive".into());
        }
        let is_same = Sha256::digest(&self.received[0]) == Sha256::digest(&file);
        if is_same { Ok(()) } else { Err("the file was altered".into()) }
    }

    /// What ICE made of each pair of addresses.
    fn tell_pairs(&mut self) {
        for (nth, host) in self.scene.peers.into_iter().enumerate() {
            for pair in node(&self.scene, host).pairs(self.names[1 - nth]) {
                (self.tell)(&format!("{} {pair:?}", self.scene.world.name(host)));
            }
        }
    }

    fn close(&mut self) -> Result<(), String> {
        for host in self.scene.peers {
            touch(&mut self.scene.world, host, Session::close_all);
        }
        let peers = self.scene.peers;
        let closed = self.wait(CLOSES, |it| peers.iter().all(|host| node(&it.scene, *host).is_closed()));
        if closed { Ok(()) } else { Err("the peers did not close".into()) }
    }

    /// Lets things happen until `done`, and says whether that was in time.
    fn wait(&mut self, within: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let limit = self.scene.world.now() + within;
        loop {
            if self.hear() && done(self) {
                return true;
            }
            if self.scene.world.next_at().is_none_or(|at| at > limit) {
                return done(self);
            }
            self.scene.world.step();
        }
    }

    /// Takes note of what the nodes say. Says whether anything was said.
    fn hear(&mut self) -> bool {
        let mut any = false;
        while let Some(Happening { at, host, event }) = self.scene.world.poll_event() {
            any = true;
            let mut line = String::new();
            let _ = write!(line, "{at} {:8} {event:?}", self.scene.world.name(host));
            (self.tell)(&line);
            if let Some(nth) = self.scene.peers.iter().position(|peer| *peer == host) {
                self.on_event(at, nth, event);
            }
        }
        any
    }

    fn on_event(&mut self, at: Instant, nth: usize, event: Event) {
        let other = self.names[1 - nth];
        match event {
            Event::Connected { peer, .. } if peer == self.public => self.joined[nth] = true,
            Event::Connected { peer, .. } if peer == other => {
                self.met[nth] = true;
                self.accept(nth);
            }
            Event::Failed { peer, cause } if peer == other && nth == 0 => {
                self.failed = Some(cause.to_string());
            }
            Event::Lost { peer, cause, .. } if peer == other => {
                self.met[nth] = false;
                self.lost.push(format!("{at}: {cause}"));
            }
            Event::StreamsReady { peer } if peer == other => self.accept(nth),
            Event::Readable { stream } if self.incoming == Some(stream) => self.read(nth, stream),
            Event::Connected { .. }
            | Event::Failed { .. }
            | Event::Lost { .. }
            | Event::StreamsReady { .. }
            | Event::Readable { .. }
            | Event::Incoming { .. }
            | Event::PathChanged { .. }
            | Event::Writable { .. }
            | Event::DatagramReceived { .. }
            | Event::Progress { .. } => {}
        }
    }

    fn accept(&mut self, nth: usize) {
        let (host, other) = (self.scene.peers[nth], self.names[1 - nth]);
        if nth == 0 {
            return;
        }
        while let Ok(Some(stream)) =
            touch(&mut self.scene.world, host, |node, now| node.accept_stream(now, other))
        {
            self.incoming = Some(stream);
            self.read(nth, stream);
        }
    }

    fn read(&mut self, nth: usize, stream: Stream) {
        let host = self.scene.peers[nth];
        while let Ok(Some(message)) =
            touch(&mut self.scene.world, host, |node, now| node.receive(now, stream))
        {
            self.received.push(message.to_vec());
        }
    }

    /// Whether both send straight to each other, and not to an address at the relay.
    fn is_direct(&self) -> bool {
        [0, 1].into_iter().all(|nth| {
            let path = node(&self.scene, self.scene.peers[nth]).path(self.names[1 - nth]);
            path.is_some_and(|path| path.is_direct() && !is_server(path.on_wire().remote))
        })
    }
}

fn node(scene: &Scene, host: HostId) -> &Node {
    scene.world.machine(host).and_then(Inhabitant::node).expect("nobody stops nodes here")
}

impl Outcome {
    /// A word for the table.
    pub const fn word(&self) -> &'static str {
        match self {
            Outcome::NotJoined => "not joined",
            Outcome::Failed(_) => "failed",
            Outcome::Relayed => "relayed",
            Outcome::Direct => "direct",
        }
    }
}

impl Played {
    /// One line for programs.
    pub fn to_json(&self) -> String {
        let why = match &self.outcome {
            Outcome::Failed(why) => Some(why),
            Outcome::NotJoined | Outcome::Relayed | Outcome::Direct => None,
        };
        json!({
            "seed": self.seed,
            "cell": self.cell,
            "relay": match self.relay {
                RelayKind::None => "none",
                RelayKind::Turn => "turn",
                RelayKind::Public => "public",
            },
            "expected": self.expected.word(),
            "hard": self.hard.map(|hard| hard.to_string()),
            "outcome": self.outcome.word(),
            "why": why,
            "connect_ms": self.connected_in.map(|time| time.as_secs_f64() * 1_000.0),
            "defect": self.defect,
            "trace": self.trace.to_string(),
        })
        .to_string()
    }
}
