//! Telling protocols apart on one socket (RFC 7983, RFC 9443).
//!
//! ```text
//!   to an address that we relay from, TURN requests, and what clients send on their channels
//!                         ──────────────────► the relay that we are (public nodes)
//!   from a relay of ours ───────────────────► TURN: what peers sent through it comes out, and goes on below
//!   first byte   0..=3 and the magic cookie ─► STUN: our own requests, ICE agents, our server
//!               64..=127 or 192..=255 ───────► QUIC (short and long headers)
//!               anything else ───────────────► counted and dropped
//! ```
//!
//! QUIC packets are recognisable because `core/quic` never greases the fixed bit (RFC 9287).

use gimlet_machine::{FourTuple, Input, Instant, Machine, Path, Verdict};
use gimlet_stun::is_stun;

use crate::node::Node;
use crate::peer::Ice;

impl Node {
    pub(crate) fn demux(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        if let Some(embedded) = &mut self.children.embedded {
            let verdict = embedded.handle_input(now, Input { path, ecn, bytes: &mut *bytes });
            if verdict != Verdict::NotMine {
                return verdict;
            }
        }
        let verdict = self.children.relays.handle_input(now, Input { path, ecn, bytes: &mut *bytes });
        match verdict {
            Verdict::Consumed => Verdict::Consumed,
            Verdict::NotMine => self.demux_inner(now, Input { path: Path::Direct(path), ecn, bytes }),
            Verdict::Pass { path, range } => {
                // Ours in any case: the relay's header told.
                if let Some(bytes) = bytes.get_mut(range) {
                    self.demux_inner(now, Input { path, ecn, bytes });
                }
                Verdict::Consumed
            }
        }
    }

    /// What a peer or a server sent, out of its wrapping.
    pub(crate) fn demux_inner(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<FourTuple> {
        if is_stun(input.bytes) {
            return self.demux_stun(now, input);
        }
        let witness = self.children.nat.booths.contains(input.path.on_wire().local);
        if let (false, Some(64..=127 | 192..=255)) = (witness, input.bytes.first()) {
            return self.demux_quic(now, input);
        }
        self.counters.unknown_protocol += 1;
        Verdict::NotMine
    }

    fn demux_stun(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        if let Path::Direct(path) = path
            && self.children.stun.handle_input(now, Input { path, ecn, bytes: &mut *bytes })
                == Verdict::Consumed
        {
            return Verdict::Consumed;
        }
        let shuns = |ice: &Ice| ice.shunned.contains(&path.peer_address());
        for (_, ice) in self.children.ice.iter_mut().filter(|(_, ice)| !shuns(ice)) {
            let input = Input { path, ecn, bytes: &mut *bytes };
            if ice.agent.handle_input(now, input) == Verdict::Consumed {
                return Verdict::Consumed;
            }
        }
        if let Path::Direct(path) = path
            && self.config.public
            && self.children.server.handle_input(now, Input { path, ecn, bytes }) == Verdict::Consumed
        {
            return Verdict::Consumed;
        }
        self.counters.unknown_stun += 1;
        Verdict::NotMine
    }

    fn demux_quic(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        let admitted = !self.children.quic.is_admitted(&path) && self.admit_ice_path(now, path);
        match self.children.quic.handle_input(now, Input { path, ecn, bytes }) {
            Verdict::Consumed => Verdict::Consumed,
            // Even if this was nothing, an earlier datagram on the path may have been heard just now.
            Verdict::NotMine | Verdict::Pass { .. } if admitted => Verdict::Consumed,
            Verdict::NotMine | Verdict::Pass { .. } => {
                self.counters.unknown_path += 1;
                Verdict::NotMine
            }
        }
    }

    /// The peer's check may have succeeded before ours: what it sends on a pair of one of our agents
    /// belongs to that agent's connection. We answer there only once our own check has succeeded. Says
    /// whether there is such an agent.
    fn admit_ice_path(&mut self, now: Instant, path: Path) -> bool {
        let owner = self
            .children
            .ice
            .iter()
            .filter_map(|(_, ice)| ice.connection.map(|connection| (connection, &ice.agent)))
            .find(|(_, agent)| agent.is_path_of_pair(&path));
        let Some((connection, _)) = owner else { return false };
        self.children.quic.admit(now, connection, path);
        true
    }
}
