//! Which ports are worth a try, and whether the whole thing is.

use core::error::Error;
use core::fmt;
use core::net::IpAddr;

use gimlet_stun::PortModel;

use super::gate::is_host;
use super::model::{Profile, both_hard, one_hard};
use super::spray::{PORT_FIRST, PORTS, Ports};

/// The most sockets that one side opens. Plans that take more are not made.
pub const PUNCH_SOCKETS_MAX: u16 = 256;

/// The most probes to one peer in any hour, whatever fails. Further ones wait.
pub const PUNCH_PROBES_MAX: u16 = 1_024;

/// A NAT that counts is looked for this many steps ahead of its newest mapping.
const WINDOW: u16 = 32;

/// How often a predicted window is tried: what was right the first time may have got lost.
const WINDOW_PASSES: u8 = 3;

/// Sockets that a predicted window takes. One would do if nobody else used the NAT meanwhile.
const WINDOW_SOCKETS: u16 = 4;

/// The smallest block of ports that is assumed: carriers deal out 512 and more (RFC 7422), and a few samples
/// of 512 may well lie in one half of them.
const BLOCK_MIN: u32 = 512;

/// How many sockets and probes a block is tried with.
const BLOCK_SOCKETS: [u16; 3] = [16, 32, 64];
const BLOCK_PROBES: [u16; 3] = [128, 256, 512];

/// What a punch may cost, and what it must promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PunchLimits {
    /// Sockets that our side opens at most; [`PUNCH_SOCKETS_MAX`] if more. Plans that need more are declined.
    pub sockets_max: u16,
    /// Probes in any hour at most; [`PUNCH_PROBES_MAX`] if more. Plans that need more are declined, and
    /// further rounds wait.
    pub probes_max: u16,
    /// The least chance of success, in millionths, for which a punch is begun.
    pub chance_min: u32,
    /// Whether to try even if both NATs are hard. Each probe then takes a port of our own NAT too, which a
    /// carrier may have few of, and a round hits two times in three at best: [`PunchLimits::chance_min`] has
    /// to allow that.
    pub both_dependent: bool,
}

impl Default for PunchLimits {
    fn default() -> Self {
        Self {
            sockets_max: PUNCH_SOCKETS_MAX,
            probes_max: PUNCH_PROBES_MAX,
            chance_min: 950_000,
            both_dependent: false,
        }
    }
}

/// What this side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Opens sockets and sends from all of them to the peer's known address, so that its NAT has many
    /// mappings which the peer may hit. The side whose mappings depend on the destination.
    Open,
    /// Sends from its one known address to many ports of the peer's.
    Probe,
    /// Falls silent until both NATs have forgotten, and then begins when the peer does. Both sides, when
    /// neither NAT is hard and yet nothing works: a packet that came too early has taken the place of a flow.
    Meet,
}

/// What is to be done, and how likely it is to help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Our part in it.
    pub part: Part,
    /// Sockets that the side which opens is to open; 0 if neither does.
    pub sockets: u16,
    /// Ports that the side which probes tries in each pass.
    pub probes: u16,
    /// Passes in each round. Each pass takes other ports, except where they are predicted.
    pub passes: u8,
    /// The chance that the first pass hits, in millionths, if the NATs are as they were described; 0 where
    /// nothing is guessed ([`Part::Meet`]).
    pub chance: u32,
    pub(crate) ports: Ports,
    /// See [`Profile::supposed`].
    pub(crate) supposed: bool,
    /// How often the side that opens sends from each socket.
    pub(crate) opens: u8,
}

impl Plan {
    /// What the costlier side sends in a round: both wait for what the other can afford. Of what is only supposed,
    /// there is one round, and what counts is our part in it: in the round before we had the other one.
    pub(crate) fn cost(&self) -> u16 {
        let probing = self.probes.saturating_mul(u16::from(self.passes));
        let opening = self.sockets.saturating_mul(self.opens.into());
        match (self.supposed, self.part) {
            (false, _) => probing.max(opening),
            (true, Part::Open) => opening,
            (true, Part::Probe | Part::Meet) => probing,
        }
    }
}

