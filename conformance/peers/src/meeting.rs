//! Two agents of one kind, two hosts, one network, virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// After this long two agents have not met.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often an agent may ask to be woken at one moment: more is one that never sleeps.
const WAKES_MAX: u32 = 10_000;

/// What one agent has to tell the other.
#[derive(Clone, Debug)]
pub struct Signal {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
    /// Candidates as RFC 8839 writes them, without `a=`.
    pub candidates: Vec<String>,
}

/// An agent, whoever wrote it. Moments are counted from the beginning of the meeting.
pub trait Endpoint {
    /// An agent with default settings.
    fn new(controlling: bool) -> Self;
    /// It has this socket.
    fn add_socket(&mut self, now: Duration, address: SocketAddr);
    /// What it tells the other side.
    fn signal(&self) -> Signal;
    /// What the other side told arrives.
    fn hear_signal(&mut self, now: Duration, signal: &Signal);
    /// A datagram arrives.
    fn hear(&mut self, now: Duration, local: SocketAddr, remote: SocketAddr, bytes: &mut [u8]);
    /// Its deadline has come.
    fn wake(&mut self, now: Duration);
    /// Its deadline.
    fn deadline(&mut self) -> Option<Duration>;
    /// Writes the next datagram; says from where and to where.
    fn say(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<(SocketAddr, SocketAddr)>;
    /// Whether it has told its owner of a path that data may take.
    fn may_send(&mut self) -> bool;
    /// Whether a path is nominated.
    fn has_selected(&mut self) -> bool;
}

/// What lies between two agents.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// From host to host.
    pub one_way: Duration,
    /// From an agent to the other over signalling. The controlling agent speaks first; the other answers.
    pub signalling: Duration,
    /// Sockets of each host, all of them reachable.
    pub sockets: u8,
    /// Further candidates that each host signals, of a higher priority and leading nowhere.
    pub dead: u8,
}

/// When what happened, for the controlling and for the controlled agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Data may be sent.
    pub may_send: [Option<Duration>; 2],
    /// A path is nominated.
    pub selected: [Option<Duration>; 2],
    /// Datagrams sent by both until then.
    pub datagrams: u64,
}

impl Outcome {
    fn is_complete(&self) -> bool {
        self.may_send.iter().chain(&self.selected).all(Option::is_some)
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Duration,
    number: u64,
    to: usize,
    local: SocketAddr,
    remote: SocketAddr,
    bytes: Vec<u8>,
}

struct World<E> {
    scene: Scene,
    now: Duration,
    ends: [E; 2],
    flying: BinaryHeap<Reverse<Packet>>,
    outcome: Outcome,
}

/// Lets two agents meet; the first is controlling. Ends when both have selected a path, or after half a
/// minute.
pub fn meet<E: Endpoint>(scene: Scene) -> (Outcome, [E; 2]) {
    let mut world = World::<E>::new(scene);
    let [offer, answer] = [0, 1].map(|side| world.told(side));
    world.run(scene.signalling);
    world.ends[1].hear_signal(world.now, &offer);
    world.run(scene.signalling * 2);
    world.ends[0].hear_signal(world.now, &answer);
    world.run(PATIENCE);
    (world.outcome, world.ends)
}

fn socket(side: usize, number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, side as u8, 0, number)), 4_000)
}

/// A host candidate's priority with this local preference (RFC 8445 §5.1.2.1).
const fn priority(local_preference: u32) -> u32 {
    126 << 24 | local_preference << 8 | 255
}

impl<E: Endpoint> World<E> {
    fn new(scene: Scene) -> Self {
        let mut ends = [E::new(true), E::new(false)];
        for (side, end) in ends.iter_mut().enumerate() {
            for number in 0..scene.sockets {
                end.add_socket(Duration::ZERO, socket(side, number));
            }
        }
        Self { scene, now: Duration::ZERO, ends, flying: BinaryHeap::new(), outcome: Outcome::default() }
    }

    /// What `side` tells: dead candidates first, then its own, in the order of their priorities.
    fn told(&self, side: usize) -> Signal {
        let mut signal = self.ends[side].signal();
        let own = signal.candidates.iter().enumerate().map(|(number, line)| {
            let mut fields: Vec<&str> = line.split(' ').collect();
            let lower = priority(1_000 - number as u32).to_string();
            fields[3] = &lower;
            fields.join(" ")
        });
        let dead = (0..self.scene.dead).map(|number| {
            let priority = priority(2_000 - u32::from(number));
            format!("candidate:dead{number} 1 udp {priority} 198.51.100.{number} 4000 typ host")
        });
        signal.candidates = dead.chain(own).collect();
        signal
    }

    fn run(&mut self, until: Duration) {
        let mut wakes = 0;
        loop {
            self.drain();
            if self.outcome.is_complete() {
                return;
            }
            let flying = self.flying.peek().map(|Reverse(packet)| packet.at);
            let deadlines = [0, 1].map(|side| self.ends[side].deadline());
            let next = deadlines.into_iter().flatten().chain(flying).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            wakes = if next > self.now { 0 } else { wakes + 1 };
            assert!(wakes < WAKES_MAX, "an agent never sleeps at {:?}", self.now);
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|Reverse(packet)| packet.at <= self.now) {
                let Some(Reverse(mut packet)) = self.flying.pop() else { break };
                self.ends[packet.to].hear(self.now, packet.local, packet.remote, &mut packet.bytes);
                self.drain();
            }
            for end in &mut self.ends {
                if end.deadline().is_some_and(|at| at <= self.now) {
                    end.wake(self.now);
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn drain(&mut self) {
        let mut bytes = Vec::new();
        for side in 0..2 {
            while let Some((local, remote)) = self.ends[side].say(self.now, &mut bytes) {
                self.outcome.datagrams += 1;
                let to = 1 - side;
                if (0..self.scene.sockets).any(|number| socket(to, number) == remote) {
                    let (at, number) = (self.now + self.scene.one_way, self.outcome.datagrams);
                    let bytes = bytes.clone();
                    self.flying.push(Reverse(Packet { at, number, to, local: remote, remote: local, bytes }));
                }
                bytes.clear();
            }
            let Outcome { may_send, selected, .. } = &mut self.outcome;
            if self.ends[side].may_send() {
                may_send[side].get_or_insert(self.now);
            }
            if self.ends[side].has_selected() {
                selected[side].get_or_insert(self.now);
            }
        }
    }
}
