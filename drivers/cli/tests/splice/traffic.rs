//! Bytes through the wire, compared.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_lab::{Chain, Process, ProcessError};
use serde_json::Value;

use crate::GIMLET;

/// The server's port.
const PORT: u16 = 8080;
/// How long anything may take.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn socket(address: &str) -> String {
    SocketAddr::new(address.parse().expect("an address"), PORT).to_string()
}

/// Runs a server at each of the addresses; gives what ends them.
pub(crate) fn serve(chain: &Chain, addresses: &[&str], more: &[&str]) -> Vec<Process> {
    let serve = |address: &&str| {
        let mut command = chain.server.command(GIMLET);
        command.args(["lab", "server", "--congestion", "cubic", "--listen", &socket(address)]).args(more);
        let mut server = Process::start("server", command)?;
        server.find(LONG, "ready", |line| line.contains("ready").then_some(()))?;
        Ok(server)
    };
    let all: Result<_, ProcessError> = addresses.iter().map(serve).collect();
    all.unwrap_or_else(|error| panic!("{error}"))
}

/// Starts a client with these options.
pub(crate) fn client(chain: &Chain, address: &str, more: &[&str]) -> Process {
    let mut command = chain.client.command(GIMLET);
    command
        .args(["lab", "client", "--json", "--congestion", "cubic", "--connect", &socket(address)])
        .args(more);
    Process::start("client", command).unwrap_or_else(|error| panic!("{error}"))
}

/// The next connection that a client tells of.
pub(crate) fn connection(client: &mut Process) -> Value {
    let told = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        (value["event"] == "connection").then_some(value)
    };
    client.find(LONG, "a connection", told).unwrap_or_else(|error| panic!("{error}"))
}

/// Moves `bytes` up and down and looks at every one.
pub(crate) fn exchange(chain: &Chain, address: &str, bytes: u64) {
    let size = bytes.to_string();
    let told = connection(&mut client(chain, address, &["--up", &size, "--down", &size]));
    assert_eq!((&told["received"], &told["corrupt"]), (&bytes.into(), &0.into()), "{told}");
    assert_eq!(told["error"], Value::Null, "{told}");
}
