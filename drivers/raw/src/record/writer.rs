//! A recording that is being written.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gimlet_machine::Instant;
use gimlet_tcp::Side;

use super::{End, Entry, Heading, Tape, What, pcapng};
use crate::Clock;

/// What is left at the end of a full recording for the entry that says so, bytes.
const END_ROOM: u64 = 128;
/// How long an entry may stay in memory while others follow. A process that is killed loses as much.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Memory that a machine found is kept in pieces of so many bytes.
const PIECE: usize = 1 << 12;
/// The buffer before the file, bytes.
const BUFFER: usize = 1 << 18;

/// The interfaces of the file by their numbers: both sides, and the machine itself.
const INTERFACES: [(&str, u16); 3] =
    [("client", pcapng::ETHERNET), ("server", pcapng::ETHERNET), ("machine", pcapng::PRIVATE)];
const MACHINE: u32 = 2;

/// A file of entries. It never grows beyond its limit, and a disk that fails ends the recording, not the machine.
#[derive(Debug)]
pub struct Recording<W: Write = File> {
    out: BufWriter<W>,
    block: Vec<u8>,
    left: u64,
    entries: u64,
    state: State,
    flushed: Instant,
}

#[derive(Debug)]
enum State {
    Running,
    Ended(End),
    Failed(io::Error),
}

impl Recording {
    /// Makes the file, which must not exist yet, for its owner alone to read: it holds the machine's secrets, and what
    /// others said. It gets at most `bytes_max` long.
    pub fn create(path: &Path, heading: &Heading, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_origin = Clock.now().since(Instant::ZERO);
        // Whole seconds: what programs that show the file add to the machine's time.
        let offset = since_1970.as_secs().cast_signed() - since_origin.as_secs().cast_signed();
        Self::new(file, heading, offset, bytes_max)
    }
}

impl<W: Write> Recording<W> {
    /// A recording into `out`. `offset` is the moment [`Instant::ZERO`] in seconds since 1970.
    pub fn new(out: W, heading: &Heading, offset: i64, bytes_max: u64) -> io::Result<Self> {
        if heading.configuration.len() > pcapng::OPTION_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a configuration of more than 65,535 bytes cannot be recorded",
            ));
        }
        let mut block = Vec::new();
        pcapng::block(&mut block, pcapng::SECTION, |out| {
            pcapng::section(out);
            pcapng::option(out, pcapng::COMMENT, heading.comment().as_bytes());
            pcapng::option(out, pcapng::COMMENT, heading.configuration.as_bytes());
            pcapng::option(out, pcapng::APPLICATION, format!("gimlet {}", heading.version).as_bytes());
        });
        for (name, kind) in INTERFACES {
            pcapng::block(&mut block, pcapng::INTERFACE, |out| {
                pcapng::interface(out, kind);
                pcapng::option(out, pcapng::NAME, name.as_bytes());
                pcapng::option(out, pcapng::RESOLUTION, &[pcapng::NANOSECONDS]);
                pcapng::option(out, pcapng::OFFSET, &offset.to_le_bytes());
            });
        }
        let Some(left) = bytes_max.checked_sub(block.len() as u64 + END_ROOM) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a recording takes at least {} bytes", block.len() as u64 + END_ROOM),
            ));
        };
        let mut out = BufWriter::with_capacity(BUFFER, out);
        out.write_all(&block)?;
        out.flush()?;
        Ok(Self { out, block, left, entries: 0, state: State::Running, flushed: heading.begun })
    }

    /// Puts the memory that the machine found when it was made at the beginning: all that is not zero.
    pub fn origin(&mut self, begun: Instant, memory: &[u8]) {
        for (nth, bytes) in memory.chunks(PIECE).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                let what = What::Origin { offset: (nth * PIECE) as u64, bytes };
                self.keep(&Entry { at: begun, what, note: "" });
            }
        }
    }

    /// Ends the recording, and says how that went. The machine must have nothing more to do or say.
    pub fn finish(&mut self, now: Instant) -> Result<Recorded, io::Error> {
        self.end(now, End::Finished);
        match &self.state {
            State::Failed(error) => Err(io::Error::new(error.kind(), error.to_string())),
            State::Ended(why) => Ok(Recorded { entries: self.entries, why: *why }),
            State::Running => unreachable!("it was ended"),
        }
    }

    fn end(&mut self, now: Instant, why: End) {
        if matches!(self.state, State::Running) {
            self.block.clear();
            write_entry(&mut self.block, &Entry { at: now, what: What::End { why }, note: "" });
            self.entries += 1;
            self.state = match self.out.write_all(&self.block).and_then(|()| self.out.flush()) {
                Ok(()) => State::Ended(why),
                Err(error) => State::Failed(error),
            };
        }
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        self.out.write_all(&self.block)?;
        if now.since(self.flushed) >= FLUSH_EVERY {
            self.flushed = now;
            self.out.flush()?;
        }
        Ok(())
    }
}

/// What became of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// How many entries it has.
    pub entries: u64,
    /// Whether it is whole.
    pub why: End,
}

impl<W: Write> Tape for Recording<W> {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    fn keep(&mut self, entry: &Entry<'_>) {
        if !self.is_running() {
            return;
        }
        self.block.clear();
        write_entry(&mut self.block, entry);
        match self.left.checked_sub(self.block.len() as u64) {
            Some(left) => self.left = left,
            None => return self.end(entry.at, End::Full),
        }
        self.entries += 1;
        if let Err(error) = self.write(entry.at) {
            self.state = State::Failed(error);
        }
    }
}

fn write_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let interface = entry.what.side().map_or(MACHINE, |side| match side {
        Side::Client => 0,
        Side::Server => 1,
    });
    pcapng::block(out, pcapng::ENHANCED_PACKET, |out| {
        pcapng::packet(out, interface, entry.at.as_nanos(), entry.what.frame());
        let direction = if entry.what.is_cause() { pcapng::INBOUND } else { pcapng::OUTBOUND };
        pcapng::option(out, pcapng::FLAGS, &direction.to_le_bytes());
        pcapng::option(out, pcapng::COMMENT, clipped(&entry.what.to_string()).as_bytes());
        if !entry.note.is_empty() {
            pcapng::option(out, pcapng::COMMENT, clipped(entry.note).as_bytes());
        }
    });
}

/// As much of a text as an option takes.
pub(crate) fn clipped(text: &str) -> &str {
    let end = (0..=pcapng::OPTION_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
