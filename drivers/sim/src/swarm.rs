//! Networks from the dice, for tests that want to see many different ones.
//!
//! Each feature is off half of the time (or more, for the rare ones), so that many seeds together see
//! most pairs of features with and without each other: what is called swarm testing. A network in
//! which everything goes wrong a little is a poor test of any one thing.

use std::net::IpAddr;
use std::time::Duration;

use gimlet_machine::Rng;

use crate::Chance;
use crate::link::{LinkConfig, Rate};
use crate::nat::{
    EarlyInbound, Expiry, Filtering, Mapping, NatConfig, PORT_FIRST, PortAllocation, TablePolicy,
};

impl LinkConfig {
    /// A line as one might meet: up to 100 ms, at times with jitter, up to 10 % loss, doubling,
    /// reordering, a bottleneck between 1 and 100 Mbit/s, or an MTU down to 1,280 bytes
    /// (the least that IPv6 allows, RFC 8200 §5).
    pub fn draw(rng: &mut Rng) -> Self {
        let latency = Duration::from_micros(rng.below(100_000));
        Self {
            latency,
            jitter: if half(rng) { latency / 4 } else { Duration::ZERO },
            loss: some(rng, 100_000),
            duplicate: some(rng, 50_000),
            reorder: some(rng, 50_000),
            reorder_window: Duration::from_micros(1_000 + rng.below(49_000)),
            rate: (rng.below(4) == 0).then(|| Rate::megabits(1 + rng.below(100))),
            mtu: if half(rng) { 1_500 } else { 1_280 + rng.below(220) as u16 },
        }
    }
}

impl NatConfig {
    /// A NAT as one might meet: any mapping with any filtering, any port allocation, timeouts from
    /// 30 s to 5 min, at times with hairpinning or trouble with early packets.
    pub fn draw(rng: &mut Rng, outside: impl Into<IpAddr>) -> Self {
        let mapping = match rng.below(3) {
            0 => Mapping::EndpointIndependent,
            1 => Mapping::AddressDependent,
            _ => Mapping::AddressAndPortDependent,
        };
        let filtering = match rng.below(3) {
            0 => Filtering::EndpointIndependent,
            1 => Filtering::AddressDependent,
            _ => Filtering::AddressAndPortDependent,
        };
        let ports = match rng.below(4) {
            0 => PortAllocation::Preserving,
            1 => PortAllocation::Sequential { step: 1 + rng.below(3) as u16 },
            2 => PortAllocation::Random,
            _ => PortAllocation::Block { first: PORT_FIRST, size: 512 << rng.below(3) },
        };
        Self {
            ports,
            expiry: Expiry { after: Duration::from_secs(30 + rng.below(270)), inbound_refresh: half(rng) },
            hairpin: half(rng),
            early_inbound: if half(rng) { EarlyInbound::Ignored } else { EarlyInbound::TakesTuple },
            when_full: if half(rng) { TablePolicy::RefuseNew } else { TablePolicy::EvictIdlest },
            ..Self::new(outside, mapping, filtering)
        }
    }
}

fn half(rng: &mut Rng) -> bool {
    rng.below(2) == 0
}

/// Never, or up to `most` times in a million.
fn some(rng: &mut Rng, most: u64) -> Chance {
    if half(rng) { Chance::NEVER } else { Chance::per_million(rng.below(most) as u32) }
}

#[cfg(test)]
mod tests;
