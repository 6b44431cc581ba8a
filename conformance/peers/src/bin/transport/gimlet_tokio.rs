//! Our tokio driver, through its public handles, on two single-threaded runtimes.

use std::net::SocketAddr;
use std::sync::Arc;

use gimlet_machine::{Direction, PeerId};
use gimlet_node::{Config, Identity, Node};
use gimlet_tokio::{Connection, Handle, spawn};
use gimlet_udp::{Clock, Sockets};

use crate::{Sample, Watch};

const CHUNK: usize = 256 * 1024;

/// Sends `bytes` one way on one stream.
pub fn bulk(bytes: u64) -> Sample {
    run(
        |connection| async move {
            let mut stream = connection.accept_stream().await.expect("a stream");
            while stream.read(usize::MAX).await.expect("read").is_some() {}
        },
        move |connection| async move {
            let mut stream = connection.open(Direction::Unidirectional).await.expect("a stream");
            let chunk = vec![7; CHUNK];
            for _ in 0..bytes / CHUNK as u64 {
                stream.write_all(&chunk).await.expect("written");
            }
            stream.finish().await.expect("delivered");
        },
    )
}

/// Sends `count` messages of 64 bytes, one call each.
pub fn messages(count: u64) -> Sample {
    run(
        |connection| async move {
            let mut stream = connection.accept_stream().await.expect("a stream");
            while stream.receive().await.is_ok() {}
        },
        move |connection| async move {
            let mut stream = connection.open(Direction::Unidirectional).await.expect("a stream");
            for _ in 0..count {
                stream.send(&[7; 64]).await.expect("sent");
            }
            stream.finish().await.expect("delivered");
        },
    )
}

/// A message of 64 bytes there and back, `count` times.
pub fn ping(count: u64) -> Sample {
    run(
        |connection| async move {
            let mut stream = connection.accept_stream().await.expect("a stream");
            while let Ok(message) = stream.receive().await {
                if stream.send(&message).await.is_err() {
                    return;
                }
            }
        },
        move |connection| async move {
            let mut stream = connection.open(Direction::Bidirectional).await.expect("a stream");
            for _ in 0..count {
                stream.send(&[7; 64]).await.expect("sent");
                stream.receive().await.expect("answered");
            }
        },
    )
}

/// A node on loopback.
pub fn node(secret: u8, clock: &Clock, sockets: &Sockets, public: bool) -> Node {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let locals: Vec<SocketAddr> = sockets.local_addresses().collect();
    let seed = gimlet_udp::seed().expect("entropy");
    let identity = Identity::from_secret([secret; 32]);
    let (origin, unix) = (clock.origin(), clock.unix_time_at_origin());
    let mut config = Config::new(identity, seed, locals, origin, unix, provider);
    config.public = public;
    Node::new(clock.now(), config).expect("a node")
}

fn start(secret: u8, public: bool) -> Handle<Node> {
    let clock = Clock::start();
    let sockets = Sockets::bind(["127.0.0.1:0".parse().expect("an address")]).expect("a socket");
    let node = node(secret, &clock, &sockets, public);
    spawn(node, sockets, clock).expect("a task")
}

fn run<S, C>(
    server: impl FnOnce(Connection<Node>) -> S + Send + 'static,
    client: impl FnOnce(Connection<Node>) -> C,
) -> Sample
where
    S: Future<Output = ()>,
    C: Future<Output = ()>,
{
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let handle = start(1, true);
            let locals = handle.local_addresses();
            let ticket = handle.read(|node| node.ticket(&locals, u64::MAX)).expect("running").expect("a ticket");
            tell.send(ticket).expect("the client waits");
            server(handle.accept().await.expect("a client")).await;
            handle.close().await.expect("closed");
        });
    });
    let ticket = told.recv().expect("the server is up");
    let sample = runtime().block_on(async {
        let handle = start(2, false);
        let peer: PeerId = ticket.peer();
        handle.with(|node, now| node.add_ticket(now, &ticket)).expect("running").expect("a good ticket");
        let connection = handle.connect(peer).await.expect("connected");
        let watch = Watch::start();
        client(connection).await;
        let sample = watch.stop();
        handle.close().await.expect("closed");
        sample
    });
    thread.join().expect("the server ends well");
    sample
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
