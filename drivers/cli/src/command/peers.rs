//! `gimlet peers`: how peers are reached, and why.

use std::fmt;
use std::time::Duration;

use gimlet_machine::PeerId;
use gimlet_node::{Allow, Ticket};
use serde::Serialize;

use super::{PeerArgs, start_peer};
use crate::failure::Failure;
use crate::identity;
use crate::interrupt::Interrupts;
use crate::line::Line;
use crate::node::{self, Running};
use crate::report::Report;
use crate::watch::Watch;

/// Show how peers are reached: the path, the round trip, and with --explain why it is direct or not
///
/// Connects to each peer through the public node of the ticket, and ends. The peers have to run
/// `gimlet join` or `gimlet pipe` with the same ticket. Without PEER it looks at the public node
/// alone. Without --identity it uses a temporary identity.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet peers --via TICKET PEER PEER             path and round trip to each
  gimlet peers --via TICKET PEER --explain        what was tried, what came back, which NATs are there
  gimlet peers --via TICKET PEER --explain --json the same for programs")]
pub(crate) struct Args {
    /// Whom to look at
    peers: Vec<PeerId>,
    /// The public node's ticket
    #[arg(long, value_name = "TICKET")]
    via: Ticket,
    #[command(flatten)]
    node: PeerArgs,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    reached: usize,
    missed: usize,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reached, {} not", self.reached, self.missed)
    }
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    let owned = identity::passing(args.node.node.identity.as_deref())?;
    let (node, _owned) = start_peer(owned, &args.node, &args.via, Allow::Nobody, report).await?;
    let watch = Watch::start(&node, report, None);
    let result = tokio::select! {
        result = look(&node, &watch, &args, report) => result,
        () = interrupts.next() => Err(Failure::interrupted()),
    };
    node::close(&node, &mut interrupts).await;
    report.done(&result?);
    Ok(())
}

/// The first failure is the command's, when all have been looked at.
async fn look(node: &Running, watch: &Watch, args: &Args, report: &Report) -> Result<Done, Failure> {
    let wait = Duration::from_secs(args.node.timeout);
    node::join(node, &args.via, watch, wait).await?;
    let mut done = Done { event: "done", ok: true, reached: 0, missed: 0 };
    let mut failed = None;
    let public = args.peers.is_empty().then_some(args.via.peer());
    for peer in args.peers.iter().copied().chain(public) {
        match node::reach(node, peer, wait).await {
            Ok(_) => done.reached += 1,
            Err(failure) => {
                done.missed += 1;
                failed.get_or_insert(failure);
            }
        }
        // A better path may still turn up: the checks of the other kinds of pairs take a moment.
        tokio::time::sleep(SETTLING).await;
        let lines = node.read(|node| {
            let explanation = node.explain(peer)?;
            let explained = args.node.explain.then(|| Line::explained(&explanation));
            Some((Line::peer(&explanation), explained))
        });
        if let Ok(Some((line, explained))) = lines {
            report.say(&line);
            if let Some(line) = explained {
                report.say(&line);
            }
        }
    }
    failed.map_or(Ok(done), Err)
}

/// How long a connection is given to find a better path than its first.
const SETTLING: Duration = Duration::from_millis(500);
