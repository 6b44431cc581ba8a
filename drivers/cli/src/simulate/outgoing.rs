//! An errand on its way to the peer.

use std::collections::VecDeque;
use std::io::Read as _;

use gimlet_machine::{Instant, PeerId, Session as _};
use gimlet_node::{Node, Stream};
use sha2::{Digest as _, Sha256};

use super::talker::{BLOCK, Errand, flush, read_or_forgotten, told};
use crate::line::{Line, hex, mbit_per_s};
use crate::transfer::inbox::Inbox;
use crate::transfer::note::{self, Digest, Opening, Outcome, Purpose, Reply};
use crate::transfer::sender::{Sender, SenderEvent};
use crate::transfer::source::Source;

/// An errand on its way: what we say, what we hear, and what is not sent yet.
pub(super) struct Outgoing {
    talk: Talk,
    unsent: VecDeque<u8>,
    begun: Instant,
}

/// What kind of errand it is, and how far it is.
enum Talk {
    /// The text still waits for the peer's word.
    Message { text: Option<String>, length: usize, inbox: Inbox },
    /// The source is there while bytes are left.
    File { sender: Sender, size: u64, source: Option<(Source, Sha256, u64)>, sha256: Digest },
}

impl Outgoing {
    pub(super) fn new(errand: &Errand, begun: Instant) -> Self {
        match errand {
            Errand::Message(text) => Self {
                talk: Talk::Message { text: Some(text.clone()), length: text.len(), inbox: Inbox::default() },
                unsent: note::write(&Opening::new(Purpose::Message)).into(),
                begun,
            },
            Errand::File(size) => {
                let (source, offer) = Source::generated("sim.bin", *size);
                let (sender, opening) = Sender::offer(offer);
                let source = Some((source, Sha256::new(), *size));
                Self {
                    talk: Talk::File { sender, size: *size, source, sha256: Digest::default() },
                    unsent: opening.into(),
                    begun,
                }
            }
        }
    }

    /// The line to tell when the errand is done.
    pub(super) fn advance(
        &mut self,
        node: &mut Node,
        now: Instant,
        stream: Stream,
        peer: PeerId,
    ) -> Result<Option<Line>, String> {
        loop {
            while let Some(chunk) = read_or_forgotten(node, now, stream)? {
                if chunk.is_empty() {
                    break;
                }
                match &mut self.talk {
                    Talk::Message { inbox, .. } => inbox.push(chunk),
                    Talk::File { sender, .. } => sender.hear(chunk),
                }
            }
            if let Some(line) = self.hear(node, now, stream, peer)? {
                return Ok(Some(line));
            }
            let wrote = flush(node, now, stream, &mut self.unsent)?;
            let refilled = self.unsent.is_empty() && self.refill()?;
            if !wrote && !refilled {
                return Ok(None);
            }
        }
    }

    fn hear(
        &mut self,
        node: &mut Node,
        now: Instant,
        stream: Stream,
        peer: PeerId,
    ) -> Result<Option<Line>, String> {
        match &mut self.talk {
            Talk::Message { text, length, inbox } => {
                let Some(heard) = inbox.note().map_err(told)? else { return Ok(None) };
                let Some(text) = text.take() else {
                    let outcome: Outcome = note::read(&heard).map_err(told)?;
                    let line = Line::MessageDelivered { to: peer.to_string(), bytes: *length };
                    return stored(&outcome).map(|()| Some(line));
                };
                match note::read(&heard).map_err(told)? {
                    Reply::Ready(_) => self.unsent.extend(text.into_bytes()),
                    Reply::Refused(refusal) => return Err(refusal.to_string()),
                }
                // A small text is taken whole: the queue of a fresh stream is empty.
                flush(node, now, stream, &mut self.unsent)?;
                node.finish(now, stream).map_err(told)?;
                Ok(None)
            }
            Talk::File { sender, size, source, sha256 } => match sender.poll().map_err(told)? {
                None => Ok(None),
                Some(SenderEvent::Holds(_)) => {
                    self.unsent.extend(sender.start(0));
                    if *size == 0 {
                        finish_file(sender, source, sha256, *size, &mut self.unsent);
                    }
                    Ok(None)
                }
                Some(SenderEvent::Refused(refusal)) => Err(refusal.to_string()),
                Some(SenderEvent::Ended(outcome)) => {
                    stored(&outcome)?;
                    Ok(Some(Line::Sent {
                        to: peer.to_string(),
                        name: "sim.bin".into(),
                        stored_as: "sim.bin".into(),
                        bytes: *size,
                        resumed_at: 0,
                        mbit_per_s: mbit_per_s(*size, now.since(self.begun)),
                        sha256: hex(sha256),
                    }))
                }
            },
        }
    }

    /// Reads the next block of a file that is being sent; says whether there was one.
    fn refill(&mut self) -> Result<bool, String> {
        let Talk::File { sender, size, source, sha256 } = &mut self.talk else { return Ok(false) };
        let Some((reader, hasher, left)) = source else { return Ok(false) };
        if !sender.wants_bytes() {
            return Ok(false);
        }
        let mut block = vec![0; usize::try_from(*left).unwrap_or(BLOCK).min(BLOCK)];
        reader.read_exact(&mut block).map_err(told)?;
        hasher.update(&block);
        *left -= block.len() as u64;
        self.unsent.extend(block);
        if *left == 0 {
            finish_file(sender, source, sha256, *size, &mut self.unsent);
        }
        Ok(true)
    }
}

fn finish_file(
    sender: &mut Sender,
    source: &mut Option<(Source, Sha256, u64)>,
    sha256: &mut Digest,
    size: u64,
    unsent: &mut VecDeque<u8>,
) {
    if let Some((_, hasher, _)) = source.take() {
        *sha256 = hasher.finalize().into();
        sender.sent(size);
        unsent.extend(sender.trailer(*sha256));
    }
}

fn stored(outcome: &Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Stored { .. } => Ok(()),
        Outcome::Failed(trouble) => Err(trouble.to_string()),
    }
}
