//! A recording that is being read.

use std::io::Read;

use gimlet_machine::Instant;
use gimlet_tcp::Side;

use super::pcapng::{self, Blocks};
use super::{Entry, Heading, RecordError, What, entry};
use crate::FRAME_MAX;

/// Interfaces that a file may have: ours has three, and who merges files gets more.
const INTERFACES_MAX: usize = 16;

/// The heading and the entries of a file. It holds one entry at a time, however long the file is.
#[derive(Debug)]
pub struct Reader<R> {
    blocks: Blocks<R>,
    heading: Heading,
    /// What stands at each interface: a side, or (`None`) the machine.
    interfaces: Vec<Option<Side>>,
    position: u64,
    at: Instant,
    /// Whether the entry in hand has only been looked at.
    is_ahead: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the heading.
    pub fn open(from: R) -> Result<Self, RecordError> {
        let mut blocks = Blocks::new(from);
        if blocks.advance()? != Some(pcapng::SECTION) {
            return Err(RecordError::NotARecording);
        }
        let mut comments = Vec::new();
        for option in blocks.options(24) {
            match option.ok_or_else(|| blocks.damaged("an option is longer than its block"))? {
                (pcapng::COMMENT, text) if comments.len() < 2 => {
                    comments.push(std::str::from_utf8(text).map_err(|_| RecordError::NotARecording)?);
                }
                _ => {}
            }
        }
        let [comment, configuration] = comments[..] else { return Err(RecordError::NotARecording) };
        let heading = Heading::read(comment, configuration)?;
        let at = heading.begun;
        Ok(Self { blocks, heading, interfaces: Vec::new(), position: 0, at, is_ahead: false })
    }

    /// What makes the machine again.
    pub fn heading(&self) -> &Heading {
        &self.heading
    }

    /// Puts the memory that the machine found when it was made into `memory`, which is zero and as long as that was.
    /// Reads all entries that have some of it, and whether there were any.
    pub fn origin(&mut self, memory: &mut [u8]) -> Result<bool, RecordError> {
        let mut is_any = false;
        while self.advance()? {
            let What::Origin { offset, bytes } = self.read()?.what else {
                self.is_ahead = true;
                break;
            };
            let offset = usize::try_from(offset).ok();
            let place = offset.and_then(|offset| memory.get_mut(offset..)?.get_mut(..bytes.len()));
            place
                .ok_or_else(|| self.blocks.damaged("a piece of memory is outside of it"))?
                .copy_from_slice(bytes);
            is_any = true;
        }
        Ok(is_any)
    }

    /// The number of the entry in hand, from 1: what programs that show such files call the number of a packet.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next entry; false: there is none.
    pub fn advance(&mut self) -> Result<bool, RecordError> {
        if std::mem::take(&mut self.is_ahead) {
            return Ok(true);
        }
        loop {
            match self.blocks.advance()? {
                None => return Ok(false),
                Some(pcapng::SECTION) => return Err(self.blocks.damaged("a second section begins")),
                Some(pcapng::INTERFACE) => self.note_interface()?,
                Some(pcapng::ENHANCED_PACKET) => break,
                // Programs that save such files again add blocks about names and statistics.
                Some(_) => {}
            }
        }
        self.position += 1;
        let at = self.read()?.at;
        if at < self.at {
            return Err(self.blocks.damaged("time goes backwards"));
        }
        self.at = at;
        Ok(true)
    }

    /// The entry in hand, after [`Reader::advance`] said that there is one.
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.read().ok()
    }

    fn read(&self) -> Result<Entry<'_>, RecordError> {
        let damaged = |why| self.blocks.damaged(why);
        let word = |at| self.blocks.word(at).ok_or_else(|| damaged("a block is shorter than a packet"));
        let side = *self
            .interfaces
            .get(word(8)? as usize)
            .ok_or_else(|| damaged("a frame is of an interface that does not exist"))?;
        let nanos = u64::from(word(12)?) << 32 | u64::from(word(16)?);
        let (frame, options) = self.blocks.packet()?;
        if frame.len() > FRAME_MAX {
            return Err(damaged("a frame is longer than frames get"));
        }
        let mut comments = [None; 2];
        for option in self.blocks.options(options) {
            let (code, value) = option.ok_or_else(|| damaged("an option is longer than its block"))?;
            if code == pcapng::COMMENT {
                let text = std::str::from_utf8(value).map_err(|_| damaged("a comment is not UTF-8"))?;
                if let Some(free) = comments.iter_mut().find(|comment| comment.is_none()) {
                    *free = Some(text);
                }
            }
        }
        let [Some(comment), note] = comments else { return Err(damaged("an entry does not say what it is")) };
        let what = entry::parse(side, comment, frame).map_err(damaged)?;
        Ok(Entry { at: Instant::from_nanos(nanos), what, note: note.unwrap_or("") })
    }

    /// What is wrong with the entry in hand.
    pub(crate) fn damaged(&self, why: &'static str) -> RecordError {
        self.blocks.damaged(why)
    }

    fn note_interface(&mut self) -> Result<(), RecordError> {
        let (mut side, mut resolution) = (None, 6);
        for option in self.blocks.options(16) {
            let option = option.ok_or_else(|| self.blocks.damaged("an option is longer than its block"))?;
            match option {
                (pcapng::NAME, b"client") => side = Some(Some(Side::Client)),
                (pcapng::NAME, b"server") => side = Some(Some(Side::Server)),
                (pcapng::NAME, b"machine") => side = Some(None),
                (pcapng::RESOLUTION, [given]) => resolution = *given,
                _ => {}
            }
        }
        let side =
            side.ok_or_else(|| self.blocks.damaged("it has an interface that recordings do not have"))?;
        if resolution != pcapng::NANOSECONDS {
            return Err(self.blocks.damaged("its times are not in nanoseconds"));
        }
        if self.interfaces.len() == INTERFACES_MAX {
            return Err(self.blocks.damaged("it has more interfaces than a recording"));
        }
        self.interfaces.push(side);
        Ok(())
    }
}
