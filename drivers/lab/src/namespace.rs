//! One network namespace, removed when it is dropped, and the cables between two.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::{LabError, Missing};

/// How the names of all lab namespaces begin. The process id follows.
const FAMILY: &str = "gimlet-lab-";

/// The tools that a lab calls, and the Debian packages that have them.
const TOOLS: [(&str, &str, &str); 2] = [("ip", "-Version", "iproute2"), ("nft", "--version", "nftables")];

/// A network namespace that this process made.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with a loopback interface that is up. `name` is a [`name_of`].
    pub fn new(name: &str) -> Result<Self, LabError> {
        must("ip", &["netns", "add", name])?;
        let namespace = Self { name: name.to_owned() };
        namespace.ip(&["link", "set", "dev", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `ip` on the inside.
    pub fn ip(&self, args: &[&str]) -> Result<(), LabError> {
        must("ip", &[&["-netns", self.name.as_str()], args].concat())
    }

    /// Runs `tc` on the inside.
    pub fn tc(&self, args: &[&str]) -> Result<(), LabError> {
        must("tc", &[&["-netns", self.name.as_str()], args].concat())
    }

    /// Runs several lines of `ip` on the inside.
    pub fn batch(&self, lines: &str) -> Result<(), LabError> {
        let mut command = Command::new("ip");
        command.args(["-netns", &self.name, "-batch", "-"]);
        feed(command, lines)
    }

    /// Lets packets through from one interface to another.
    pub fn forward(&self) -> Result<(), LabError> {
        self.switch("ipv4/ip_forward", 1)?;
        self.switch("ipv6/conf/all/forwarding", 1)
    }

    /// Uses IPv6 addresses at once: in a lab nobody else can have them (RFC 4862 §5.4 waits a second).
    pub fn skip_duplicate_detection(&self) -> Result<(), LabError> {
        self.switch("ipv6/conf/default/accept_dad", 0)
    }

    /// Sets a switch of the network stack: a path below `/proc/sys/net`.
    pub fn switch(&self, name: &str, value: impl std::fmt::Display) -> Result<(), LabError> {
        let write = format!("echo {value} > /proc/sys/net/{name}");
        let output = self.command("sh").args(["-ec", &write]).output();
        let step = format!("{}: set {name} to {value}", self.name);
        accept(&step, output)
    }

    /// Loads rules of the packet filter. They go through a pipe because nft wants one chain per line.
    pub fn nft(&self, rules: &str) -> Result<(), LabError> {
        let mut command = self.command("nft");
        command.args(["-f", "-"]);
        feed(command, rules)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The name of a namespace of this process; `part` tells it from the others.
pub fn name_of(part: &str) -> String {
    format!("{FAMILY}{}-{part}", std::process::id())
}

/// Joins two namespaces with a pair of interfaces, both up and without addresses.
///
/// The kernel tells IPv6 at once that a cable is plugged in if its ends have different numbers, and up to a second
/// later otherwise; `number` is that of the first end, the other has the next.
pub fn cable(
    number: u32,
    (a, port_a): (&Namespace, &str),
    (b, port_b): (&Namespace, &str),
) -> Result<(), LabError> {
    let (peer, next) = (b.name(), number + 1);
    a.batch(&format!(
        "link add name {port_a} index {number} type veth peer name {port_b} index {next} netns {peer}\n\
         link set dev {port_a} up"
    ))?;
    b.ip(&["link", "set", "dev", port_b, "up"])
}

/// Whether a lab can be made here. Asked once; the first call also removes what a killed process left behind.
pub fn available() -> Result<(), Missing> {
    static ANSWER: OnceLock<Result<(), Missing>> = OnceLock::new();
    ANSWER.get_or_init(try_everything).clone()
}

fn try_everything() -> Result<(), Missing> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(|_| Missing::Refused("not Linux".to_owned()))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    if effective != Some("0") {
        return Err(Missing::Root);
    }
    for (name, argument, package) in TOOLS {
        run(name, &[argument]).map_err(|_| Missing::Tool { name, package })?;
    }
    remove_orphans();
    let trial = name_of("trial");
    let made = run("ip", &["netns", "add", &trial]).map_err(|error| Missing::Refused(error.to_string()))?;
    if !made.status.success() {
        return Err(Missing::Refused(String::from_utf8_lossy(&made.stderr).trim().to_owned()));
    }
    remove(&trial);
    Ok(())
}

fn remove_orphans() {
    let list =
        run("ip", &["netns", "list"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for name in list.unwrap_or_default().lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix(FAMILY).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
}

/// Ends what still runs inside, then removes the namespace. Never panics: it runs while one unwinds.
fn remove(name: &str) {
    let inside = run("ip", &["netns", "pids", name])
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for pid in inside.unwrap_or_default().split_whitespace() {
        let _ = run("kill", &["-KILL", pid]);
    }
    let _ = run("ip", &["netns", "delete", name]);
}

/// Runs `command` with `text` to read.
fn feed(mut command: Command, text: &str) -> Result<(), LabError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let step = format!("{command:?} with\n{text}\n");
    let output = command.spawn().and_then(|mut child| {
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(text.as_bytes())?;
        }
        child.wait_with_output()
    });
    accept(&step, output)
}

fn must(program: &str, args: &[&str]) -> Result<(), LabError> {
    accept(&format!("{program} {}", args.join(" ")), run(program, args))
}

fn accept(step: &str, output: io::Result<Output>) -> Result<(), LabError> {
    let output = output.map_err(|error| LabError::new(step, error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::new(step, String::from_utf8_lossy(&output.stderr)))
}

fn run(program: &str, args: &[&str]) -> io::Result<Output> {
    Command::new(program).args(args).stdin(Stdio::null()).output()
}
