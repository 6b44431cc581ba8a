//! `gimlet init`: makes an identity.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::identity;
use crate::report::Report;

/// Make an identity, which gives this machine a lasting peer id
///
/// It is an Ed25519 key; the peer id is its public half. The file is readable by its owner only. `serve` and `join` make it themselves when it is missing.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet init                                     the default file, ~/.config/gimlet/identity
  gimlet init --identity work.key                 another one, for --identity elsewhere
  gimlet init --force                             a new peer id; the old one is gone for good")]
pub(crate) struct Args {
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Replace an existing identity
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    peer: String,
    path: String,
}

pub(crate) fn run(args: &Args, report: &Report) -> Result<(), Failure> {
    let path = args.identity.clone().map_or_else(identity::default_path, Ok)?;
    let made = identity::create(&path, args.force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(Exit::Local, format_args!("there is an identity at {} already", path.display()))
                .remedy("keep it; or replace it with --force, which makes a new peer id")
        }
        _ => Failure::file("write the identity to", &path, &error),
    })?;
    let (peer, path) = (made.peer_id().to_string(), path.display().to_string());
    report.done(&Done { event: "done", ok: true, peer, path });
    Ok(())
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer id   {}\nidentity  {}", self.peer, self.path)
    }
}
