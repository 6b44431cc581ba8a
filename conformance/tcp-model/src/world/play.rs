//! The loop.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use gimlet_machine::{Instant, Rng};

use super::host::{Host, Listener, tuple_of};
use super::ledger::{Given, Ledger};
use super::link::{Dice, Frame, Origin};
use super::plan::{Plan, Service, Topology};
use super::stranger;
use crate::endpoint::{Endpoint, Failure, Ghost, Known};
use crate::invariant::{Breach, Invariant};
use crate::middle::{Middle, News, Side, Tuple, Wire};
use crate::segment::{Segment, flag, read_too_big};
use crate::stack::{Stack, content};

/// How long a world is watched. Whatever can happen has happened by then.
const END: Instant = Instant::from_millis(900_000);
/// When a box that nobody has used for so long has to have given everything back.
const IDLE: Duration = Duration::from_secs(7_600);
/// Frames in one world, against endpoints that never stop.
const FRAMES_MAX: u64 = 60_000;
/// A frame without data is shorter, in bytes.
const SHORT: usize = 115;
/// Losses in a row that every end of a connection sits out, and every box.
const LOSSES_MAX: usize = 4;
/// How often a box may be polled at one moment.
const ROUNDS_MAX: u32 = 10_000;

/// Hears what happens, line by line.
pub type Tell<'a> = dyn FnMut(&str) + 'a;

/// What came of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Both ends have everything.
    Complete,
    /// It failed at the client, or never came about.
    Failed(Option<Failure>),
}

/// What came of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// Its seed.
    pub seed: u64,
    /// What stood in between.
    pub topology: Topology,
    /// For each connection, what came of it and whether a box answered for the server.
    pub flows: Vec<(Outcome, bool)>,
    /// Frames that were sent.
    pub frames: u64,
    /// Frames that were translated, as far as the ledger could follow.
    pub breaches: Vec<Breach>,
    /// A digest of everything that was sent, and when.
    pub trace: u64,
}

/// Two hosts, what is between them, and the books.
pub struct World<'a> {
    plan: &'a Plan,
    now: Instant,
    boxes: Vec<Box<dyn Middle>>,
    hosts: [Host; 2],
    ledger: Ledger,
    flying: BTreeMap<(Instant, u64), (usize, Side, Frame)>,
    /// For links, for the server's numbers, and for strangers.
    dice: [Rng; 3],
    /// What becomes of frames, if that is not left to chance.
    script: Option<VecDeque<u8>>,
    waivers: Waivers,
    frames: u64,
    trace: u64,
    tell: Option<&'a mut Tell<'a>>,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("frames", &self.frames).finish_non_exhaustive()
    }
}

/// Why not everything can be asked for in a world.
#[derive(Clone, Copy, Debug, Default)]
struct Waivers {
    /// So much is lost that anybody may give up.
    gives_up: bool,
    /// A box is not what it was: it passes what its predecessor would have changed.
    forgets: bool,
}

/// What may happen next besides frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Frame,
    Flow(usize),
    Stranger,
    Restart,
    Box(usize),
    Host(usize),
}

impl<'a> World<'a> {
    /// A world with these boxes, the client's first; the last of them translates.
    pub fn new(plan: &'a Plan, boxes: Vec<Box<dyn Middle>>, tell: Option<&'a mut Tell<'a>>) -> Self {
        let rng = Rng::from_u64(plan.seed).fork("world");
        let translates = (1..=boxes.len()).map(|nth| nth == boxes.len()).collect();
        Self {
            plan,
            now: Instant::ZERO,
            hosts: [Host::default(), Host::default()],
            ledger: Ledger::new(translates),
            boxes,
            flying: BTreeMap::new(),
            dice: [rng.fork("links"), rng.fork("numbers"), rng.fork("strangers")],
            script: None,
            waivers: Waivers::default(),
            frames: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            tell,
        }
    }

    /// Leaves nothing to chance that happens to a frame on a link: each takes the next byte of `script`. In its upper three
    /// bits 4 loses the frame, 5 doubles it, 6 delays it and 7 damages it; the lower five say how.
    #[must_use]
    pub fn scripted(mut self, script: &[u8]) -> Self {
        let is_lost = |byte: &&u8| matches!(**byte >> 5, 4 | 7);
        self.waivers.gives_up = script.iter().filter(is_lost).count() > LOSSES_MAX;
        self.script = Some(script.iter().copied().collect());
        self
    }

