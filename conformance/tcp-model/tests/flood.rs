//! A million SYNs from everywhere, beside one connection that goes on (case 58, I10).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gimlet_machine::{Buf, Counters as _, Input, Instant, Machine, Rng, Verdict};
use gimlet_tcp::{Allow, Block, Config, Leg, Limits, Role, Side, Translator};
use gimlet_tcp_model::{Dress, Options, Segment, flag};

/// How many SYNs; a build without optimisation gets by with fewer.
const SYNS: u32 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
const FLOWS: usize = 4_096;
const HALF_OPEN: usize = 1_024;
/// What sources, destinations and the queue may take beside the table, the handshakes and their early data, in bytes.
const REST_BYTES: usize = 4 << 20;

fn server() -> SocketAddr {
    (Ipv4Addr::new(10, 0, 1, 2), 8_080).into()
}

struct Flood {
    machine: Translator,
    now: Instant,
    storage: Vec<u8>,
    /// Frames that the box sent to clients by itself.
    answers: u64,
}

impl Flood {
    fn hear(&mut self, side: Side, segment: &Segment) -> Option<Segment> {
        let mut frame = segment.write(Dress::default());
        let verdict = self.machine.handle_input(self.now, Input::new(Leg::new(side), &mut frame));
        let mut said = None;
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut Buf::new(&mut self.storage)) {
            self.answers += u64::from(transmit.path.side == Side::Client);
            said = Segment::read(&self.storage, false).ok();
        }
        while self.machine.poll_event().is_some() {}
        match verdict {
            Verdict::Pass { .. } => Segment::read(&frame, false).ok().filter(|_| said.is_none()).or(said),
            Verdict::Consumed | Verdict::NotMine => said,
        }
    }
}

fn segment(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Segment {
    let mut segment = Segment { seq, ack, flags, window: 30_000, ..Segment::new(from, to) };
    if flags & flag::SYN != 0 {
        segment.options = Options { mss: Some(1_460), sack_permitted: true, ..Options::default() };
    }
    segment
}

#[test]
fn case_58_a_flood_of_syns_takes_no_more_than_its_share_and_nothing_from_others() {
    let everywhere = Block::new(Ipv4Addr::UNSPECIFIED.into(), 0).expect("no bits of 32");
    let allowed = vec![Allow { servers: everywhere, ports: 1..=u16::MAX, idempotent: false }];
    let limits = Limits { flows: FLOWS, half_open: HALF_OPEN, ..Limits::default() };
    let config = Config { allowed, limits, ..Config::new(Role::Single) };
    let machine = Translator::new(Instant::ZERO, Rng::from_u64(1), config).expect("a sound configuration");
    let mut flood = Flood { machine, now: Instant::from_millis(1), storage: Vec::new(), answers: 0 };
    let client: SocketAddr = (Ipv4Addr::new(10, 0, 0, 1), 40_000).into();
    let first: SocketAddr = (Ipv4Addr::new(10, 0, 0, 1), 39_999).into();
    // The server is learned, and then answered for.
    flood.hear(Side::Client, &segment(first, server(), flag::SYN, 5, 0));
    flood.hear(Side::Server, &segment(server(), first, flag::SYN | flag::ACK, 500, 6));
    let spoof = flood.hear(Side::Client, &segment(client, server(), flag::SYN, 7, 0)).expect("an answer");
    flood.hear(Side::Client, &segment(client, server(), flag::ACK, 8, spoof.seq.wrapping_add(1)));
    flood.hear(Side::Server, &segment(server(), client, flag::SYN | flag::ACK, 900, 8));
    let translated = |flood: &mut Flood| {
        let ack = segment(client, server(), flag::ACK, 8, spoof.seq.wrapping_add(101));
        flood.hear(Side::Client, &ack).map(|ack| ack.ack)
    };
    assert_eq!(translated(&mut flood), Some(1_001));

    let base = flood.machine.memory();
    let bound = base + HALF_OPEN * 1_024 + REST_BYTES;
    let (mut dice, mut peak, before) = (Rng::from_u64(58), 0, flood.answers);
    for nth in 0..SYNS {
        let source: SocketAddr = (Ipv4Addr::from(dice.u32()), dice.u32() as u16 | 1_024).into();
        flood.hear(Side::Client, &segment(source, server(), flag::SYN, dice.u32(), 0));
        // Two hundred thousand in a second.
        flood.now += Duration::from_micros(5);
        if flood.machine.poll_timeout().is_some_and(|due| due.at <= flood.now) {
            flood.machine.handle_timeout(flood.now);
            while let Some(transmit) =
                flood.machine.poll_transmit(flood.now, &mut Buf::new(&mut flood.storage))
            {
                flood.answers += u64::from(transmit.path.side == Side::Client);
            }
        }
        assert!(flood.machine.half_open() <= HALF_OPEN);
        if nth % 100 == 0 {
            peak = peak.max(flood.machine.memory());
            assert!(peak <= bound, "{peak} bytes after {nth} SYNs, of {bound}");
        }
        if nth % 10_000 == 0 {
            assert_eq!(translated(&mut flood), Some(1_001), "after {nth} SYNs");
        }
    }
    // Each handshake that there was room for is answered at most five times; all others pass.
    let answers = flood.answers - before;
    assert!(answers <= HALF_OPEN as u64 * 5, "{answers} answers to strangers");
    assert!(flood.machine.counters().total() > u64::from(SYNS) / 2, "what is not answered is counted");
    // Twenty seconds later nothing is left of it.
    for _ in 0..10_000 {
        let end = flood.now + Duration::from_secs(20);
        let Some(due) = flood.machine.poll_timeout().filter(|due| due.at <= end && due.why != "sweep") else {
            break;
        };
        flood.machine.handle_timeout(due.at);
        while flood.machine.poll_transmit(due.at, &mut Buf::new(&mut flood.storage)).is_some() {}
        while flood.machine.poll_event().is_some() {}
        flood.now = flood.now.max(due.at);
    }
    flood.now += Duration::from_secs(20);
    flood.machine.handle_timeout(flood.now);
    while flood.machine.poll_transmit(flood.now, &mut Buf::new(&mut flood.storage)).is_some() {}
    assert_eq!((flood.machine.half_open(), flood.machine.pooled()), (0, 0));
    assert_eq!(translated(&mut flood), Some(1_001));
}
