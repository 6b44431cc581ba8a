//! A host: its connections, by whom they are with.

use gimlet_machine::{Instant, Rng};

use crate::endpoint::{Endpoint, Ghost, Known, refusal};
use crate::invariant::Breach;
use crate::middle::Tuple;
use crate::segment::{Segment, flag};
use crate::stack::{App, Stack};

/// Connections of one end, and what it says outside of any.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// All there ever were, the latest of a tuple last.
    pub(super) ends: Vec<(Tuple, Endpoint)>,
    refusals: Vec<Segment>,
}

/// What a server needs to know to take a connection.
pub(super) struct Listener<'a> {
    pub(super) stack: Stack,
    pub(super) apps: Option<[App; 2]>,
    pub(super) answers: bool,
    pub(super) rng: &'a mut Rng,
}

/// Who a segment is about, if `local` is the client's.
pub(super) fn tuple_of(segment: &Segment, at_client: bool) -> Tuple {
    if at_client { (segment.to, segment.from) } else { (segment.from, segment.to) }
}

impl Host {
    /// The latest connection of a tuple.
    pub(super) fn end(&self, tuple: Tuple) -> Option<&Endpoint> {
        self.ends.iter().rev().find(|(known, _)| *known == tuple).map(|(_, end)| end)
    }

    fn end_mut(&mut self, tuple: Tuple) -> Option<&mut Endpoint> {
        self.ends.iter_mut().rev().find(|(known, _)| *known == tuple).map(|(_, end)| end)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.ends.iter().filter_map(|(_, end)| end.due()).min()
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        for (_, end) in &mut self.ends {
            if end.due().is_some_and(|due| due <= now) {
                end.timeout(now);
            }
        }
    }

    /// How far the server of a tuple got in any connection with the client that began with `iss`: what it sent, what it
    /// acknowledged, where its window ended.
    pub(super) fn farthest(&self, tuple: Tuple, iss: u32) -> Option<(i64, i64, i64)> {
        let all = self.ends.iter().filter(|(known, end)| *known == tuple && end.numbers().1 == Some(iss));
        let each = all.map(|(_, end)| (end.sent_max(), end.told().0, end.told().1));
        each.reduce(|one, other| (one.0.max(other.0), one.1.max(other.1), one.2.max(other.2)))
    }

    /// Whether a late copy of a SYN has begun this connection once more: nobody is at its other end.
    fn is_echo(&self, tuple: Tuple) -> bool {
        let Some(irs) = self.end(tuple).map(|end| end.numbers().1) else { return false };
        self.ends.iter().filter(|(known, end)| *known == tuple && end.numbers().1 == irs).count() > 1
    }

    /// A segment for the client.
    pub(super) fn hear(&mut self, now: Instant, segment: &Segment, known: Known<'_>) -> Vec<Breach> {
        if let Some(end) = self.end_mut(tuple_of(segment, true)) {
            return end.handle(now, segment, known);
        }
        self.refusals.extend(refusal(segment));
        Vec::new()
    }

    /// Something that was sent is too big for the way.
    pub(super) fn too_big(&mut self, now: Instant, tuple: Tuple, seq: u32, mtu: usize) -> Option<Breach> {
        self.end_mut(tuple)?.too_big(now, seq, mtu)
    }

    /// A segment for the server.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        segment: &Segment,
        known: Known<'_>,
        listener: &mut Listener<'_>,
    ) -> Vec<Breach> {
        let tuple = tuple_of(segment, false);
        let opens = segment.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN;
        let known = Known { genuine: known.genuine && !self.is_echo(tuple), ..known };
        let end = self.end_mut(tuple).filter(|end| !(opens && end.state() == crate::endpoint::State::Closed));
        if let Some(end) = end {
            return end.handle(now, segment, known);
        }
        match listener.apps.filter(|_| opens && listener.answers) {
            Some(apps) => {
                let end = Endpoint::accept(now, segment, listener.rng.u32(), listener.stack, apps);
                self.ends.push((tuple, end));
            }
            None => self.refusals.extend(refusal(segment)),
        }
        Vec::new()
    }

    /// What it sends next, and how whoever says it speaks.
    pub(super) fn poll(&mut self) -> Option<(Segment, Option<Ghost>, Option<Stack>)> {
        if let Some(segment) = self.refusals.pop() {
            return Some((segment, None, None));
        }
        let mut ends = self.ends.iter_mut();
        ends.find_map(|(_, end)| end.poll().map(|(segment, ghost)| (segment, ghost, Some(*end.stack()))))
    }
}
