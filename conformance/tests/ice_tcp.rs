//! ICE over TCP (RFC 6544) on every driver: where no datagram gets through, an active candidate meets a passive one.
//! The active end runs on the simulator, on mio and on tokio, and is told the same by each. No driver listens for a
//! machine: in the simulator the host does, and elsewhere the passive end's owner, who hands connections over.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use gimlet_ice::{Agent, Candidate, Config, Event, Role, Streams, Transports};
use gimlet_machine::{
    Answer, Buf, CloseReason, Deadline, FourTuple, Input, Instant, Machine, Path, Request, Rng, SocketId,
    Transmit, Verdict, pump,
};
use gimlet_mio::Driver;
use gimlet_sim::{Firewall, HostConfig, HostId, LinkConfig, NatConfig, NatKind, World};
use gimlet_tokio::{Plain, spawn};
use gimlet_udp::{Clock, Sockets};

const WITHIN: Duration = Duration::from_secs(10);

/// What the active end learns, ports and times left out.
const TOLD: &[&str] = &["checking", "valid", "connected", "selected", "completed"];

/// An agent, its connections, and what was said over them.
struct Owner {
    agent: Agent,
    streams: Streams,
    heard: Vec<Vec<u8>>,
}

impl Owner {
    fn new(seed: u64, role: Role, candidate: Candidate) -> Self {
        let config = Config { role, transports: Transports::UdpAndTcp, ..Config::default() };
        let mut agent = Agent::new(Instant::ZERO, Rng::from_u64(seed), config);
        agent.add_local_candidate(Instant::ZERO, candidate).unwrap();
        Self { agent, streams: Streams::new(SocketId(0)), heard: Vec::new() }
    }

    fn active(local: SocketAddr) -> Self {
        Self::new(1, Role::Controlling, Candidate::tcp_active(local.ip()))
    }

    fn passive(listens: SocketAddr) -> Self {
        Self::new(2, Role::Controlled, Candidate::tcp_passive(listens))
    }

    /// What the other end has to know.
    fn introduction(&self) -> (String, gimlet_ice::Credentials) {
        let line = self.agent.local_candidates().next().unwrap().to_string();
        (line, self.agent.local_credentials().clone())
    }

    fn hear_of(&mut self, now: Instant, (line, credentials): &(String, gimlet_ice::Credentials)) {
        self.agent.add_remote_line(now, line).unwrap();
        self.agent.set_remote_credentials(now, credentials.clone()).unwrap();
    }

    fn say(&mut self, data: &[u8]) {
        let path = self.agent.selected_path().expect("a path");
        assert!(Streams::carries(&path) && self.streams.send(&path, data), "{path}");
    }
}

