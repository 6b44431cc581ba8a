//! Worlds where a direct path takes guessing, and how likely a guess is.

use std::fmt;

use gimlet_sim::{HostId, Mapping, PortSpan, World};

use super::plan::{Plan, RelayKind};
use crate::inhabitant::Inhabitant;

/// Why nobody can know beforehand where the peer's packets will come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hard {
    /// One side's NAT gives every destination another port, from this span, and servers at two addresses show it.
    Known(PortSpan),
    /// The same, but only one server's address has seen that NAT, which minds addresses: both look easy. Nodes take
    /// the one for hard and then the other, with three quarters of the probes.
    Supposed(PortSpan),
    /// There is a NAT in between that gives a peer's early packets the place of our flow
    /// ([`gimlet_sim::EarlyInbound::TakesTuple`]): whoever sends first spoils it, and guessing sends a lot.
    Clashing,
    /// Both are behind one NAT, at one outside address. Nobody outside can tell whether that NAT lets them meet there,
    /// so nodes do not guess.
    OneAddress,
    /// Both sides' ports have to be guessed at once: not without being told to ([`gimlet_node::PunchLimits`]), by two
    /// that know. One that looks easy does not, and some filters let the guess of one side pass.
    Both,
}

/// What a round of guessing has to work with.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Ports among which the mappings are.
    pool: u32,
    /// Mappings that are opened, and packets for each.
    mappings: u32,
    opens: i32,
    /// Ports that are tried; in one pass, and in all.
    probes: u32,
    probes_in_all: u32,
    /// Probes to each of the ports.
    repeats: i32,
}

impl Hard {
    /// Whether `plan`, whose peers are `a` and `b` in `world`, takes guessing.
    pub fn of(plan: &Plan, world: &World<Inhabitant>, a: HostId, b: HostId) -> Option<Self> {
        let walled = plan.is_blocked(0) || plan.is_blocked(1);
        let cut = plan.shared.as_ref().is_some_and(|nat| !nat.hairpin);
        if walled || cut || world.direct_path_possible(a, b) {
            return None;
        }
        if !world.punch_possible(a, b) {
            return Some(Hard::Both);
        }
        let edges = [0, 1].map(|nth| plan.edge(nth));
        let (edge, span) = if edges[0].1 > edges[1].1 { edges[0] } else { edges[1] };
        Some(if plan.shared.is_some() {
            Hard::OneAddress
        } else if plan.clashes() {
            Hard::Clashing
        } else if edge.mapping == Mapping::AddressDependent && plan.relay != RelayKind::Turn {
            Hard::Supposed(span)
        } else {
            Hard::Known(span)
        })
    }

    /// What the nodes' plan is, if they make one whose chances can be told.
    fn round(self) -> Option<Round> {
        let full = |probes, opens| Round {
            pool: 64_512,
            mappings: 256,
            opens,
            probes,
            probes_in_all: probes,
            repeats: 1,
        };
        let block =
            |pool, mappings| Round { pool, mappings, opens: 2, probes: 128, probes_in_all: 256, repeats: 1 };
        let (span, all) = match self {
            Hard::Known(span) => (span, full(1_024, 2)),
            Hard::Supposed(span) => (span, full(760, 1)),
            Hard::Clashing | Hard::OneAddress | Hard::Both => return None,
        };
        match span {
            PortSpan::One => None,
            PortSpan::Near => {
                Some(Round { pool: 32, mappings: 1, opens: 2, probes: 32, probes_in_all: 32, repeats: 3 })
            }
            PortSpan::Block(size) if size <= 512 => Some(block(512, 16)),
            PortSpan::Block(size) if size <= 1_024 => Some(block(1_024, 32)),
            PortSpan::Block(size) => Some(block(size.into(), 64)),
            PortSpan::Full => Some(all),
        }
    }

    /// The chance that a first pass hits if nothing gets lost, by the formula `1 - C(n - k, h) / C(n, h)`.
    pub fn formula(self) -> Option<f64> {
        let Round { pool, mappings, probes, .. } = self.round()?;
        Some(likelihood(pool.into(), mappings, probes.into()))
    }

    /// The chance that a round hits where of all packets from peer to peer `loss` percent get lost, half of them
    /// before they reach the sender's NAT; no more than the formula says.
    pub fn expected(self, loss: u32) -> Option<f64> {
        let round = self.round()?;
        let loss = f64::from(loss) / 100.0;
        let line = 1.0 - (1.0 - loss).sqrt();
        let opened = f64::from(round.mappings) * (1.0 - line.powi(round.opens));
        // One mapping is made by ordinary checks, which go on; of several, that many are there.
        let mappings = (1..=round.mappings).filter(|nth| f64::from(*nth) <= opened.round().max(1.0)).count();
        let probes = f64::from(round.probes_in_all) * (1.0 - loss.powi(round.repeats));
        let mappings = u32::try_from(mappings).ok()?;
        Some(likelihood(round.pool.into(), mappings, probes).min(self.formula()?))
    }
}

impl fmt::Display for Hard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (span, how) = match self {
            Hard::Known(span) => (span, ""),
            Hard::Supposed(span) => (span, ", not known which side"),
            Hard::Clashing => return f.write_str("a NAT minds who sends first"),
            Hard::OneAddress => return f.write_str("both at one outside address: not tried"),
            Hard::Both => return f.write_str("both sides: not allowed"),
        };
        match span {
            PortSpan::One => f.write_str("none")?,
            PortSpan::Near => f.write_str("in steps or next to the last")?,
            PortSpan::Block(size) => write!(f, "a block of {size}")?,
            PortSpan::Full => f.write_str("all 64,512")?,
        }
        f.write_str(how)
    }
}

/// How likely it is that of `k` probes one finds one of `h` mappings among `n` ports: `1 - C(n - k, h) / C(n, h)`.
fn likelihood(n: f64, h: u32, k: f64) -> f64 {
    let misses = (0..h).map(|nth| 1.0 - k / (n - f64::from(nth)));
    1.0 - misses.map(|share| share.max(0.0)).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousandths(share: Option<f64>) -> Option<f64> {
        share.map(|share| (share * 1_000.0).round())
    }

    #[test]
    fn the_formula_gives_the_figures_that_were_measured_elsewhere() {
        let of = |hard: Hard| thousandths(hard.formula());
        assert_eq!(of(Hard::Known(PortSpan::Full)), Some(983.0));
        assert_eq!(of(Hard::Known(PortSpan::Block(512))), Some(991.0));
        assert_eq!((of(Hard::Known(PortSpan::One)), of(Hard::Both)), (None, None));
        assert_eq!(of(Hard::Known(PortSpan::Near)), Some(1_000.0));
        assert_eq!(of(Hard::Supposed(PortSpan::Full)), Some(952.0));
    }

    #[test]
    fn what_gets_lost_costs_chances_where_nothing_is_tried_twice() {
        for span in [PortSpan::Near, PortSpan::Block(512), PortSpan::Block(2_048), PortSpan::Full] {
            for hard in [Hard::Known(span), Hard::Supposed(span)] {
                assert_eq!(hard.expected(0), hard.formula(), "{hard}");
                assert!(hard.expected(20) <= hard.expected(5), "{hard}");
            }
        }
        assert_eq!(thousandths(Hard::Known(PortSpan::Near).expected(20)), Some(992.0));
        assert_eq!(thousandths(Hard::Known(PortSpan::Full).expected(20)), Some(961.0));
        assert_eq!(thousandths(Hard::Supposed(PortSpan::Full).expected(20)), Some(886.0));
    }
}
