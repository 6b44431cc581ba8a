//! A switch port that belongs to a VLAN.

use std::convert::Infallible;

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Transmit, Verdict};
use gimlet_raw::{Leg, Side};

/// Puts everything that goes towards one side into a VLAN, and takes what comes from there out of it. What is not in the
/// VLAN does not get through. Two of them, back to back, make a stretch of cable with tags on it, for kernels that
/// have no VLANs of their own.
#[derive(Clone, Copy, Debug)]
pub struct Tagger {
    /// The tag (TCI).
    pub tag: u16,
    /// On which side the VLAN is.
    pub towards: Side,
}

impl Machine for Tagger {
    type Path = Leg;
    type Event = Infallible;

    fn handle_input(&mut self, _now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        let (path, range) = (input.path.across(), 0..input.bytes.len());
        let is_outbound = path.side == self.towards;
        match (is_outbound, path.tag) {
            (true, None) => Verdict::Pass { path: Leg { tag: Some(self.tag), ..path }, range },
            (false, Some(tag)) if tag == self.tag => Verdict::Pass { path: Leg { tag: None, ..path }, range },
            (true | false, _) => Verdict::Consumed,
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_event(&mut self) -> Option<Infallible> {
        None
    }

    fn poll_transmit(&mut self, _now: Instant, _out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_vlan_comes_out_of_it() {
        let mut tagger = Tagger { tag: 0x602a, towards: Side::Server };
        let mut pass = |side, tag| {
            let mut frame = [0; 64];
            match tagger.handle_input(Instant::ZERO, Input::new(Leg { tag, ..Leg::new(side) }, &mut frame)) {
                Verdict::Pass { path, .. } => Some((path.side, path.tag)),
                Verdict::Consumed | Verdict::NotMine => None,
            }
        };
        assert_eq!(pass(Side::Client, None), Some((Side::Server, Some(0x602a))));
        assert_eq!(pass(Side::Server, Some(0x602a)), Some((Side::Client, None)));
        assert_eq!((pass(Side::Server, None), pass(Side::Client, Some(1))), (None, None));
    }
}
