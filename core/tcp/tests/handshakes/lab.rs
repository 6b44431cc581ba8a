//! A translator on a bench: frames in, frames out, every law checked.

use std::collections::VecDeque;

use gimlet_machine::{Buf, Input, Instant, Machine, Rng, Verdict};
use gimlet_tcp::{
    Allow, Block, Config, Counters, Event, FlowKey, FlowState, Leg, Profile, Role, Secret, Side, Translator,
};
use gimlet_testkit::Checked;
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOption, TcpOptionList};

pub(crate) const C: Side = Side::Client;
pub(crate) const S: Side = Side::Server;
pub(crate) const SYN: TcpFlags = TcpFlags::SYN;
pub(crate) const ACK: TcpFlags = TcpFlags::ACK;
pub(crate) const RST: TcpFlags = TcpFlags::RST;
pub(crate) const FIN: TcpFlags = TcpFlags::FIN;
pub(crate) const PSH: TcpFlags = TcpFlags::PSH;
/// Ci.
pub(crate) const CI: u32 = 0xffff_ff00;
/// Sr.
pub(crate) const SR: u32 = 0x20;
/// The client's clock.
pub(crate) const CLOCK: u32 = 1_000;
/// T.
pub(crate) const T: u32 = 0x3e8;

/// One segment, to be said or heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seg {
    pub side: Side,
    pub ports: (u16, u16),
    pub flags: TcpFlags,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub options: TcpOptionList,
    pub payload: Vec<u8>,
}

impl Seg {
    pub(crate) fn of(side: Side, flags: TcpFlags, seq: u32, ack: u32) -> Self {
        let ports = (40_000, 8_080);
        Self { side, ports, flags, seq, ack, window: 502, options: TcpOptionList::new(), payload: Vec::new() }
    }

    pub(crate) fn options(self, options: TcpOptionList) -> Self {
        Self { options, ..self }
    }

    pub(crate) fn clocks(self, value: u32, echo: u32) -> Self {
        self.options(TcpOptionList::new().no_operation().no_operation().timestamps(value, echo))
    }

