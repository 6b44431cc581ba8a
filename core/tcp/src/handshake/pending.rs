//! All handshakes under way.

use core::time::Duration;

use gimlet_machine::{Deadline, Instant, Rng, SeededMap};

use crate::handshake::Handshake;
use crate::timer::Alarms;
use crate::{FlowKey, Role};

/// The least time between two rings of one alarm.
const SHORTEST: Duration = Duration::from_millis(1);

/// How many handshakes are looked at to find one that may go.
const EVICTION_LOOKS: usize = 16;

/// Handshakes by flow. One is taken out to be worked on and put back unless it is over, so alarms and the
/// account of early data cannot be forgotten.
#[derive(Debug)]
pub(crate) struct Handshakes {
    role: Role,
    by_flow: SeededMap<FlowKey, Handshake>,
    alarms: Alarms<FlowKey>,
    /// Bytes of memory for early data, of all handshakes.
    pooled: usize,
}

impl Handshakes {
    pub(crate) fn new(role: Role, rng: &mut Rng) -> Self {
        Self { role, by_flow: SeededMap::new(rng), alarms: Alarms::default(), pooled: 0 }
    }

    /// Takes the handshake of `flow` out.
    pub(crate) fn take(&mut self, flow: &FlowKey) -> Option<Handshake> {
        if self.by_flow.is_empty() {
            return None;
        }
        let mut taken = self.by_flow.remove(flow)?;
        self.alarms.reset(*flow, taken.clock.due.take(), None);
        self.pooled -= taken.pooled();
        Some(taken)
    }

    /// The handshake of `flow`, to be looked at.
    pub(crate) fn find(&self, flow: &FlowKey) -> Option<&Handshake> {
        self.by_flow.get(flow)
    }

    /// Puts a handshake in, or back.
    pub(crate) fn put(&mut self, handshake: Handshake) {
        self.put_after(Instant::ZERO, handshake);
    }

    /// Puts a handshake back whose alarm was served at `now`: it does not ring again at the same moment.
    pub(crate) fn put_after(&mut self, now: Instant, mut handshake: Handshake) {
        let flow = handshake.key;
        let next = now + SHORTEST;
        handshake.clock.due = handshake.deadline(self.role).map(|due| due.max(next));
        debug_assert!(handshake.clock.due.is_some(), "whatever is kept ends some day");
        self.alarms.reset(flow, None, handshake.clock.due);
        self.pooled += handshake.pooled();
        let before = self.by_flow.insert(flow, handshake);
        debug_assert!(before.is_none(), "a flow has one handshake");
    }

    /// Takes out a handshake whose alarm is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Handshake> {
        let flow = self.alarms.pop(now)?;
        let mut taken = self.by_flow.remove(&flow)?;
        taken.clock.due = None;
        self.pooled -= taken.pooled();
        Some(taken)
    }

    /// Far: forgets one whose client has not shown that Near answered it, among those that end soon. Its SYN
    /// has passed, and its client can still show it. Whether there was one.
    pub(crate) fn evict_unproven(&mut self) -> bool {
        let soon = self.alarms.keys().take(EVICTION_LOOKS);
        let found =
            soon.into_iter().find(|flow| self.by_flow.get(flow).is_some_and(|one| one.spoof.is_none()));
        found.is_some_and(|flow| self.take(&flow).is_some())
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.alarms.deadline()
    }

    /// Every handshake, the one whose alarm is next first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Handshake> {
        self.alarms.keys().filter_map(|flow| self.by_flow.get(&flow))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_flow.len()
    }

    /// Bytes of memory for early data.
    pub(crate) fn pooled(&self) -> usize {
        self.pooled
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        use core::mem::size_of;
        let one = size_of::<(FlowKey, Handshake)>() + size_of::<(Instant, FlowKey)>();
        let patterns: usize = self.iter().map(|handshake| handshake.syn.len()).sum();
        self.len() * one + patterns + self.pooled
    }
}
