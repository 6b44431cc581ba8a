//! A program of a test: what it does not do in time fails the test.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use gimlet_lab::ProcessError;
use serde_json::Value;

/// A running program that is read line by line, never waited for without a limit. Dropping it ends it.
#[derive(Debug)]
pub struct Process(gimlet_lab::Process);

impl Process {
    /// Starts `command` with nothing to read and its output caught.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(name: &str, command: Command) -> Self {
        Self(must(gimlet_lab::Process::start(name, command)))
    }

    /// The next line of standard output for which `wanted` gives something. Everything before it is
    /// kept for [`Process::said`].
    ///
    /// # Panics
    ///
    /// If it does not come within `limit`, or the program ends before; with everything it has said.
    pub fn find<T>(&mut self, limit: Duration, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        must(self.0.find(limit, what, wanted))
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
        must(self.0.wait(limit))
    }

    /// Everything the program has said so far, for people; standard error is marked with `!`.
    pub fn said(&mut self) -> String {
        self.0.said()
    }
}

fn must<T>(done: Result<T, ProcessError>) -> T {
    done.unwrap_or_else(|error| panic!("{error}"))
}
