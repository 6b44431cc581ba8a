//! What a machine asks of its driver: the same requests, the same answers, whatever it runs on.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use gimlet_machine::{FourTuple, Request, SocketId};
use gimlet_mio::Driver;
use gimlet_sim::{HostConfig, HostId, LinkConfig, World};
use gimlet_testkit::{Puppet, Report};
use gimlet_tokio::{Handle, Plain};
use gimlet_udp::{Clock, Sockets};

/// How much time one turn takes.
const TURN: Duration = Duration::from_millis(1);
/// Turns until something is taken to happen never.
const TURNS_MAX: usize = 20_000;
/// Turns after which nothing more is expected.
const TURNS_QUIET: usize = 50;
/// To this, friends answer by closing.
const BYE: &[u8] = b"bye";

/// A machine under a driver, and a friend who repeats what it hears.
pub(crate) trait Rig {
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet));
    /// Lets the machine and its friend get on for a while.
    fn turn(&mut self);
    fn report(&mut self) -> Option<Report>;
    /// Our address.
    fn ip(&self) -> IpAddr;
    /// Where the friend hears datagrams and takes connections.
    fn friend(&self) -> SocketAddr;
    /// Where nobody takes connections.
    fn nobody(&self) -> SocketAddr;
}

/// Plays the scene; returns what the machine was told, in order. What came in several pieces is told as one,
/// because how a stream falls into pieces is the network's business.
pub(crate) fn play(rig: &mut impl Rig) -> Vec<String> {
    let (any, friend, nobody) = (SocketAddr::new(rig.ip(), 0), rig.friend(), rig.nobody());
    let mut player = Player::new(rig);
    player.bind(1, any);
    player.bind(2, any);
    player.sees("2 bound");
    let first = player.locals[&1];
    player.bind(3, first);
    player.sees("3 closed: the address is not to be had");
    for id in [1, 2] {
        player.say(id, "hello");
        player.sees(&format!("{id} heard hello"));
    }
    for id in [1, 1, 99] {
        player.asks(Request::Close { id: SocketId(id) });
    }
    player.say(1, "nobody says this");
    player.say(2, "still there");
    player.sees("2 heard still there");
    player.bind(4, first);
    player.sees("4 bound");
    player.say(4, "again");
    player.sees("4 heard again");
    player.bind(8, any);
    player.sees("8 bound");
    player.leaves(8, 4);
    player.sees("4 heard word 9");

    player.connect(5, any.ip(), friend);
    player.sees("5 connected");
    player.write(5, "first, ");
    player.write(5, "second");
    player.sees("5 received first, second");
    player.asks(Request::Close { id: SocketId(5) });
    player.write(5, "too late");
    player.connect(6, any.ip(), nobody);
    player.sees("6 closed: nobody listens there");
    // Written before it stands.
    player.connect(7, any.ip(), friend);
    player.write(7, "bye");
    player.sees("7 closed: the peer closed the connection");
    player.quiet();
    player.told
}

/// What [`play`] returns.
pub(crate) const TOLD: &[&str] = &[
    "1 bound",
    "2 bound",
    "3 closed: the address is not to be had",
    "1 heard hello",
    "2 heard hello",
    "2 heard still there",
    "4 bound",
    "4 heard again",
    "8 bound",
    "4 heard word 0",
    "4 heard word 1",
    "4 heard word 2",
    "4 heard word 3",
    "4 heard word 4",
    "4 heard word 5",
    "4 heard word 6",
    "4 heard word 7",
    "4 heard word 8",
    "4 heard word 9",
    "5 connected",
    "5 written 13",
    "5 received first, second",
    "6 closed: nobody listens there",
    "7 connected",
    "7 written 3",
    "7 closed: the peer closed the connection",
];

struct Player<'a, R> {
    rig: &'a mut R,
    told: Vec<String>,
    locals: BTreeMap<u64, SocketAddr>,
    written: BTreeMap<SocketId, usize>,
    received: BTreeMap<SocketId, String>,
}

