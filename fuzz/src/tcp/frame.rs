//! Any frames on either side of a box in any role.
//!
//! Input: the set-up (1 byte: role, whether a connection stands already, whether the run is repeated), then
//! steps. A step is one byte that says what happens, and a few that say how: time passes, early or late;
//! a frame of any bytes arrives, or one that is well made but for what the input changes; the owner gives a
//! command; the box is replaced by another that gets its table, whole or damaged.

use gimlet_machine::{Buf, Counters as _, Input, Instant, Machine, Rng, Verdict};
use gimlet_tcp::{
    Allow, Block, Checksum, Config, Leg, Limits, Role, Secret, Side, Slot, Translator, slots_for,
};
use gimlet_tcp_model::{Dress, Options, Segment, Unreadable, flag};
use gimlet_testkit::Checked;

use crate::tape::Tape;
use crate::target::replayed;

/// The most steps that one input may take.
const STEPS_MAX: usize = 400;
/// Small tables, so that they are full at times.
const FLOWS: usize = 16;
const HALF_OPEN: usize = 8;
const POOL: usize = 64 * 1024;
/// Everything but the table and the pool, in bytes.
const REST_BYTES: usize = 256 * 1024;
/// How long a handshake may take, in milliseconds, and a little.
const HANDSHAKE_MILLIS: u64 = 40_000;
/// The client's first number and the server's.
const CLIENT_ISN: u32 = 0xffff_ff00;
const SERVER_ISN: u32 = 0x20;

/// Whatever arrives: the laws hold on every call; a frame that passes leaves on the other side with its length and its
/// IP header as they were; what the box sends is whole; tables, pool and memory stay within their limits; a
/// run repeats itself; and in the end no handshake is left behind.
pub fn tcp_frame(data: &[u8]) {
    check(data, |_| {});
}

/// A box that counts hops.
pub(crate) fn planted(data: &[u8]) {
    check(data, |frame| {
        if let Some(hops) = frame.get_mut(22) {
            *hops = hops.wrapping_sub(1);
        }
    });
}

fn check(data: &[u8], tamper: fn(&mut [u8])) {
    replayed(data, |setup, tape| play(setup, tape, tamper));
}

fn play(setup: u8, mut tape: Tape<'_>, tamper: fn(&mut [u8])) -> u64 {
    let mut bench = Bench::new(setup, tamper);
    for _ in 0..STEPS_MAX {
        if tape.is_empty() {
            break;
        }
        bench.step(&mut tape);
        bench.assert_bounded();
    }
    bench.run_out();
    bench.trace
}

/// What happens in a step, by the byte that asks for it.
pub(super) mod steps {
    pub(crate) const WAIT: u8 = 0;
    pub(crate) const RAW: u8 = 1;
    pub(crate) const MADE: u8 = 2;
    pub(crate) const DAMAGED: u8 = 3;
    pub(crate) const COMMAND: u8 = 4;
    pub(crate) const REPLACE: u8 = 5;
    pub(crate) const TIMEOUT: u8 = 6;
    pub(crate) const COUNT: u8 = 7;
}

/// One box, and somebody at each of its sides.
struct Bench {
    role: Role,
    now: Instant,
    machine: Checked<Translator>,
    /// S', as it was last said to a client.
    spoofed: u32,
    replaced: u64,
    tamper: fn(&mut [u8]),
    trace: u64,
    storage: Vec<u8>,
}

impl Bench {
    fn new(setup: u8, tamper: fn(&mut [u8])) -> Self {
        let role = [Role::Single, Role::Near, Role::Far, Role::TfoUpgrade][usize::from(setup & 3)];
        let made =
            Translator::new(Instant::ZERO, Rng::from_u64(1), config(role)).expect("a sound configuration");
        let machine = Checked::new(made);
        let (now, storage) = (Instant::from_millis(1_000), Vec::new());
        let mut bench =
            Self { role, now, machine, spoofed: SERVER_ISN, replaced: 0, tamper, trace: 1, storage };
        if setup & 4 != 0 {
            bench.introduce();
        }
        bench
    }

