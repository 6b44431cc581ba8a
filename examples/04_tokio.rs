//! Two nodes talk over tokio: a ticket, a connection, a stream, messages, a close.
//!
//! [`spawn`] puts the machine into a task and gives back a handle; every future of it may be dropped
//! at any time without losing anything, so `select!` and timeouts are safe.

use std::error::Error;
use std::sync::Arc;

use gimlet_machine::Direction;
use gimlet_node::{Config, Identity, Node};
use gimlet_tokio::{Handle, spawn};
use gimlet_udp::{Clock, Sockets, seed};

type Anything = Box<dyn Error + Send + Sync>;

/// A node on a loopback socket, with a fresh identity. A public one accepts and serves others.
fn start(public: bool) -> Result<Handle<Node>, Anything> {
    let sockets = Sockets::bind(["127.0.0.1:0".parse()?])?;
    let clock = Clock::start();
    let mut config = Config::new(
        Identity::from_secret(seed()?),
        seed()?,
        sockets.local_addresses().collect(),
        clock.origin(),
        clock.unix_time_at_origin(),
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    config.public = public;
    Ok(spawn(Node::new(clock.now(), config)?, sockets, clock)?)
}

/// Returns every message on the first stream of the first peer, until the peer has finished.
async fn echo(node: Handle<Node>) -> Result<(), Anything> {
    let connection = node.accept().await?;
    println!("server: {} is here", connection.peer());
    let mut stream = connection.accept_stream().await?;
    let end = loop {
        match stream.receive().await {
            Ok(message) => stream.send(&message).await?,
            Err(end) => break end,
        }
    };
    println!("server: no more messages, because {end}");
    // Waits until the peer has all of it.
    stream.finish().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let (server, client) = (start(true)?, start(false)?);

    // A ticket says who a public node is and where it listens, signed by the node itself.
    let addresses = server.local_addresses();
    let ticket = server.with(|node, now| node.ticket(&addresses, node.unix_seconds(now) + 3_600))??;
    println!("ticket: {ticket}");
    let serving = tokio::spawn(echo(server.clone()));

    client.with(|node, now| node.add_ticket(now, &ticket))??;
    let connection = client.connect(ticket.peer()).await?;
    let path = client.read(|node| node.path(ticket.peer()))?.ok_or("a connection has a path")?;
    println!("client: connected to {}, {path}", connection.peer());

    let mut stream = connection.open(Direction::Bidirectional).await?;
    for text in ["one", "two", "three"] {
        stream.send(text.as_bytes()).await?;
        let answer = stream.receive().await?;
        println!("client: {text} came back");
        assert_eq!(answer, text);
    }
    stream.finish().await?;
    serving.await??;

    // Delivers whatever was accepted, says goodbye, and ends the tasks.
    let (ours, theirs) = tokio::join!(client.close(), server.close());
    ours.and(theirs)?;
    Ok(())
}
