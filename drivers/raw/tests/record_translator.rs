//! A translator's life in a recording: handshakes that overlap, timers, a command; lived again to the last byte.
#![cfg(target_os = "linux")]

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Rng, Transmit, Verdict};
use gimlet_raw::{
    End, Entry, Heading, Leg, Part, Reader, Recordable, Recorder, Recording, Replayed, Side, What, replay,
    slots_from_bytes, slots_to_bytes,
};
use gimlet_tcp::{Allow, Block, Config, Event, Role, Translator};
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const SEED: [u8; 32] = [3; 32];
const BEGUN: Instant = Instant::from_millis(1_000);
/// The client's initial sequence number, and the server's.
const CI: u32 = 0xffff_ff00;
const SR: u32 = 0x20;

fn config() -> Config {
    let mut config = Config::new(Role::Single);
    let servers = Block::new(SERVER, 32).unwrap();
    config.allowed.push(Allow { servers, ports: 80..=80, idempotent: false });
    config.limits.flows = 64;
    config
}

fn translator(seed: [u8; 32]) -> Translator {
    Translator::new(BEGUN, Rng::from_seed(seed), config()).unwrap()
}

fn heading() -> Heading {
    Heading {
        machine: "single".into(),
        version: "0.1.0".into(),
        seed: SEED,
        begun: BEGUN,
        configuration: String::new(),
    }
}

/// A file in memory.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A translator between a client and a server whose segments are written here.
struct Bench {
    machine: Recorder<Translator, Recording<Disk>>,
    now: Instant,
    said: Vec<(Side, Vec<u8>)>,
}

impl Bench {
    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(due) = self.machine.poll_timeout().filter(|due| due.at <= until) {
            self.now = self.now.max(due.at);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while self.machine.poll_event().is_some() {}
        let mut storage = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
            self.said.push((transmit.path.side, storage.clone()));
        }
    }

    /// Lets the machine hear a segment from `side` with the client's port.
    fn hear(&mut self, side: Side, port: u16, (flags, seq, ack): (TcpFlags, u32, u32), payload: &[u8]) {
        let options = if flags.contains(TcpFlags::SYN) {
            TcpOptionList::new().maximum_segment_size(1_460).sack_permitted()
        } else {
            TcpOptionList::new()
        };
        let (source, destination, source_port, destination_port) = match side {
            Side::Client => (CLIENT, SERVER, port, 80),
            Side::Server => (SERVER, CLIENT, 80, port),
        };
        let envelope = Envelope::new([2; 12], source, destination);
        let mut frame = Vec::new();
        let segment =
            Segment { source_port, destination_port, seq, ack, flags, window: 64_000, options, payload };
        envelope.write(&mut frame, &segment);
        self.machine.handle_input(self.now, Input::new(Leg::new(side), &mut frame));
        self.drain();
    }

    /// The initial sequence number of the SYN-ACK that the machine made last.
    fn spoofed(&mut self) -> u32 {
        let (_, frame) = self.said.iter().rfind(|(side, _)| *side == Side::Client).expect("a SYN-ACK");
        let layout = Layout::of(frame).unwrap();
        layout.tcp(frame).unwrap().seq()
    }
}

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;

fn file() -> Vec<u8> {
    let disk = Disk::default();
    let tape = Recording::new(disk.clone(), &heading(), 0, 1 << 20).unwrap();
    let machine = Recorder::new(translator(SEED), tape);
    let mut bench = Bench { machine, now: BEGUN, said: Vec::new() };
    // The first connection passes, and the server's answer is learned.
    bench.hear(Side::Client, 1_111, (SYN, CI, 0), b"");
    bench.wait(20);
    bench.hear(Side::Server, 1_111, (SYN | ACK, SR, CI + 1), b"");
    bench.hear(Side::Client, 1_111, (ACK, CI + 1, SR + 1), b"hello");
    // The second is answered at once. Its SYN is lost, and made again by the machine's timer.
    bench.wait(100);
    bench.hear(Side::Client, 2_222, (SYN, CI, 0), b"");
    let spoofed = bench.spoofed();
    bench.hear(Side::Client, 2_222, (ACK, CI + 1, spoofed.wrapping_add(1)), b"early data");
    bench.wait(1_500);
    bench.hear(Side::Server, 2_222, (SYN | ACK, SR, CI + 1), b"");
    bench.hear(Side::Server, 2_222, (ACK, SR + 1, CI + 11), &[7; 900]);
    let now = bench.now;
    assert!(bench.machine.tell(now, "drain"));
    bench.drain();
    bench.hear(Side::Client, 3_333, (SYN, CI, 0), b"");
    bench.machine.tape().finish(now).unwrap();
    drop(bench);
    let file = disk.0.lock().unwrap();
    file.clone()
}

/// What every entry says, its note behind it.
fn texts(file: &[u8]) -> Vec<String> {
    let mut reader = Reader::open(file).unwrap();
    let mut texts = Vec::new();
    while reader.advance().unwrap() {
        let Entry { what, note, .. } = reader.entry().unwrap();
        texts.push(format!("{what} | {}", note.replace('\n', " | ")));
    }
    texts
}

