//! `gimlet demo`: the whole thing on loopback.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gimlet_machine::PeerId;
use gimlet_node::{Allow, Node, Paths, PunchLimits, Ticket};
use gimlet_tokio::Connection;
use serde::Serialize;
use tokio::time::timeout;

use super::join::Host;
use crate::cli::parse_bytes;
use crate::failure::{Exit, Failure};
use crate::identity;
use crate::interrupt::Interrupts;
use crate::line::{Bytes, Line, hex, kind_of, mbit_per_s, millis};
use crate::node::{self, Running, Start};
use crate::report::Report;
use crate::sockets;
use crate::transfer::deliver::{self, Delivered};
use crate::transfer::pace::{Pace, STALL_MAX};
use crate::transfer::part::Folder;
use crate::transfer::source::Source;
use crate::transfer::take::{Taken, TakenFile, Welcome};
use crate::watch::Watch;

/// How long each connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// How long the demo's ticket is good for, in seconds.
const TICKET_SECONDS: u64 = 3_600;

/// Watch a public node and two peers meet on this machine
///
/// Three real nodes with sockets of their own on 127.0.0.1. The peers know the public node's ticket
/// and each other's peer id, nothing else. They are introduced, check paths, connect directly, talk,
/// and move made-up data whose hash is compared. Prints what happened, when, and on which path.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet demo                                     100 MiB
  gimlet demo --size 1G
  gimlet demo --json | tail -n 1                  the result, for programs")]
pub(crate) struct Args {
    /// How much to transfer; a number of bytes, or one with K, M, G or T
    #[arg(long, value_name = "SIZE", default_value = "100M", value_parser = parse_bytes)]
    size: u64,
}

/// The last line. Its fields are fixed: programs read them.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    connect_ms: f64,
    path: &'static str,
    bytes: u64,
    mbit_per_s: f64,
    sha256: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { connect_ms, path, bytes, mbit_per_s, sha256, .. } = self;
        writeln!(f, "\nconnected   in {connect_ms:.1} ms, path {path}")?;
        writeln!(f, "transferred {} at {mbit_per_s:.0} Mbit/s, stored and verified", Bytes(*bytes))?;
        write!(f, "sha256      {sha256}")
    }
}

/// One of the two peers.
struct Peer {
    name: &'static str,
    id: PeerId,
    node: Running,
    watch: Watch,
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    let place = Place::new().map_err(|error| Failure::local("make a temporary folder", &error))?;
    let (public, _) = start("public", true, Allow::Anyone, report)?;
    let expires = node::unix_seconds() + TICKET_SECONDS;
    let addresses = public.node.local_addresses();
    let ticket = public.node.read(|node| node.ticket(&addresses, expires));
    let ticket = ticket
        .map_err(|stopped| Failure::new(Exit::Failed, stopped))?
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let (alice, _) = start("alice", false, Allow::Nobody, report)?;
    let (bob, addresses) = start("bob", false, Allow::Listed([alice.id].into()), report)?;

    let result = tokio::select! {
        result = meet(&alice, &bob, &addresses, &ticket, &args, place.path(), report) => result,
        () = interrupts.next() => Err(Failure::interrupted()),
    };
    for peer in [&alice, &bob, &public] {
        node::close(&peer.node, &mut interrupts).await;
    }
    drop(place);
    report.done(&result?);
    Ok(())
}

fn start(
    name: &'static str,
    public: bool,
    allow: Allow,
    report: &Report,
) -> Result<(Peer, Vec<SocketAddr>), Failure> {
    let identity = identity::fresh()?;
    let id = identity.peer_id();
    let sockets = sockets::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], &[])?;
    let (paths, punch) = (Paths::Any, Some(PunchLimits::default()));
    let node =
        Start { identity, sockets, public, allow, turn: Vec::new(), relay: None, paths, punch }.run()?;
    report.name(id, name);
    let addresses = node.local_addresses();
    let told = addresses.iter().map(ToString::to_string).collect();
    report.say_of(Some(name), &Line::Started { peer: id.to_string(), addresses: told });
    let watch = Watch::start(&node, report, Some(name));
    Ok((Peer { name, id, node, watch }, addresses))
}