    /// A connection from which the server is learned, and another that is answered.
    fn introduce(&mut self) {
        for port in [1, 0] {
            let syn = Made { flags: flag::SYN, port, ..Made::default() };
            self.arrive_made(Side::Client, &syn);
            self.arrive_made(Side::Server, &Made { flags: flag::SYN | flag::ACK, port, ..Made::default() });
            self.arrive_made(Side::Client, &Made { flags: flag::ACK, port, length: 40, ..Made::default() });
        }
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let what = tape.u8() % steps::COUNT;
        let how = tape.u8();
        let side = if how & 1 == 0 { Side::Client } else { Side::Server };
        match what {
            steps::WAIT => {
                // Milliseconds, or seconds up to two hours.
                let millis =
                    if how & 0x80 == 0 { u64::from(how) * 8 } else { u64::from(how & 0x7f) * 60_000 };
                self.wait(millis);
            }
            steps::RAW => {
                let length = usize::from(tape.u8());
                let checksum = if how & 2 == 0 { Checksum::Complete } else { Checksum::Partial };
                let leg = Leg { checksum, gso: u16::from(how >> 2), ..Leg::new(side) };
                self.arrive(leg, tape.take(length));
            }
            steps::MADE => self.arrive_made(side, &Made::read(how, tape)),
            steps::DAMAGED => {
                let made = Made::read(how, tape);
                let mut frame = self.frame(side, &made);
                for _ in 0..=tape.u8() % 4 {
                    let at = usize::from(tape.u8()) % frame.len();
                    frame[at] ^= tape.u8();
                }
                let cut = usize::from(tape.u8());
                frame.truncate(frame.len().saturating_sub(cut).max(1));
                self.arrive(made.leg(side), &frame);
            }
            steps::COMMAND => self.command(how),
            steps::REPLACE => self.replace(how, tape),
            steps::TIMEOUT => {
                self.machine.handle_timeout(self.now);
                self.drain();
            }
            _ => unreachable!("a remainder is below its divisor"),
        }
    }

    fn arrive_made(&mut self, side: Side, made: &Made) {
        let frame = self.frame(side, made);
        self.arrive(made.leg(side), &frame);
    }

