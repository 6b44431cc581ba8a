//! A program that runs in the lab and is read line by line, never waited for without a limit.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often a wait looks whether the program has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<Line>,
    said: Vec<String>,
}

/// A line of standard output, or of standard error.
#[derive(Debug)]
enum Line {
    Out(String),
    Err(String),
}

impl Process {
    /// Starts `command` with nothing to read and its output caught.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let (sender, lines) = channel();
        read_lines(child.stdout.take().expect("a pipe"), sender.clone(), Line::Out);
        read_lines(child.stderr.take().expect("a pipe"), sender, Line::Err);
        Self { name: name.to_owned(), child, lines, said: Vec::new() }
    }

    /// The next line of standard output for which `wanted` gives something. Everything before it is
    /// kept for [`Process::said`].
    ///
    /// # Panics
    ///
    /// If it does not come within `limit`, or the program ends before; with everything it has said.
    pub fn find<T>(&mut self, limit: Duration, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Line::Out(line)) => {
                    let found = wanted(&line);
                    self.said.push(line);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Ok(Line::Err(line)) => self.said.push(format!("! {line}")),
                Err(RecvTimeoutError::Timeout) => {
                    self.give_up(&format!("did not say {what} within {limit:?}"))
                }
                Err(RecvTimeoutError::Disconnected) => self.give_up(&format!("ended without saying {what}")),
            }
        }
    }

    /// The next line of standard output that is a JSON object whose `event` is `event`.
    ///
    /// # Panics
    ///
    /// As [`Process::find`].
    pub fn event(&mut self, limit: Duration, event: &str) -> Value {
        self.find(limit, &format!("{{\"event\":\"{event}\"}}"), |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == event).then_some(value)
        })
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not come within `limit`; with everything the program has said.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if Instant::now() >= deadline {
                self.give_up(&format!("still runs after {limit:?}"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Everything the program has said so far, for people; standard error is marked with `!`.
    pub fn said(&mut self) -> String {
        self.said.extend(self.lines.try_iter().map(|line| match line {
            Line::Out(line) => line,
            Line::Err(line) => format!("! {line}"),
        }));
        self.said.join("\n")
    }

    fn give_up(&mut self, why: &str) -> ! {
        let said = self.said();
        panic!("{} {why}; it said:\n{said}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<Line>, kind: fn(String) -> Line) {
    thread::spawn(move || {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        for line in lines {
            if to.send(kind(line)).is_err() {
                return;
            }
        }
    });
}
