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

/// What a row is about.
#[derive(Clone, Copy)]
struct Row {
    pairs: u32,
    length: usize,
    uplink: LinkConfig,
    downlink: LinkConfig,
    has_nats: bool,
}

/// Pairs of hosts that pass one datagram each back and forth.
fn world(row: Row) -> World<Mirror> {
    let Row { pairs, length, uplink, downlink, has_nats } = row;
    let mut world = World::new(1);
    for nth in 0..pairs {
        let left = SocketAddr::from(((0x0a00_0000 + 2 * nth).to_be_bytes(), 1_000));
        let right = SocketAddr::from(((0x0a00_0001 + 2 * nth).to_be_bytes(), 2_000));
        let nat = has_nats.then(|| {
            let config = NatConfig::of_kind(NatKind::PortRestricted, (0x0b00_0000 + nth).to_be_bytes());
            world.add_nat(config.expect("a kind with a NAT"), LinkConfig::default())
        });
        let path = FourTuple::new(left, right);
        let mirror = |back| Mirror { length, back };
        let host = |name, socket| HostConfig { uplink, downlink, ..HostConfig::new(name, [socket]) };
        world.add_host(host("right", right), mirror(None));
        world.add_host(host("left", left).behind(nat), mirror(Some(path)));
    }
    world
}

/// The fastest of four hundred runs, in nanoseconds per delivered packet.
fn measure(mut world: World<Mirror>, packets: u64) -> u128 {
    let runs = (0..400).map(|_| {
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
    // A number of packets and part of a row's name may be given: to count instructions, for instance,
    // with `valgrind --tool=callgrind target/…/world-… 1000 "1,200 B"`.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let packets = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(5_000);
    let wanted = arguments.iter().find(|argument| argument.parse::<u64>().is_err());
    let delay = LinkConfig::with_latency(Duration::from_millis(10));
    let jitter = LinkConfig { jitter: Duration::from_millis(5), ..delay };
    let one_line =
        Row { pairs: 1, length: 64, uplink: delay, downlink: LinkConfig::default(), has_nats: false };
    let two_lines = Row { downlink: delay, ..one_line };
    let many = Row { pairs: 1_000, uplink: jitter, downlink: jitter, ..two_lines };
    let rows = [
        ("1 pair, one line with delay, 64 B", one_line),
        ("1 pair, two lines, 64 B", two_lines),
        ("1 pair, two lines, 1,200 B", Row { length: 1_200, ..two_lines }),
        ("1 pair, two lines, NAT, 64 B", Row { has_nats: true, ..two_lines }),
        ("1,000 pairs, two lines with jitter, 64 B", many),
        ("1,000 pairs, two lines with jitter, NAT", Row { has_nats: true, ..many }),
    ];
    println!("nanoseconds per packet                     bare   with trace hash");
    for (name, row) in rows.into_iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted)))
    {
        let bare = measure(world(row).without_hash(), packets);
        println!("{name:40} {bare:6} {:17}", measure(world(row), packets));
    }
}
