//! A namespace of a test: what fails, fails the test.

use std::ffi::OsStr;
use std::process::Command;

use gimlet_lab::LabError;

/// A network namespace that this process made, removed when it is dropped.
#[derive(Debug)]
pub struct Namespace(gimlet_lab::Namespace);

impl Namespace {
    /// Makes a namespace with a loopback interface that is up.
    pub(super) fn new(name: &str) -> Self {
        Self(must(gimlet_lab::Namespace::new(name)))
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.0.command(program)
    }

    /// Runs `ip` on the inside.
    pub(super) fn ip(&self, args: &[&str]) {
        must(self.0.ip(args));
    }

    /// Runs `tc` on the inside.
    pub(super) fn tc(&self, args: &[&str]) {
        must(self.0.tc(args));
    }

    /// Runs several lines of `ip` on the inside.
    pub(super) fn batch(&self, lines: &str) {
        must(self.0.batch(lines));
    }

    /// Lets packets through from one port to another.
    pub(super) fn forward(&self) {
        must(self.0.forward());
    }

    /// Uses IPv6 addresses at once.
    pub(super) fn skip_duplicate_detection(&self) {
        must(self.0.skip_duplicate_detection());
    }

    /// Loads rules of the packet filter.
    pub(super) fn nft(&self, rules: &str) {
        must(self.0.nft(rules));
    }
}

fn must<T>(done: Result<T, LabError>) -> T {
    done.unwrap_or_else(|error| panic!("{error}"))
}
