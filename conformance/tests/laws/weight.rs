//! What an ICE agent weighs when it has most to remember, and that it asks for no memory once it has settled.

use std::net::{Ipv4Addr, SocketAddr};

use gimlet_ice::{Agent, Candidate, Config, Credentials, Role, State};
use gimlet_machine::{Buf, Input, Instant, Machine, Path, Rng};

use crate::heap::{calls, live_bytes};

/// The bound for an agent at default limits: itself, and all it has allocated.
const AGENT_BYTES_MAX: usize = 16 * 1024;

/// Candidates of each side: a hundred pairs.
const CANDIDATES: u8 = 10;

fn socket(side: u8, number: u8) -> SocketAddr {
    (Ipv4Addr::new(10, side, 0, number), 4_000).into()
}

fn agent(side: u8) -> Agent {
    let role = if side == 0 { Role::Controlling } else { Role::Controlled };
    let mut agent =
        Agent::new(Instant::ZERO, Rng::from_u64(side.into()), Config { role, ..Config::default() });
    for number in 0..CANDIDATES {
        agent.add_local_candidate(Instant::ZERO, Candidate::host(socket(side, number))).unwrap();
    }
    for number in 0..CANDIDATES {
        let line = format!("candidate:{number} 1 udp 2130706431 10.{}.0.{number} 4000 typ host", 1 - side);
        agent.add_remote_line(Instant::ZERO, &line).unwrap();
    }
    agent
}

/// Both agents, and all that they say to each other arriving at once.
struct Room {
    agents: [Agent; 2],
    now: Instant,
    bytes: Vec<u8>,
}

impl Room {
    fn new() -> Self {
        let mut agents = [agent(0), agent(1)];
        for side in 0..2 {
            let peer = agents[1 - side].local_credentials().clone();
            agents[side].set_remote_credentials(Instant::ZERO, peer).unwrap();
        }
        Self { agents, now: Instant::ZERO, bytes: Vec::with_capacity(1_024) }
    }

    fn run_to(&mut self, end: Instant) {
        loop {
            while self.speak() {}
            let due = self.agents.iter().filter_map(Machine::poll_timeout).map(|due| due.at).min();
            let Some(at) = due.filter(|at| *at <= end) else { return };
            self.now = self.now.max(at);
            for agent in &mut self.agents {
                agent.handle_timeout(self.now);
            }
        }
    }

    /// Says whether anybody had anything to say.
    fn speak(&mut self) -> bool {
        let mut spoke = false;
        for side in 0..2 {
            while let Some(sent) = self.agents[side].poll_transmit(self.now, &mut Buf::new(&mut self.bytes)) {
                spoke = true;
                let path = Path::Direct(sent.path.on_wire().flipped());
                self.agents[1 - side].handle_input(self.now, Input::new(path, &mut self.bytes));
            }
            while self.agents[side].poll_event().is_some() {}
        }
        spoke
    }
}

#[test]
fn an_agent_with_a_hundred_checks_in_flight_stays_below_sixteen_kibibytes() {
    let (mut now, mut out) = (Instant::ZERO, Vec::with_capacity(1_024));
    let before = live_bytes();
    let mut agent = agent(0);
    let peer = Credentials { ufrag: "peerUfrag".into(), pwd: "peerPasswordOfManyChars".into() };
    agent.set_remote_credentials(now, peer).unwrap();
    let idle = live_bytes() - before + size_of::<Agent>();
    let pairs = u64::from(CANDIDATES) * u64::from(CANDIDATES);
    while agent.counters().checks_sent < pairs {
        while agent.poll_transmit(now, &mut Buf::new(&mut out)).is_some() {}
        while agent.poll_event().is_some() {}
        now = agent.poll_timeout().expect("more checks").at;
        agent.handle_timeout(now);
    }
    let weight = live_bytes() - before + size_of::<Agent>();
    assert_eq!(agent.counters().checks_answered, 0, "all of them are in flight");
    assert!(idle < weight && weight <= AGENT_BYTES_MAX, "{idle} bytes before, {weight} bytes in flight");
}

#[test]
fn two_agents_that_met_with_a_hundred_pairs_stay_below_sixteen_kibibytes_each_and_ask_for_no_more() {
    let before = live_bytes();
    let mut room = Room::new();
    room.run_to(Instant::from_millis(60_000));
    let weight = live_bytes() - before - room.bytes.capacity();
    assert_eq!(room.agents.each_ref().map(Agent::state), [State::Completed; 2]);
    assert!(weight / 2 + size_of::<Agent>() <= AGENT_BYTES_MAX, "{weight} bytes of both");
    let (asked, answered) = (calls(), room.agents[1].counters().requests_answered);
    room.run_to(Instant::from_millis(3_660_000));
    let answered = room.agents[1].counters().requests_answered - answered;
    assert!(answered > 600, "an hour of consent: {answered} requests");
    assert_eq!(calls() - asked, 0, "in an hour nothing is allocated");
}
