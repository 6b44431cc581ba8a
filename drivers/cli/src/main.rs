//! The `gimlet` command: connects machines that cannot reach each other.
//!
//! Everything that decides lives in `core/`; here are sockets, files, a terminal and the words that
//! people read. One module per command under `command/`, the file protocol under `transfer/`, one
//! [`report::Report`] that prints everything, as text or as NDJSON, and one [`failure::Failure`]
//! that names cause, remedy and exit code.
#![forbid(unsafe_code)]

mod cli;
mod command;
mod failure;
mod files;
mod ice;
mod identity;
mod interfaces;
mod interrupt;
mod line;
mod name;
mod node;
mod relay_uri;
mod report;
mod simulate;
mod sockets;
#[cfg(target_os = "linux")]
mod splice;
mod transfer;
mod trust;
#[cfg(target_os = "linux")]
mod ttfb;
mod watch;

fn main() -> std::process::ExitCode {
    cli::main()
}
