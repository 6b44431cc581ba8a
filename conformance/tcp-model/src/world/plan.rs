//! What a seed means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use gimlet_machine::{Instant, Rng};

use super::link::LinkPlan;
use crate::segment::Dress;
use crate::stack::{App, Stack};

/// Where the server listens. Nobody listens on [`CLOSED_PORT`].
const PORT: u16 = 8_080;
const CLOSED_PORT: u16 = 81;
/// The first port of the client.
const CLIENT_PORT: u16 = 40_000;
/// Flows in one world.
const FLOWS_MAX: u64 = 5;
/// Most streams are short: bytes, by how likely they are.
const SIZES: [i64; 8] = [0, 1, 300, 1_448, 4_000, 15_000, 40_000, 150_000];

/// What stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// Nothing: what the endpoints do by themselves.
    Straight,
    /// One box that answers, holds and translates.
    Single,
    /// One that answers near the client, one that holds and translates near the server.
    NearFar,
    /// One box that opens the far leg with data.
    TfoUpgrade,
}

/// What a server does about its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It answers.
    Open,
    /// It resets.
    Refuses,
    /// It says nothing.
    Silent,
}

/// For a while the server does something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// From when on.
    pub from: Instant,
    /// Until when.
    pub until: Instant,
    /// What it does meanwhile.
    pub service: Service,
}

/// A box is stopped and another takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When.
    pub at: Instant,
    /// Which box.
    pub place: usize,
    /// Whether its table survives.
    pub keeps_table: bool,
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowPlan {
    /// When the client opens it.
    pub at: Instant,
    /// The client's address and the server's.
    pub tuple: (SocketAddr, SocketAddr),
    /// What the client's application does, and the server's.
    pub apps: [App; 2],
    /// An option of an unknown kind in the SYN.
    pub strange_option: bool,
}

/// A world before it is built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// What stands in between.
    pub topology: Topology,
    /// How the client speaks.
    pub client: Stack,
    /// How the server speaks, and from when on it speaks otherwise.
    pub server: (Stack, Option<(Instant, Stack)>),
    /// The links, from the client on.
    pub links: Vec<LinkPlan>,
    /// Until when links lose, double and damage.
    pub faults_until: Instant,
    /// The connections.
    pub flows: Vec<FlowPlan>,
    /// What the server does for a while.
    pub outage: Option<Outage>,
    /// What happens to a box.
    pub restart: Option<Restart>,
    /// How many frames strangers send.
    pub strangers: u32,
}

impl FlowPlan {
    /// Whether somebody listens at the port.
    pub fn is_served(&self) -> bool {
        self.tuple.1.port() == PORT
    }
}

impl Plan {
    /// What `seed` means.
    pub fn draw(seed: u64) -> Self {
        let topology = match seed % 8 {
            0 => Topology::Straight,
            1..=3 => Topology::Single,
            4..=6 => Topology::NearFar,
            _ => Topology::TfoUpgrade,
        };
        Self::draw_in(seed, topology)
    }

    /// What `seed` means if this stands in between.
    pub fn draw_in(seed: u64, topology: Topology) -> Self {
        let mut rng = Rng::from_u64(seed).fork("plan");
        let boxes = match topology {
            Topology::Straight => 0,
            Topology::Single | Topology::TfoUpgrade => 1,
            Topology::NearFar => 2,
        };
        let calm = rng.below(4) == 0;
        let links = (0..=boxes).map(|_| LinkPlan::draw(&mut rng, calm)).collect();
        let client = stack(&mut rng);
        let server = stack(&mut rng);
        let change = (rng.below(6) == 0).then(|| (second(&mut rng), stack(&mut rng)));
        let v6 = rng.below(4) == 0;
        let flows = (0..=rng.below(FLOWS_MAX)).map(|nth| flow(&mut rng, nth, v6)).collect();
        let outage = (rng.below(6) == 0).then(|| {
            let from = second(&mut rng);
            let until = from + Duration::from_millis(rng.below(40_000));
            let service = if rng.below(2) == 0 { Service::Refuses } else { Service::Silent };
            Outage { from, until, service }
        });
        let restart = (boxes > 0 && rng.below(6) == 0).then(|| Restart {
            at: second(&mut rng),
            place: rng.below(boxes) as usize,
            keeps_table: rng.below(3) > 0,
        });
        let strangers = if rng.below(4) == 0 { 1 + rng.below(60) as u32 } else { 0 };
        let faults_until = Instant::from_millis(if calm { 0 } else { 2_000 + rng.below(30_000) });
        Self {
            seed,
            topology,
            client,
            server: (server, change),
            links,
            faults_until,
            flows,
            outage,
            restart,
            strangers,
        }
    }

