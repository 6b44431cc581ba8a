//! What has to come of a world.

use gimlet_sim::{HostId, World};

use super::plan::{Plan, RelayKind};
use crate::inhabitant::Inhabitant;

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
        let clashes = plan.clashes() && !NODES_OUTLIVE_CLASHES;
        if world.direct_path_possible(a, b) && !clashes {
            Expected::Direct
        } else if plan.relay != RelayKind::None {
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