/// Why there is no punch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It is not known whether both mappings depend on the destination.
    Unknown,
    /// Both do, and [`PunchLimits::both_dependent`] is off.
    BothDependent,
    /// The two sides have no outside addresses of one family that differ.
    NoAddress,
    /// What the limits allow is too unlikely to help: this much, in millionths.
    Unlikely(u32),
    /// Data flows straight already.
    Connected,
    /// A lite agent, or a lite peer, sends no checks (RFC 8445 §2.5).
    Lite,
    /// The agent is closed.
    Closed,
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Declined::Unknown => f.write_str("not known how both NATs map: ask two STUN servers first"),
            Declined::BothDependent => {
                f.write_str("both NATs map by destination: allow `both_dependent`, or use a relay")
            }
            Declined::NoAddress => f.write_str("the two sides have no two outside addresses of one family"),
            Declined::Unlikely(chance) => {
                write!(f, "too unlikely to help ({} in 100): use a relay", chance / 10_000)
            }
            Declined::Connected => f.write_str("the path in use is direct already"),
            Declined::Lite => f.write_str("one side is lite and sends no checks: use a relay"),
            Declined::Closed => f.write_str("the agent is closed"),
        }
    }
}

impl Error for Declined {}

/// The cheapest plan that is likely enough to help. The two sides, each with its own point of view and with
/// equal limits, come to plans that fit together.
pub fn plan(ours: &Profile, theirs: &Profile, limits: &PunchLimits) -> Result<Plan, Declined> {
    let (Some(we_depend), Some(they_depend)) = (ours.dependent, theirs.dependent) else {
        return Err(Declined::Unknown);
    };
    if !can_meet(ours, theirs) {
        return Err(Declined::NoAddress);
    }
    let plan = match (we_depend, they_depend) {
        // No port has to be guessed, so there is no chance to speak of.
        (false, false) => {
            let (part, ports) = (Part::Meet, Ports::Anywhere);
            let idle =
                Plan { part, sockets: 0, probes: 0, passes: 0, chance: 0, ports, supposed: false, opens: 0 };
            return Ok(idle);
        }
        (true, false) => cheapest(Part::Open, ours, limits),
        (false, true) => cheapest(Part::Probe, theirs, limits),
        (true, true) if !limits.both_dependent => return Err(Declined::BothDependent),
        (true, true) => both(ours, theirs, limits),
    };
    if plan.chance < limits.chance_min { Err(Declined::Unlikely(plan.chance)) } else { Ok(plan) }
}

/// Whether there are two different outside addresses of one family.
fn can_meet(ours: &Profile, theirs: &Profile) -> bool {
    let fits = |ours: &IpAddr, theirs: &IpAddr| ours.is_ipv4() == theirs.is_ipv4() && ours != theirs;
    let mut ours = ours.addresses().iter().filter(|ip| is_host(**ip));
    ours.any(|ours| theirs.addresses().iter().any(|theirs| is_host(*theirs) && fits(ours, theirs)))
}

