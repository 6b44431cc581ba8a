//! `gimlet splice`: a program in the wire between two interfaces.

use clap::Subcommand;
use gimlet_raw::Forwarder;

use crate::failure::Failure;
use crate::report::Report;
use crate::splice::carry::{Carried, Interfaces, carry};

/// Stand in the wire between two interfaces, and take a round trip off TCP connections
///
/// A transparent bump of layer 2: every frame that enters by one interface leaves by the other. The interfaces need no
/// addresses and must not be bridged or routed by this host. Offloads stay on. Needs root or CAP_NET_RAW.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet splice forward --client eth1 --server eth2              pass everything as it is
  gimlet splice forward --client eth1 --server eth2 --receive ring")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Pass every frame as it is: a cable with a program in it
    Forward(ForwardArgs),
}

#[derive(clap::Args, Debug)]
struct ForwardArgs {
    #[command(flatten)]
    interfaces: Interfaces,
}

pub(crate) fn run(args: &Args, report: &Report) -> Result<(), Failure> {
    match &args.what {
        What::Forward(args) => carry(args.interfaces.open()?, &mut Forwarder, report),
    }
}

impl Carried for Forwarder {
    fn role(&self) -> &'static str {
        "forward"
    }
}
