//! What a simulated peer does once it is connected: runs errands, and takes what the other brings.
//!
//! It is the transfer protocol of the real command, driven by a node's events in place of a runtime.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;

use gimlet_machine::{Direction, Instant, PeerId, Session};
use gimlet_node::{Node, Stream};
use sha2::{Digest as _, Sha256};

use crate::line::{Line, hex, mbit_per_s};
use crate::transfer::inbox::Inbox;
use crate::transfer::note::{self, Digest, Held, Opening, Outcome, Purpose, Reply, Trouble};
use crate::transfer::receiver::{Receiver, ReceiverEvent};
use crate::transfer::sender::{Sender, SenderEvent};
use crate::transfer::source::Source;

/// Read or written at a time. Bytes.
const BLOCK: usize = 16 << 10;

/// Something to bring to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    Message(String),
    /// A file of so many made-up bytes.
    File(u64),
}

/// A simulated peer's application.
pub(crate) struct Talker {
    peer: PeerId,
    errands: VecDeque<Errand>,
    /// Errands that the peer has still to bring.
    expected: usize,
    outgoing: Option<(Stream, Outgoing)>,
    incoming: BTreeMap<Stream, Incoming>,
    /// What there is to tell.
    pub(crate) said: VecDeque<Line>,
    /// What went wrong.
    pub(crate) trouble: Option<String>,
}

/// An errand on its way: what we say, what we hear, and what is not sent yet.
struct Outgoing {
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

/// Something that the peer brings.
struct Incoming {
    receiver: Receiver,
    purpose: Option<Purpose>,
    text: Vec<u8>,
    hasher: Sha256,
    unsent: VecDeque<u8>,
}

impl Talker {
    pub(crate) fn new(peer: PeerId, errands: impl IntoIterator<Item = Errand>, expected: usize) -> Self {
        Self {
            peer,
            errands: errands.into_iter().collect(),
            expected,
            outgoing: None,
            incoming: BTreeMap::new(),
            said: VecDeque::new(),
            trouble: None,
        }
    }

    /// Whether everything is brought and everything expected was taken.
    pub(crate) fn is_done(&self) -> bool {
        self.errands.is_empty() && self.outgoing.is_none() && self.expected == 0
    }

    /// Does whatever can be done at this moment. Harmless at any other.
    pub(crate) fn advance(&mut self, node: &mut Node, now: Instant) {
        if !matches!(node.is_connected(self.peer), Ok(true)) || self.trouble.is_some() {
            return;
        }
        let result = self.take(node, now).and_then(|()| self.bring(node, now));
        if let Err(trouble) = result {
            self.trouble = Some(trouble);
        }
    }

    fn bring(&mut self, node: &mut Node, now: Instant) -> Result<(), String> {
        loop {
            if self.outgoing.is_none() {
                let Some(errand) = self.errands.front() else { return Ok(()) };
                let opened = node.open(now, self.peer, Direction::Bidirectional).map_err(told)?;
                let Some(stream) = opened else { return Ok(()) };
                self.outgoing = Some((stream, Outgoing::new(errand, now)));
                self.errands.pop_front();
            }
            let Some((stream, errand)) = &mut self.outgoing else { return Ok(()) };
            let stream = *stream;
            let Some(line) = errand.advance(node, now, stream, self.peer)? else { return Ok(()) };
            self.said.push_back(line);
            self.outgoing = None;
            // A message has ended its half already; then there is nothing to finish.
            let _ = node.finish(now, stream);
        }
    }

    fn take(&mut self, node: &mut Node, now: Instant) -> Result<(), String> {
        while let Some(stream) = node.accept_stream(now, self.peer).map_err(told)? {
            self.incoming.insert(stream, Incoming::new());
        }
        let mut over = Vec::new();
        for (stream, incoming) in &mut self.incoming {
            if let Some(line) = incoming.advance(node, now, *stream, self.peer)? {
                self.said.push_back(line);
                self.expected = self.expected.saturating_sub(1);
            }
            if incoming.is_over() {
                over.push(*stream);
            }
        }
        for stream in over {
            self.incoming.remove(&stream);
            node.finish(now, stream).map_err(told)?;
        }
        Ok(())
    }
}

impl Outgoing {
    fn new(errand: &Errand, begun: Instant) -> Self {
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
    fn advance(
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

impl Incoming {
    fn new() -> Self {
        Self {
            receiver: Receiver::new(),
            purpose: None,
            text: Vec::new(),
            hasher: Sha256::new(),
            unsent: VecDeque::new(),
        }
    }

    /// The line to tell when it is taken.
    fn advance(
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
    fn is_over(&self) -> bool {
        self.unsent.is_empty() && self.receiver.is_over()
    }
}

/// Like `read`; a stream that is over and forgotten has nothing more.
fn read_or_forgotten(
    node: &mut Node,
    now: Instant,
    stream: Stream,
) -> Result<Option<gimlet_machine::Bytes>, String> {
    match node.read(now, stream, BLOCK) {
        Err(
            gimlet_node::Error::UnknownStream
            | gimlet_node::Error::Finished
            | gimlet_node::Error::Abandoned(0),
        ) => Ok(None),
        other => other.map_err(told),
    }
}

/// Writes what the stream takes; says whether that was anything.
fn flush(node: &mut Node, now: Instant, stream: Stream, unsent: &mut VecDeque<u8>) -> Result<bool, String> {
    if unsent.is_empty() {
        return Ok(false);
    }
    let taken = node.write(now, stream, unsent.make_contiguous()).map_err(told)?;
    unsent.drain(..taken);
    Ok(taken > 0)
}

fn stored(outcome: &Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Stored { .. } => Ok(()),
        Outcome::Failed(trouble) => Err(trouble.to_string()),
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
