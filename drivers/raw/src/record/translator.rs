//! The translator, to be recorded.

use gimlet_machine::{Counters as _, Instant};
use gimlet_tcp::{FlowReport, Leg, Slots, Translator};

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
