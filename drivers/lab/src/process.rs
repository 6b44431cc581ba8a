//! A program that is read line by line, never waited for without a limit.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

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

/// A program that did not do what was waited for, with everything that it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessError {
    /// What happened.
    pub why: String,
    /// Everything the program has said; standard error is marked with `!`.
    pub said: String,
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; it said:\n{}", self.why, self.said)
    }
}

impl std::error::Error for ProcessError {}

/// A line of standard output, or of standard error.
#[derive(Debug)]
enum Line {
    Out(String),
    Err(String),
}

impl Process {
    /// Starts `command` with nothing to read and its output caught.
    pub fn start(name: &str, mut command: Command) -> Result<Self, ProcessError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| ProcessError {
            why: format!("{name} cannot be started: {command:?}: {error}"),
            said: String::new(),
        })?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            read_lines(out, sender.clone(), Line::Out);
        }
        if let Some(err) = child.stderr.take() {
            read_lines(err, sender, Line::Err);
        }
        Ok(Self { name: name.to_owned(), child, lines, said: Vec::new() })
    }

    /// The system's number for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output for which `wanted` gives something. Everything before it is
    /// kept for [`Process::said`]. Fails if it does not come within `limit`, or the program ends before.
    pub fn find<T>(
        &mut self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ProcessError> {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Line::Out(line)) => {
                    let found = wanted(&line);
                    self.said.push(line);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Ok(Line::Err(line)) => self.said.push(format!("! {line}")),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.failed(&format!("did not say {what} within {limit:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed(&format!("ended without saying {what}")));
                }
            }
        }
    }

    /// Waits for the end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
                Ok(None) => return Err(self.failed(&format!("still runs after {limit:?}"))),
                Err(error) => return Err(self.failed(&format!("cannot be waited for: {error}"))),
            }
        }
    }

    /// Asks it to end (SIGTERM). A program that has ended already does not mind.
    pub fn terminate(&self) {
        let _ = Command::new("kill").args(["-TERM", &self.id().to_string()]).stderr(Stdio::null()).status();
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything the program has said so far, for people; standard error is marked with `!`.
    pub fn said(&mut self) -> String {
        self.said.extend(self.lines.try_iter().map(|line| match line {
            Line::Out(line) => line,
            Line::Err(line) => format!("! {line}"),
        }));
        self.said.join("\n")
    }

    fn failed(&mut self, why: &str) -> ProcessError {
        ProcessError { why: format!("{} {why}", self.name), said: self.said() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
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
