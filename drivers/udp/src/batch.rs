//! Room for what one receive call brings.

use std::fmt;
use std::io::IoSliceMut;

use gimlet_machine::{Ecn, FourTuple, Input};

/// Messages that one receive call takes at most (`recvmmsg`).
const MESSAGES_MAX: usize = quinn_udp::BATCH_SIZE;

/// Bytes per message: a coalesced run of datagrams is never longer than the largest IP packet.
const MESSAGE_SIZE: usize = 1 << 16;

/// A reusable buffer for received datagrams. It reserves 2 MiB of address space; pages that no
/// datagram ever fills cost no memory.
pub struct RecvBatch {
    storage: Vec<u8>,
    messages: Vec<Message>,
}

/// One coalesced run of datagrams, as the kernel described it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) path: FourTuple,
    pub(crate) ecn: Ecn,
    pub(crate) len: usize,
    /// Bytes per datagram; the last one may be shorter.
    pub(crate) stride: usize,
}

impl RecvBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self { storage: vec![0; MESSAGES_MAX * MESSAGE_SIZE], messages: Vec::with_capacity(MESSAGES_MAX) }
    }

    /// Every datagram received, in order of arrival, lent for rewriting in place.
    pub fn inputs(&mut self) -> impl Iterator<Item = Input<'_, FourTuple>> {
        self.runs().flatten()
    }

    /// The datagrams again, grouped as they arrived: each run came from one path in one piece and
    /// holds up to 64 datagrams. A driver that shares its machine takes the lock once per run.
    pub fn runs(&mut self) -> impl Iterator<Item = impl Iterator<Item = Input<'_, FourTuple>>> {
        self.storage.chunks_exact_mut(MESSAGE_SIZE).zip(&self.messages).map(|(storage, message)| {
            storage[..message.len].chunks_mut(message.stride).map(|bytes| Input {
                path: message.path,
                ecn: message.ecn,
                bytes,
            })
        })
    }

    /// Whether the last receive call brought as much as one call can: more is probably waiting.
    pub fn is_full(&self) -> bool {
        self.messages.len() == MESSAGES_MAX
    }

    /// Whether the last receive call brought nothing.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// Room for one receive call.
    pub(crate) fn slices(&mut self) -> [IoSliceMut<'_>; MESSAGES_MAX] {
        let mut chunks = self.storage.chunks_exact_mut(MESSAGE_SIZE);
        std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()))
    }

    /// Records what the receive call put into the next slice.
    pub(crate) fn push(&mut self, message: Message) {
        assert!(self.messages.len() < MESSAGES_MAX, "one message per slice");
        let len = message.len.min(MESSAGE_SIZE);
        self.messages.push(Message { len, stride: message.stride.max(1), ..message });
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBatch").field("messages", &self.messages).finish_non_exhaustive()
    }
}
