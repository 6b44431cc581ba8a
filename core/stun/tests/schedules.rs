//! Client and server under generated schedules: any order of commands, datagrams, losses, late and
//! repeated timeouts. `Checked` asserts the laws on every call; what is asserted here is that every
//! request ends once, and that nothing is left behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Buf, Counters, FourTuple, Input, Instant, Machine, Rng, Verdict};
use gimlet_stun::{
    Client, ClientConfig, ClientEvent, Credentials, REQUESTS_MAX, RequestId, Server, ServerConfig,
};
use gimlet_testkit::Checked;
use proptest::prelude::*;

/// One move of the outside.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        server: u8,
    },
    Cancel {
        which: usize,
    },
    Wait {
        millis: u16,
    },
    /// `handle_timeout` whether due or not.
    Timeout,
    /// The oldest datagram under way arrives, `copies` times, on a path changed by `skew`.
    Deliver {
        copies: u8,
        skew: u8,
    },
    Lose,
    /// A datagram under way arrives with one bit flipped.
    Damage {
        bit: usize,
    },
    Noise {
        bytes: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..4).prop_map(|server| Step::Ask { server }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        4 => (0u16..3_000).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Timeout),
        4 => (1u8..3, prop_oneof![4 => Just(0u8), 1 => 1u8..3])
            .prop_map(|(copies, skew)| Step::Deliver { copies, skew }),
        1 => Just(Step::Lose),
        1 => any::<usize>().prop_map(|bit| Step::Damage { bit }),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Step::Noise { bytes }),
    ]
}

struct World {
    client: Checked<Client>,
    server: Checked<Server>,
    now: Instant,
    /// Datagrams under way: to the server or back, the path as the receiver sees it.
    flying: Vec<(bool, FourTuple, Vec<u8>)>,
    begun: Vec<RequestId>,
    open: BTreeSet<RequestId>,
    ended: usize,
    transcript: Vec<String>,
}

fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

