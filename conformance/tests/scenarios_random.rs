//! Three nodes do as the dice say, on a network that does too, and a model keeps the books: what was
//! accepted arrives once, in order, at the right place, or somebody is told; and in the end nothing
//! is left. Everything is driven by events, so a wake-up that does not come is noticed as well.
//!
//! A failure names its seed; `SEED=n` replays it alone, and `SEEDS=n` plays as many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gimlet_conformance::meeting::{Meeting, Scene, promised_pairs};
use gimlet_machine::{Direction, Instant, PeerId, Rng, Session};
use gimlet_node::{Error, Event, LostCause, Node, Stream};
use gimlet_sim::{Chance, Fault, Happening, HostId, LinkConfig};

const STEPS: usize = 200;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    number("SEED").map_or_else(|| (0..number("SEEDS").unwrap_or(60)).collect(), |seed| vec![seed])
}

/// Our half of a stream, as its application knows it.
struct Outgoing {
    from: usize,
    to: usize,
    stream: Stream,
    accepted: u32,
    /// A message that was refused: it is sent again when the stream is writable.
    waiting: Option<Vec<u8>>,
    /// We abandoned it or lost our memory: nothing is promised.
    given_up: bool,
    /// Its link was closed after everything was acknowledged: all of it arrives, whatever else happens.
    owed: bool,
}

/// The peer's half, as its application knows it.
struct Incoming {
    from: usize,
    /// Learned from the first message.
    serial: Option<u32>,
    ended: bool,
}

struct Play {
    meeting: Meeting,
    rng: Rng,
    hosts: [HostId; 3],
    peers: [PeerId; 3],
    outgoing: Vec<Outgoing>,
    incoming: BTreeMap<(usize, Stream), Incoming>,
    /// Messages received, by the serial number of their stream.
    received: BTreeMap<u32, u32>,
    datagrams: BTreeSet<u32>,
    datagrams_sent: u32,
    /// Closes that gave up, per node.
    undelivered: [u64; 3],
    /// Lines lose nothing, so a goodbye is always heard.
    lossless: bool,
    /// One seed alone is told with all its events.
    loud: bool,
}

/// What went wrong with a stream, if anything did: the judge, apart so that it can be judged.
fn complaint(promised: bool, accepted: u32, received: u32) -> Option<String> {
    if received > accepted {
        return Some(format!("{received} messages received of {accepted} that were sent"));
    }
    (promised && received < accepted).then(|| format!("{received} of {accepted} messages, and no error"))
}

#[test]
fn the_judge_notices_loss_and_duplication() {
    assert!(complaint(true, 2, 1).is_some());
    assert!(complaint(false, 2, 3).is_some());
    assert!(complaint(false, 2, 1).is_none());
    assert!(complaint(true, 2, 2).is_none());
}

