use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gimlet_conformance::laws::{Side, Subject};
use gimlet_machine::{Buf, Counters as _, Deadline, Input, Instant, Machine, Rng, Transmit, Verdict};
use gimlet_tcp::{
    Allow, Block, Config, Event, FlowState, Leg, Limits, Role, Secret, Side as Toward, Translator,
};
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};

/// A box and what lives next to it: clients beside the near one, servers beside the far one.
struct Post {
    translator: Translator,
    side: Side,
    /// Frames that pass.
    passing: VecDeque<(Leg, Vec<u8>)>,
    /// What the neighbour heard last, by the client's port: the next number, and the time.
    heard: BTreeMap<u16, (u32, u32)>,
}

impl Post {
    /// Where its neighbour is.
    const fn neighbour(&self) -> Toward {
        match self.side {
            Side::A => Toward::Client,
            Side::B => Toward::Server,
        }
    }

    fn hear(&mut self, now: Instant, leg: Leg, bytes: &mut [u8]) -> Verdict<Leg> {
        let verdict = self.translator.handle_input(now, Input::new(leg, bytes));
        let Verdict::Pass { path, range } = verdict else { return verdict };
        // No driver has an empty frame, and none could be sent.
        if range.is_empty() {
            return Verdict::Pass { path, range };
        }
        self.passing.push_back((path, bytes[range].to_vec()));
        Verdict::Consumed
    }

