//! Two agents and a lossy network between them.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{FourTuple, Rng};

use super::desk::{Desk, address, line};
use super::subject::{Name, Setup};
use super::wire::{OUR_PWD, OUR_UFRAG, PEER_PWD, PEER_UFRAG};
use super::{Bench, Finding, Outcome};

/// A datagram under way.
struct Flying {
    at: Duration,
    to: usize,
    path: FourTuple,
    bytes: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) desks: [Desk; 2],
    pub(crate) delay_ms: u64,
    pub(crate) loss_percent: u32,
    addresses: [SocketAddr; 2],
    flying: Vec<Flying>,
    rng: Rng,
}

impl World {
    /// Two agents of the bench's implementation, each with one host candidate.
    pub(crate) fn new(bench: &Bench, setups: [Setup; 2]) -> Result<Self, Finding> {
        Self::between([bench, bench], setups)
    }

    pub(crate) fn between(benches: [&Bench; 2], setups: [Setup; 2]) -> Result<Self, Finding> {
        let desks = [benches[0].desk(setups[0])?, benches[1].desk(Setup { name: Name::Peer, ..setups[1] })?];
        let addresses = [address("192.0.2.1:4000"), address("198.51.100.1:2000")];
        let rng = Rng::from_u64(setups[0].seed);
        let mut world = Self { desks, delay_ms: 20, loss_percent: 0, addresses, flying: vec![], rng };
        for (desk, address) in world.desks.iter_mut().zip(addresses) {
            desk.host(&address.to_string())?;
        }
        Ok(world)
    }

    /// Carries credentials and candidates to both sides at once.
    pub(crate) fn signal(&mut self) -> Outcome {
        self.signal_with(&[])
    }

    /// The same, with the peer's dead addresses ahead of the one that works.
    pub(crate) fn signal_with(&mut self, dead: &[SocketAddr]) -> Outcome {
        self.desks[0].credentials_of(PEER_UFRAG, PEER_PWD);
        self.desks[1].credentials_of(OUR_UFRAG, OUR_PWD);
        for side in 0..2 {
            for dead in dead {
                self.desks[side].remote_with(&dead.to_string(), 65_535)?;
            }
            let line = line(self.addresses[1 - side], 65_000);
            self.desks[side].remote_line(&line).map_err(Finding::fails)?;
        }
        Ok(())
    }

    pub(crate) fn run_until(&mut self, ms: u64) {
        self.run_while(ms, |_| true);
    }

    /// Runs until `ms`, or until `go_on` says no.
    pub(crate) fn run_while(&mut self, ms: u64, go_on: impl Fn(&Self) -> bool) {
        let end = Duration::from_millis(ms);
        loop {
            self.collect();
            if !go_on(self) {
                return;
            }
            let now = self.desks[0].now;
            let deadlines = self.desks.iter_mut().filter_map(|desk| desk.subject.deadline(now));
            let arrivals = self.flying.iter().map(|flying| flying.at);
            let next = deadlines.chain(arrivals).min().map_or(end, |next| next.max(now));
            if next >= end {
                for desk in &mut self.desks {
                    desk.now = end;
                }
                return;
            }
            for desk in &mut self.desks {
                desk.wait_until(next);
            }
            self.deliver(next);
        }
    }

    fn deliver(&mut self, now: Duration) {
        let (due, later) = self.flying.drain(..).partition(|flying| flying.at <= now);
        self.flying = later;
        let due: Vec<Flying> = due;
        for flying in due {
            self.desks[flying.to].hear(flying.path, &flying.bytes);
        }
    }

    /// Takes what both said and puts it on the line, if it goes to where somebody is.
    fn collect(&mut self) {
        for side in 0..2 {
            for said in self.desks[side].take_said() {
                let lost = self.rng.chance(self.loss_percent * 10_000);
                if said.path.remote != self.addresses[1 - side] || lost {
                    continue;
                }
                let at = said.at + Duration::from_millis(self.delay_ms);
                let path = said.path.flipped();
                self.flying.push(Flying { at, to: 1 - side, path, bytes: said.bytes });
            }
        }
    }

    pub(crate) fn roles(&self) -> [bool; 2] {
        [self.desks[0].subject.is_controlling(), self.desks[1].subject.is_controlling()]
    }

    /// Whether both sides have a path to send on.
    pub(crate) fn is_selected(&self) -> bool {
        self.desks.iter().all(|desk| desk.subject.selected().is_some())
    }
}