    /// Lives to the end.
    pub fn play(mut self) -> Played {
        let mut flows: Vec<(Instant, usize)> =
            self.plan.flows.iter().enumerate().map(|(nth, flow)| (flow.at, nth)).collect();
        flows.sort_unstable_by(|one, other| other.cmp(one));
        let mut strangers = self.plan.strangers;
        let mut restart = self.plan.restart;
        loop {
            let stranger = Instant::from_millis(u64::from(self.plan.strangers - strangers) * 130);
            let nexts = [
                self.flying.first_key_value().map(|((at, _), _)| (*at, Due::Frame)),
                flows.last().map(|(at, nth)| (*at, Due::Flow(*nth))),
                (strangers > 0).then_some((stranger, Due::Stranger)),
                restart.map(|restart| (restart.at, Due::Restart)),
            ];
            let boxes =
                self.boxes.iter().enumerate().filter_map(|(nth, it)| Some((it.due()?, Due::Box(nth))));
            let hosts =
                self.hosts.iter().enumerate().filter_map(|(nth, it)| Some((it.due()?, Due::Host(nth))));
            let next = nexts.into_iter().flatten().chain(boxes).chain(hosts).min();
            let Some((at, due)) = next.filter(|(at, _)| *at < END && self.frames < FRAMES_MAX) else { break };
            self.now = self.now.max(at);
            match due {
                Due::Frame => self.arrive(),
                Due::Flow(nth) => {
                    flows.pop();
                    self.open(nth);
                }
                Due::Stranger => {
                    strangers -= 1;
                    self.intrude();
                }
                Due::Restart => self.restart(restart.take()),
                Due::Box(nth) => self.box_timeout(nth),
                Due::Host(nth) => {
                    self.hosts[nth].timeout(self.now);
                    self.settle_hosts();
                }
            }
            self.ledger.overdue(self.now);
        }
        self.close()
    }

    fn open(&mut self, nth: usize) {
        let flow = &self.plan.flows[nth];
        let iss = self.dice[1].u32();
        let end = Endpoint::connect(self.now, flow.tuple, iss, self.plan.client, flow.apps);
        self.hosts[0].ends.push((flow.tuple, end));
        self.settle_hosts();
    }

    fn intrude(&mut self) {
        let (from, wire) = stranger::draw(&mut self.dice[2], self.plan);
        let place = self.dice[2].below(self.plan.links.len() as u64) as usize;
        // It comes in over a link as if it had been sent at its other end.
        let node = if from == Side::Client { place + 1 } else { place };
        let frame = Frame { wire, origin: Origin::Stranger, damaged: false, ghost: None };
        self.frames += 1;
        self.flying.insert((self.now, self.frames), (node, from, frame));
    }

    fn restart(&mut self, restart: Option<super::plan::Restart>) {
        let Some(restart) = restart else { return };
        let fresh = self.boxes[restart.place].restart(self.now, restart.keeps_table);
        self.boxes[restart.place] = fresh;
        // What is near the client has nothing but handshakes to lose.
        let is_last = restart.place + 1 == self.boxes.len();
        self.ledger.replaced(restart.keeps_table || !is_last);
        self.waivers.forgets |= !restart.keeps_table;
        self.say(|| format!("box {} restarts, table kept: {}", restart.place, restart.keeps_table));
        self.settle_box(restart.place, true);
    }

    /// The next frame reaches a node.
    fn arrive(&mut self) {
        let Some((_, (node, from, frame))) = self.flying.pop_first() else { return };
        let server = self.boxes.len() + 1;
        if node == 0 {
            self.hear(&frame);
        } else if node == server {
            self.serve(&frame);
        } else {
            self.cross(node - 1, from, frame);
        }
    }

