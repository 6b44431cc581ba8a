//! The real binary as a child process whose output is read line by line, never without a limit.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes, on a busy machine, too.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// How often a wait looks.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// A folder of its own for each test: home, files, everything.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// A running `gimlet`. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(bool, String)>,
    said: Vec<String>,
}

/// How a `gimlet` ended, and what it had printed.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        command.env("XDG_CONFIG_HOME", self.folder.path()).env("HOME", self.folder.path());
        command
    }

    /// Runs `gimlet` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let mut process = self.start(args);
        drop(process.stdin.take());
        process.end()
    }

    /// Starts `gimlet`.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_gimlet")));
        command.args(args);
        Process::start(command)
    }

    /// Starts `gimlet` under a shell that has run `setup`.
    pub(crate) fn start_after(&self, setup: &str, args: &[&str]) -> Process {
        let mut command = self.command(Path::new("sh"));
        command
            .arg("-c")
            .arg(format!("{setup}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_gimlet"))
            .args(args);
        Process::start(command)
    }

    /// A public node on loopback, and its ticket.
    pub(crate) fn serve(&self) -> (Process, String) {
        let mut serve =
            self.start(&["serve", "--json", "--listen", "127.0.0.1:0", "--identity", "serve.key"]);
        let ticket = text(&serve.event("ready"), "ticket");
        (serve, ticket)
    }

    /// A peer that accepts files into `inbox`, and its id.
    pub(crate) fn join(&self, ticket: &str, more: &[&str]) -> (Process, String) {
        let args = [
            "join",
            "--json",
            ticket,
            "--folder",
            "inbox",
            "--listen",
            "127.0.0.1:0",
            "--identity",
            "join.key",
        ];
        let mut join = self.start(&[&args[..], more].concat());
        let peer = text(&join.event("ready"), "peer");
        (join, peer)
    }
}

impl Process {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        read_lines(child.stdout.take().unwrap(), true, sender.clone());
        read_lines(child.stderr.take().unwrap(), false, sender);
        let stdin = child.stdin.take();
        Self { child, stdin, lines, said: Vec::new() }
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.as_mut().expect("standard input is open").write_all(text.as_bytes()).unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        drop(self.stdin.take());
    }

    /// The next JSON line whose `event` is this.
    pub(crate) fn event(&mut self, event: &str) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((_, line)) => {
                    let value: Option<Value> = serde_json::from_str(&line).ok();
                    self.said.push(line);
                    if let Some(value) = value.filter(|value| value["event"] == event) {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {event} in {SOON:?}:\n{}", self.said.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without {event}:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// Asks it politely to end, and waits.
    pub(crate) fn terminate(mut self) -> Ended {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(status.success());
        self.end()
    }

    /// Ends it where it stands.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> Ended {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((true, line)) => out.push(line),
                Ok((false, line)) => err.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("still runs after {SOON:?}:\n{}\n{}", out.join("\n"), err.join("\n"))
                }
            }
        }
        let code = self.child.wait().unwrap().code();
        Ended { code, out: out.join("\n"), err: err.join("\n") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Its last line of standard output, as JSON.
    pub(crate) fn last(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}; {}", self.err))
    }

    /// The one line of standard output with this event.
    pub(crate) fn event(&self, event: &str) -> Value {
        let values = self.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = values.into_iter().find(|value| value["event"] == event);
        found.unwrap_or_else(|| panic!("no {event} in\n{}\n{}", self.out, self.err))
    }
}

/// The arguments of a `send` to `peer`.
pub(crate) fn send<'a>(ticket: &'a str, peer: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["send", "--json", "--listen", "127.0.0.1:0", "--via", ticket, peer], more].concat()
}

/// A text field of an event.
pub(crate) fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_else(|| panic!("no {key} in {event}")).to_owned()
}

/// Waits until `happens`.
pub(crate) fn wait_until(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !happens() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        thread::sleep(LOOK);
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let name = |name: &OsStr| name.to_string_lossy().into_owned();
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| name(&entry.unwrap().file_name())).collect();
    names.sort();
    names
}

fn read_lines(from: impl Read + Send + 'static, is_out: bool, to: Sender<(bool, String)>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send((is_out, line)).is_err() {
                return;
            }
        }
    });
}