impl World {
    fn new(seed: u64, credentials: bool) -> Self {
        let alice = credentials.then(|| Credentials::short_term(b"alice", b"password").unwrap());
        let server = ServerConfig { credentials: alice.iter().cloned().collect(), ..Default::default() };
        let client = ClientConfig { credentials: alice, ..Default::default() };
        Self {
            client: Checked::new(Client::new(Rng::from_u64(seed), client)),
            server: Checked::new(Server::new(server)),
            now: Instant::ZERO,
            flying: Vec::new(),
            begun: Vec::new(),
            open: BTreeSet::new(),
            ended: 0,
            transcript: Vec::new(),
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.drain();
        }
        // The end of the world: whatever is open runs out.
        while let Some(deadline) = self.client.poll_timeout() {
            self.now = self.now.max(deadline.at);
            self.client.handle_timeout(self.now);
            self.drain();
        }
        assert!(self.open.is_empty(), "these never ended: {:?}", self.open);
        assert_eq!(self.client.inner().requests(), 0);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask { server } => {
                let (now, path) = (self.now, FourTuple::new(at(100, 5000), at(*server, 3478)));
                match self.client.command(now, |client| client.binding(now, path)) {
                    Ok(id) => {
                        self.begun.push(id);
                        assert!(self.open.insert(id), "ids are never reused");
                    }
                    Err(_) => assert_eq!(self.open.len(), REQUESTS_MAX),
                }
            }
            Step::Cancel { which } => {
                let Some(id) = self.begun.get(which % self.begun.len().max(1)).copied() else { return };
                let cancelled = self.client.command(self.now, |client| client.cancel(id));
                assert_eq!(cancelled, self.open.remove(&id));
            }
            Step::Wait { millis } => self.wait(*millis),
            Step::Timeout => {
                self.client.handle_timeout(self.now);
                self.server.handle_timeout(self.now);
            }
            Step::Deliver { copies, skew } => self.deliver(*copies, *skew),
            Step::Lose => drop(self.flying.pop()),
            Step::Damage { bit } => {
                let Some((_, _, bytes)) = self.flying.first_mut() else { return };
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                self.deliver(1, 0);
            }
            Step::Noise { bytes } => {
                let path = FourTuple::new(at(100, 5000), at(1, 3478));
                self.hear(false, path, bytes);
                self.hear(true, path.flipped(), bytes);
            }
        }
    }

    fn wait(&mut self, millis: u16) {
        let until = self.now + Duration::from_millis(u64::from(millis));
        while let Some(deadline) = self.client.poll_timeout().filter(|deadline| deadline.at <= until) {
            self.now = self.now.max(deadline.at);
            self.client.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn deliver(&mut self, copies: u8, skew: u8) {
        if self.flying.is_empty() {
            return;
        }
        let (to_server, mut path, bytes) = self.flying.remove(0);
        match skew {
            0 => {}
            1 => path.remote.set_port(9),
            _ => path.local.set_port(9),
        }
        for _ in 0..copies {
            self.hear(to_server, path, &bytes);
        }
    }

    /// A datagram arrives: it is consumed, or a counter says why it was not.
    fn hear(&mut self, to_server: bool, path: FourTuple, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let (before, after, verdict) = if to_server {
            let before = self.server.inner().counters().total();
            let verdict = self.server.handle_input(self.now, Input::new(path, &mut bytes));
            (before, self.server.inner().counters().total(), verdict)
        } else {
            let before = self.client.inner().counters().total();
            let verdict = self.client.handle_input(self.now, Input::new(path, &mut bytes));
            (before, self.client.inner().counters().total(), verdict)
        };
        assert!(verdict == Verdict::Consumed || after == before + 1, "dropped in silence: {bytes:02x?}");
        self.transcript.push(format!("{} heard {} bytes: {verdict:?}", self.now, bytes.len()));
        self.drain();
    }

    fn drain(&mut self) {
        let mut storage = Vec::new();
        while let Some(event) = self.client.poll_event() {
            let (ClientEvent::Answered { id, .. } | ClientEvent::Failed { id, .. }) = &event;
            assert!(self.open.remove(id), "{event:?} for a request that is not open");
            self.ended += 1;
            self.transcript.push(format!("{} {event:?}", self.now));
        }
        while let Some(transmit) = self.client.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
            self.transcript.push(format!("{} asks {storage:02x?}", self.now));
            self.flying.push((true, transmit.path.flipped(), storage.clone()));
        }
        assert!(self.server.poll_event().is_none());
        while let Some(transmit) = self.server.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
            self.transcript.push(format!("{} answers {storage:02x?}", self.now));
            self.flying.push((false, transmit.path.flipped(), storage.clone()));
        }
    }
}

proptest! {
    #[test]
    fn every_request_ends_exactly_once_whatever_happens(
        seed in any::<u64>(), credentials in any::<bool>(), steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(seed, credentials);
        world.run(&steps);
        prop_assert!(world.ended <= world.begun.len());
    }

    #[test]
    fn the_same_seed_and_schedule_give_the_same_transcript(
        seed in any::<u64>(), credentials in any::<bool>(), steps in prop::collection::vec(step(), 0..60),
    ) {
        let run = || {
            let mut world = World::new(seed, credentials);
            world.run(&steps);
            world.transcript
        };
        prop_assert_eq!(run(), run());
    }
}

/// The generator can reach the interesting places: without this, the properties above could hold of
/// a client that never gets an answer.
#[test]
fn a_plain_schedule_is_answered() {
    for credentials in [false, true] {
        let mut world = World::new(1, credentials);
        world.run(&[
            Step::Ask { server: 1 },
            Step::Deliver { copies: 1, skew: 0 },
            Step::Wait { millis: 20 },
            Step::Deliver { copies: 2, skew: 0 },
        ]);
        let answered = world.transcript.iter().filter(|line| line.contains("Answered")).count();
        assert_eq!(answered, 1, "{:#?}", world.transcript);
    }
}
