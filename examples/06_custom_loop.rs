//! Bring your own loop: a node on `std::net::UdpSocket`, with none of Gimlet's drivers.
//!
//! Whatever calls a machine has three things to do: hand it what arrived, drain it with [`pump`],
//! and come back at the deadline. [`drive`] is all of that. In a game, an RTOS or another runtime it
//! looks different and does the same.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use gimlet_machine::{
    Answer, Buf, CloseReason, Direction, FourTuple, Input, Instant, Io, Machine, Request, Session, Transmit,
    pump,
};
use gimlet_node::{Config, Event, Identity, Node, Stream, Ticket};

type Anything = Box<dyn Error + Send + Sync>;

/// The outside, as the pump sees it.
struct Outside<'a> {
    socket: &'a UdpSocket,
    storage: Vec<u8>,
    heard: Vec<Event>,
}

impl Io<Node> for Outside<'_> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        Some(Buf::new(&mut self.storage))
    }

    fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        // What the network refuses is lost, as the network loses other things.
        let _ = self.socket.send_to(&self.storage, transmit.path.remote);
    }

    fn event(&mut self, _node: &mut Node, _now: Instant, event: Event) {
        self.heard.push(event);
    }

    fn request(&mut self, request: Request) -> Option<Answer<'static>> {
        // This loop has one socket and opens no other, and a machine can live with that: it only has to be
        // told. A loop that does open them answers `Bound`, reads them like the first, and keeps what
        // `gimlet_udp::{Sockets, Connections}` keep.
        request.refusal(CloseReason::Unsupported)
    }
}

/// Runs `node` until it is closed. `act` hears every event and may call any verb.
fn drive(
    node: &mut Node,
    socket: &UdpSocket,
    origin: std::time::Instant,
    mut act: impl FnMut(&mut Node, Instant, Event) -> Result<(), Anything>,
) -> Result<(), Anything> {
    let local = socket.local_addr()?;
    let mut outside = Outside { socket, storage: Vec::new(), heard: Vec::new() };
    let mut datagram = vec![0; 65_536];
    let now = || Instant::ZERO + origin.elapsed();
    loop {
        let deadline = pump(node, now(), &mut outside);
        if !outside.heard.is_empty() {
            // Verbs may have caused more: drain again before waiting.
            for event in std::mem::take(&mut outside.heard) {
                act(node, now(), event)?;
            }
            continue;
        }
        if node.is_closed() {
            return Ok(());
        }
        let wait = deadline.map_or(Duration::MAX, |deadline| deadline.at.since(now()));
        // A socket takes no zero for an answer, and nothing here needs to wait longer than this.
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(1));
        socket.set_read_timeout(Some(wait))?;
        match socket.recv_from(&mut datagram) {
            Ok((length, remote)) => {
                let input = Input::new(FourTuple::new(local, remote), &mut datagram[..length]);
                node.handle_input(now(), input);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// 32 bytes that nobody can guess.
fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}

fn node(socket: &UdpSocket, origin: std::time::Instant, public: bool) -> Result<Node, Anything> {
    let mut config = Config::new(
        Identity::from_secret(secret()?),
        secret()?,
        vec![socket.local_addr()?],
        origin,
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?,
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    config.public = public;
    Ok(Node::new(Instant::ZERO + origin.elapsed(), config)?)
}

/// Answers one message, and closes when its peer has gone.
fn serve(tickets: &mpsc::Sender<Ticket>) -> Result<(), Anything> {
    let (socket, origin) = (UdpSocket::bind("127.0.0.1:0")?, std::time::Instant::now());
    let mut server = node(&socket, origin, true)?;
    let addresses: [SocketAddr; 1] = [socket.local_addr()?];
    tickets.send(server.ticket(&addresses, server.unix_seconds(Instant::ZERO) + 3_600)?)?;

    drive(&mut server, &socket, origin, |node, now, event| {
        match event {
            Event::StreamsReady { peer } => {
                while let Some(stream) = node.accept_stream(now, peer)? {
                    answer(node, now, stream)?;
                }
            }
            Event::Readable { stream } => answer(node, now, stream)?,
            Event::Lost { .. } => node.close_all(now),
            other => println!("server: {other:?}"),
        }
        Ok(())
    })
}

fn answer(node: &mut Node, now: Instant, stream: Stream) -> Result<(), Anything> {
    if let Ok(Some(message)) = node.receive(now, stream) {
        println!("server: heard {:?}", String::from_utf8_lossy(&message));
        node.send(now, stream, b"hello yourself")?;
        node.finish(now, stream)?;
    }
    Ok(())
}

fn main() -> Result<(), Anything> {
    let (tickets, ticket) = mpsc::channel();
    let server = thread::spawn(move || serve(&tickets));
    let ticket = ticket.recv()?;

    let (socket, origin) = (UdpSocket::bind("127.0.0.1:0")?, std::time::Instant::now());
    let mut client = node(&socket, origin, false)?;
    client.add_ticket(Instant::ZERO + origin.elapsed(), &ticket)?;
    client.connect(Instant::ZERO + origin.elapsed(), ticket.peer())?;

    let mut answer = None;
    drive(&mut client, &socket, origin, |node, now, event| {
        match event {
            Event::Connected { peer, path, .. } => {
                println!("client: connected, {path}");
                let stream =
                    node.open(now, peer, Direction::Bidirectional)?.ok_or("a fresh peer has credit")?;
                node.send(now, stream, b"hello")?;
            }
            Event::Readable { stream } => {
                if let Ok(Some(message)) = node.receive(now, stream) {
                    answer = Some(message);
                    node.close_all(now);
                }
            }
            other => println!("client: {other:?}"),
        }
        Ok(())
    })?;
    let answer = answer.ok_or("the server did not answer")?;
    println!("client: heard {:?}", String::from_utf8_lossy(&answer));
    server.join().map_err(|_| "the server panicked")??;
    Ok(())
}