fn replayed(file: &[u8], seed: [u8; 32]) -> Replayed {
    replay(&mut Reader::open(file).unwrap(), translator(seed)).unwrap()
}

#[test]
fn handshakes_timers_and_commands_are_lived_again() {
    let file = file();
    let found = replayed(&file, SEED);
    assert_eq!((found.difference, found.end), (None, Some(End::Finished)));
    let texts = texts(&file);
    // Eight segments arrived. The second connection's SYN-ACK, two SYNs and a flush were made.
    assert_eq!(found.arrived, 8, "{texts:#?}");
    assert_eq!(found.entries + 1, texts.len() as u64);
    let has = |parts: &[&str]| texts.iter().any(|text| parts.iter().all(|part| text.contains(part)));
    assert!(
        has(&["arrived", "counters: cold +1", "flow: 10.0.0.1:1111 -> 10.0.0.2:80 Bypass"]),
        "{texts:#?}"
    );
    assert!(has(&["arrived", "spoofed +1", "HalfOpen"]), "{texts:#?}");
    assert!(has(&["arrived", "held +10", "AwaitServer", "10 bytes held"]), "{texts:#?}");
    assert!(has(&["timeout", "syns_resent +1"]), "{texts:#?}");
    assert!(has(&["event Established"]) && has(&["arrived", "Established, delta 0x"]), "{texts:#?}");
    assert!(has(&["told drain"]) && has(&["arrived", "draining +1"]), "{texts:#?}");
}

#[test]
fn who_goes_on_with_the_flows_of_another_process_is_lived_again_from_there() {
    let mut machine = translator(SEED);
    replay(&mut Reader::open(&file()[..]).unwrap(), ByRef(&mut machine)).unwrap();
    let left = slots_to_bytes(machine.slots());
    assert!(left.iter().any(|byte| *byte != 0), "flows were left");
    // Another process finds the table, and is recorded.
    let begun = BEGUN + Duration::from_secs(10);
    let attach = |table: &[u8]| {
        let (machine, found) =
            Translator::attach(begun, Rng::from_seed([9; 32]), config(), slots_from_bytes(table)).unwrap();
        (machine, found.flows)
    };
    let disk = Disk::default();
    let mut tape =
        Recording::new(disk.clone(), &Heading { begun, seed: [9; 32], ..heading() }, 0, 1 << 20).unwrap();
    tape.origin(begun, &left);
    let (machine, flows) = attach(&left);
    assert!(flows > 0);
    let mut bench = Bench { machine: Recorder::new(machine, tape), now: begun, said: Vec::new() };
    bench.hear(Side::Server, 2_222, (ACK, SR + 901, CI + 11), &[8; 100]);
    assert!(bench.machine.machine().counters().translated == 1, "the flow goes on");
    bench.machine.tape().finish(begun).unwrap();
    drop(bench);
    let file = disk.0.lock().unwrap().clone();
    // Replayed: with what was found everything is the same, and without it nothing is.
    let mut reader = Reader::open(&file[..]).unwrap();
    let mut table = vec![0; left.len()];
    assert!(reader.origin(&mut table).unwrap());
    assert_eq!(table, left);
    let found = replay(&mut reader, attach(&table).0).unwrap();
    assert_eq!((found.difference, found.arrived, found.end), (None, 1, Some(End::Finished)));
    let mut reader = Reader::open(&file[..]).unwrap();
    assert!(reader.origin(&mut table).unwrap());
    let empty = vec![0; left.len()];
    assert!(replay(&mut reader, attach(&empty).0).unwrap().difference.is_some());
    let too_short = Reader::open(&file[..]).unwrap().origin(&mut [0; 10]).unwrap_err();
    assert!(too_short.to_string().contains("outside"), "{too_short}");
    let skipped = replay(&mut Reader::open(&file[..]).unwrap(), attach(&empty).0).unwrap_err();
    assert!(skipped.to_string().contains("not at the beginning"), "{skipped}");
}

/// A machine that is wanted afterwards.
struct ByRef<'a>(&'a mut Translator);

impl Machine for ByRef<'_> {
    type Path = Leg;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        self.0.handle_input(now, input)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.0.poll_event()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        self.0.poll_transmit(now, out)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.0.poll_timeout()
    }
}

impl Recordable for ByRef<'_> {
    fn told(&mut self, now: Instant, command: &str) -> bool {
        self.0.told(now, command)
    }

    fn counted(&self, each: &mut dyn FnMut(&'static str, u64)) {
        self.0.counted(each);
    }

    fn standing(&self, leg: Leg, frame: &[u8]) -> Option<String> {
        self.0.standing(leg, frame)
    }
}

#[test]
fn another_seed_answers_with_another_number() {
    let file = file();
    let difference = replayed(&file, [4; 32]).difference.unwrap();
    let mut reader = Reader::open(&file[..]).unwrap();
    while reader.position() < difference.entry {
        assert!(reader.advance().unwrap());
    }
    // The sequence number of the SYN-ACK: behind Ethernet, IPv4 and the ports.
    assert!(matches!(difference.part, Part::Bytes { offset: 24..=41 }), "{difference}");
    assert!(matches!(reader.entry().unwrap().what, What::Made { .. }), "{difference}");
}