#[test]
fn whatever_happens_messages_arrive_once_in_order_or_somebody_is_told_and_nothing_is_left() {
    let mut delivered = 0;
    for seed in seeds() {
        let mut play = Play::new(seed);
        for _ in 0..STEPS {
            play.act();
            let pause = if play.rng.below(20) == 0 { 40_000_000 } else { 400_000 };
            let pause = Duration::from_micros(play.rng.below(pause));
            play.run_for(pause);
        }
        play.settle();
        play.judge();
        delivered += play.received.values().sum::<u32>();
        play.end();
    }
    println!("{delivered} messages delivered");
    assert!(delivered > 0, "a play in which nothing is said proves nothing");
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_u64(seed).fork("play");
        let pairs = promised_pairs();
        let (nat_a, nat_b) = pairs[rng.below(pairs.len() as u64) as usize];
        let line = LinkConfig::draw(&mut rng);
        let meeting = Scene::new(seed, nat_a, nat_b).on(line).open();
        let hosts = [meeting.public, meeting.a, meeting.b];
        let peers = [meeting.ticket.peer(), meeting.peer_a, meeting.peer_b];
        Self {
            meeting,
            rng,
            hosts,
            peers,
            outgoing: Vec::new(),
            incoming: BTreeMap::new(),
            received: BTreeMap::new(),
            datagrams: BTreeSet::new(),
            datagrams_sent: 0,
            undelivered: [0; 3],
            lossless: line.loss == Chance::NEVER,
            loud: std::env::var_os("SEED").is_some(),
        }
    }

    fn touch<T>(&mut self, who: usize, command: impl FnOnce(&mut Node, Instant) -> T) -> T {
        self.meeting.world.touch(self.hosts[who], command)
    }

    fn act(&mut self) {
        let who = self.rng.below(3) as usize;
        let to = (who + 1 + self.rng.below(2) as usize) % 3;
        let peer = self.peers[to];
        match self.rng.below(100) {
            0..12 => drop(self.touch(who, |node, now| node.connect(now, peer))),
            12..25 => self.open(who, to),
            25..80 => self.say(),
            80..84 => self.finish(),
            84..86 => self.abandon(),
            86..92 => self.throw(who, to),
            92 | 93 => self.touch(who, |node, now| node.close(now, peer)),
            94 => self.restart(who),
            95 => {
                let others = self.hosts.iter().copied().filter(|host| *host != self.hosts[who]).collect();
                self.meeting.world.inject(&Fault::Partition(vec![self.hosts[who]], others));
            }
            _ => self.meeting.world.inject(&Fault::Heal),
        }
        self.hear();
    }

    fn open(&mut self, who: usize, to: usize) {
        let direction =
            if self.rng.below(2) == 0 { Direction::Bidirectional } else { Direction::Unidirectional };
        let peer = self.peers[to];
        let Ok(Some(stream)) = self.touch(who, |node, now| node.open(now, peer, direction)) else { return };
        self.sends(who, to, stream);
        if direction == Direction::Bidirectional {
            self.incoming.insert((who, stream), Incoming { from: to, serial: None, ended: false });
        }
    }

    fn sends(&mut self, from: usize, to: usize, stream: Stream) {
        self.outgoing.push(Outgoing {
            from,
            to,
            stream,
            accepted: 0,
            waiting: None,
            given_up: false,
            owed: false,
        });
    }

    fn draw_stream(&mut self) -> Option<usize> {
        let usable: Vec<usize> = (0..self.outgoing.len()).filter(|n| !self.outgoing[*n].given_up).collect();
        // The latest ones are the ones most likely to be alive.
        let nth = self.rng.below(usable.len().min(6) as u64) as usize;
        usable.iter().rev().nth(nth).copied()
    }

    fn say(&mut self) {
        let Some(serial) = self.draw_stream() else { return };
        let out = &self.outgoing[serial];
        if out.waiting.is_some() {
            return;
        }
        let length = if self.rng.below(20) == 0 { 200_000 } else { 3_000 };
        let mut message = vec![out.from as u8, out.to as u8];
        message.extend_from_slice(&(serial as u32).to_be_bytes());
        message.extend_from_slice(&out.accepted.to_be_bytes());
        message.resize(10 + self.rng.below(length) as usize, serial as u8);
        self.send(serial, message);
    }

    fn send(&mut self, serial: usize, message: Vec<u8>) {
        let (who, stream) = (self.outgoing[serial].from, self.outgoing[serial].stream);
        let sent = self.touch(who, |node, now| node.send(now, stream, &message));
        let out = &mut self.outgoing[serial];
        match sent {
            Ok(true) => out.accepted += 1,
            Ok(false) => out.waiting = Some(message),
            Err(_) => {}
        }
    }

    fn finish(&mut self) {
        let Some(serial) = self.draw_stream() else { return };
        let (who, stream) = (self.outgoing[serial].from, self.outgoing[serial].stream);
        self.outgoing[serial].waiting = None;
        let _ = self.touch(who, |node, now| node.finish(now, stream));
    }

    fn abandon(&mut self) {
        let Some(serial) = self.draw_stream() else { return };
        let Outgoing { from, to, stream, .. } = self.outgoing[serial];
        self.touch(from, |node, now| node.abandon(now, stream, 7));
        // Both halves are gone, for both ends.
        self.incoming.remove(&(from, stream));
        for out in &mut self.outgoing {
            let same = (out.from, out.stream) == (from, stream);
            // The other end's half is told an error, but may have been delivered before.
            out.given_up |= same || (out.from, out.to) == (to, from);
        }
    }

    fn throw(&mut self, who: usize, to: usize) {
        let mut bytes = vec![who as u8, to as u8];
        bytes.extend_from_slice(&self.datagrams_sent.to_be_bytes());
        self.datagrams_sent += 1;
        let peer = self.peers[to];
        let _ = self.touch(who, |node, now| node.send_datagram(now, peer, &bytes));
    }

    fn restart(&mut self, who: usize) {
        self.hear();
        self.meeting.world.inject(&Fault::Restart(self.hosts[who]));
        for out in &mut self.outgoing {
            // What it had accepted or received and not shown is gone with its memory.
            out.given_up |= out.from == who || out.to == who;
        }
        self.incoming.retain(|(at, _), _| *at != who);
        self.undelivered[who] = 0;
        if who != 0 {
            let ticket = self.meeting.ticket.clone();
            self.touch(who, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.meeting.now() + time;
        while self.meeting.world.next_at().is_some_and(|at| at <= end) {
            self.meeting.world.step();
            self.hear();
        }
        self.meeting.world.run_until(end);
        self.hear();
    }

    /// Does what the events ask for, and nothing else.
    fn hear(&mut self) {
        while let Some(Happening { host, event, .. }) = self.meeting.world.poll_event() {
            let who = self.hosts.iter().position(|one| *one == host).expect("one of ours");
            if self.loud {
                println!("{} {who} {event:?}", self.meeting.now());
            }
            if let Event::Lost { peer, cause: LostCause::ClosedByUs, .. } = event {
                self.on_closed(who, peer);
            }
            match event {
                Event::StreamsReady { peer } | Event::Connected { peer, .. } | Event::Lost { peer, .. } => {
                    self.accept_streams(who, peer);
                    self.catch(who, peer);
                }
                Event::DatagramReceived { peer } => self.catch(who, peer),
                Event::Readable { stream } => self.read(who, stream),
                Event::Writable { stream } => self.write_again(who, stream),
                Event::Incoming { .. } => {
                    assert!(self.touch(who, Session::accept).is_some(), "{}", self.seed());
                }
                Event::Failed { .. } | Event::PathChanged { .. } | Event::Progress { .. } => {}
            }
        }
    }

    /// Our own close is over. Unless it gave up, the other end has everything.
    fn on_closed(&mut self, who: usize, peer: PeerId) {
        let gave_up = self.touch(who, |node, _| node.counters().closed_undelivered);
        let delivered = std::mem::replace(&mut self.undelivered[who], gave_up) == gave_up;
        let node = self.meeting.world.machine(self.hosts[who]).expect("it just told us");
        for out in self.outgoing.iter_mut().filter(|out| out.from == who && self.peers[out.to] == peer) {
            // Streams of earlier links ended otherwise.
            if node.is_delivered(out.stream) == Err(Error::Lost(LostCause::ClosedByUs)) && !out.owed {
                out.owed = delivered;
                out.given_up |= !delivered;
            }
        }
    }

    fn accept_streams(&mut self, who: usize, peer: PeerId) {
        let from = self.peers.iter().position(|one| *one == peer).expect("one of ours");
        while let Ok(Some(stream)) = self.touch(who, |node, now| node.accept_stream(now, peer)) {
            self.incoming.insert((who, stream), Incoming { from, serial: None, ended: false });
            // Only streams that go both ways can be written to.
            if self.touch(who, |node, now| node.send(now, stream, &[])) != Err(Error::AlreadyFinished) {
                self.touch(who, |node, now| node.finish(now, stream)).ok();
            }
            self.read(who, stream);
        }
    }

    fn read(&mut self, who: usize, stream: Stream) {
        let seed = self.seed();
        while self.incoming.get(&(who, stream)).is_some_and(|incoming| !incoming.ended) {
            let message = self.touch(who, |node, now| node.receive(now, stream));
            let incoming = self.incoming.get_mut(&(who, stream)).expect("looked up above");
            match message {
                // The other end's greeting on its half of our stream.
                Ok(Some(message)) if message.is_empty() => {}
                Ok(Some(message)) => {
                    let number = |at| u32::from_be_bytes(message[at..at + 4].try_into().expect("four bytes"));
                    let (serial, nth) = (number(2), number(6));
                    assert_eq!(
                        message[..2],
                        [incoming.from as u8, who as u8],
                        "a stranger's message; {seed}"
                    );
                    assert_eq!(*incoming.serial.get_or_insert(serial), serial, "two in one; {seed}");
                    let expected = self.received.entry(serial).or_default();
                    assert_eq!(nth, *expected, "stream {serial} is out of order; {seed}");
                    *expected += 1;
                    assert!(message[10..].iter().all(|byte| *byte == serial as u8), "altered; {seed}");
                }
                Ok(None) => return,
                Err(Error::Framing(why)) => panic!("{why}; {seed}"),
                Err(_) => incoming.ended = true,
            }
        }
    }

    fn write_again(&mut self, who: usize, stream: Stream) {
        let found = self.outgoing.iter().position(|out| (out.from, out.stream) == (who, stream));
        if let Some((serial, message)) = found.and_then(|n| Some((n, self.outgoing[n].waiting.take()?))) {
            self.send(serial, message);
        }
    }

    fn catch(&mut self, who: usize, peer: PeerId) {
        let from = self.peers.iter().position(|one| *one == peer).expect("one of ours");
        while let Ok(Some(bytes)) = self.touch(who, |node, now| node.receive_datagram(now, peer)) {
            assert_eq!(bytes[..2], [from as u8, who as u8], "a stranger's datagram; {}", self.seed());
            let number = u32::from_be_bytes(bytes[2..6].try_into().expect("four bytes"));
            assert!(self.datagrams.insert(number), "datagram {number} came twice; {}", self.seed());
        }
    }

    /// Nothing goes wrong any more, and there is time for everything that is under way.
    fn settle(&mut self) {
        self.meeting.world.inject(&Fault::Heal);
        self.run_for(Duration::from_secs(180));
    }

    fn judge(&mut self) {
        let is = |who: usize, peer: usize| {
            let node = self.meeting.world.machine(self.hosts[who]).expect("nobody is stopped");
            node.is_connected(self.peers[peer])
        };
        // Whoever can be introduced is connected, or is told that it is not.
        if is(1, 0) == Ok(true) && is(2, 0) == Ok(true) {
            assert!(is(1, 2) != Ok(false) && is(2, 1) != Ok(false), "one waits for ever; {}", self.seed());
        }
        assert!(is(1, 0) != Ok(false) && is(2, 0) != Ok(false), "the public node is there; {}", self.seed());
        for (serial, out) in self.outgoing.iter().enumerate() {
            let node = self.meeting.world.machine(self.hosts[out.from]).expect("nobody is stopped");
            let status = node.is_delivered(out.stream);
            let received = self.received.get(&(serial as u32)).copied().unwrap_or(0);
            let promised = (status.is_ok() || out.owed) && !out.given_up;
            let wrong = complaint(promised, out.accepted, received);
            assert_eq!(
                wrong,
                None,
                "stream {serial} ({} to {}): {status:?}; {}",
                out.from,
                out.to,
                self.seed()
            );
            assert!(out.waiting.is_none() || status.is_err(), "never woken to write; {}", self.seed());
        }
    }

    /// Everybody leaves; then nothing is left, neither memory nor timers.
    fn end(mut self) {
        let seed = self.seed();
        let gave_up = |play: &Self| {
            let nodes = play.hosts.iter().filter_map(|host| play.meeting.world.machine(*host));
            nodes.map(|node| node.counters().closed_undelivered).sum::<u64>()
        };
        let before = gave_up(&self);
        for who in 0..3 {
            self.touch(who, Session::close_all);
        }
        self.run_for(Duration::from_secs(60));
        for host in self.hosts {
            let node = self.meeting.world.machine(host).expect("nobody is stopped");
            let usage = node.usage();
            assert!(node.is_closed(), "{usage:?}; {seed}");
            let left =
                (usage.attempts, usage.links, usage.ice_agents, usage.connections, usage.stun_requests);
            assert_eq!((left, usage.timer), ((0, 0, 0, 0, 0), None), "{usage:?}; {seed}");
        }
        assert!(
            gave_up(&self) == before || !self.lossless,
            "a close gave up although nothing is lost; {seed}"
        );
        let limit = self.meeting.now() + Duration::from_secs(1);
        assert!(self.meeting.world.run_to_quiet(limit), "something still happens; {seed}");
    }

    fn seed(&self) -> String {
        format!("SEED={}", self.meeting.world.seed())
    }
}
