//! `--record`: everything that happens to a machine in the wire, in a file.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use gimlet_machine::Instant;
use gimlet_raw::{Bump, End, Heading, Recordable, Recorded, Recorder, Recording, slots_to_bytes};
use gimlet_tcp::Slot;
use serde_json::json;

use super::carry::{Carried, carry};
use crate::failure::{Exit, Failure};
use crate::report::Report;

/// Where to record, and how much.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Record {
    /// Record every frame, with what was made of it, in a new pcapng file, for `splice replay` and for programs that
    /// show packets. It holds what others say, and the secret: it is yours alone to read
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Bytes after which nothing more is recorded; frames are carried on. K, M and G may follow the number
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size, requires = "record")]
    record_max: u64,
}

/// What a machine was made of.
#[derive(Debug)]
pub(crate) struct Made {
    /// Its kind, which [`super::replay`] knows.
    pub(crate) kind: &'static str,
    /// The seed of its random numbers.
    pub(crate) seed: [u8; 32],
    /// When it was made.
    pub(crate) begun: Instant,
    /// What it was told.
    pub(crate) configuration: String,
    /// The table that it found.
    pub(crate) found: Vec<u8>,
}

impl Record {
    /// Whether anything is to be recorded.
    pub(crate) fn is_wanted(&self) -> bool {
        self.record.is_some()
    }

    /// The table that a machine is about to find, as far as anybody wants to know.
    pub(crate) fn found(&self, table: &[Slot]) -> Vec<u8> {
        if self.is_wanted() { slots_to_bytes(table) } else { Vec::new() }
    }

    /// Carries frames until the user stops it, and records that if it is wanted.
    pub(crate) fn carry<M>(
        &self,
        bump: Bump,
        mut machine: M,
        made: Made,
        report: &Report,
    ) -> Result<(), Failure>
    where
        M: Carried + Recordable,
    {
        let Some(path) = &self.record else { return carry(bump, &mut machine, report) };
        let Made { kind, seed, begun, configuration, found } = made;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let heading = Heading { machine: kind.to_owned(), version, seed, begun, configuration };
        let failed = |error: &io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(Exit::Local, format!("{} exists", path.display()))
                .remedy("name another file: recordings never replace one"),
            io::ErrorKind::InvalidInput => Failure::new(Exit::Usage, error),
            _ => Failure::file("write the recording", path, error),
        };
        let mut tape = Recording::create(path, &heading, self.record_max).map_err(|error| failed(&error))?;
        tape.origin(begun, &found);
        drop(found);
        let mut taped = Taped { recorder: Recorder::new(machine, tape), failure: None };
        let outcome = carry(bump, &mut taped, report);
        match taped.failure {
            Some(error) => outcome.and(Err(failed(&error))),
            None => outcome,
        }
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size, such as 500000, 64M or 2G");
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some(_) | None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A machine that is recorded.
struct Taped<M> {
    recorder: Recorder<M>,
    failure: Option<io::Error>,
}

impl<M: Carried + Recordable> gimlet_machine::Machine for Taped<M> {
    type Path = gimlet_raw::Leg;
    type Event = M::Event;

    fn handle_input(
        &mut self,
        now: Instant,
        input: gimlet_machine::Input<'_, Self::Path>,
    ) -> gimlet_machine::Verdict<Self::Path> {
        self.recorder.handle_input(now, input)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.recorder.handle_timeout(now);
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        self.recorder.poll_event()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut gimlet_machine::Buf<'_>,
    ) -> Option<gimlet_machine::Transmit<Self::Path>> {
        self.recorder.poll_transmit(now, out)
    }

    fn poll_timeout(&self) -> Option<gimlet_machine::Deadline> {
        self.recorder.poll_timeout()
    }
}

impl<M: Carried + Recordable> Carried for Taped<M> {
    fn role(&self) -> &'static str {
        self.recorder.machine().role()
    }

    fn drain(&mut self, now: Instant) {
        self.recorder.tell(now, "drain");
    }

    fn is_idle(&self) -> bool {
        self.recorder.machine().is_idle()
    }

    fn tell(&self, event: Self::Event, report: &Report) {
        self.recorder.machine().tell(event, report);
    }

    fn end(&mut self, now: Instant, report: &Report) {
        match self.recorder.tape().finish(now) {
            Ok(Recorded { entries, why }) => {
                let is_full = why == End::Full;
                report.json(&json!({ "event": "recorded", "entries": entries, "full": is_full }));
                let how = if is_full { ", and then it was full" } else { "" };
                report.text(&format!("recorded {entries} entries{how}"));
            }
            Err(error) => self.failure = Some(error),
        }
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        Carried::counted(self.recorder.machine())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_powers_of_1024_of_them() {
        assert_eq!(
            [parse_size("500"), parse_size("64M"), parse_size("2g")],
            [Ok(500), Ok(64 << 20), Ok(2 << 30)]
        );
        for wrong in ["", "M", "-1", "1T", "99999999999G", "1.5M"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
