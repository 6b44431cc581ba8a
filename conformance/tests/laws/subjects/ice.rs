use gimlet_conformance::laws::{Side, Subject};
use gimlet_ice::{Agent, Candidate, Config, Profile, Role};
use gimlet_machine::{Counters as _, Instant, Path, Rng};
use gimlet_stun::PortModel;

struct Agents;

/// A candidate of `side`: 0 is the address that the other side can reach, others lead nowhere.
fn candidate(side: Side, n: u16) -> Candidate {
    let base = super::socket(side);
    match n {
        0 => Candidate::host(base),
        n if n.is_multiple_of(2) => Candidate::host(super::flow(side, n as u8).remote),
        n => Candidate::server_reflexive(super::flow(side, n as u8).remote, base, None),
    }
}

/// What `side` knows of its NAT.
fn profile(side: Side, hard: bool) -> Profile {
    let outside = vec![super::socket(side).ip()];
    let port_model = Some(PortModel::Sequential { delta: 3 });
    Profile { dependent: Some(hard), port_model, newest_port: Some(30_000), outside, supposed: false }
}

impl Subject for Agents {
    type Machine = Agent;
    /// 100 pairs and their checks, under a kilobyte each, and the candidates they are made of.
    const HEAP_MAX: usize = 160 * 1024;

    fn build(seed: u64, side: Side) -> Agent {
        // Every third pair begins with a role conflict.
        let controlling = side == Side::A || seed.is_multiple_of(3);
        let role = if controlling { Role::Controlling } else { Role::Controlled };
        Agent::new(Instant::ZERO, Rng::from_u64(seed).fork("ice"), Config { role, ..Config::default() })
    }
    fn path(side: Side, n: u8) -> Path {
        Path::Direct(super::flow(side, n))
    }
    fn arrives(_: Side, path: Path) -> Option<Path> {
        super::arrives(path.on_wire()).map(Path::Direct)
    }
    fn introduce(now: Instant, a: &mut Agent, b: &mut Agent) {
        let (credentials_a, credentials_b) = (a.local_credentials().clone(), b.local_credentials().clone());
        a.set_remote_credentials(now, credentials_b).expect("fresh credentials");
        b.set_remote_credentials(now, credentials_a).expect("fresh credentials");
        // B finds A by A's checks: a peer-reflexive candidate.
        a.add_remote_candidate(now, candidate(Side::B, 0)).expect("the first candidate");
        for (agent, side) in [(a, Side::A), (b, Side::B)] {
            agent.add_local_candidate(now, candidate(side, 0)).expect("the first candidate");
        }
    }
    fn command(now: Instant, agent: &mut Agent, side: Side, which: u16) {
        let n = which / 10;
        match which % 10 {
            0 => drop(agent.add_local_candidate(now, candidate(side, n % 64))),
            1..=4 => drop(agent.add_remote_candidate(now, candidate(side.other(), n % 8))),
            5 => agent.end_of_local_candidates(now),
            6 => agent.end_of_remote_candidates(now),
            7 => drop(agent.punch(now, &profile(side, n & 1 != 0), &profile(side.other(), n & 2 != 0))),
            8 => {
                agent.vouch(now, super::socket(side.other()).ip());
                let _ = agent.add_punch_socket(now, (super::socket(side).ip(), 20_000 + n % 8).into());
            }
            // Seldom: most lives should go on for a while.
            _ if n.is_multiple_of(16) => agent.close(now),
            _ => {}
        }
    }
    fn has_arrived(agent: &Agent) -> bool {
        agent.selected_path().is_some()
    }
    fn counted(agent: &Agent) -> u64 {
        agent.counters().total()
    }
}

#[test]
fn the_ice_agent_keeps_the_laws() {
    super::assert_lawful::<Agents>();
}
