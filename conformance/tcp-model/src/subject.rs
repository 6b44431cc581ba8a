//! Worlds with the translator in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gimlet_machine::{Buf, Counters as _, Input, Instant, Machine, Rng, Verdict};
use gimlet_tcp::{
    Allow, Block, Checksum, Config, Event, FlowKey, FlowState, Leg, Limits, Role, Secret, Slot, Translator,
    slots_for,
};

use crate::middle::{Middle, News, Side, Tuple, Wire};
use crate::world::{Plan, Played, Tell, Topology, World};

/// Flows in the table of a box. Few, so that a world is soon built.
const FLOWS: usize = 128;
/// Handshakes at a time.
const HALF_OPEN: usize = 64;
/// Early data of all together. It is never used up here: a flood is another test.
const POOL: usize = 1 << 20;
/// A handshake without its early data, and its share of the tables that find it, in bytes.
const HALF_OPEN_BYTES: usize = 512;
/// Destinations, sources and what waits to be sent, in bytes.
const REST_BYTES: usize = 1 << 20;

/// A translator as a world sees it.
#[derive(Debug)]
pub struct Subject {
    translator: Translator,
    config: Config,
    rng: Rng,
    restarts: u64,
    storage: Vec<u8>,
}

impl Subject {
    /// A box in this role in the world of `plan`.
    ///
    /// # Panics
    ///
    /// If the translator does not take its configuration.
    pub fn new(plan: &Plan, role: Role) -> Self {
        let rng = Rng::from_u64(plan.seed).fork("box").fork_nth("role", role as u64);
        let config = config(plan, role);
        let translator = Translator::new(Instant::ZERO, rng.fork("first"), config.clone());
        let translator = translator.unwrap_or_else(|error| panic!("{error}"));
        Self { translator, config, rng, restarts: 0, storage: Vec::new() }
    }

    /// The translator.
    pub fn translator(&self) -> &Translator {
        &self.translator
    }
}

fn config(plan: &Plan, role: Role) -> Config {
    let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let allowed = everywhere.into_iter().filter_map(|address| Block::new(address, 0));
    let allowed = allowed.map(|servers| Allow { servers, ports: 1..=u16::MAX, idempotent: true });
    let mut dice = Rng::from_u64(plan.seed).fork("config");
    let early_data = [16_384, 16_384, 4_096, 0][dice.below(4) as usize];
    let limits = Limits { flows: FLOWS, half_open: HALF_OPEN, early_data, pool: POOL, ..Limits::default() };
    let secret = Some(Secret::new(dice.bytes()));
    Config { secret, allowed: allowed.collect(), limits, ..Config::new(role) }
}

fn side(side: Side) -> gimlet_tcp::Side {
    match side {
        Side::Client => gimlet_tcp::Side::Client,
        Side::Server => gimlet_tcp::Side::Server,
    }
}

fn tuple(flow: &FlowKey) -> Tuple {
    (flow.client(), flow.server())
}

impl Middle for Subject {
    fn input(&mut self, now: Instant, from: Side, frame: &mut Wire) -> bool {
        let checksum = if frame.partial { Checksum::Partial } else { Checksum::Complete };
        let leg = Leg { checksum, gso: frame.segment, ..Leg::new(side(from)) };
        match self.translator.handle_input(now, Input::new(leg, &mut frame.bytes)) {
            Verdict::Consumed => false,
            // Whoever drives it hands on what it does not want.
            Verdict::NotMine => true,
            Verdict::Pass { path, range } => {
                assert_eq!(path, leg.across(), "a frame that passes leaves on the other side as it came");
                frame.bytes.truncate(range.end);
                frame.bytes.drain(..range.start);
                true
            }
        }
    }

    fn timeout(&mut self, now: Instant) {
        self.translator.handle_timeout(now);
    }

    fn transmit(&mut self, now: Instant) -> Option<(Side, Wire)> {
        let transmit = self.translator.poll_transmit(now, &mut Buf::new(&mut self.storage))?;
        let to = match transmit.path.side {
            gimlet_tcp::Side::Client => Side::Client,
            gimlet_tcp::Side::Server => Side::Server,
        };
        let partial = transmit.path.checksum == Checksum::Partial;
        Some((to, Wire { bytes: self.storage.clone(), partial, segment: transmit.path.gso }))
    }

    fn due(&self) -> Option<Instant> {
        self.translator.poll_timeout().map(|deadline| deadline.at)
    }

    fn news(&mut self) -> Option<(Option<Tuple>, News, String)> {
        let event = self.translator.poll_event()?;
        let (flow, news) = match &event {
            Event::Aborted { flow, .. } | Event::Bypassed { flow, .. } => (Some(tuple(flow)), News::Settled),
            Event::Closed { flow } => (Some(tuple(flow)), News::Forgotten),
            Event::Spoofed { flow } | Event::Established { flow, .. } => (Some(tuple(flow)), News::Other),
            Event::Learned { .. } => (None, News::Other),
        };
        Some((flow, news, format!("{event:?}")))
    }

    fn memory(&self) -> (usize, usize) {
        let table = slots_for(FLOWS) * size_of::<Slot>();
        let most = table + HALF_OPEN * HALF_OPEN_BYTES + POOL + REST_BYTES;
        (self.translator.memory(), most)
    }

    fn half_open(&self) -> usize {
        self.translator.half_open()
    }

    fn counted(&self) -> String {
        let counters = self.translator.counters();
        let moved = counters.each().filter(|(_, count)| *count > 0);
        let words: Vec<String> = moved.map(|(name, count)| format!(" {name} {count}")).collect();
        words.concat()
    }

    fn knows(&self, wanted: Tuple) -> bool {
        let translated = |state: FlowState| state.is_translated() || state == FlowState::Aborted;
        self.translator.flows().any(|report| tuple(&report.flow) == wanted && translated(report.state))
    }

    fn restart(&mut self, now: Instant, keeps_table: bool) -> Box<dyn Middle> {
        let restarts = self.restarts + 1;
        let rng = self.rng.fork_nth("restart", restarts);
        let slots =
            if keeps_table { self.translator.slots().to_vec() } else { vec![Slot::EMPTY; slots_for(FLOWS)] };
        let attached = Translator::attach(now, rng, self.config.clone(), slots);
        let (translator, _) = attached.unwrap_or_else(|error| panic!("{error}"));
        let (config, rng) = (self.config.clone(), self.rng.clone());
        Box::new(Subject { translator, config, rng, restarts, storage: Vec::new() })
    }
}

/// The boxes of a plan, the client's first.
pub fn boxes(plan: &Plan) -> Vec<Box<dyn Middle>> {
    let roles: &[Role] = match plan.topology {
        Topology::Straight => &[],
        Topology::Single => &[Role::Single],
        Topology::NearFar => &[Role::Near, Role::Far],
        Topology::TfoUpgrade => &[Role::TfoUpgrade],
    };
    roles.iter().map(|role| Box::new(Subject::new(plan, *role)) as Box<dyn Middle>).collect()
}

/// Plays the world of `seed`.
pub fn play(seed: u64) -> Played {
    let plan = Plan::draw(seed);
    World::new(&plan, boxes(&plan), None).play()
}

/// Plays the world of `seed` and tells everything.
pub fn play_before(seed: u64, tell: &mut Tell<'_>) -> Played {
    let plan = Plan::draw(seed);
    World::new(&plan, boxes(&plan), Some(tell)).play()
}
