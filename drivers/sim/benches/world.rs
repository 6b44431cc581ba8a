//! What the simulator itself costs per packet: `cargo bench -p gimlet-sim`.
//!
//! Wall-clock time without a harness, the fastest of many short runs: the figures are tens of
//! nanoseconds over millions of packets, so what varies is who else uses the processor. The machine
//! in the world does next to nothing.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Transmit, Verdict};
use gimlet_sim::{HostConfig, LinkConfig, NatConfig, NatKind, World};

/// Sends every datagram straight back.
struct Mirror {
    length: usize,
    back: Option<FourTuple>,
}

impl Machine for Mirror {
    type Path = FourTuple;
    type Event = ();
    fn handle_input(&mut self, _now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        self.back = Some(input.path);
        Verdict::Consumed
    }
    fn handle_timeout(&mut self, _now: Instant) {}
    fn poll_event(&mut self) -> Option<()> {
        None
    }
    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let path = self.back.take()?;
        out.vec().resize(self.length, 0);
        Some(Transmit::new(path))
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

/// Pairs of hosts that pass one datagram each back and forth.
fn world(pairs: u32, length: usize, link: LinkConfig, with_nats: bool) -> World<Mirror> {
    let mut world = World::new(1).without_hash();
    for nth in 0..pairs {
        let left = SocketAddr::from(((0x0a00_0000 + 2 * nth).to_be_bytes(), 1_000));
        let right = SocketAddr::from(((0x0a00_0001 + 2 * nth).to_be_bytes(), 2_000));
        let nat = with_nats.then(|| {
            let config = NatConfig::of_kind(NatKind::PortRestricted, (0x0b00_0000 + nth).to_be_bytes());
            world.add_nat(config.expect("a kind with a NAT"), LinkConfig::default())
        });
        let path = FourTuple::new(left, right);
        let mirror = |back| Mirror { length, back };
        world.add_host(HostConfig::new("right", [right]).link(link), mirror(None));
        world.add_host(HostConfig::new("left", [left]).behind(nat).link(link), mirror(Some(path)));
    }
    world
}

/// The fastest of forty runs, in nanoseconds per delivered packet.
fn measure(mut world: World<Mirror>, packets: u64) -> u128 {
    let runs = (0..40).map(|_| {
        let end = world.counts().delivered + packets;
        let start = std::time::Instant::now();
        while world.counts().delivered < end {
            black_box(world.step());
        }
        start.elapsed().as_nanos() / u128::from(packets)
    });
    runs.min().expect("there were runs")
}

fn main() {
    // Fewer packets suffice to count instructions: `valgrind --tool=callgrind target/…/world-… 1000`.
    let packets = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let one_line = LinkConfig::default();
    let two_lines = LinkConfig::with_latency(Duration::from_millis(10));
    let jittery = LinkConfig { jitter: Duration::from_millis(5), ..two_lines };
    let rows = [
        ("1 pair, no delay, 64 B", world(1, 64, one_line, false)),
        ("1 pair, 10 ms lines, 64 B", world(1, 64, two_lines, false)),
        ("1 pair, 10 ms lines, 1,200 B", world(1, 1_200, two_lines, false)),
        ("1 pair, 10 ms lines, NAT, 64 B", world(1, 64, two_lines, true)),
        ("1,000 pairs, 10 ms + jitter, 64 B", world(1_000, 64, jittery, false)),
        ("1,000 pairs, 10 ms + jitter, NAT, 64 B", world(1_000, 64, jittery, true)),
    ];
    for (name, world) in rows {
        println!("{name:40} {:6} ns per packet", measure(world, packets));
    }
}
