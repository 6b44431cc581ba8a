//! What has to come of a world.

use gimlet_sim::{HostId, PortSpan, World};

use super::plan::{Plan, RelayKind};
use crate::inhabitant::Inhabitant;

/// Whether nodes guess ports. Where they would have to, meeting directly is a matter of chance, and the table
/// has the shares beside the formula.
pub const NODES_PUNCH: bool = true;

/// Whether nodes reach relays over TCP, and so get out of networks that drop datagrams.
pub const RELAYS_OVER_TCP: bool = false;

/// Whether nodes get through NATs that give a peer's early packets the place of our flow
/// ([`gimlet_sim::EarlyInbound::TakesTuple`]): whoever sends first spoils it for 30 s. The table has the share of
/// those that became direct all the same.
pub const NODES_OUTLIVE_CLASHES: bool = false;

/// The least that has to come of a world. Each is better than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// An error that says why, within the time that an attempt takes.
    Failed,
    /// A connection, at least through the relay.
    Relayed,
    /// A connection that ends up direct.
    Direct,
}

impl Expected {
    /// What has to come of `plan`, whose peers are `a` and `b` in `world`.
    pub fn of(plan: &Plan, world: &World<Inhabitant>, a: HostId, b: HostId) -> Self {
        let is_out = |nth| !plan.is_blocked(nth) || RELAYS_OVER_TCP;
        let clashes = plan.clashes() && !NODES_OUTLIVE_CLASHES;
        if world.direct_path_possible(a, b) && is_out(0) && is_out(1) && !clashes {
            Expected::Direct
        } else if plan.relay != RelayKind::None && is_out(0) && is_out(1) {
            Expected::Relayed
        } else {
            Expected::Failed
        }
    }

    /// A word for the table.
    pub const fn word(self) -> &'static str {
        match self {
            Expected::Failed => "none",
            Expected::Relayed => "relayed",
            Expected::Direct => "direct",
        }
    }
}

/// Mappings opened and ports probed where one side's ports lie in `span`: what a plan of the node's may spend.
const fn budget(span: PortSpan) -> Option<(u32, u32, u32)> {
    match span {
        PortSpan::One => None,
        PortSpan::Near => Some((32, 1, 32)),
        PortSpan::Block(size) if size <= 512 => Some((size as u32, 16, 128)),
        PortSpan::Block(size) => Some((size as u32, 64, 256)),
        PortSpan::Full => Some((64_512, 256, 1_024)),
    }
}

/// How likely it is that of `k` probes one finds one of `h` mappings among `n` ports:
/// `1 - C(n - k, h) / C(n, h)`.
pub(super) fn likelihood(span: PortSpan) -> Option<f64> {
    let (n, h, k) = budget(span)?;
    let misses = (0..h.min(n)).map(|nth| 1.0 - f64::from(k) / f64::from(n - nth));
    Some(1.0 - misses.map(|share| share.max(0.0)).product::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_the_figures_that_were_measured_elsewhere() {
        let percent = |span| likelihood(span).map(|share| (share * 1_000.0).round());
        assert_eq!(percent(PortSpan::Full), Some(983.0));
        assert_eq!(percent(PortSpan::Block(512)), Some(991.0));
        assert_eq!((percent(PortSpan::One), percent(PortSpan::Near)), (None, Some(1_000.0)));
    }
}
