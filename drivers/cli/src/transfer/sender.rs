//! The sending end of one file, without I/O.

use bytes::Bytes;

use super::inbox::Inbox;
use super::note::{
    self, Breach, DIGEST_LEN, Digest, Held, Offer, Opening, Outcome, Purpose, Refusal, Reply, Start,
};
use super::state::{SendStep, Sending};

/// What the sender learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SenderEvent {
    /// The receiver wants it and has this much: compare it with our own bytes, then call
    /// [`Sender::start`].
    Holds(Held),
    /// The receiver does not want it.
    Refused(Refusal),
    /// It is over. An [`Outcome`] that comes before the last byte is a failure.
    Ended(Outcome),
}

/// The sending end of one file. Its owner carries bytes between it and a stream, and reads the file.
#[derive(Debug)]
pub(crate) struct Sender {
    state: Sending,
    inbox: Inbox,
    size: u64,
}

impl Sender {
    /// Offers a file; the bytes open the stream.
    pub(crate) fn offer(offer: Offer) -> (Self, Vec<u8>) {
        let size = offer.size;
        let opening = note::write(&Opening::new(Purpose::File(offer)));
        (Self { state: Sending::AwaitReply, inbox: Inbox::default(), size }, opening)
    }

    /// The receiver said something.
    pub(crate) fn hear(&mut self, bytes: Bytes) {
        self.inbox.push(bytes);
    }

    /// What that means.
    pub(crate) fn poll(&mut self) -> Result<Option<SenderEvent>, Breach> {
        match self.state {
            Sending::AwaitReply => {
                let Some(note) = self.inbox.note()? else { return Ok(None) };
                match note::read(&note)? {
                    Reply::Ready(held) if held.length > self.size => Err(Breach::WrongStart(held.length)),
                    Reply::Ready(held) => {
                        self.step(SendStep::Ready);
                        Ok(Some(SenderEvent::Holds(held)))
                    }
                    Reply::Refused(refusal) => {
                        self.step(SendStep::Refused);
                        Ok(Some(SenderEvent::Refused(refusal)))
                    }
                }
            }
            Sending::AwaitBytes { .. } | Sending::AwaitOutcome => {
                let Some(note) = self.inbox.note()? else { return Ok(None) };
                let outcome: Outcome = note::read(&note)?;
                let early = matches!(self.state, Sending::AwaitBytes { .. });
                if early && matches!(outcome, Outcome::Stored { .. }) {
                    // It cannot have what we have not sent.
                    return Err(Breach::Surplus);
                }
                self.step(SendStep::Outcome);
                Ok(Some(SenderEvent::Ended(outcome)))
            }
            // It is our turn: whatever it says has to wait.
            Sending::AwaitCompare => Ok(None),
            Sending::Over if self.inbox.is_empty() => Ok(None),
            Sending::Over => Err(Breach::Surplus),
        }
    }

    /// Begins at `at`: after what the receiver has, if that is the beginning of our file, else at 0.
    pub(crate) fn start(&mut self, at: u64) -> Vec<u8> {
        self.step(SendStep::Start { left: self.size - at });
        note::write(&Start { at })
    }

    /// Whether it is time for the file's bytes.
    pub(crate) fn wants_bytes(&self) -> bool {
        matches!(self.state, Sending::AwaitBytes { .. })
    }

    /// So many bytes of the file are on their way.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.step(SendStep::Sent { bytes });
    }

    /// All bytes are on their way; this is the hash of the whole file.
    pub(crate) fn trailer(&mut self, sha256: Digest) -> [u8; DIGEST_LEN] {
        self.step(SendStep::Trailer);
        sha256
    }

    fn step(&mut self, step: SendStep) {
        let next = self.state.next(step);
        assert!(next.is_some(), "{step:?} in {:?}: the owner or this machine is wrong", self.state);
        self.state = next.unwrap_or(self.state);
    }
}
