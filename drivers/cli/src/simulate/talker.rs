//! What a simulated peer does once it is connected: runs errands, and takes what the other brings.
//!
//! It is the transfer protocol of the real command, driven by a node's events in place of a runtime.

use std::collections::{BTreeMap, VecDeque};

use gimlet_machine::{Direction, Instant, PeerId, Session};
use gimlet_node::{Node, Stream};

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::line::Line;

/// Read or written at a time. Bytes.
pub(super) const BLOCK: usize = 16 << 10;

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

/// Like `read`; a stream that is over and forgotten has nothing more.
pub(super) fn read_or_forgotten(
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
pub(super) fn flush(
    node: &mut Node,
    now: Instant,
    stream: Stream,
    unsent: &mut VecDeque<u8>,
) -> Result<bool, String> {
    if unsent.is_empty() {
        return Ok(false);
    }
    let taken = node.write(now, stream, unsent.make_contiguous()).map_err(told)?;
    unsent.drain(..taken);
    Ok(taken > 0)
}

pub(super) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
