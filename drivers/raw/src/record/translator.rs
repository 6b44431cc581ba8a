//! The translator, to be recorded.

use gimlet_machine::{Counters as _, Instant};
use gimlet_tcp::{FlowReport, Leg, Slot, Slots, Translator};

use super::Recordable;

/// What the translator's owner says when nothing new is to begin.
const DRAIN: &str = "drain";

impl<S: Slots> Recordable for Translator<S> {
    fn told(&mut self, now: Instant, command: &str) -> bool {
        let understood = command == DRAIN;
        if understood {
            self.drain(now);
        }
        understood
    }

    fn counted(&self, each: &mut dyn FnMut(&'static str, u64)) {
        self.counters().each().for_each(|(name, count)| each(name, count));
    }

    fn standing(&self, leg: Leg, frame: &[u8]) -> Option<String> {
        let FlowReport { flow, state, delta, held } = self.flow_of(leg, frame)?;
        let delta = delta.map_or(String::new(), |delta| format!(", delta {delta:#010x}"));
        let held = if held == 0 { String::new() } else { format!(", {held} bytes held") };
        Some(format!("{flow:?} {state:?}{delta}{held}"))
    }
}

/// Bytes of a slot.
const SLOT: usize = size_of::<Slot>();

/// A table as [`Recording::origin`](super::Recording::origin) keeps it.
pub fn slots_to_bytes(slots: &[Slot]) -> Vec<u8> {
    slots.iter().flat_map(Slot::words).flat_map(|word| word.to_le_bytes()).collect()
}

/// A table of so many slots from the memory that [`Reader::origin`](super::Reader::origin) fills.
pub fn slots_from_bytes(bytes: &[u8]) -> Vec<Slot> {
    let slot = |bytes: &[u8]| {
        let mut words = [0; SLOT / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Slot::from_words(words)
    };
    bytes.chunks_exact(SLOT).map(slot).collect()
}
