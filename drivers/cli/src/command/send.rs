//! `gimlet send`: delivers files and messages to a peer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gimlet_machine::PeerId;
use gimlet_node::{Allow, Node, Ticket};
use gimlet_tokio::Connection;
use serde::Serialize;

use super::{PeerArgs, start_peer};
use crate::cli::usage;
use crate::failure::Failure;
use crate::identity;
use crate::interrupt::Interrupts;
use crate::line::{Bytes, Line, hex, kind_of, mbit_per_s, millis};
use crate::name::legible;
use crate::node::{self, Running};
use crate::report::Report;
use crate::transfer::deliver;
use crate::transfer::note::Offer;
use crate::transfer::pace::Pace;
use crate::transfer::source::Source;
use crate::transfer::take::MESSAGE_MAX;
use crate::watch::Watch;

/// Deliver files and messages to a peer, directly whenever the NATs between allow
///
/// The peer has to run `gimlet join` with the same ticket. Nothing there is replaced; hashes are
/// compared at the end; run the same command again after an interruption and it resumes. Without
/// --identity it uses a temporary identity.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet send --via TICKET PEER report.pdf photo.jpg
  gimlet send --via TICKET PEER --message 'dinner is ready'
  gimlet send --via TICKET PEER big.iso --json    one line per event, for programs")]
pub(crate) struct Args {
    /// The peer to send to, as its `gimlet join` printed it
    peer: PeerId,
    /// Files to send
    files: Vec<PathBuf>,
    /// The public node's ticket
    #[arg(long, value_name = "TICKET")]
    via: Ticket,
    /// A text to send, before the files
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    node: PeerArgs,
}

/// A file that is about to be sent.
struct Parcel {
    path: PathBuf,
    source: Source,
    offer: Offer,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    connect_ms: f64,
    path: &'static str,
    files: usize,
    bytes: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { connect_ms, path, files, bytes, .. } = self;
        f.write_str("delivered")?;
        match files {
            0 => {}
            1 => write!(f, " 1 file, {}", Bytes(*bytes))?,
            files => write!(f, " {files} files, {}", Bytes(*bytes))?,
        }
        write!(f, "; path {path}, connected in {connect_ms:.0} ms")
    }
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    if args.files.is_empty() && args.message.is_none() {
        return Err(usage("there is nothing to send", "name a FILE, or a text with --message"));
    }
    if args.message.as_ref().is_some_and(|text| text.len() > MESSAGE_MAX) {
        return Err(usage(
            &format!("a message has at most {MESSAGE_MAX} bytes"),
            "put it into a file and send that, or use `gimlet pipe`",
        ));
    }
    // Every file is looked at before anybody is troubled.
    let mut parcels = Vec::new();
    for path in &args.files {
        let (source, offer) = Source::open(path).map_err(|error| Failure::file("send", path, &error))?;
        parcels.push(Parcel { path: path.clone(), source, offer });
    }
    let owned = identity::passing(args.node.node.identity.as_deref())?;
    let (node, _owned) = start_peer(owned, &args.node, &args.via, Allow::Nobody, report).await?;
    let watch = Watch::start(&node, report, None).explaining(args.node.explain);
    let wait = Duration::from_secs(args.node.timeout);
    let result = tokio::select! {
        result = deliver_all(&node, &watch, &args, parcels, wait, report) => result,
        () = interrupts.next() => Err(Failure::interrupted().remedy("run the same command again; it resumes where it stopped")),
    };
    node::close(&node, &mut interrupts).await;
    let done = result?;
    report.done(&done);
    Ok(())
}

async fn deliver_all(
    node: &Running,
    watch: &Watch,
    args: &Args,
    parcels: Vec<Parcel>,
    wait: Duration,
    report: &Report,
) -> Result<Done, Failure> {
    node::join(node, &args.via, watch, wait).await?;
    let begun = Instant::now();
    let connection = node::reach(node, args.peer, wait).await?;
    let connect_ms = millis(begun.elapsed());
    let mut done = Done { event: "done", ok: true, connect_ms, path: "none", files: 0, bytes: 0 };
    let mut failed = None;
    if let Some(text) = &args.message {
        match deliver::message(&connection, text).await {
            Ok(()) => report.say(&Line::MessageDelivered { to: args.peer.to_string(), bytes: text.len() }),
            Err(fault) => failed = Some(fault.failure("the message")),
        }
    }
    for parcel in parcels {
        match deliver_file(&connection, parcel, report).await {
            Ok(bytes) => {
                done.files += 1;
                done.bytes += bytes;
            }
            // The others may do better: the first failure is the one that is told at the end.
            Err(failure) => {
                let cause = failure.cause.clone();
                report.say(&Line::TransferFailed { peer: args.peer.to_string(), cause });
                failed.get_or_insert(failure);
            }
        }
    }
    let path = node.read(|node| Some((node.path(args.peer)?, node.is_relayed(args.peer)))).ok().flatten();
    done.path = path.map_or("none", |(path, relayed)| kind_of(path, relayed));
    failed.map_or(Ok(done), Err)
}

async fn deliver_file(
    connection: &Connection<Node>,
    parcel: Parcel,
    report: &Report,
) -> Result<u64, Failure> {
    let Parcel { path, source, offer } = parcel;
    let (to, name, size) = (connection.peer().to_string(), legible(&offer.name), offer.size);
    report.say(&Line::Sending { to: to.clone(), name: name.clone(), bytes: size });
    let pace = Arc::new(Pace::default());
    let bar = report.bar(&name, size, &pace);
    let begun = Instant::now();
    let delivered = deliver::file(connection, source, offer, &pace).await;
    drop(bar);
    let delivered = delivered.map_err(|fault| fault.failure(&path.display().to_string()))?;
    report.say(&Line::Sent {
        to,
        name,
        stored_as: legible(&delivered.name),
        bytes: size,
        resumed_at: delivered.resumed_at,
        mbit_per_s: mbit_per_s(size - delivered.resumed_at, begun.elapsed()),
        sha256: hex(&delivered.sha256),
    });
    Ok(size)
}
