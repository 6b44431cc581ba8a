//! Our TURN client and our NAT behaviour discovery with coturn's server, and coturn's clients with our
//! servers, over real sockets on the loopback interface. Without coturn every test says so and passes,
//! unless `GIMLET_LAB=1` says that it must be there.

mod client;
mod discovery;
mod secured;
mod server;

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gimlet_conformance::RELAY_CERTIFICATE;

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(20);

/// The program `name`, if it is installed.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Every program of coturn that a test needs, or a word about why the test does nothing.
fn coturn(name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        let demanded = std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1");
        assert!(!demanded, "GIMLET_LAB=1 demands `{name}`: install coturn");
        // Not `eprintln!`, which the test harness would swallow.
        let _ = writeln!(std::io::stderr(), "skipped, no `{name}`: install coturn");
    }
    found
}

/// A port of the loopback interface that nobody uses.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a socket").port()
}

/// A running coturn. Dropping it ends it.
struct Coturn {
    child: Child,
    address: SocketAddr,
    /// Where it speaks TLS, with [`gimlet_conformance::RELAY_CERTIFICATE`].
    secured: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Coturn {
    /// Starts coturn with these credentials of its own syntax, and waits until it answers.
    fn start(credentials: &[&str]) -> Option<Self> {
        let turnserver = coturn("turnserver")?;
        let folder = tempfile::tempdir().expect("a folder");
        let (port, tls_port) = (free_port(), free_port());
        std::fs::write(folder.path().join("relay.pem"), RELAY_CERTIFICATE).expect("a file");
        let mut command = Command::new(turnserver);
        command.current_dir(folder.path()).args(["-n", "--no-dtls", "--no-cli", "--simple-log"]);
        command.args(["--cert=relay.pem", "--pkey=relay.pem", &format!("--tls-listening-port={tls_port}")]);
        command.args(["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"]);
        command.args(["--realm=gimlet.test", "--fingerprint", "--pidfile=pid", "--userdb=users"]);
        command.args(["--log-file=stdout", &format!("--listening-port={port}")]).args(credentials);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("turnserver starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let secured = SocketAddr::from(([127, 0, 0, 1], tls_port));
        let coturn = Self { child, address, secured, _folder: folder };
        coturn.wait();
        Some(coturn)
    }

    /// Asks "are you there?" until it says so.
    fn wait(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let mut binding = Vec::new();
        let id = gimlet_stun::TransactionId([1; 12]);
        let (class, method) = (gimlet_stun::Class::Request, gimlet_stun::Method::BINDING);
        gimlet_stun::MessageWriter::new(&mut binding, class, method, id).finish();
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            let _ = socket.send_to(&binding, self.address);
            if socket.recv_from(&mut [0; 1500]).is_ok() {
                return;
            }
        }
        panic!("turnserver on {} does not answer", self.address);
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