impl<'a, R: Rig> Player<'a, R> {
    fn new(rig: &'a mut R) -> Self {
        let (locals, written, received) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rig, told: Vec::new(), locals, written, received }
    }

    fn asks(&mut self, request: Request) {
        self.rig.puppet(|puppet| puppet.ask(request));
    }

    fn bind(&mut self, id: u64, local: SocketAddr) {
        self.asks(Request::Bind { id: SocketId(id), local });
    }

    fn connect(&mut self, id: u64, local: IpAddr, remote: SocketAddr) {
        self.asks(Request::Connect { id: SocketId(id), local, remote });
    }

    fn write(&mut self, id: u64, text: &'static str) {
        self.asks(Request::Write { id: SocketId(id), bytes: text.into() });
    }

    fn say(&mut self, id: u64, text: &str) {
        let path = FourTuple::new(self.locals[&id], self.rig.friend());
        self.rig.puppet(|puppet| puppet.say(path, text.as_bytes()));
    }

    /// Says ten words to another of our sockets, and closes the one it speaks from at the same moment.
    fn leaves(&mut self, id: u64, to: u64) {
        let path = FourTuple::new(self.locals[&id], self.locals[&to]);
        self.rig.puppet(|puppet| {
            for word in 0..10 {
                puppet.say(path, format!("word {word}").as_bytes());
            }
            puppet.ask(Request::Close { id: SocketId(id) });
        });
    }

    fn sees(&mut self, line: &str) {
        for _ in 0..TURNS_MAX {
            self.turn();
            if self.told.iter().any(|told| told == line) {
                return;
            }
        }
        panic!("`{line}` does not come; so far {:#?}", self.told);
    }

    fn quiet(&mut self) {
        (0..TURNS_QUIET).for_each(|_| self.turn());
    }

    fn turn(&mut self) {
        self.rig.turn();
        while let Some(report) = self.rig.report() {
            self.hear(report);
        }
    }

    fn hear(&mut self, report: Report) {
        let friend = self.rig.friend();
        match report {
            Report::Heard(path, bytes) => {
                assert!(path.remote == friend || self.locals.values().any(|ours| *ours == path.remote));
                // Of two sockets that had the same address one after the other, the later.
                let id = self.locals.iter().rev().find(|(_, local)| **local == path.local).map(|(id, _)| *id);
                let id = id.expect("datagrams arrive at sockets that were bound");
                self.told.push(format!("{id} heard {}", String::from_utf8_lossy(&bytes)));
            }
            Report::Bound(SocketId(id), local) => {
                assert!(local.ip() == self.rig.ip() && local.port() != 0);
                self.locals.insert(id, local);
                self.told.push(format!("{id} bound"));
            }
            Report::Connected(SocketId(id), flow) => {
                assert!(flow.local.ip() == self.rig.ip() && flow.remote == friend);
                self.told.push(format!("{id} connected"));
            }
            Report::Written(id, len) => {
                let written = self.written.entry(id).or_default();
                *written += len;
                retell(&mut self.told, &format!("{} written", id.0), &written.to_string());
            }
            Report::Received(id, bytes) => {
                let received = self.received.entry(id).or_default();
                received.push_str(&String::from_utf8_lossy(&bytes));
                retell(&mut self.told, &format!("{} received", id.0), received);
            }
            Report::Closed(SocketId(id), why) => self.told.push(format!("{id} closed: {why}")),
        }
    }
}

/// Tells it anew where it was told first.
fn retell(told: &mut Vec<String>, what: &str, value: &str) {
    let line = format!("{what} {value}");
    match told.iter_mut().find(|told| told.starts_with(what)) {
        Some(told) => *told = line,
        None => told.push(line),
    }
}

/// In the simulator, 5 ms apart.
pub(crate) struct Simulated {
    world: World<Puppet>,
    ours: HostId,
    friend: HostId,
    addresses: [SocketAddr; 2],
}

impl Simulated {
    pub(crate) fn new() -> Self {
        let addresses = [1, 2].map(|nth| SocketAddr::from(([198, 51, 100, nth], 4_000)));
        let mut world = World::new(1);
        let [ours, friend] = addresses.map(|address| {
            let line = LinkConfig::with_latency(Duration::from_micros(2_500));
            let config = HostConfig::new(address.to_string(), [address]).link(line);
            world.add_host(HostConfig { listens: vec![address], ..config }, Puppet::new())
        });
        Self { world, ours, friend, addresses }
    }
}

impl Rig for Simulated {
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet)) {
        self.world.touch(self.ours, |puppet, _| verb(puppet));
    }
    fn turn(&mut self) {
        self.world.run_for(TURN);
        while let Some((_, report)) = self.world.poll_event_of(self.friend) {
            self.world.touch(self.friend, |puppet, _| match report {
                Report::Heard(path, bytes) => puppet.say(path, &bytes),
                Report::Received(id, bytes) if bytes == BYE => puppet.ask(Request::Close { id }),
                Report::Received(id, bytes) => puppet.ask(Request::Write { id, bytes: bytes.into() }),
                Report::Bound(..) | Report::Connected(..) | Report::Written(..) | Report::Closed(..) => {}
            });
        }
    }
    fn report(&mut self) -> Option<Report> {
        self.world.poll_event_of(self.ours).map(|(_, report)| report)
    }
    fn ip(&self) -> IpAddr {
        self.addresses[0].ip()
    }
    fn friend(&self) -> SocketAddr {
        self.addresses[1]
    }
    fn nobody(&self) -> SocketAddr {
        SocketAddr::new(self.friend().ip(), 4_001)
    }
}

