//! Our mio driver: one thread per node, the machine's own verbs between two turns.

use std::time::Duration;

use gimlet_machine::{Direction, PeerId, Session};
use gimlet_mio::Driver;
use gimlet_node::{Error, Node, Stream};
use gimlet_udp::{Clock, Sockets};

use super::gimlet_tokio::node;
use crate::{Sample, Watch};

const CHUNK: usize = 256 * 1024;

/// Sends `bytes` one way on one stream.
pub fn bulk(bytes: u64) -> Sample {
    let sink = |driver: &mut Driver<Node>, peer: PeerId| {
        let stream = wait(driver, |node, now| node.accept_stream(now, peer)).expect("a stream");
        while wait(driver, |node, now| node.read(now, stream, usize::MAX)).is_ok_and(|chunk| !chunk.is_empty()) {}
    };
    let source = move |driver: &mut Driver<Node>, peer: PeerId| {
        let stream = wait(driver, |node, now| node.open(now, peer, Direction::Unidirectional)).expect("a stream");
        let chunk = vec![7; CHUNK];
        for _ in 0..bytes / CHUNK as u64 {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let taken = wait(driver, |node, now| some(node.write(now, stream, rest)?)).expect("written");
                rest = &rest[taken..];
            }
        }
        deliver(driver, stream);
    };
    run(sink, source)
}

/// Sends `count` messages of 64 bytes, one call each.
pub fn messages(count: u64) -> Sample {
    let sink = |driver: &mut Driver<Node>, peer: PeerId| {
        let stream = wait(driver, |node, now| node.accept_stream(now, peer)).expect("a stream");
        while wait(driver, |node, now| node.receive(now, stream)).is_ok() {}
    };
    let source = move |driver: &mut Driver<Node>, peer: PeerId| {
        let stream = wait(driver, |node, now| node.open(now, peer, Direction::Unidirectional)).expect("a stream");
        for _ in 0..count {
            wait(driver, |node, now| Ok(node.send(now, stream, &[7; 64])?.then_some(()))).expect("sent");
        }
        deliver(driver, stream);
    };
    run(sink, source)
}

/// A message of 64 bytes there and back, `count` times.
pub fn ping(count: u64) -> Sample {
    let echo = |driver: &mut Driver<Node>, peer: PeerId| {
        let stream = wait(driver, |node, now| node.accept_stream(now, peer)).expect("a stream");
        while let Ok(message) = wait(driver, |node, now| node.receive(now, stream)) {
            let sent = wait(driver, |node, now| Ok(node.send(now, stream, &message)?.then_some(())));
            if sent.is_err() {
                return;
            }
        }
    };
    let source = move |driver: &mut Driver<Node>, peer: PeerId| {
        let stream = wait(driver, |node, now| node.open(now, peer, Direction::Bidirectional)).expect("a stream");
        for _ in 0..count {
            wait(driver, |node, now| Ok(node.send(now, stream, &[7; 64])?.then_some(()))).expect("sent");
            wait(driver, |node, now| node.receive(now, stream)).expect("answered");
        }
    };
    run(echo, source)
}

fn some(taken: usize) -> Result<Option<usize>, Error> {
    Ok((taken > 0).then_some(taken))
}

/// Turns the crank until `verb` has an answer.
fn wait<R>(
    driver: &mut Driver<Node>,
    mut verb: impl FnMut(&mut Node, gimlet_machine::Instant) -> Result<Option<R>, Error>,
) -> Result<R, Error> {
    loop {
        if let Some(answer) = driver.with(&mut verb)? {
            return Ok(answer);
        }
        driver.turn(Some(Duration::from_secs(5))).expect("sockets work");
        while driver.poll_event().is_some() {}
    }
}

fn deliver(driver: &mut Driver<Node>, stream: Stream) {
    driver.with(|node, now| node.finish(now, stream)).expect("still open");
    wait(driver, |node, _| Ok(node.is_delivered(stream)?.then_some(()))).expect("delivered");
}

fn start(secret: u8, public: bool) -> Driver<Node> {
    let clock = Clock::start();
    let sockets = Sockets::bind(["127.0.0.1:0".parse().expect("an address")]).expect("a socket");
    let node = node(secret, &clock, &sockets, public);
    Driver::new(node, sockets, clock).expect("a driver")
}

fn close(driver: &mut Driver<Node>) {
    driver.with(|node, now| node.close_all(now));
    wait(driver, |node, _| Ok(node.is_closed().then_some(()))).expect("closed");
    driver.turn(Some(Duration::ZERO)).expect("sockets work");
}

fn run(
    server: impl FnOnce(&mut Driver<Node>, PeerId) + Send + 'static,
    client: impl FnOnce(&mut Driver<Node>, PeerId),
) -> Sample {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut driver = start(1, true);
        let locals: Vec<_> = driver.sockets().local_addresses().collect();
        tell.send(driver.machine().ticket(&locals, u64::MAX).expect("a ticket")).expect("the client waits");
        let peer = wait(&mut driver, |node, now| Ok(node.accept(now))).expect("a client");
        server(&mut driver, peer);
        close(&mut driver);
    });
    let ticket = told.recv().expect("the server is up");
    let mut driver = start(2, false);
    driver.with(|node, now| node.add_ticket(now, &ticket)).expect("a good ticket");
    let peer = ticket.peer();
    wait(&mut driver, |node, _| Ok(node.is_connected(peer)?.then_some(()))).expect("connected");
    let watch = Watch::start();
    client(&mut driver, peer);
    let sample = watch.stop();
    close(&mut driver);
    thread.join().expect("the server ends well");
    sample
}
