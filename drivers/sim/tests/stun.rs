//! STUN clients behind simulated NATs ask real STUN servers where they come from.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Transmit, Verdict};
use gimlet_sim::{
    Chance, Filtering, HostConfig, LinkConfig, Mapping, NatConfig, NatKind, PortAllocation, TraceHash, World,
};
use gimlet_stun::{Client, ClientConfig, ClientEvent, Server, ServerConfig};

/// The two machines of this world.
enum Stun {
    Client(Box<Client>),
    Server(Box<Server>),
}

impl Machine for Stun {
    type Path = FourTuple;
    type Event = ClientEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        match self {
            Stun::Client(client) => client.handle_input(now, input),
            Stun::Server(server) => server.handle_input(now, input),
        }
    }
    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Stun::Client(client) => client.handle_timeout(now),
            Stun::Server(server) => server.handle_timeout(now),
        }
    }
    fn poll_event(&mut self) -> Option<ClientEvent> {
        match self {
            Stun::Client(client) => client.poll_event(),
            Stun::Server(server) => server.poll_event().map(|never| match never {}),
        }
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        match self {
            Stun::Client(client) => client.poll_transmit(now, out),
            Stun::Server(server) => server.poll_transmit(now, out),
        }
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Stun::Client(client) => client.poll_timeout(),
            Stun::Server(server) => server.poll_timeout(),
        }
    }
}

const SERVERS: [&str; 3] = ["198.51.100.1:3478", "198.51.100.1:3479", "198.51.100.2:3478"];
const INSIDE: &str = "192.168.0.2:5000";

/// Asks three servers, of which two share an address; what each of them saw.
fn ask(seed: u64, nat: Option<NatConfig>, link: LinkConfig) -> (Vec<SocketAddr>, TraceHash) {
    let mut world = World::new(seed);
    let servers = SERVERS.map(|server| server.parse::<SocketAddr>().unwrap());
    let server = || Stun::Server(Box::new(Server::new(ServerConfig::default())));
    world.add_host(HostConfig::new("server-1", servers[..2].iter().copied()).link(link), server());
    world.add_host(HostConfig::new("server-2", servers[2..].iter().copied()).link(link), server());
    let nat = nat.map(|nat| world.add_nat(nat, LinkConfig::default()));
    let inside = INSIDE.parse().unwrap();
    let client = Stun::Client(Box::new(Client::new(world.rng("client", 0), ClientConfig::default())));
    let client = world.add_host(HostConfig::new("client", [inside]).behind(nat).link(link), client);
    world.touch(client, |machine, now| {
        let Stun::Client(machine) = machine else { unreachable!("the last host is the client") };
        for server in servers {
            machine.binding(now, FourTuple::new(inside, server)).expect("room for three requests");
        }
    });
    assert!(world.run_to_quiet(Instant::from_millis(60_000)), "seed {seed}: the requests end");

    let mut seen = vec![None; servers.len()];
    while let Some(happening) = world.poll_event() {
        let ClientEvent::Answered { path, mapped, .. } = happening.event else {
            panic!("seed {seed}: {happening:?}");
        };
        let nth = servers.iter().position(|server| *server == path.remote).unwrap();
        seen[nth] = Some(mapped);
    }
    let seen = seen.into_iter().collect::<Option<Vec<_>>>().expect("every request ends once");
    (seen, world.trace_hash())
}

#[test]
fn a_client_sees_its_nats_mapping_whatever_the_filtering() {
    use Mapping::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for mapping in [EndpointIndependent, AddressDependent, AddressAndPortDependent] {
        for filtering in
            [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent]
        {
            let config = NatConfig {
                ports: PortAllocation::Sequential { step: 1 },
                ..NatConfig::new([203, 0, 113, 1], mapping, filtering)
            };
            let (seen, _) = ask(1, Some(config), LinkConfig::with_latency(Duration::from_millis(10)));
            assert!(seen.iter().all(|seen| seen.ip().to_string() == "203.0.113.1"), "{seen:?}");
            let same = (seen[0] == seen[1], seen[0] == seen[2]);
            let expected = match mapping {
                EndpointIndependent => (true, true),
                AddressDependent => (true, false),
                AddressAndPortDependent => (false, false),
            };
            assert_eq!(same, expected, "{mapping:?} {filtering:?} {seen:?}");
        }
    }
}

#[test]
fn a_public_client_sees_itself() {
    let (seen, _) = ask(1, None, LinkConfig::default());
    assert!(seen.iter().all(|seen| seen.to_string() == INSIDE), "{seen:?}");
}

#[test]
fn bad_lines_delay_the_answer_and_do_not_change_it() {
    let link = LinkConfig {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(20),
        loss: Chance::percent(5),
        duplicate: Chance::percent(5),
        reorder: Chance::percent(5),
        ..LinkConfig::default()
    };
    let router = || NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, 1]);
    for seed in 0..200 {
        let (seen, hash) = ask(seed, router(), link);
        assert!(seen.iter().all(|seen| seen.to_string() == "203.0.113.1:5000"), "seed {seed}: {seen:?}");
        assert_eq!(hash, ask(seed, router(), link).1, "seed {seed}");
        assert_ne!(hash, ask(seed + 1, router(), link).1, "seed {seed}");
    }
}