    fn cross(&mut self, place: usize, from: Side, mut frame: Frame) {
        let middle = &mut self.boxes[place];
        let given = Given::new(from, &frame.wire, frame.is_genuine());
        let passes = middle.input(self.now, from, &mut frame.wire);
        let incoming_is_genuine = frame.is_genuine();
        let seen = (&given, passes.then_some(&frame.wire));
        let trusted = self.ledger.taken(self.now, place, seen, |tuple| middle.knows(tuple));
        if passes {
            if !trusted {
                frame.origin = Origin::Stranger;
            }
            self.send(place + 1, from.other(), frame);
        } else {
            self.say(|| format!("box {place} keeps it"));
        }
        self.settle_box(place, incoming_is_genuine);
    }

    fn box_timeout(&mut self, place: usize) {
        self.boxes[place].timeout(self.now);
        self.settle_box(place, true);
        let due = self.boxes[place].due();
        let now = self.now;
        self.ledger.expect(due.is_none_or(|due| due > now), now, Invariant::I13Quiet, || {
            format!("box {place} is still due after its timeout")
        });
        if due.is_some_and(|due| due <= now) {
            // Whoever does not let time pass is not asked again.
            self.frames = FRAMES_MAX;
        }
    }

    /// Everything that a box has to say, and whether what made it speak was genuine.
    fn settle_box(&mut self, place: usize, because_genuine: bool) {
        for _ in 0..ROUNDS_MAX {
            let mut quiet = true;
            while let Some((tuple, news, words)) = self.boxes[place].news() {
                quiet = false;
                match (tuple, news) {
                    (Some(tuple), News::Settled) => self.ledger.settled(tuple),
                    // Whoever guesses can send a RST, too. What it ends is ended only if all fall silent for long.
                    (Some(tuple), News::Forgotten) if self.plan.strangers > 0 => {
                        let goes_on = self.hosts[0].end(tuple).is_some_and(|end| !end.is_over());
                        if goes_on {
                            self.ledger.forgotten(tuple);
                        }
                    }
                    (_, News::Settled | News::Forgotten | News::Other) => {}
                }
                self.say(|| format!("box {place} tells {words}"));
            }
            while let Some((to, wire)) = self.boxes[place].transmit(self.now) {
                quiet = false;
                self.ledger.sent(self.now, place, to, &wire);
                // A short answer to somebody who guesses may say what they guessed.
                let is_reflex = !because_genuine && wire.bytes.len() < SHORT;
                let origin = if is_reflex { Origin::Stranger } else { Origin::Box };
                let frame = Frame { wire, origin, damaged: false, ghost: None };
                self.send(place + 1, to, frame);
            }
            if quiet {
                let (memory, most) = self.boxes[place].memory();
                self.ledger.expect(memory <= most, self.now, Invariant::I10Memory, || {
                    format!("box {place} holds {memory} bytes of {most}")
                });
                return;
            }
        }
        let now = self.now;
        self.ledger.expect(false, now, Invariant::I13Quiet, || format!("box {place} never falls silent"));
        self.frames = FRAMES_MAX;
    }

    /// From `node` over the link towards `to`.
    fn send(&mut self, node: usize, to: Side, frame: Frame) {
        let (link, next) = match to {
            Side::Client => (node - 1, node - 1),
            Side::Server => (node, node + 1),
        };
        self.frames += 1;
        self.note(node as u64, &frame.wire);
        self.say(|| {
            let text = Segment::read(&frame.wire.bytes, frame.wire.partial);
            let text = text
                .map_or_else(|why| format!("{why:?} {} bytes", frame.wire.bytes.len()), |it| it.to_string());
            format!(
                "{node} -> {next} {:?}{} {text}",
                frame.origin,
                if frame.damaged { " damaged" } else { "" }
            )
        });
        let mut dice = match &mut self.script {
            _ if self.now >= self.plan.faults_until => Dice::Calm,
            Some(script) => Dice::Script(script),
            None => Dice::Chance(&mut self.dice[0]),
        };
        for (at, frame) in self.plan.links[link].carry(self.now, &mut dice, frame) {
            self.frames += 1;
            self.flying.insert((at, self.frames), (next, to.other(), frame));
        }
    }

    fn settle_hosts(&mut self) {
        for nth in [0, 1] {
            while let Some((segment, ghost, stack)) = self.hosts[nth].poll() {
                let (node, to, host) = match nth {
                    0 => (0, Side::Server, self.plan.client),
                    _ => (self.boxes.len() + 1, Side::Client, self.stack()),
                };
                let frame = dress(&segment, ghost, &stack.unwrap_or(host));
                self.send(node, to, frame);
            }
        }
    }

