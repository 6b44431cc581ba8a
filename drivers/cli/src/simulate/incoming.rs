//! What the peer brings.

use std::collections::VecDeque;

use gimlet_machine::{Instant, PeerId};
use gimlet_node::{Node, Stream};
use sha2::{Digest as _, Sha256};

use super::talker::{flush, read_or_forgotten, told};
use crate::line::{Line, hex};
use crate::transfer::note::{Digest, Held, Outcome, Purpose, Trouble};
use crate::transfer::receiver::{Receiver, ReceiverEvent};

/// Something that the peer brings.
pub(super) struct Incoming {
    receiver: Receiver,
    purpose: Option<Purpose>,
    text: Vec<u8>,
    hasher: Sha256,
    unsent: VecDeque<u8>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            receiver: Receiver::new(),
            purpose: None,
            text: Vec::new(),
            hasher: Sha256::new(),
            unsent: VecDeque::new(),
        }
    }

    /// The line to tell when it is taken.
    pub(super) fn advance(
        &mut self,
        node: &mut Node,
        now: Instant,
        stream: Stream,
        peer: PeerId,
    ) -> Result<Option<Line>, String> {
        let mut line = None;
        while let Some(chunk) = read_or_forgotten(node, now, stream)? {
            let ended = chunk.is_empty();
            self.receiver.hear(chunk);
            while let Some(event) = self.receiver.poll().map_err(told)? {
                line = self.on_event(event, peer)?.or(line);
            }
            if ended {
                line = self.on_end(peer)?.or(line);
                break;
            }
        }
        flush(node, now, stream, &mut self.unsent)?;
        Ok(line)
    }

    fn on_event(&mut self, event: ReceiverEvent, peer: PeerId) -> Result<Option<Line>, String> {
        match event {
            ReceiverEvent::Opened(purpose) => {
                self.purpose = Some(purpose);
                self.unsent.extend(self.receiver.accept(Held::nothing()));
                Ok(None)
            }
            ReceiverEvent::Started { .. } => Ok(None),
            ReceiverEvent::Bytes(bytes) => {
                if let Some(Purpose::File(_)) = self.purpose {
                    self.hasher.update(&bytes);
                } else {
                    self.text.extend_from_slice(&bytes);
                }
                Ok(None)
            }
            ReceiverEvent::Complete { sha256 } => {
                let actual: Digest = std::mem::take(&mut self.hasher).finalize().into();
                if actual != sha256 {
                    return Err(Trouble::HashMismatch.to_string());
                }
                let Some(Purpose::File(offer)) = &self.purpose else { return Ok(None) };
                let outcome = Outcome::Stored { name: offer.name.clone() };
                let line = Line::Received {
                    from: peer.to_string(),
                    file: offer.name.clone(),
                    bytes: offer.size,
                    resumed_at: 0,
                    sha256: hex(&actual),
                };
                self.unsent.extend(self.receiver.conclude(&outcome));
                Ok(Some(line))
            }
        }
    }

    /// The end of a stream is the end of a message; of a file it is nothing new.
    fn on_end(&mut self, peer: PeerId) -> Result<Option<Line>, String> {
        self.receiver.end().map_err(told)?;
        if self.purpose != Some(Purpose::Message) {
            return Ok(None);
        }
        let text = String::from_utf8(std::mem::take(&mut self.text)).map_err(told)?;
        self.unsent.extend(self.receiver.conclude(&Outcome::Stored { name: String::new() }));
        Ok(Some(Line::Message { from: peer.to_string(), text }))
    }

    /// Whether everything was said and heard.
    pub(super) fn is_over(&self) -> bool {
        self.unsent.is_empty() && self.receiver.is_over()
    }
}