/// A driver on real sockets.
pub(crate) trait Seat: Sized {
    fn sit(sockets: Sockets) -> Self;
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet));
    fn turn(&mut self);
    fn report(&mut self) -> Option<Report>;
}

/// On loopback. The friend is made of nothing but the standard library.
pub(crate) struct Looped<S> {
    seat: S,
    datagrams: UdpSocket,
    listener: TcpListener,
    streams: Vec<TcpStream>,
    // Dropped after the seat, which lives in it.
    _runtime: tokio::runtime::Runtime,
}

impl<S: Seat> Looped<S> {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let guard = runtime.enter();
        let seat = S::sit(Sockets::bind([SocketAddr::from(([127, 0, 0, 1], 0))]).expect("a free port"));
        drop(guard);
        let (listener, datagrams) = (0..100).find_map(|_| one_port_for_both()).expect("a free port");
        listener.set_nonblocking(true).expect("sockets need not block");
        datagrams.set_nonblocking(true).expect("sockets need not block");
        Self { seat, datagrams, listener, streams: Vec::new(), _runtime: runtime }
    }
}

fn one_port_for_both() -> Option<(TcpListener, UdpSocket)> {
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let datagrams = UdpSocket::bind(listener.local_addr().ok()?).ok()?;
    Some((listener, datagrams))
}

impl<S: Seat> Rig for Looped<S> {
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet)) {
        self.seat.puppet(verb);
    }
    fn turn(&mut self) {
        self.seat.turn();
        let mut bytes = [0; 1_000];
        while let Ok((len, from)) = self.datagrams.recv_from(&mut bytes) {
            self.datagrams.send_to(&bytes[..len], from).expect("loopback takes it");
        }
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("sockets need not block");
            self.streams.push(stream);
        }
        self.streams.retain_mut(|stream| match stream.read(&mut bytes) {
            Ok(len) if len > 0 && &bytes[..len] != BYE => stream.write_all(&bytes[..len]).is_ok(),
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
    }
    fn report(&mut self) -> Option<Report> {
        self.seat.report()
    }
    fn ip(&self) -> IpAddr {
        [127, 0, 0, 1].into()
    }
    fn friend(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }
    fn nobody(&self) -> SocketAddr {
        // A port below 1024 that no service of this kind of machine has: discard (RFC 863).
        SocketAddr::new(self.ip(), 9)
    }
}

pub(crate) struct OnMio(Driver<Puppet>);

impl Seat for OnMio {
    fn sit(sockets: Sockets) -> Self {
        Self(Driver::new(Puppet::new(), sockets, Clock::start()).expect("a poll loop"))
    }
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet)) {
        verb(self.0.machine_mut());
    }
    fn turn(&mut self) {
        self.0.turn(Some(TURN)).expect("a turn");
    }
    fn report(&mut self) -> Option<Report> {
        self.0.poll_event()
    }
}

pub(crate) struct OnTokio(Handle<Plain<Puppet>>);

impl Seat for OnTokio {
    fn sit(sockets: Sockets) -> Self {
        Self(gimlet_tokio::spawn(Plain(Puppet::new()), sockets, Clock::start()).expect("a task"))
    }
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet)) {
        self.0.with(|machine, _| verb(&mut machine.0)).expect("the driver runs");
    }
    fn turn(&mut self) {
        std::thread::sleep(TURN);
    }
    fn report(&mut self) -> Option<Report> {
        let mut next = std::pin::pin!(self.0.next_event());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Ready(report) => Some(report.expect("the driver runs")),
            std::task::Poll::Pending => None,
        }
    }
}

/// A rig whose machine is not told of one thing.
pub(crate) struct Deaf<R> {
    rig: R,
    reports: usize,
}

impl<R> Deaf<R> {
    pub(crate) fn new(rig: R) -> Self {
        Self { rig, reports: 0 }
    }
}

impl<R: Rig> Rig for Deaf<R> {
    fn puppet(&mut self, verb: impl FnOnce(&mut Puppet)) {
        self.rig.puppet(verb);
    }
    fn turn(&mut self) {
        self.rig.turn();
    }
    fn report(&mut self) -> Option<Report> {
        let report = self.rig.report()?;
        if matches!(report, Report::Written(..)) && self.reports == 0 {
            self.reports += 1;
            return self.rig.report();
        }
        Some(report)
    }
    fn ip(&self) -> IpAddr {
        self.rig.ip()
    }
    fn friend(&self) -> SocketAddr {
        self.rig.friend()
    }
    fn nobody(&self) -> SocketAddr {
        self.rig.nobody()
    }
}
