//! `gimlet splice`: a program in the wire between two interfaces.

use clap::Subcommand;
use gimlet_raw::{Clock, Forwarder};
use gimlet_tcp::Role;

use crate::failure::Failure;
use crate::report::Report;
use crate::splice::carry::{Carried, Interfaces};
use crate::splice::config::{FORMAT, Options};
use crate::splice::record::{Made, Record};
use crate::splice::replay::{self, FORWARD, ReplayArgs};
use crate::splice::translate::translate;

/// Stand in the wire between two interfaces, and take a round trip off TCP connections
///
/// A transparent bump of layer 2: every frame that enters by one interface leaves by the other. The interfaces need no
/// addresses and must not be bridged or routed by this host. Offloads stay on. Needs root or CAP_NET_RAW.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "\
Examples:
  gimlet splice near --client eth1 --server eth2 --config pair.toml      two boxes: beside the clients,
  gimlet splice far --client eth1 --server eth2 --config pair.toml       and beside the servers
  gimlet splice single --client eth1 --server eth2 --allow 192.0.2.0/24:80
  gimlet splice forward --client eth1 --server eth2                      pass everything as it is
  gimlet splice replay a.pcapng                                          live what --record wrote again",
    after_long_help = format!("\
Examples:
  gimlet splice near --client eth1 --server eth2 --config pair.toml      two boxes: beside the clients,
  gimlet splice far --client eth1 --server eth2 --config pair.toml       and beside the servers
  gimlet splice single --client eth1 --server eth2 --allow 192.0.2.0/24:80
  gimlet splice forward --client eth1 --server eth2                      pass everything as it is
  gimlet splice replay a.pcapng                                          live what --record wrote again

SIGTERM or Ctrl-C drains: no new flow is touched, and the command ends when the last one has. The second one does not
wait; with a table, the next process goes on where this one stopped.

{FORMAT}")
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Beside clients: answer their SYNs, in the name of servers that another box stands beside
    Near(TranslatorArgs),
    /// Beside servers: hold what comes before they have answered, and translate
    Far(TranslatorArgs),
    /// Both in one place. It saves the time between the client and the box, or the box and the server, whichever
    /// is less
    Single(SingleArgs),
    /// Pass every frame as it is: a cable with a program in it
    Forward(ForwardArgs),
    Replay(ReplayArgs),
}

#[derive(clap::Args, Debug)]
struct TranslatorArgs {
    #[command(flatten)]
    interfaces: Interfaces,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    record: Record,
}

#[derive(clap::Args, Debug)]
struct SingleArgs {
    #[command(flatten)]
    interfaces: Interfaces,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    record: Record,
    /// Put what a client says first into the SYN, for servers that speak TCP Fast Open and are marked idempotent
    #[arg(long)]
    fast_open: bool,
}

#[derive(clap::Args, Debug)]
struct ForwardArgs {
    #[command(flatten)]
    interfaces: Interfaces,
    #[command(flatten)]
    record: Record,
}

pub(crate) fn run(args: &Args, report: &Report) -> Result<(), Failure> {
    match &args.what {
        What::Near(args) => translate(Role::Near, &args.interfaces, &args.options, &args.record, report),
        What::Far(args) => translate(Role::Far, &args.interfaces, &args.options, &args.record, report),
        What::Single(SingleArgs { interfaces, options, record, fast_open }) => {
            let role = if *fast_open { Role::TfoUpgrade } else { Role::Single };
            translate(role, interfaces, options, record, report)
        }
        What::Forward(ForwardArgs { interfaces, record }) => {
            // It has neither a seed nor anything to be told.
            let (seed, configuration, found) = ([0; 32], String::new(), Vec::new());
            let made = Made { kind: FORWARD, seed, begun: Clock.now(), configuration, found };
            record.carry(interfaces.open()?, Forwarder, made, report)
        }
        What::Replay(args) => replay::run(args, report),
    }
}

impl Carried for Forwarder {
    fn role(&self) -> &'static str {
        "forward"
    }
}
