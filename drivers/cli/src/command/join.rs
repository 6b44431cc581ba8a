//! `gimlet join`: a peer that stays and accepts messages and files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gimlet_machine::PeerId;
use gimlet_node::{Allow, Node, Ticket};
use gimlet_tokio::{Connection, Stream};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};

use super::{PeerArgs, start_peer};
use crate::cli::parse_bytes;
use crate::failure::{Exit, Failure};
use crate::identity;
use crate::interrupt::Interrupts;
use crate::line::{Line, hex};
use crate::name::legible;
use crate::node::{self, Running};
use crate::report::Report;
use crate::transfer::part::Folder;
use crate::transfer::take::{self, Taken, TakenPipe, Welcome};
use crate::watch::Watch;

/// Streams served at once, of all peers together; more wait their turn, and QUIC's flow control holds
/// back their senders.
const STREAMS_MAX: usize = 64;

/// Stay connected through a public node, and accept messages and files from peers
///
/// Prints the peer id that others send to. Files go into a folder and never replace one that exists;
/// an interrupted transfer leaves NAME.gimlet-part and is resumed when the file is sent again. The
/// identity is the identity file, made if missing. Ends on Ctrl-C.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet join TICKET                              files go to the current folder
  gimlet join TICKET --folder inbox               files go to inbox/, made if missing
  gimlet join TICKET --allow PEER --allow PEER    nobody else
  gimlet join TICKET --max-size 100M              larger files are refused")]
pub(crate) struct Args {
    /// The public node's ticket, as `gimlet serve` printed it
    ticket: Ticket,
    #[command(flatten)]
    peer: PeerArgs,
    /// Where received files go
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Accept only from this peer; may be repeated
    #[arg(long, value_name = "PEER")]
    allow: Vec<PeerId>,
    /// Refuse larger files; a number of bytes, or one with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_size: Option<u64>,
}

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    peer: &'a str,
    folder: String,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed")
    }
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    let folder =
        Folder::open(&args.folder).map_err(|error| Failure::file("use the folder", &args.folder, &error))?;
    let owned = identity::lasting(args.peer.node.identity.as_deref())?;
    let allow = if args.allow.is_empty() {
        Allow::Anyone
    } else {
        Allow::Listed(args.allow.iter().copied().collect::<BTreeSet<_>>())
    };
    let (node, owned) = start_peer(owned, &args.peer, &args.ticket, allow, report).await?;
    let watch = Watch::start(&node, report, None).explaining(args.peer.explain);
    let wait = Duration::from_secs(args.peer.timeout);
    tokio::select! {
        joined = node::join(&node, &args.ticket, &watch, wait) => joined?,
        () = interrupts.next() => return Err(Failure::interrupted()),
    }

    let peer = owned.identity.peer_id().to_string();
    let place = folder.path().display().to_string();
    report.text(&format!(
        "peer id {peer}\nfiles go to {place}; Ctrl-C ends\n\nelsewhere:  gimlet send --via {} {peer} FILE\n",
        args.ticket
    ));
    report.json(&Ready { event: "ready", peer: &peer, folder: place });

    let welcome = Welcome {
        folder: Some(folder),
        size_max: args.max_size.unwrap_or(u64::MAX),
        messages: true,
        pipes: Welcome::no_pipes(),
    };
    let host = Host::new(welcome, report, None);
    host.stay(&node, &mut interrupts).await
}

/// Accepts what peers send, and tells about it.
pub(crate) struct Host {
    pub(crate) welcome: Welcome,
    pub(crate) report: Report,
    /// Which of several hosts this is.
    pub(crate) who: Option<&'static str>,
    streams: Arc<Semaphore>,
}

impl Host {
    pub(crate) fn new(welcome: Welcome, report: &Report, who: Option<&'static str>) -> Arc<Self> {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Arc::new(Self { welcome, report: report.clone(), who, streams })
    }

    /// Accepts connections until the node stops. Pipes go to `pipes`.
    pub(crate) async fn serve(self: Arc<Self>, node: Running, pipes: mpsc::Sender<TakenPipe>) {
        while let Ok(connection) = node.accept().await {
            tokio::spawn(self.clone().serve_peer(connection, pipes.clone()));
        }
    }

    /// Serves until a signal comes or the node stops by itself; then closes the node, and says so. Pipes
    /// are refused.
    pub(crate) async fn stay(
        self: Arc<Self>,
        node: &Running,
        interrupts: &mut Interrupts,
    ) -> Result<(), Failure> {
        let stopped = tokio::select! {
            () = interrupts.next() => None,
            stopped = node.stopped() => Some(stopped),
            () = self.clone().serve(node.clone(), mpsc::channel(1).0) => None,
        };
        if let Some(stopped) = stopped {
            return Err(Failure::new(Exit::Local, stopped));
        }
        node::close(node, interrupts).await;
        self.report.done(&Done { event: "done", ok: true });
        Ok(())
    }

    /// Accepts streams until the peer is gone.
    async fn serve_peer(self: Arc<Self>, connection: Connection<Node>, pipes: mpsc::Sender<TakenPipe>) {
        let peer = connection.peer();
        // The semaphore is never closed; a lost peer ends it.
        while let Ok(permit) = self.streams.clone().acquire_owned().await {
            let Ok(stream) = connection.accept_stream().await else { return };
            let (host, pipes) = (self.clone(), pipes.clone());
            tokio::spawn(async move {
                // Failures are told where they happen.
                if let Some(Taken::Pipe(pipe)) = host.take(stream, peer).await {
                    // Nobody takes it if the command is ending.
                    let _ = pipes.send(*pipe).await;
                }
                drop(permit);
            });
        }
    }

    /// Takes one stream and tells what came of it.
    pub(crate) async fn take(&self, stream: Stream<Node>, peer: PeerId) -> Option<Taken> {
        let from = peer.to_string();
        let on_file = |offer: &crate::transfer::note::Offer, pace: &Arc<crate::transfer::pace::Pace>| {
            let name = legible(&offer.name);
            let bar = self.report.bar(&name, offer.size, pace);
            let (bytes, resumed_at) = (offer.size, pace.bytes());
            self.report.say_of(self.who, &Line::Receiving { from: from.clone(), name, bytes, resumed_at });
            bar
        };
        let taken = take::stream(stream, peer, &self.welcome, on_file).await;
        let line = match &taken {
            Ok(Taken::File(file)) => Line::Received {
                from,
                file: file.path.display().to_string(),
                bytes: file.size,
                resumed_at: file.resumed_at,
                sha256: hex(&file.sha256),
            },
            Ok(Taken::Message(text)) => Line::Message { from, text: legible(text) },
            Ok(Taken::Pipe(_)) => Line::Piped { peer: from },
            Err(fault) => Line::TransferFailed { peer: from, cause: fault.to_string() },
        };
        self.report.say_of(self.who, &line);
        taken.ok()
    }
}