    pub(crate) fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    pub(crate) fn data(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), flags: self.flags | PSH, ..self }
    }

    pub(crate) fn port(self, port: u16) -> Self {
        Self { ports: (port, self.ports.1), ..self }
    }

    pub(crate) fn envelope(&self) -> Envelope {
        let from_client =
            Envelope::new([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        if self.side == C { from_client } else { Envelope { hop_limit: 61, ..from_client.reversed() } }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        self.frame_in(&self.envelope())
    }

    pub(crate) fn frame_in(&self, envelope: &Envelope) -> Vec<u8> {
        let (client, server) = self.ports;
        let (source_port, destination_port) =
            if self.side == C { (client, server) } else { (server, client) };
        let Self { flags, seq, ack, window, options, ref payload, .. } = *self;
        let segment = Segment { source_port, destination_port, seq, ack, flags, window, options, payload };
        let mut frame = Vec::new();
        envelope.write(&mut frame, &segment);
        frame
    }

    /// Reads a frame that travels towards `to`. Its checksums are right.
    #[track_caller]
    pub(crate) fn read(to: Side, frame: &[u8]) -> Self {
        let layout = Layout::of(frame).expect("a frame");
        assert!(layout.transport_checksum_holds(frame), "a wrong checksum in {frame:02x?}");
        let view = layout.tcp(frame).expect("a segment");
        let ports = if to == S {
            (view.source_port(), view.destination_port())
        } else {
            (view.destination_port(), view.source_port())
        };
        Self {
            side: to.across(),
            ports,
            flags: view.flags(),
            seq: view.seq(),
            ack: view.ack(),
            window: view.window(),
            options: TcpOptionList::new().raw(view.option_bytes()),
            payload: view.payload().to_vec(),
        }
    }

    pub(crate) fn timestamps(&self) -> Option<(u32, u32)> {
        self.find(|option| match option {
            TcpOption::Timestamps { value, echo } => Some((value, echo)),
            _ => None,
        })
    }

    pub(crate) fn find<R>(&self, pick: impl Fn(TcpOption<'_>) -> Option<R>) -> Option<R> {
        let bytes = self.options.as_slice();
        gimlet_wire::TcpOptions::new(bytes, 20).flatten().find_map(|(_, option)| pick(option))
    }
}

/// The options of a usual client's SYN.
pub(crate) fn syn_options() -> TcpOptionList {
    TcpOptionList::new()
        .maximum_segment_size(1_460)
        .sack_permitted()
        .timestamps(CLOCK, 0)
        .no_operation()
        .window_scale(10)
}

/// What a usual server answers.
pub(crate) fn syn_ack_options(scale: u8) -> TcpOptionList {
    TcpOptionList::new()
        .maximum_segment_size(1_460)
        .sack_permitted()
        .timestamps(T, CLOCK)
        .no_operation()
        .window_scale(scale)
}

pub(crate) fn syn() -> Seg {
    Seg::of(C, SYN, CI, 0).options(syn_options()).window(64_240)
}

pub(crate) fn syn_ack() -> Seg {
    Seg::of(S, SYN | ACK, SR, CI.wrapping_add(1)).options(syn_ack_options(7)).window(65_160)
}

pub(crate) struct Lab {
    pub machine: Checked<Translator>,
    pub now: Instant,
    said: VecDeque<(Side, Vec<u8>)>,
    told: Vec<Event>,
}

pub(crate) fn config(role: Role) -> Config {
    let servers = Block::new([10, 0, 0, 0].into(), 8).expect("a block");
    let mut config = Config::new(role);
    config.allowed = vec![Allow { servers, ports: 1..=65_535, idempotent: true }];
    config.limits.flows = 1_024;
    config.secret = Some(Secret::new(*b"gimlet's  secret"));
    config
}

impl Lab {
    pub(crate) fn new(role: Role) -> Self {
        Self::with(config(role))
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::around(Translator::new(Instant::ZERO, Rng::from_u64(1), config).expect("a good configuration"))
    }

    pub(crate) fn around(translator: Translator) -> Self {
        let machine = Checked::new(translator);
        Self { machine, now: Instant::ZERO, said: VecDeque::new(), told: Vec::new() }
    }

    /// A lab that has learned how the server answers.
    pub(crate) fn warm(role: Role) -> Self {
        Self::with(config(role)).warmed()
    }

    pub(crate) fn warmed(mut self) -> Self {
        self.hear(&syn().port(39_999)).says(S, &syn().port(39_999));
        self.hear(&syn_ack().port(39_999)).says(C, &syn_ack().port(39_999));
        self.told.clear();
        self
    }

    /// Waits for so many milliseconds, counted from the start. Timers fire on the way.
    #[track_caller]
    pub(crate) fn at(&mut self, millis: u64) -> &mut Self {
        self.until(Instant::from_millis(millis))
    }

    #[track_caller]
    pub(crate) fn until(&mut self, at: Instant) -> &mut Self {
        self.quiet();
        while let Some(due) = self.machine.poll_timeout().map(|due| due.at).filter(|due| *due <= at) {
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            self.drain();
            if self.now < at {
                self.quiet();
            }
        }
        self.now = at;
        self
    }

    pub(crate) fn hear(&mut self, segment: &Seg) -> &mut Self {
        self.hear_frame(Leg::new(segment.side), &segment.frame())
    }

    pub(crate) fn hear_frame(&mut self, leg: Leg, frame: &[u8]) -> &mut Self {
        let mut frame = frame.to_vec();
        match self.machine.handle_input(self.now, Input::new(leg, &mut frame)) {
            Verdict::Pass { path, range } => {
                assert_eq!((path, range), (leg.across(), 0..frame.len()));
                self.said.push_back((path.side, frame));
            }
            Verdict::Consumed => {}
            Verdict::NotMine => panic!("every frame is the translator's"),
        }
        self.drain();
        self
    }

    pub(crate) fn drain(&mut self) {
        let mut out = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut Buf::new(&mut out)) {
            self.said.push_back((transmit.path.side, out.clone()));
        }
        while let Some(event) = self.machine.poll_event() {
            self.told.push(event);
        }
    }

    /// The next frame goes to `to` and is exactly this one.
    #[track_caller]
    pub(crate) fn says(&mut self, to: Side, segment: &Seg) -> &mut Self {
        let said = self.said_to(to);
        assert_eq!(said, Seg::read(to, &segment.frame()), "at {}", self.now);
        self
    }

    /// The segment passes, and not a bit of it changes.
    #[track_caller]
    pub(crate) fn passes(&mut self, segment: &Seg) -> &mut Self {
        self.hear(segment);
        let frame = self.frame_to(segment.side.across());
        assert_eq!(frame, segment.frame(), "at {}: {segment:?}", self.now);
        self.quiet()
    }

    /// The next frame, read; it goes to `to`.
    #[track_caller]
    pub(crate) fn said_to(&mut self, to: Side) -> Seg {
        let frame = self.frame_to(to);
        Seg::read(to, &frame)
    }

    #[track_caller]
    pub(crate) fn frame_to(&mut self, to: Side) -> Vec<u8> {
        let (side, frame) = self.said.pop_front().unwrap_or_else(|| panic!("{}: silence", self.now));
        assert_eq!(side, to, "{}: {:?}", self.now, Layout::of(&frame));
        frame
    }

    /// Everything that was said, to whomever.
    pub(crate) fn everything(&mut self) -> Vec<(Side, Vec<u8>)> {
        self.said.drain(..).collect()
    }

    /// Nothing has been said that nobody looked at.
    #[track_caller]
    pub(crate) fn quiet(&mut self) -> &mut Self {
        if let Some((side, frame)) = self.said.front() {
            panic!("{}: said to {side:?}: {:?}", self.now, Seg::read(*side, frame));
        }
        self
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told)
    }

    pub(crate) fn translator(&self) -> &Translator {
        self.machine.inner()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.translator().counters()
    }

    /// What the translator says about the usual flow.
    pub(crate) fn state(&self) -> Option<FlowState> {
        self.state_of(&flow())
    }

    pub(crate) fn state_of(&self, flow: &FlowKey) -> Option<FlowState> {
        self.translator().flows().find(|report| report.flow == *flow).map(|report| report.state)
    }

    /// The client's SYN is answered and goes on: what the client was told.
    #[track_caller]
    pub(crate) fn opened(&mut self) -> Seg {
        self.hear(&syn()).says(S, &syn());
        self.said_to(C)
    }

    /// A handshake, complete: what the client was told, and nothing is left to say. The client's last word was
    /// a bare acknowledgement.
    #[track_caller]
    pub(crate) fn ready(&mut self) -> Ready {
        let spoof = self.opened();
        let ready = Ready::new(&spoof);
        self.hear(&syn_ack()).quiet();
        self.hear(&ready.client(ACK, 0)).said_to(S);
        self.quiet();
        self.events().iter().find(|event| matches!(event, Event::Established { .. })).expect("it was told");
        ready
    }
}