    /// Whether this flow has to come to its end: nothing but loss is in its way.
    pub fn must_complete(&self, nth: usize) -> bool {
        let Some(flow) = self.flows.get(nth) else { return false };
        let is_served = self.outage.is_none_or(|outage| flow.at > outage.until) && flow.is_served();
        let is_left_alone = flow.apps.iter().all(|app| app.aborts_after.is_none());
        let is_carried = self.restart.is_none_or(|restart| restart.keeps_table || flow.at > restart.at);
        is_served && is_left_alone && is_carried
    }
}

/// A moment in which flows are opened, rather late.
fn second(rng: &mut Rng) -> Instant {
    Instant::from_millis(500 + rng.below(5_000))
}

fn stack(rng: &mut Rng) -> Stack {
    let one_in = |rng: &mut Rng, n: u64| rng.below(n) == 0;
    let partial = one_in(rng, 4);
    let buffer = [65_535, 65_536, 131_072, 20_000, 3_000, 1_000_000][rng.below(6) as usize];
    let shift = [Some(7), Some(7), Some(10), Some(0), Some(14), Some(3), None][rng.below(7) as usize];
    Stack {
        mss: [1_460, 1_460, 1_440, 1_200, 536][rng.below(5) as usize],
        // A unit that the whole buffer is less than a few of says nothing but zero.
        shift: shift.map(|shift: u8| if buffer >> shift < 4 { 7 } else { shift }),
        sack: !one_in(rng, 5),
        timestamps: !one_in(rng, 4),
        buffer,
        initial_segments: [10, 10, 2, 1, 40][rng.below(5) as usize],
        delayed_ack: Duration::from_millis([40, 40, 200, 1][rng.below(4) as usize]),
        fast_open: (!one_in(rng, 3)).then(|| rng.bytes()),
        dress: Dress { packed: one_in(rng, 4), partial },
        train: if partial && one_in(rng, 2) { 1 + rng.below(30) as u8 } else { 1 },
    }
}

fn app(rng: &mut Rng, name: u64) -> App {
    let size = SIZES[rng.below(SIZES.len() as u64) as usize];
    let sends = size + if size > 1 { rng.below(size as u64 / 4 + 1) as i64 } else { 0 };
    let pause = (rng.below(5) == 0)
        .then(|| (rng.below(sends as u64 + 1) as i64, Duration::from_millis(rng.below(9_000))));
    let reads = (rng.below(5) == 0).then(|| 200 + rng.below(20_000) as u32);
    App { content: name, sends, pause, reads, urgent: rng.below(12) == 0, ..App::default() }
}

fn flow(rng: &mut Rng, nth: u64, v6: bool) -> FlowPlan {
    let mut apps = [app(rng, nth * 2 + 1), app(rng, nth * 2 + 2)];
    let [client, server] = &mut apps;
    match rng.below(4) {
        // Request and response.
        0 | 1 => server.starts_after = client.sends,
        // The server speaks first, and the client answers.
        2 => client.starts_after = server.sends,
        // Both at once.
        _ => {}
    }
    match rng.below(3) {
        0 => client.closes_after = server.sends,
        1 => server.closes_after = client.sends,
        _ => {}
    }
    if rng.below(12) == 0 {
        let breaker = rng.below(2) as usize;
        apps[breaker].aborts_after = Some(rng.below(apps[1 - breaker].sends as u64 + 1) as i64);
    }
    // The first contact is what a box learns from; others come at the same time, soon or late.
    let at = nth * [0, 400, 1_500][rng.below(3) as usize] + rng.below(1_500) * nth.min(1);
    let port = if rng.below(20) == 0 { CLOSED_PORT } else { PORT };
    let (from, to): (IpAddr, IpAddr) = if v6 {
        (
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2).into(),
        )
    } else {
        (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 1, 2).into())
    };
    let tuple = (SocketAddr::new(from, CLIENT_PORT + nth as u16), SocketAddr::new(to, port));
    FlowPlan { at: Instant::from_millis(at), tuple, apps, strange_option: rng.below(20) == 0 }
}