    /// The neighbour of this box says something, with what it last heard in mind.
    fn say(&mut self, now: Instant, port: u16, flags: TcpFlags, payload: &[u8]) {
        let (ack, echo) = self.heard.get(&port).copied().unwrap_or_default();
        let own = match self.side {
            Side::A => u32::from(port).wrapping_mul(1_000),
            Side::B => u32::from(port).wrapping_mul(77_777),
        };
        let seq = own.wrapping_add(u32::from(!flags.contains(TcpFlags::SYN)));
        let time = 5_000 + (now.as_nanos() >> 20) as u32;
        let there =
            Envelope::new([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let (around, (source_port, destination_port)) = match self.side {
            Side::A => (there, (port, 80)),
            Side::B => (there.reversed(), (80, port)),
        };
        let options = TcpOptionList::new().no_operation().no_operation().timestamps(time, echo);
        let segment =
            Segment { source_port, destination_port, seq, ack, flags, window: 60_000, options, payload };
        let mut frame = Vec::new();
        around.write(&mut frame, &segment);
        self.hear(now, Leg::new(self.neighbour()), &mut frame);
    }

    /// A frame reaches the neighbour, who answers as its kind does.
    fn note(&mut self, now: Instant, frame: &[u8]) {
        let Ok(layout) = Layout::of(frame) else { return };
        let Ok(view) = layout.tcp(frame) else { return };
        let port = if view.source_port() == 80 { view.destination_port() } else { view.source_port() };
        let time = view.timestamps().map_or(0, |(value, _)| value);
        self.heard.insert(port, (view.seq().wrapping_add(view.seq_len()), time));
        let (flags, has_data) = (view.flags(), !view.payload().is_empty());
        match self.side {
            Side::A if flags.contains(TcpFlags::SYN | TcpFlags::ACK) => {
                self.say(now, port, TcpFlags::ACK | TcpFlags::PSH, b"early");
            }
            Side::B if flags.contains(TcpFlags::SYN) => {
                self.say(now, port, TcpFlags::SYN | TcpFlags::ACK, b"");
            }
            Side::A | Side::B if has_data => self.say(now, port, TcpFlags::ACK, b""),
            Side::A | Side::B => {}
        }
    }
}

impl Machine for Post {
    type Path = Leg;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        self.hear(now, input.path, input.bytes)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.translator.handle_timeout(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.translator.poll_event()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        let transmit = match self.passing.pop_front() {
            Some((leg, frame)) => out.put(&frame).then_some(Transmit::new(leg)),
            None => self.translator.poll_transmit(now, out),
        }?;
        if transmit.path.side == self.neighbour() {
            let frame = out.as_slice().to_vec();
            self.note(now, &frame);
        }
        Some(transmit)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.translator.poll_timeout()
    }
}

/// Near and Far, and a network between them.
struct TwoBoxes;

/// Ports that clients use.
const PORTS: u16 = 8;

/// Carries what passes `from` to the other box, or to the neighbour.
fn carry(now: Instant, from: &mut Post, to: &mut Post) {
    while let Some((leg, mut frame)) = from.passing.pop_front() {
        match TwoBoxes::arrives(from.side, leg) {
            Some(leg) => _ = to.hear(now, leg, &mut frame),
            None => from.note(now, &frame),
        }
    }
}

impl Subject for TwoBoxes {
    type Machine = Post;
    /// The tables of both: 2,304 slots of 64 bytes, 256 handshakes of a kilobyte with their frames, pools of 64 KiB,
    /// 16,384 sources of 48 bytes; and queues of 512 frames and 1,024 events.
    const HEAP_MAX: usize =
        2 * (2_304 * 64 + 256 * 1_024 + (64 << 10) + 16_384 * 48 + 512 * 256 + 1_024 * 128);

    fn build(seed: u64, side: Side) -> Post {
        let role = if side == Side::A { Role::Near } else { Role::Far };
        let mut config = Config::new(role);
        config.secret = Some(Secret::new([7; 16]));
        config.limits =
            Limits { flows: 1_024, half_open: 256, early_data: 4_096, pool: 64 << 10, ..Limits::default() };
        config.warm_for = Duration::from_secs(86_400);
        let servers = Block::new([10, 0, 0, 2].into(), 32).expect("a prefix of 32");
        config.allowed.push(Allow { servers, ports: 80..=80, idempotent: false });
        let translator = Translator::new(Instant::ZERO, Rng::from_u64(seed), config).expect("complete");
        Post { translator, side, passing: VecDeque::new(), heard: BTreeMap::new() }
    }

    /// Strangers are in other VLANs.
    fn path(side: Side, n: u8) -> Leg {
        let from = if side == Side::A { Toward::Server } else { Toward::Client };
        Leg { tag: (n > 0).then_some(u16::from(n)), ..Leg::new(from) }
    }

    fn arrives(side: Side, path: Leg) -> Option<Leg> {
        let between = if side == Side::A { Toward::Server } else { Toward::Client };
        (path.side == between).then(|| Leg { side: between.across(), ..path })
    }

    /// Near learns how the server answers.
    fn introduce(now: Instant, a: &mut Post, b: &mut Post) {
        a.say(now, 1, TcpFlags::SYN, b"");
        carry(now, a, b);
        // The server hears the SYN and answers.
        carry(now, b, a);
        carry(now, a, b);
    }

    fn command(now: Instant, machine: &mut Post, side: Side, which: u16) {
        let port = 40_000 + which % PORTS;
        match (which / PORTS % 16, side) {
            (0..=3, Side::A) => machine.say(now, port, TcpFlags::SYN, b""),
            (0..=3, Side::B) => machine.say(now, port, TcpFlags::SYN | TcpFlags::ACK, b""),
            (4..=6, _) => machine.say(now, port, TcpFlags::ACK, b""),
            (7..=9, _) => machine.say(now, port, TcpFlags::ACK | TcpFlags::PSH, b"early"),
            (10, _) => machine.say(now, port, TcpFlags::ACK | TcpFlags::FIN, b""),
            (11, _) => machine.say(now, port, TcpFlags::RST, b""),
            (12, Side::A) => machine.translator.forget(now, ([10, 0, 0, 2], 80).into()),
            (13, _) if which.is_multiple_of(5) => machine.translator.drain(now),
            (_, _) => {}
        }
    }

    /// Far has a flow that it translates.
    fn has_arrived(machine: &Post) -> bool {
        machine.translator.flows().any(|flow| flow.state == FlowState::Established)
    }

    fn counted(machine: &Post) -> u64 {
        machine.translator.counters().total()
    }
}

#[test]
fn the_translator_keeps_the_laws_in_two_boxes() {
    super::assert_lawful::<TwoBoxes>();
}
