//! The command line.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::command::{demo, ice_peer, ice_step, init, join, network, peers, pipe, send, serve, sim};
#[cfg(target_os = "linux")]
use crate::command::{lab, splice};
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::report::{Detail, Report, Style};

/// How long work that cannot be cancelled (a blocked read of standard input) may hold up the exit.
const SHUTDOWN_MAX: Duration = Duration::from_millis(200);

/// Connects two machines that cannot reach each other, through NATs and firewalls, encrypted end to
/// end.
#[derive(Debug, Parser)]
#[command(name = "gimlet", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  gimlet demo                                     watch two peers meet on this machine
  gimlet serve                                    on a public host: prints a ticket
  gimlet join TICKET --folder inbox               elsewhere: prints its peer id, waits for files
  gimlet send --via TICKET PEER report.pdf        from anywhere: delivers";

#[derive(Args, Clone, Copy, Debug)]
struct Output {
    /// Print NDJSON: one JSON object per line, the last one with "event":"done"
    #[arg(long, global = true)]
    json: bool,
    /// Print more: every step, and of a simulation every packet
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Serve(serve::Args),
    Join(join::Args),
    Send(send::Args),
    Pipe(pipe::Args),
    Peers(peers::Args),
    Network(network::Args),
    Sim(sim::Args),
    #[cfg(target_os = "linux")]
    Splice(splice::Args),
    #[cfg(target_os = "linux")]
    Lab(lab::Args),
    IcePeer(ice_peer::Args),
    IceStep(ice_step::Args),
}

/// Reads the command line, does what it says, and ends with the code that [`EXIT_CODES`] explains.
pub(crate) fn main() -> ExitCode {
    let Cli { output, command } = Cli::parse();
    let report = command.report(output);
    match run(command, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report.fail(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

impl Command {
    /// Where and how much this command prints.
    fn report(&self, Output { json, verbose }: Output) -> Report {
        let (usual, more) = match self {
            // These two are there to be watched.
            Command::Demo(_) | Command::Sim(_) => (Detail::Steps, Detail::Packets),
            Command::Init(_)
            | Command::Serve(_)
            | Command::Join(_)
            | Command::Send(_)
            | Command::Pipe(_)
            | Command::Peers(_)
            | Command::Network(_)
            | Command::IcePeer(_)
            | Command::IceStep(_) => (Detail::Results, Detail::Steps),
            #[cfg(target_os = "linux")]
            // Thousands of flows a second are told only to those who ask.
            Command::Splice(_) | Command::Lab(_) => (Detail::Results, Detail::Packets),
        };
        let style = Style { json, detail: if verbose { more } else { usual } };
        if matches!(self, Command::Pipe(_) | Command::IcePeer(_) | Command::IceStep(_)) {
            Report::beside_data(style)
        } else {
            Report::new(style)
        }
    }
}

fn run(command: Command, report: &Report) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init::run(&args, report),
        Command::Sim(args) => sim::run(&args, report),
        Command::IceStep(args) => ice_step::run(&args, report),
        #[cfg(target_os = "linux")]
        Command::Splice(args) => splice::run(&args, report),
        #[cfg(target_os = "linux")]
        Command::Lab(args) => lab::run(&args, report),
        Command::Demo(args) => on_runtime(demo::run(args, report)),
        Command::Serve(args) => on_runtime(serve::run(args, report)),
        Command::Join(args) => on_runtime(join::run(args, report)),
        Command::Send(args) => on_runtime(send::run(args, report)),
        Command::Pipe(args) => on_runtime(pipe::run(args, report)),
        Command::Peers(args) => on_runtime(peers::run(args, report)),
        Command::Network(args) => on_runtime(network::run(args, report)),
        Command::IcePeer(args) => on_runtime(ice_peer::run(args, report)),
    }
}

fn on_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("start the runtime", &error))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    result
}

/// A number of bytes: `4096`, `64K`, `100M`, `2G` (powers of 1024).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err("a size is a number of bytes, or one with K, M, G or T, such as 100M".into()),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a size begins with a whole number, such as 100M".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// The failure of a command line that parses and makes no sense all the same.
pub(crate) fn usage(cause: &str, remedy: &str) -> Failure {
    Failure::new(Exit::Usage, cause).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_examples() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        for command in cli.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            assert!(
                help.contains("Examples:") && help.contains(&format!("gimlet {name}")),
                "{name}:\n{help}"
            );
            assert!(help.contains("--json"), "{name}:\n{help}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["1", "64K", "100M", "2GiB", "1t"].map(parse_bytes);
        assert_eq!(sizes, [Ok(1), Ok(64 << 10), Ok(100 << 20), Ok(2 << 30), Ok(1 << 40)]);
        assert!(["", "M", "1.5M", "-1", "1X", "99999999999T"].iter().all(|text| parse_bytes(text).is_err()));
    }
}
