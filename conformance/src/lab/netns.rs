//! One network namespace, removed when it is dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::Missing;

/// How the names of all lab namespaces begin. The process id follows.
const FAMILY: &str = "gimlet-lab-";

/// The tools that the lab calls, and the Debian packages that have them.
const TOOLS: [(&str, &str, &str); 2] = [("ip", "-Version", "iproute2"), ("nft", "--version", "nftables")];

/// A network namespace that this process made.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with a loopback interface that is up.
    pub(super) fn new(name: &str) -> Self {
        must("ip", &["netns", "add", name]);
        let namespace = Self { name: name.to_owned() };
        namespace.ip(&["link", "set", "dev", "lo", "up"]);
        namespace
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
    pub(super) fn ip(&self, args: &[&str]) {
        must("ip", &[&["-netns", self.name.as_str()], args].concat());
    }

    /// Runs `tc` on the inside.
    pub(super) fn tc(&self, args: &[&str]) {
        must("tc", &[&["-netns", self.name.as_str()], args].concat());
    }

    /// Runs several lines of `ip` on the inside.
    pub(super) fn batch(&self, lines: &str) {
        let mut command = Command::new("ip");
        command.args(["-netns", &self.name, "-batch", "-"]);
        feed(command, lines);
    }

    /// Lets packets through from one port to another.
    pub(super) fn forward(&self) {
        self.switch("ipv4/ip_forward", 1);
        self.switch("ipv6/conf/all/forwarding", 1);
    }

    /// Uses IPv6 addresses at once: in a lab nobody else can have them (RFC 4862 §5.4 waits a second).
    pub(super) fn skip_duplicate_detection(&self) {
        self.switch("ipv6/conf/default/accept_dad", 0);
    }

    fn switch(&self, name: &str, value: u8) {
        let write = format!("echo {value} > /proc/sys/net/{name}");
        let status = self.command("sh").args(["-ec", &write]).status();
        assert!(status.is_ok_and(|status| status.success()), "{}: {name} cannot be set", self.name);
    }

    /// Loads rules. They go through a pipe because nft wants one chain per line.
    pub(super) fn nft(&self, rules: &str) {
        let mut command = self.command("nft");
        command.args(["-f", "-"]);
        feed(command, rules);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The beginning of the names of this process's namespaces.
pub(super) fn prefix() -> String {
    format!("{FAMILY}{}", std::process::id())
}

/// Tries everything once, and removes the namespaces of processes that are gone.
pub(super) fn available() -> Result<(), Missing> {
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
    let trial = format!("{}-trial", prefix());
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
fn feed(mut command: Command, text: &str) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
}

fn must(program: &str, args: &[&str]) {
    let output = run(program, args).unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {}", args.join(" "), complaint.trim());
}

fn run(program: &str, args: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(args).stdin(Stdio::null()).output()
}
