//! The receiving end of a stream that a peer opened, without I/O.

use bytes::Bytes;

use super::inbox::Inbox;
use super::note::{self, Breach, DIGEST_LEN, Digest, Held, Opening, Outcome, Purpose, Refusal, Reply, Start};
use super::state::{ReceiveStep, Receiving};

/// The longest piece of a file that is handed out at once. Bytes.
const PIECE_MAX: usize = 1 << 20;

/// What the receiver learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReceiverEvent {
    /// What the stream is for: answer with [`Receiver::accept`] or [`Receiver::refuse`].
    Opened(Purpose),
    /// The sender begins here: at what we have, or at 0.
    Started { at: u64 },
    /// The next bytes of the file, or of the message or pipe.
    Bytes(Bytes),
    /// The file is whole and should have this hash: answer with [`Receiver::conclude`].
    Complete { sha256: Digest },
}

/// The receiving end. Its owner carries bytes between it and a stream, and stores the file.
#[derive(Debug)]
pub(crate) struct Receiver {
    state: Receiving,
    inbox: Inbox,
    purpose: Option<Purpose>,
}

impl Receiver {
    /// The end of a stream on which nothing has arrived.
    pub(crate) fn new() -> Self {
        Self { state: Receiving::AwaitOpening, inbox: Inbox::default(), purpose: None }
    }

    /// The peer said something.
    pub(crate) fn hear(&mut self, bytes: Bytes) {
        self.inbox.push(bytes);
    }

    /// What that means; call until there is nothing more.
    pub(crate) fn poll(&mut self) -> Result<Option<ReceiverEvent>, Breach> {
        match self.state {
            Receiving::AwaitOpening => {
                let Some(note) = self.inbox.note()? else { return Ok(None) };
                let purpose = Opening::read(&note)?;
                self.purpose = Some(purpose.clone());
                self.step(ReceiveStep::Opened);
                Ok(Some(ReceiverEvent::Opened(purpose)))
            }
            Receiving::AwaitStart { .. } => {
                let Some(note) = self.inbox.note()? else { return Ok(None) };
                let Start { at } = note::read(&note)?;
                self.state = self.state.next(ReceiveStep::Start { at }).ok_or(Breach::WrongStart(at))?;
                Ok(Some(ReceiverEvent::Started { at }))
            }
            Receiving::AwaitBytes { left } => {
                let max = usize::try_from(left).unwrap_or(PIECE_MAX).min(PIECE_MAX);
                let Some(piece) = self.inbox.chunk(max) else { return Ok(None) };
                self.step(ReceiveStep::Got { bytes: piece.len() as u64 });
                Ok(Some(ReceiverEvent::Bytes(piece)))
            }
            Receiving::AwaitTrailer => {
                let trailer = self.inbox.exactly(DIGEST_LEN);
                let Some(sha256) = trailer.and_then(|bytes| Digest::try_from(&bytes[..]).ok()) else {
                    return Ok(None);
                };
                self.step(ReceiveStep::Trailer);
                Ok(Some(ReceiverEvent::Complete { sha256 }))
            }
            Receiving::Raw => Ok(self.inbox.chunk(PIECE_MAX).map(ReceiverEvent::Bytes)),
            Receiving::AwaitDecision => Ok(None),
            Receiving::AwaitVerdict | Receiving::Over if self.inbox.is_empty() => Ok(None),
            Receiving::AwaitVerdict | Receiving::Over => Err(Breach::Surplus),
        }
    }

    /// The stream ended. That is early, except for a message or a pipe.
    pub(crate) fn end(&self) -> Result<(), Breach> {
        match self.state {
            Receiving::Raw | Receiving::AwaitVerdict | Receiving::Over => Ok(()),
            Receiving::AwaitOpening
            | Receiving::AwaitDecision
            | Receiving::AwaitStart { .. }
            | Receiving::AwaitBytes { .. }
            | Receiving::AwaitTrailer => Err(Breach::CutOff),
        }
    }

    /// We want it and have this much already ([`Held::nothing`] for messages and pipes). The bytes go
    /// to the peer.
    pub(crate) fn accept(&mut self, held: Held) -> Vec<u8> {
        let step = match &self.purpose {
            Some(Purpose::File(offer)) => ReceiveStep::AcceptFile { size: offer.size, held: held.length },
            Some(Purpose::Message | Purpose::Pipe) | None => ReceiveStep::AcceptRaw,
        };
        self.step(step);
        note::write(&Reply::Ready(held))
    }

    /// We do not want it. The bytes go to the peer.
    pub(crate) fn refuse(&mut self, refusal: Refusal) -> Vec<u8> {
        self.step(ReceiveStep::Refuse);
        note::write(&Reply::Refused(refusal))
    }

    /// This is what became of it. The bytes go to the peer.
    pub(crate) fn conclude(&mut self, outcome: &Outcome) -> Vec<u8> {
        self.step(ReceiveStep::Verdict);
        note::write(outcome)
    }

    /// Whether [`Receiver::refuse`] is the right word, rather than [`Receiver::conclude`].
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self.state, Receiving::AwaitOpening | Receiving::AwaitDecision)
    }

    /// Whether the last word was said.
    pub(crate) fn is_over(&self) -> bool {
        self.state == Receiving::Over
    }

    fn step(&mut self, step: ReceiveStep) {
        let next = self.state.next(step);
        assert!(next.is_some(), "{step:?} in {:?}: the owner or this machine is wrong", self.state);
        self.state = next.unwrap_or(self.state);
    }
}
