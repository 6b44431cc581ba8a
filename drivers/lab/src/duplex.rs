//! A long cable: both directions of a line as one machine between two sides.

use std::convert::Infallible;

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Rng, Transmit, Verdict};
use gimlet_raw::{Leg, Side};
use gimlet_sim::{Line, LineCounters, LinkConfig};

/// Delays every frame between two sides, and loses, repeats and swaps some of them, each direction with dice of its own.
///
/// A train that a kernel has not cut yet is one frame here: it is lost or delayed as a whole.
#[derive(Debug)]
pub struct Duplex {
    to_server: Line<Leg>,
    to_client: Line<Leg>,
}

impl Duplex {
    /// Both directions alike. The size limit of `config` is for packets in a simulation; here there is none but the
    /// longest frame that fits in a buffer of the machine's contract.
    pub fn new(rng: &Rng, config: LinkConfig) -> Self {
        let config = LinkConfig { mtu: u16::MAX, ..config };
        Self {
            to_server: Line::new(rng.fork("to server"), config),
            to_client: Line::new(rng.fork("to client"), config),
        }
    }

    /// What was not carried: towards the server, towards the client.
    pub fn counters(&self) -> [&LineCounters; 2] {
        [self.to_server.counters(), self.to_client.counters()]
    }
}

impl Machine for Duplex {
    type Path = Leg;
    type Event = Infallible;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        let direction = match input.path.side {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        };
        direction.handle_input(now, Input { path: input.path.across(), ..input })
    }

    /// Nothing to do: what is due is there to be polled.
    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_event(&mut self) -> Option<Infallible> {
        None
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        self.to_server
            .poll_transmit(now, &mut out.reborrow())
            .or_else(|| self.to_client.poll_transmit(now, out))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earliest([self.to_server.poll_timeout(), self.to_client.poll_timeout()])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gimlet_sim::Chance;

    use super::*;

    /// The sides and bytes that come out of a line within a second, with when.
    fn carried(config: LinkConfig, frames: &[(u64, Side, u8)]) -> Vec<(u64, Side, u8)> {
        let mut line = Duplex::new(&Rng::from_u64(7), config);
        let (mut out, mut storage) = (Vec::new(), Vec::new());
        for ms in 0..1_000 {
            let now = Instant::from_millis(ms);
            for (_, side, byte) in frames.iter().filter(|(at, ..)| *at == ms) {
                line.handle_input(now, Input::new(Leg::new(*side), &mut [*byte]));
            }
            while let Some(transmit) = line.poll_transmit(now, &mut Buf::new(&mut storage)) {
                out.push((ms, transmit.path.side, storage[0]));
            }
        }
        out
    }

    #[test]
    fn both_directions_take_their_time_and_keep_their_order() {
        let config = LinkConfig::with_latency(Duration::from_millis(25));
        let frames = [(0, Side::Client, 1), (0, Side::Client, 2), (3, Side::Server, 3)];
        let expected = [(25, Side::Server, 1), (25, Side::Server, 2), (28, Side::Client, 3)];
        assert_eq!(carried(config, &frames), expected);
    }

    #[test]
    fn the_seed_decides_what_is_lost_and_each_direction_has_its_own_dice() {
        let config = LinkConfig { loss: Chance::percent(50), ..LinkConfig::default() };
        let both: Vec<_> = (0..200).flat_map(|ms| [(ms, Side::Client, 0), (ms, Side::Server, 0)]).collect();
        let out = carried(config, &both);
        assert_eq!(out, carried(config, &both));
        let arrivals = |side| out.iter().filter(move |(_, to, _)| *to == side).map(|(ms, ..)| *ms);
        assert!((50..150).contains(&arrivals(Side::Server).count()));
        assert!(!arrivals(Side::Server).eq(arrivals(Side::Client)));
    }
}