    /// How the server speaks now.
    fn stack(&self) -> Stack {
        let (first, change) = self.plan.server;
        change.filter(|(at, _)| *at <= self.now).map_or(first, |(_, stack)| stack)
    }

    fn hear(&mut self, frame: &Frame) {
        let Ok(segment) = Segment::read(&frame.wire.bytes, frame.wire.partial) else {
            self.hear_too_big(frame);
            return;
        };
        let tuple = tuple_of(&segment, true);
        if frame.is_genuine() {
            self.judge_for_client(tuple, &segment);
        }
        let strange = self.waivers.forgets && segment.has(flag::SYN);
        let genuine = frame.is_genuine() && !strange;
        let known = Known { genuine, ghost: frame.ghost.as_ref(), promised: 0 };
        let found = self.hosts[0].hear(self.now, &segment, known);
        self.ledger.breaches.extend(found);
        self.settle_hosts();
    }

    fn hear_too_big(&mut self, frame: &Frame) {
        let Some((from, to, seq, mtu)) = read_too_big(&frame.wire.bytes) else { return };
        if frame.is_genuine() {
            let found = self.hosts[0].too_big(self.now, (from, to), seq, mtu);
            self.ledger.breaches.extend(found);
            self.settle_hosts();
        }
    }

    /// What only somebody can tell who sees both ends.
    fn judge_for_client(&mut self, tuple: Tuple, segment: &Segment) {
        let Some(client) = self.hosts[0].end(tuple).filter(|client| !client.is_over()) else { return };
        let (iss, Some(irs)) = client.numbers() else { return };
        let Some((sent, told, edge)) = self.hosts[1].farthest(tuple, iss) else { return };
        if segment.has(flag::SYN) || segment.has(flag::RST) {
            return;
        }
        let ack = i64::from(segment.ack.wrapping_sub(iss) as i32);
        let seq = i64::from(segment.seq.wrapping_sub(irs) as i32);
        let now = self.now;
        self.ledger.expect(ack <= told, now, Invariant::I6NoLocalAck, || {
            format!("{ack} octets are acknowledged, and the server acknowledged {told}: {segment}")
        });
        // Offsets are compared where they fit: streams are shorter than half the space.
        let end = seq + i64::from(segment.length());
        self.ledger.expect(seq >= 0 && end <= sent, now, Invariant::I7Continuous, || {
            format!("octets {seq}-{end}, and the server sent {sent}: {segment}")
        });
        let shift = client.agreed().shifts.map_or(0, |(_, theirs)| theirs);
        let shown = ack + (i64::from(segment.window) << shift);
        self.ledger.expect(shown <= edge, now, Invariant::I8Window, || {
            format!("a window to {shown}, and the server's ends at {edge}: {segment}")
        });
    }

    fn serve(&mut self, frame: &Frame) {
        let Ok(segment) = Segment::read(&frame.wire.bytes, frame.wire.partial) else { return };
        let tuple = tuple_of(&segment, false);
        let plan = self.plan.flows.iter().find(|flow| flow.tuple == tuple);
        let service = match self.plan.outage {
            Some(outage) if (outage.from..outage.until).contains(&self.now) => outage.service,
            Some(_) | None => Service::Open,
        };
        let opens = segment.has(flag::SYN) && !segment.has(flag::ACK);
        if service == Service::Silent && opens {
            return;
        }
        if frame.is_genuine() && !segment.payload.is_empty() {
            self.judge_for_server(tuple, &segment);
        }
        let mut listener = Listener {
            stack: self.stack(),
            apps: plan.filter(|flow| flow.is_served()).map(|flow| [flow.apps[1], flow.apps[0]]),
            answers: service == Service::Open,
            rng: &mut self.dice[1],
        };
        let promised = self.ledger.promised(tuple);
        let known = Known { genuine: frame.is_genuine(), ghost: frame.ghost.as_ref(), promised };
        let found = self.hosts[1].serve(self.now, &segment, known, &mut listener);
        self.ledger.breaches.extend(found);
        self.settle_hosts();
    }

