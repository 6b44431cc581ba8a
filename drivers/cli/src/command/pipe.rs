//! `gimlet pipe`: standard input and output, to a peer.

use std::fmt;
use std::io;
use std::time::Duration;

use gimlet_machine::PeerId;
use gimlet_node::{Allow, Error as NodeError, Node, Ticket};
use gimlet_tokio::{ReceiveHalf, SendHalf};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::join::Host;
use super::{PeerArgs, start_peer};
use crate::failure::{Exit, Failure};
use crate::identity;
use crate::interrupt::Interrupts;
use crate::line::{Bytes, Line};
use crate::node::{self, Running};
use crate::report::Report;
use crate::transfer::deliver;
use crate::transfer::receiver::ReceiverEvent;
use crate::transfer::take::{TakenPipe, Welcome};
use crate::watch::Watch;

/// Read from standard input, or from the peer, at a time. Bytes.
const BLOCK: usize = 64 << 10;

/// Connect standard input and output to a peer's
///
/// Without PEER it prints its own peer id and waits for the first peer that pipes to it. Each side
/// ends on its own: the end of standard input is passed on, and the command ends when both directions
/// have. Everything that is not data goes to standard error. Without --identity it uses a temporary
/// identity.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet pipe --via TICKET                        waits; prints the peer id to give to the other side
  gimlet pipe --via TICKET PEER                   types to it
  tar c folder | gimlet pipe --via TICKET PEER    and there:  gimlet pipe --via TICKET | tar x")]
pub(crate) struct Args {
    /// The waiting side's peer id; without it, this is the waiting side
    peer: Option<PeerId>,
    /// The public node's ticket
    #[arg(long, value_name = "TICKET")]
    via: Ticket,
    /// When waiting: only for this peer; may be repeated
    #[arg(long, value_name = "PEER", conflicts_with = "peer")]
    allow: Vec<PeerId>,
    #[command(flatten)]
    node: PeerArgs,
}

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    peer: &'a str,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    sent: u64,
    received: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done: {} sent, {} received", Bytes(self.sent), Bytes(self.received))
    }
}

/// An open pipe: both halves, and what has been read ahead.
struct Pipe {
    outgoing: SendHalf<Node>,
    incoming: ReceiveHalf<Node>,
    ahead: Vec<bytes::Bytes>,
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    let owned = identity::passing(args.node.node.identity.as_deref())?;
    let allow = match (args.peer, args.allow.is_empty()) {
        (Some(_), _) => Allow::Nobody,
        (None, true) => Allow::Anyone,
        (None, false) => Allow::Listed(args.allow.iter().copied().collect()),
    };
    let (node, owned) = start_peer(owned, &args.node, &args.via, allow, report).await?;
    let watch = Watch::start(&node, report, None).explaining(args.node.explain);
    let wait = Duration::from_secs(args.node.timeout);
    let work = async {
        node::join(&node, &args.via, &watch, wait).await?;
        let pipe = if let Some(peer) = args.peer {
            dialed(&node, peer, wait, report).await?
        } else {
            let own = owned.identity.peer_id().to_string();
            report.text(&format!("waiting; on the other side:  gimlet pipe --via {} {own}", args.via));
            report.json(&Ready { event: "ready", peer: &own });
            awaited(&node, report).await?
        };
        run_both_ways(pipe).await
    };
    let result = tokio::select! {
        result = work => result,
        () = interrupts.next() => Err(Failure::interrupted()),
    };
    node::close(&node, &mut interrupts).await;
    report.done(&result?);
    Ok(())
}

/// Opens a pipe to `peer`.
async fn dialed(node: &Running, peer: PeerId, wait: Duration, report: &Report) -> Result<Pipe, Failure> {
    let connection = node::reach(node, peer, wait).await?;
    let (outgoing, incoming, mut inbox) =
        deliver::pipe(&connection).await.map_err(|fault| fault.failure("the pipe"))?;
    report.say(&Line::Piped { peer: peer.to_string() });
    let ahead = std::iter::from_fn(|| inbox.chunk(usize::MAX)).collect();
    Ok(Pipe { outgoing, incoming, ahead })
}

/// Waits for the first peer that opens one. Everybody else is refused, then and later.
async fn awaited(node: &Running, report: &Report) -> Result<Pipe, Failure> {
    let welcome = Welcome { folder: None, size_max: 0, messages: true, pipes: Welcome::one_pipe() };
    let host = Host::new(welcome, report, None);
    let (found, mut pipes) = mpsc::channel(1);
    tokio::spawn(host.serve(node.clone(), found));
    let gone = || Failure::new(Exit::Failed, "the node stopped before anybody piped");
    let TakenPipe { outgoing, incoming, mut receiver } = pipes.recv().await.ok_or_else(gone)?;
    let ahead = std::iter::from_fn(|| match receiver.poll() {
        Ok(Some(ReceiverEvent::Bytes(bytes))) => Some(bytes),
        Ok(_) | Err(_) => None,
    });
    Ok(Pipe { outgoing, incoming, ahead: ahead.collect() })
}

async fn run_both_ways(pipe: Pipe) -> Result<Done, Failure> {
    let Pipe { mut outgoing, mut incoming, ahead } = pipe;
    let sending = async {
        let (mut input, mut block, mut sent) = (tokio::io::stdin(), vec![0; BLOCK], 0);
        loop {
            let count = input
                .read(&mut block)
                .await
                .map_err(|error| Failure::local("read standard input", &error))?;
            if count == 0 {
                break;
            }
            outgoing.write_all(&block[..count]).await.map_err(|error| broken(&error))?;
            sent += count as u64;
        }
        match outgoing.finish().await {
            Ok(()) => Ok(sent),
            // Both halves were over before anybody asked, and the node has forgotten the stream.
            Err(error) if error.session() == Some(&NodeError::UnknownStream) => Ok(sent),
            Err(error) => Err(broken(&error)),
        }
    };
    let receiving = async {
        let (mut output, mut received) = (tokio::io::stdout(), 0);
        let mut ahead = ahead.into_iter();
        loop {
            let chunk = match ahead.next() {
                Some(chunk) => chunk,
                None => match incoming.read(BLOCK).await.map_err(|error| broken(&error))? {
                    Some(chunk) => chunk,
                    None => break,
                },
            };
            let written = async {
                output.write_all(&chunk).await?;
                output.flush().await
            };
            written.await.map_err(|error| unwritable(&error))?;
            received += chunk.len() as u64;
        }
        Ok::<u64, Failure>(received)
    };
    let (sent, received) = tokio::try_join!(sending, receiving)?;
    Ok(Done { event: "done", ok: true, sent, received })
}

fn broken(error: &gimlet_tokio::Error<NodeError>) -> Failure {
    Failure::new(Exit::Transfer, format_args!("the pipe broke: {error}"))
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::local("write to standard output", error)
}