    /// A frame that is well made in the numbers that the box knows.
    fn frame(&self, side: Side, made: &Made) -> Vec<u8> {
        let host = |last: u8, port: u16| -> std::net::SocketAddr {
            if made.v6 {
                (std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)), port).into()
            } else {
                (std::net::Ipv4Addr::new(10, 0, 0, last), port).into()
            }
        };
        let client = host(1, 40_000 + u16::from(made.port));
        let server = host(2, if made.port & 0x40 == 0 { 8_080 } else { 9 });
        let syn = u32::from(made.flags & flag::SYN == 0);
        let (from, to, seq, ack) = match side {
            Side::Client => (client, server, CLIENT_ISN.wrapping_add(syn), self.spoofed.wrapping_add(1)),
            Side::Server => (server, client, SERVER_ISN.wrapping_add(syn), CLIENT_ISN.wrapping_add(1)),
        };
        let mut segment = Segment {
            seq: seq.wrapping_add(made.seq),
            ack: if made.flags & flag::ACK == 0 { 0 } else { ack.wrapping_add(made.ack) },
            flags: made.flags,
            window: made.window,
            options: made.options(),
            ..Segment::new(from, to)
        };
        segment.payload = vec![0x5a; usize::from(made.length)];
        segment.write(made.dress)
    }

    fn arrive(&mut self, leg: Leg, before: &[u8]) {
        let mut frame = before.to_vec();
        let counted = self.machine.inner().counters().total();
        let verdict = self.machine.handle_input(self.now, Input::new(leg, &mut frame));
        let mut passed = false;
        match verdict {
            Verdict::Consumed => {}
            Verdict::NotMine => panic!("every frame on a leg is this machine's"),
            Verdict::Pass { path, range } => {
                assert_eq!((path, range), (leg.across(), 0..before.len()), "what passes, passes whole");
                (self.tamper)(&mut frame);
                assert_eq!(headers(before), headers(&frame), "an IP header was changed");
                self.note(&frame);
                passed = true;
            }
        }
        let said = self.drain();
        let noticed = self.machine.inner().counters().total() != counted;
        let sound = Segment::read(before, leg.checksum == Checksum::Partial).is_ok();
        assert!(passed || said || noticed || sound, "a frame vanished without a count: {before:02x?}");
    }

    /// Hears all that the box has to say. Says whether that was anything.
    fn drain(&mut self) -> bool {
        let mut said = false;
        while let Some(event) = self.machine.poll_event() {
            self.note(format!("{event:?}").as_bytes());
            said = true;
        }
        let mut storage = std::mem::take(&mut self.storage);
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
            let partial = transmit.path.checksum == Checksum::Partial;
            match Segment::read(&storage, partial) {
                Ok(segment) if segment.has(flag::SYN | flag::ACK) && transmit.path.side == Side::Client => {
                    self.spoofed = segment.seq;
                }
                Ok(_) => {}
                // ICMP: etherparse has found it whole, and TCP is not in it.
                Err(Unreadable::Form) => assert!(is_icmp(&storage), "a box sent {storage:02x?}"),
                // A header that was bad is written back as it was.
                Err(why) => panic!("a box sent a frame with bad {why:?}: {storage:02x?}"),
            }
            self.note(&storage);
            said = true;
        }
        self.storage = storage;
        said
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now + std::time::Duration::from_millis(millis);
        for _ in 0..200 {
            let Some(due) = self.machine.poll_timeout().filter(|due| due.at <= until) else { break };
            self.now = self.now.max(due.at);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    fn command(&mut self, how: u8) {
        let (now, n) = (self.now, how >> 3);
        self.machine.command(now, |machine| match how & 7 {
            0 => machine.rotate_secret(now, Secret::new([n; 16])),
            1 | 2 => machine.forget(now, (std::net::Ipv4Addr::new(10, 0, 0, 2), 8_080).into()),
            3 if n > 28 => machine.drain(now),
            _ => {
                let servers =
                    Block::new(std::net::Ipv4Addr::new(10, 0, n, 0).into(), 24).expect("24 of 32 bits");
                let more = Allow { servers, ports: 1..=u16::MAX, idempotent: n & 1 == 0 };
                let _ = machine.allow(now, more);
            }
        });
        self.drain();
    }

    /// Another box gets the table, after the input has had its hands on it.
    fn replace(&mut self, how: u8, tape: &mut Tape<'_>) {
        let mut slots = self.machine.inner().slots().to_vec();
        for _ in 0..how & 3 {
            let place = usize::from(tape.u8()) % slots.len();
            let mut words = *slots[place].words();
            words[usize::from(tape.u8() & 7)] ^= u64::from(tape.u8()) << (tape.u8() & 63);
            slots[place] = Slot::from_words(words);
        }
        if how & 4 != 0 {
            slots.resize(slots_for(FLOWS), Slot::EMPTY);
        }
        self.replaced += 1;
        let rng = Rng::from_u64(2).fork_nth("replaced", self.replaced);
        let (machine, attached) =
            Translator::attach(self.now, rng, config(self.role), slots).expect("as many slots as before");
        assert!(attached.flows <= slots_for(FLOWS));
        self.machine = Checked::new(machine);
    }

    fn assert_bounded(&self) {
        let machine = self.machine.inner();
        let most = slots_for(FLOWS) * size_of::<Slot>() + POOL + REST_BYTES;
        assert!(machine.memory() <= most, "{} bytes of {most}", machine.memory());
        assert!(machine.half_open() <= HALF_OPEN, "{} handshakes", machine.half_open());
        assert!(machine.pooled() <= POOL, "{} bytes of early data", machine.pooled());
    }

    /// Nothing more arrives.
    fn run_out(&mut self) {
        self.wait(HANDSHAKE_MILLIS);
        let machine = self.machine.inner();
        assert_eq!((machine.half_open(), machine.pooled()), (0, 0), "left behind");
    }

    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn config(role: Role) -> Config {
    let everywhere =
        [std::net::IpAddr::from([10, 0, 0, 0]), std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0])];
    let allowed = everywhere.into_iter().filter_map(|address| Block::new(address, 16));
    let allowed = allowed.map(|servers| Allow { servers, ports: 1..=u16::MAX, idempotent: true });
    let limits = Limits { flows: FLOWS, half_open: HALF_OPEN, pool: POOL, ..Limits::default() };
    Config { secret: Some(Secret::new([7; 16])), allowed: allowed.collect(), limits, ..Config::new(role) }
}