    fn judge_for_server(&mut self, tuple: Tuple, segment: &Segment) {
        let Some(client) = self.hosts[0].end(tuple) else { return };
        let (iss, irs) = client.numbers();
        let end = i64::from(segment.seq.wrapping_sub(iss) as i32) + segment.payload.len() as i64;
        let sent = client.sent_max();
        self.ledger.expect(irs.is_some() && end <= sent, self.now, Invariant::I5Proven, || {
            format!("octets up to {end}, and the client sent {sent}: {segment}")
        });
        if let Some(flow) = self.plan.flows.iter().find(|flow| flow.tuple == tuple)
            && segment.has(flag::SYN)
        {
            let due = content(flow.apps[0].content, 0, segment.payload.len());
            self.ledger.expect(due == segment.payload, self.now, Invariant::I1Prefix, || {
                format!("not what was sent: {segment}")
            });
        }
    }

    /// Everything has happened.
    fn close(mut self) -> Played {
        let plan = self.plan;
        let mut flows = Vec::new();
        for place in 0..self.boxes.len() {
            let counted = self.boxes[place].counted();
            self.say(|| format!("box {place} counted{counted}"));
        }
        for (nth, flow) in plan.flows.iter().enumerate() {
            let outcome = self.outcome(flow.tuple);
            let waived = self.ledger.is_lost(flow.tuple)
                || self.ledger.is_ended(flow.tuple)
                || self.frames >= FRAMES_MAX
                || self.waivers.gives_up;
            let due = plan.must_complete(nth) && !waived;
            self.ledger.expect(outcome == Outcome::Complete || !due, self.now, Invariant::I2Complete, || {
                format!("{}: {outcome:?}", flow.tuple.0)
            });
            flows.push((outcome, self.ledger.is_answered(flow.tuple)));
        }
        self.idle();
        Played {
            seed: plan.seed,
            topology: plan.topology,
            flows,
            frames: self.frames,
            breaches: self.ledger.breaches,
            trace: self.trace,
        }
    }

    fn outcome(&self, tuple: Tuple) -> Outcome {
        let client = self.hosts[0].end(tuple);
        let served = self.hosts[1].ends.iter().any(|(known, end)| *known == tuple && end.is_complete());
        match client {
            Some(client) if client.is_complete() && served => Outcome::Complete,
            Some(client) => Outcome::Failed(client.failure()),
            None => Outcome::Failed(None),
        }
    }

    /// Long after the last frame, boxes hold nothing.
    fn idle(&mut self) {
        for place in 0..self.boxes.len() {
            let until = self.now + IDLE;
            for _ in 0..ROUNDS_MAX {
                let Some(due) = self.boxes[place].due().filter(|due| *due <= until) else { break };
                self.now = self.now.max(due);
                self.boxes[place].timeout(self.now);
                while self.boxes[place].transmit(self.now).is_some() {}
                while self.boxes[place].news().is_some() {}
            }
            let left = self.boxes[place].half_open();
            self.ledger.expect(left == 0, self.now, Invariant::I10Memory, || {
                format!("box {place} still has {left} handshakes")
            });
        }
    }

    fn note(&mut self, node: u64, wire: &Wire) {
        let mut step =
            |value: u64| self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        step(self.now.as_nanos());
        step(node);
        let (words, rest) = wire.bytes.as_chunks::<8>();
        for word in words {
            step(u64::from_le_bytes(*word));
        }
        for byte in rest {
            step(u64::from(*byte));
        }
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(tell) = &mut self.tell {
            let mut line = String::new();
            let _ = write!(line, "{} {}", self.now, words());
            tell(&line);
        }
    }
}

/// A segment as its host's network card gets it.
fn dress(segment: &Segment, ghost: Option<Ghost>, stack: &Stack) -> Frame {
    let bytes = segment.write(stack.dress);
    // A train is cut at what its writer takes for the largest segment.
    let size = ghost.as_ref().map_or(0, |ghost| ghost.size);
    let segment_size =
        if stack.dress.partial && segment.payload.len() > usize::from(size) { size } else { 0 };
    let wire = Wire { bytes, partial: stack.dress.partial, segment: segment_size };
    Frame { wire, origin: Origin::Host, damaged: false, ghost }
}