/// The cheapest plan that is likely enough; if there is none, the likeliest. One side's NAT is hard, and
/// `hard` says how it deals out ports.
fn cheapest(part: Part, hard: &Profile, limits: &PunchLimits) -> Plan {
    let supposed = hard.supposed;
    let budget = if supposed { budget(limits) / 4 * 3 - budget(limits) / 128 } else { budget(limits) };
    let make = |ports: Ports, pool: u32, sockets: u16, probes: u16, mappings: u16| {
        let chance = one_hard(pool, u32::from(probes), u32::from(mappings));
        let passes_max = if matches!(ports, Ports::Ahead { .. }) { WINDOW_PASSES } else { 2 };
        let passes = u8::try_from(budget / probes.max(1)).unwrap_or(u8::MAX).clamp(1, passes_max);
        // If the opposite is supposed next, who opened has to have enough left to probe.
        let opens = if supposed && probes.saturating_add(2 * sockets) > budget { 1 } else { 2 };
        Plan { part, sockets, probes, passes, chance, ports, supposed, opens }
    };
    let allowed =
        |plan: &Plan| plan.sockets <= limits.sockets_max.min(PUNCH_SOCKETS_MAX) && plan.cost() <= budget;
    if let Some(ports) = window(hard) {
        // As if one mapping alone lay in the window.
        let plan = make(ports, u32::from(WINDOW), WINDOW_SOCKETS, WINDOW, 1);
        if allowed(&plan) && plan.chance >= limits.chance_min {
            return plan;
        }
    }
    if let Some(PortModel::Block { first, last }) = hard.port_model {
        let pool = block_size(first, last);
        let ports = Ports::block(first.min(last), last.max(first), pool);
        let tries =
            BLOCK_SOCKETS.into_iter().flat_map(|sockets| BLOCK_PROBES.map(|probes| (sockets, probes)));
        let plans = tries.map(|(sockets, probes)| make(ports, pool, sockets, probes, sockets));
        let likely = plans.filter(|plan| allowed(plan) && plan.chance >= limits.chance_min);
        if let Some(plan) = likely.min_by_key(|plan| (plan.sockets + plan.probes, plan.probes)) {
            return plan;
        }
    }
    let sockets = limits.sockets_max.min(PUNCH_SOCKETS_MAX).min(budget / 2);
    make(Ports::Anywhere, PORTS, sockets, budget, sockets)
}

/// Both NATs are hard: each side tries ports of the other's, and each probe takes one of its own. A round of
/// this hits two times in three at best, when both look through everything.
fn both(ours: &Profile, theirs: &Profile, limits: &PunchLimits) -> Plan {
    let (ports, pool) = neighbourhood(theirs);
    let pool = pool.max(neighbourhood(ours).1);
    let probes = u16::try_from(pool).unwrap_or(u16::MAX).min(budget(limits));
    let chance = both_hard(pool, u32::from(probes));
    Plan { part: Part::Probe, sockets: 0, probes, passes: 1, chance, ports, supposed: false, opens: 0 }
}

/// Where the next mappings of a hard NAT lie, and among how many ports.
fn neighbourhood(hard: &Profile) -> (Ports, u32) {
    if let Some(Ports::Ahead { newest, step, .. }) = window(hard) {
        // In any order: two sides that both count in step would miss each other by the same each time.
        return (Ports::Ahead { newest, step, shuffled: WINDOW }, u32::from(WINDOW));
    }
    match hard.port_model {
        Some(PortModel::Block { first, last }) => {
            let pool = block_size(first, last);
            (Ports::block(first.min(last), last.max(first), pool), pool)
        }
        Some(PortModel::Preserving | PortModel::Sequential { .. } | PortModel::Random) | None => {
            (Ports::Anywhere, PORTS)
        }
    }
}

/// How large a block is that shows these two ports: the next power of two, as carriers deal them out.
fn block_size(one: u16, other: u16) -> u32 {
    (u32::from(one.abs_diff(other)) + 1).next_power_of_two().max(BLOCK_MIN)
}

/// Where a NAT that counts goes on, if this one does.
fn window(hard: &Profile) -> Option<Ports> {
    let newest = hard.newest_port.filter(|port| *port >= PORT_FIRST)?;
    match hard.port_model? {
        PortModel::Sequential { delta } => {
            let step = i16::try_from(delta).ok().filter(|step| *step != 0)?;
            Some(Ports::Ahead { newest, step, shuffled: 0 })
        }
        // A further mapping of one socket finds its port taken by the first.
        PortModel::Preserving => Some(Ports::Ahead { newest, step: 1, shuffled: 0 }),
        PortModel::Block { .. } | PortModel::Random => None,
    }
}

fn budget(limits: &PunchLimits) -> u16 {
    limits.probes_max.min(PUNCH_PROBES_MAX)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