/// Ethernet and IP headers, without tags; nothing for other frames.
fn headers(frame: &[u8]) -> &[u8] {
    match frame.get(12..14) {
        Some([8, 0]) => &frame[..frame.len().min(34)],
        Some([0x86, 0xdd]) => &frame[..frame.len().min(54)],
        Some(_) | None => &[],
    }
}

fn is_icmp(frame: &[u8]) -> bool {
    let tags =
        frame.chunks(4).skip(3).take_while(|tag| matches!(tag, [0x81, 0, ..] | [0x88, 0xa8, ..])).count();
    let (kind, ip) = (frame.get(12 + tags * 4..14 + tags * 4), 14 + tags * 4);
    match kind {
        Some([8, 0]) => frame.get(ip + 9) == Some(&1),
        Some([0x86, 0xdd]) => frame.get(ip + 6) == Some(&58),
        Some(_) | None => false,
    }
}

/// A segment as the input describes it.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    flags: u8,
    port: u8,
    seq: u32,
    ack: u32,
    window: u16,
    length: u8,
    options: u8,
    v6: bool,
    dress: Dress,
}

impl Made {
    fn read(how: u8, tape: &mut Tape<'_>) -> Self {
        let (flags, port, shape) = (tape.u8(), tape.u8() & 0x43, tape.u8());
        let number = |tape: &mut Tape<'_>| match tape.u8() {
            far @ 0xf0.. => u32::from(far) << 24 | u32::from(tape.u16()),
            near => u32::from(near).wrapping_sub(16),
        };
        // Sixteen is what the box expects.
        let (seq, ack) = (number(tape), number(tape));
        let (window, length, options) = (tape.u16(), tape.u8(), how >> 1);
        Self {
            flags,
            port,
            seq,
            ack,
            window,
            length,
            options,
            v6: shape & 1 != 0,
            dress: Dress { packed: shape & 4 != 0, partial: shape & 2 != 0 },
        }
    }

    fn leg(&self, side: Side) -> Leg {
        let checksum = if self.dress.partial { Checksum::Partial } else { Checksum::Complete };
        Leg { checksum, ..Leg::new(side) }
    }

    fn options(&self) -> Options {
        let is_syn = self.flags & flag::SYN != 0;
        let has = |bit: u8| self.options & bit == 0;
        Options {
            mss: (is_syn && has(1)).then_some(1_400),
            shift: (is_syn && has(2)).then_some(7),
            sack_permitted: is_syn && has(4),
            timestamps: has(8).then_some((100, u32::from(self.window))),
            sacks: if !is_syn && !has(16) { vec![(self.seq, self.ack), (1, 2)] } else { Vec::new() },
            fast_open: (is_syn && !has(16)).then(|| vec![7; usize::from(self.length & 8)]),
            unknown: (is_syn && !has(32)).then(|| (self.length | 0x80, vec![1, 2])),
        }
    }
}