pub(crate) fn flow() -> FlowKey {
    FlowKey::new("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:8080".parse().unwrap())
}

pub(crate) fn profile(lab: &mut Lab) -> Option<Profile> {
    lab.events().iter().find_map(|event| match event {
        Event::Learned { profile, .. } => Some(*profile),
        _ => None,
    })
}

/// The numbers of a flow as its ends see them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// S'.
    pub isn: u32,
    /// T'.
    pub clock: u32,
}

impl Ready {
    pub(crate) fn new(spoof: &Seg) -> Self {
        Self { isn: spoof.seq, clock: spoof.timestamps().map_or(0, |(value, _)| value) }
    }

    /// A segment of the client, `at` bytes behind its SYN, that acknowledges the SYN-ACK alone.
    pub(crate) fn client(self, flags: TcpFlags, at: u32) -> Seg {
        Seg::of(C, flags, CI.wrapping_add(1).wrapping_add(at), self.isn.wrapping_add(1))
            .clocks(CLOCK + 1, self.clock)
    }

    /// The same as the server is to see it.
    pub(crate) fn translated(self, flags: TcpFlags, at: u32) -> Seg {
        Seg { ack: SR + 1, ..self.client(flags, at) }.clocks(CLOCK + 1, T)
    }

    /// A segment of the server, `at` bytes behind its SYN-ACK, that acknowledges `acked` bytes.
    #[allow(clippy::unused_self, reason = "reads like its three siblings")]
    pub(crate) fn server(self, flags: TcpFlags, at: u32, acked: u32) -> Seg {
        let ack = CI.wrapping_add(1).wrapping_add(acked);
        Seg::of(S, flags, SR + 1 + at, ack).clocks(T + 50, CLOCK + 1)
    }

    /// The same as the client is to see it.
    pub(crate) fn shifted(self, flags: TcpFlags, at: u32, acked: u32) -> Seg {
        let seq = self.isn.wrapping_add(1).wrapping_add(at);
        Seg { seq, ..self.server(flags, at, acked) }.clocks(self.clock.wrapping_add(50), CLOCK + 1)
    }
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}