/// Alice finds Bob and talks to him.
async fn meet(
    alice: &Peer,
    bob: &Peer,
    bob_addresses: &[SocketAddr],
    ticket: &Ticket,
    args: &Args,
    folder: &Path,
    report: &Report,
) -> Result<Done, Failure> {
    for peer in [alice, bob] {
        node::join(&peer.node, ticket, &peer.watch, CONNECT_MAX).await?;
    }
    let begun = Instant::now();
    let to_bob = node::reach(&alice.node, bob.id, CONNECT_MAX).await?;
    let connect_ms = millis(begun.elapsed());
    let arrived = timeout(CONNECT_MAX, bob.node.accept()).await;
    let to_alice = arrived
        .map_err(|_| Failure::new(Exit::Unreachable, "bob does not know that alice is connected"))?
        .map_err(|stopped| Failure::new(Exit::Failed, stopped))?;
    let path = alice.node.read(|node| node.path(bob.id)).ok().flatten();
    let path = path.ok_or_else(|| Failure::new(Exit::Unreachable, "the connection is gone"))?;
    if !path.is_direct() || !bob_addresses.contains(&path.peer_address()) {
        return Err(Failure::new(
            Exit::Unreachable,
            format_args!("not a direct path between the peers: {path}"),
        ));
    }

    let folder = Folder::open(folder).map_err(|error| Failure::file("use", folder, &error))?;
    let host = |folder, who| {
        Host::new(
            Welcome { folder, size_max: u64::MAX, messages: true, pipes: Welcome::no_pipes() },
            report,
            Some(who),
        )
    };
    let (at_alice, at_bob) = (host(None, alice.name), host(Some(folder), bob.name));
    say(&to_bob, &to_alice, &at_bob, "hello, bob").await?;
    say(&to_alice, &to_bob, &at_alice, "hello, alice").await?;
    let (delivered, stored, took) =
        transfer(&to_bob, &to_alice, &at_bob, args.size, alice.name, report).await?;
    if stored.sha256 != delivered.sha256 || hash_of(&stored.path).await? != delivered.sha256 {
        return Err(Failure::new(Exit::Transfer, "the stored file does not have the hash of what was sent"));
    }
    Ok(Done {
        event: "done",
        ok: true,
        connect_ms,
        path: kind_of(path, false),
        bytes: stored.size,
        mbit_per_s: mbit_per_s(stored.size, took),
        sha256: hex(&stored.sha256),
    })
}

/// One side sends a message, the other has to have received exactly that.
async fn say(from: &Connection<Node>, to: &Connection<Node>, host: &Host, text: &str) -> Result<(), Failure> {
    let (sent, heard) = tokio::join!(deliver::message(from, text), take_next(to, host));
    sent.map_err(|fault| fault.failure("the message"))?;
    match heard {
        Some(Taken::Message(heard)) if heard == text => Ok(()),
        _ => Err(Failure::new(Exit::Transfer, "the message did not arrive as it was sent")),
    }
}

/// Takes the next stream that the peer opens; `None` if there is none, or it did not end well.
async fn take_next(from: &Connection<Node>, host: &Host) -> Option<Taken> {
    let stream = timeout(STALL_MAX, from.accept_stream()).await.ok()?.ok()?;
    host.take(stream, from.peer()).await
}

async fn transfer(
    from: &Connection<Node>,
    to: &Connection<Node>,
    host: &Host,
    size: u64,
    who: &str,
    report: &Report,
) -> Result<(Delivered, TakenFile, Duration), Failure> {
    let (source, offer) = Source::generated("demo.bin", size);
    let (name, peer) = (offer.name.clone(), from.peer().to_string());
    report.say_of(Some(who), &Line::Sending { to: peer.clone(), name: name.clone(), bytes: size });
    let pace = Arc::new(Pace::default());
    let begun = Instant::now();
    let (sent, taken) = tokio::join!(deliver::file(from, source, offer, &pace), take_next(to, host));
    let took = begun.elapsed();
    let delivered = sent.map_err(|fault| fault.failure("the transfer"))?;
    let Some(Taken::File(stored)) = taken else {
        return Err(Failure::new(Exit::Transfer, "the file did not arrive"));
    };
    let line = Line::Sent {
        to: peer,
        name,
        stored_as: delivered.name.clone(),
        bytes: size,
        resumed_at: delivered.resumed_at,
        mbit_per_s: mbit_per_s(size, took),
        sha256: hex(&delivered.sha256),
    };
    report.say_of(Some(who), &line);
    Ok((delivered, stored, took))
}

/// Reads the stored file again: what counts is what is on the disk.
async fn hash_of(path: &Path) -> Result<[u8; 32], Failure> {
    use sha2::Digest as _;
    let file = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut file = fs::File::open(file)?;
        crate::transfer::part::hash_start(&mut file, u64::MAX)
    });
    let hashed = hashing.await.map_err(|error| Failure::new(Exit::Failed, error))?;
    hashed.map(|hasher| hasher.finalize().into()).map_err(|error| Failure::file("read", path, &error))
}

/// A temporary folder that goes away.
struct Place(PathBuf);

impl Place {
    fn new() -> std::io::Result<Self> {
        let name = u64::from_le_bytes(*gimlet_udp::seed()?.first_chunk().unwrap_or(&[0; 8]));
        let path = std::env::temp_dir().join(format!("gimlet-demo-{name:016x}"));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A folder that stays is untidy, and the system empties its temporary folder itself.
        let _ = fs::remove_dir_all(&self.0);
    }
}