impl Machine for Owner {
    type Path = FourTuple;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        match self.agent.handle_input(now, Input { path: Path::Direct(path), ecn, bytes }) {
            Verdict::Consumed => Verdict::Consumed,
            Verdict::NotMine | Verdict::Pass { .. } => Verdict::NotMine,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.agent.poll_event()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let mut datagram = Vec::new();
        while let Some(written) = self.agent.poll_transmit(now, &mut Buf::new(&mut datagram)) {
            if Streams::carries(&written.path) {
                self.streams.send(&written.path, &datagram);
            } else if out.put(&datagram) {
                return Some(Transmit::new(written.path.on_wire()));
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.agent.poll_timeout()
    }

    fn poll_request(&mut self) -> Option<Request> {
        self.streams.poll_request()
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        let Self { agent, streams, heard } = self;
        let ours = streams.handle_answer(answer, |path, bytes| {
            if agent.handle_input(now, Input::new(path, bytes)) == Verdict::NotMine {
                assert!(agent.is_path_of_pair(&path), "data comes from the peer");
                heard.push(bytes.to_vec());
            }
        });
        if let (false, Answer::Connected { id, flow }) = (ours, answer) {
            assert!(streams.accept(id, flow));
        }
        while let Some(path) = streams.poll_lost() {
            agent.connection_lost(now, &path);
        }
    }
}

fn word(event: &Event) -> String {
    match event {
        Event::StateChanged(state) => state.to_string(),
        Event::PathValid { path, .. } if Streams::carries(path) => "valid".to_owned(),
        Event::PathSelected { path } if Streams::carries(path) => "selected".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A passive end on loopback: its owner listens, and lends its own hands to the connections.
struct Listening {
    owner: Owner,
    clock: Clock,
    listener: TcpListener,
    connections: BTreeMap<SocketId, TcpStream>,
}

impl Listening {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let owner = Owner::passive(listener.local_addr().unwrap());
        Self { owner, clock: Clock::start(), listener, connections: BTreeMap::new() }
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        if let Ok((stream, remote)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let id = SocketId(1 << 63 | self.connections.len() as u64);
            let flow = FourTuple::new(self.listener.local_addr().unwrap(), remote);
            self.connections.insert(id, stream);
            self.owner.handle_answer(now, Answer::Connected { id, flow });
        }
        for (id, stream) in &mut self.connections {
            let mut bytes = [0; 2_048];
            match stream.read(&mut bytes) {
                Ok(0) => {}
                Ok(len) => self.owner.handle_answer(now, Answer::Received { id: *id, bytes: &bytes[..len] }),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        let connections = &mut self.connections;
        pump(&mut self.owner, now, &mut Hands(connections, Vec::new()));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the passive end's owner does for its machine.
struct Hands<'a>(&'a mut BTreeMap<SocketId, TcpStream>, Vec<u8>);

impl gimlet_machine::Io<Owner> for Hands<'_> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        Some(Buf::new(&mut self.1))
    }

    fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        unreachable!("there is no socket: {transmit:?}");
    }

    fn event(&mut self, _: &mut Owner, _: Instant, _: Event) {}

    fn request(&mut self, request: Request) -> Option<Answer<'static>> {
        match request {
            Request::Write { id, bytes } => {
                self.0.get_mut(&id)?.write_all(&bytes).unwrap();
                Some(Answer::Written { id, len: bytes.len() })
            }
            Request::Close { id } => {
                self.0.remove(&id);
                None
            }
            Request::Bind { .. } | Request::Connect { .. } => request.refusal(CloseReason::Unsupported),
        }
    }
}

#[test]
fn mio_carries_the_active_end() {
    let mut passive = Listening::new();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut active =
        Driver::new(Owner::active(local), Sockets::bind([local]).unwrap(), Clock::start()).unwrap();
    let (of_active, of_passive) = (active.machine().introduction(), passive.owner.introduction());
    active.with(|owner, now| owner.hear_of(now, &of_passive));
    passive.owner.hear_of(passive.clock.now(), &of_active);
    let (mut told, end) = (Vec::new(), std::time::Instant::now() + WITHIN);
    while told.len() < TOLD.len() && std::time::Instant::now() < end {
        active.turn(Some(Duration::from_millis(1))).unwrap();
        passive.turn();
        told.extend(std::iter::from_fn(|| active.poll_event()).map(|event| word(&event)));
    }
    assert_eq!(told, TOLD);
    active.machine_mut().say(b"there");
    passive.owner.say(b"back");
    while (passive.owner.heard.is_empty() || active.machine().heard.is_empty())
        && std::time::Instant::now() < end
    {
        active.turn(Some(Duration::from_millis(1))).unwrap();
        passive.turn();
    }
    assert_eq!(
        (&passive.owner.heard[..], &active.machine().heard[..]),
        (&[b"there".to_vec()][..], &[b"back".to_vec()][..])
    );
}

#[tokio::test]
async fn tokio_carries_the_active_end() {
    let mut passive = Listening::new();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let sockets = Sockets::bind([local]).unwrap();
    let active = spawn(Plain(Owner::active(local)), sockets, Clock::start()).unwrap();
    let (of_active, of_passive) =
        (active.read(|it| it.0.introduction()).unwrap(), passive.owner.introduction());
    active.with(|owner, now| owner.0.hear_of(now, &of_passive)).unwrap();
    passive.owner.hear_of(passive.clock.now(), &of_active);
    let (mut told, end) = (Vec::new(), std::time::Instant::now() + WITHIN);
    while told.len() < TOLD.len() && std::time::Instant::now() < end {
        passive.turn();
        let event = tokio::time::timeout(Duration::from_millis(1), active.next_event()).await;
        told.extend(event.into_iter().map(|event| word(&event.unwrap())));
    }
    assert_eq!(told, TOLD);
    active.with(|owner, _| owner.0.say(b"there")).unwrap();
    passive.owner.say(b"back");
    let heard = || active.read(|it| it.0.heard.clone()).unwrap();
    while (passive.owner.heard.is_empty() || heard().is_empty()) && std::time::Instant::now() < end {
        passive.turn();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((passive.owner.heard, heard()), (vec![b"there".to_vec()], vec![b"back".to_vec()]));
}

/// Two hosts, the first behind a NAT that lets no datagram out, the second listening. Says what the first was told.
fn simulated(listens: bool) -> (Vec<String>, World<Owner>, [HostId; 2]) {
    let mut world = World::new(1);
    let line = LinkConfig::with_latency(Duration::from_millis(10));
    let kind = NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, 1]).unwrap();
    let nat = world.add_nat(NatConfig { firewall: Firewall::without_udp(), ..kind }, LinkConfig::default());
    let (local, remote): (SocketAddr, SocketAddr) =
        ("10.0.0.2:5000".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    let active =
        world.add_host(HostConfig::new("active", [local]).behind(nat).link(line), Owner::active(local));
    let listens = if listens { vec![remote] } else { Vec::new() };
    let host = HostConfig { listens, ..HostConfig::new("passive", [remote]) }.link(line);
    let passive = world.add_host(host, Owner::passive(remote));
    let of_active = world.touch(active, |owner, _| owner.introduction());
    let of_passive = world.touch(passive, |owner, _| owner.introduction());
    world.touch(passive, |owner, now| owner.hear_of(now, &of_active));
    world.touch(active, |owner, now| owner.hear_of(now, &of_passive));
    world.run_for(WITHIN);
    let mut told = Vec::new();
    while let Some((_, event)) = world.poll_event_of(active) {
        told.push(word(&event));
    }
    (told, world, [active, passive])
}

#[test]
fn the_simulator_carries_both_ends_past_a_firewall_that_lets_no_datagram_out() {
    let (told, mut world, [active, passive]) = simulated(true);
    assert_eq!(told, TOLD);
    world.touch(active, |owner, _| owner.say(b"there"));
    world.touch(passive, |owner, _| owner.say(b"back"));
    world.run_for(Duration::from_secs(1));
    let heard = |host| world.machine(host).unwrap().heard.clone();
    assert_eq!((heard(passive), heard(active)), (vec![b"there".to_vec()], vec![b"back".to_vec()]));
}

#[test]
fn where_nobody_listens_there_is_no_path() {
    assert_eq!(simulated(false).0, ["checking"]);
}
