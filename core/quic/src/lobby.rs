//! Who is not connected yet: strangers in mid-handshake, reservations, and packets that came
//! before their path was admitted.

use std::collections::VecDeque;

use gimlet_machine::{Ecn, Path, Queue};

use crate::ConnectionId;

/// The antechamber of an endpoint.
#[derive(Debug)]
pub(crate) struct Lobby {
    /// Strangers whose handshake is not over, oldest first.
    pub(crate) strangers: VecDeque<ConnectionId>,
    /// How many reservations wait for their first packet.
    pub(crate) expecting: usize,
    held: Queue<Held>,
}

/// A first packet that came a little early: its sender's check of the path had succeeded, ours not
/// yet. Without this it would come again only after the sender's timeout.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) path: Path,
    pub(crate) ecn: Ecn,
    pub(crate) bytes: Vec<u8>,
}

impl Lobby {
    pub(crate) fn new(held_max: usize) -> Self {
        Self { strangers: VecDeque::new(), expecting: 0, held: Queue::new(held_max) }
    }

    /// A reservation was taken up or given up.
    pub(crate) fn cease_expecting(&mut self) {
        debug_assert!(self.expecting > 0, "each reservation ends once");
        self.expecting = self.expecting.saturating_sub(1);
        if self.expecting == 0 {
            self.held.clear();
        }
    }

    /// Keeps a packet; false if another had to make room or there is no room at all.
    pub(crate) fn hold(&mut self, held: Held) -> bool {
        match self.held.push(held) {
            Ok(()) => true,
            Err(held) => {
                if self.held.pop().is_some() {
                    let _ = self.held.push(held);
                }
                false
            }
        }
    }

    /// Takes out what was kept for `path`, oldest first.
    pub(crate) fn take_held(&mut self, path: &Path) -> Vec<Held> {
        let mut taken = Vec::new();
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop() else { break };
            if held.path == *path {
                taken.push(held);
            } else {
                let _ = self.held.push(held);
            }
        }
        taken
    }
}
