//! Recordings of what stands in the wire.
//!
//! Input: a file, as it is; and once more a schedule of a translator's life, which is recorded, replayed and cut off.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gimlet_machine::{Buf, Ecn, Input, Instant, Machine as _, Rng};
use gimlet_raw::{
    Checksum, Forwarder, Heading, Leg, Reader, RecordError, Recorder, Recording, Replayed, Side, Stopped,
    replay, slots_from_bytes,
};
use gimlet_tcp::{Allow, Block, Config, Role, Slot, Translator, slots_for};
use gimlet_wire::{Envelope, Segment, TcpFlags, TcpOptionList};

use crate::tape::Tape;
use crate::target::{Seed, bounded};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const BEGUN: Instant = Instant::from_millis(1_000);
const SEED: [u8; 32] = [5; 32];
/// No entry takes less of a file, in bytes.
const ENTRY_MIN: usize = 40;
/// Things that happen to one translator.
const STEPS_MAX: usize = 64;

/// Whatever a file holds, it is read in bounded memory, replayed as far as it goes, and what is wrong is said. A life
/// that was recorded is lived again to the last byte, and is one that breaks off wherever it is cut.
pub fn splice_record(data: &[u8]) {
    check(data, SEED);
}

/// Replays with other random numbers than were recorded.
pub(crate) fn planted(data: &[u8]) {
    check(data, [6; 32]);
}

fn check(data: &[u8], seed: [u8; 32]) {
    let data = bounded(data);
    found(data);
    lived(Tape::new(data), seed);
}

/// A file from somewhere.
fn found(file: &[u8]) {
    let mut reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut memory = vec![0; slots_for(config().limits.flows) * size_of::<Slot>()];
    let translated = match reader.origin(&mut memory) {
        Err(error) => return assert!(!error.to_string().is_empty()),
        Ok(_) => Translator::attach(reader.heading().begun, rng(SEED), config(), slots_from_bytes(&memory)),
    };
    let (translator, _) = translated.expect("a sound configuration");
    sane(file, replay(&mut reader, translator));
    let mut again = Reader::open(file).expect("it was read before");
    sane(file, replay(&mut again, Forwarder));
}

fn sane(file: &[u8], outcome: Result<Replayed, Stopped>) {
    match outcome {
        Ok(found) => {
            assert!(found.entries <= (file.len() / ENTRY_MIN) as u64, "more was compared than is there");
            assert!(found.left_bytes <= file.len() as u64);
            assert!(found.difference.is_none_or(|difference| difference.recorded != difference.replayed));
        }
        Err(stopped) => assert!(!stopped.to_string().is_empty()),
    }
}

/// A life of our own.
fn lived(mut tape: Tape<'_>, seed: [u8; 32]) {
    let cut = usize::from(tape.u16());
    let file = record(&mut tape);
    let mut reader = Reader::open(&file[..]).expect("we wrote it");
    let whole = replay(&mut reader, translator(seed)).expect("we wrote all of it");
    assert_eq!(whole.difference, None, "a recorded life is lived again");
    let cut = &file[..cut % file.len()];
    let broken_off = |error: &RecordError| match error {
        RecordError::Cut { at } => assert!(*at <= cut.len() as u64),
        RecordError::NotARecording => assert!(cut.is_empty()),
        RecordError::Version(_) | RecordError::Damaged { .. } | RecordError::Io(_) => panic!("{error}"),
    };
    match Reader::open(cut) {
        Err(error) => broken_off(&error),
        Ok(mut reader) => match replay(&mut reader, translator(seed)) {
            Ok(part) => {
                assert_eq!((part.difference, part.end), (None, None));
                assert!(part.entries <= whole.entries);
            }
            Err(Stopped { error, found }) => {
                broken_off(&error);
                assert_eq!(found.difference, None);
            }
        },
    }
}

fn record(tape: &mut Tape<'_>) -> Vec<u8> {
    let heading = Heading {
        machine: "single".into(),
        version: "0.1.0".into(),
        seed: SEED,
        begun: BEGUN,
        configuration: String::new(),
    };
    let mut file = Vec::new();
    let recording = Recording::new(&mut file, &heading, 0, 1 << 20).expect("memory does not fail");
    let mut machine = Recorder::new(translator(SEED), recording);
    let mut now = BEGUN;
    for _ in 0..STEPS_MAX {
        if tape.is_empty() {
            break;
        }
        let wait = Duration::from_millis(u64::from(tape.u8()) * 16);
        now = pass(&mut machine, now, now + wait);
        let what = tape.u8();
        if what & 0x1f == 0x1f {
            machine.tell(now, "drain");
        } else {
            let (leg, mut frame) = frame(tape, what);
            machine.handle_input(now, Input { path: leg, ecn: Ecn::from_bits(what >> 6), bytes: &mut frame });
        }
        drain(&mut machine, now);
    }
    machine.tape().finish(now).expect("memory does not fail");
    drop(machine);
    file
}

/// A segment between the two, or some bytes.
fn frame(tape: &mut Tape<'_>, what: u8) -> (Leg, Vec<u8>) {
    let side = if what & 1 == 0 { Side::Client } else { Side::Server };
    let checksum = if what & 2 == 0 { Checksum::Complete } else { Checksum::Partial };
    let tag = (what & 4 != 0).then_some(u16::from(what));
    let leg = Leg { side, checksum, gso: 0, tag };
    if what & 8 != 0 {
        let length = usize::from(tape.u8());
        return (leg, tape.take(length).to_vec());
    }
    let (flags, numbers, port) = (tape.u8(), tape.u8(), u16::from(tape.u8() & 3));
    let (source, destination, source_port, destination_port) = match side {
        Side::Client => (CLIENT, SERVER, 1_024 + port, 80),
        Side::Server => (SERVER, CLIENT, 80, 1_024 + port),
    };
    let envelope = Envelope::new([2; 12], source, destination);
    let options =
        if flags & 2 == 0 { TcpOptionList::new() } else { TcpOptionList::new().maximum_segment_size(536) };
    let segment = Segment {
        source_port,
        destination_port,
        seq: u32::from(numbers >> 4),
        ack: u32::from(numbers & 15),
        flags: TcpFlags(u16::from(flags & 0x1f)),
        window: 1_000,
        options,
        payload: tape.take(usize::from(flags >> 5)),
    };
    let mut frame = Vec::new();
    envelope.write(&mut frame, &segment);
    (leg, frame)
}

type Recorded<'a> = Recorder<Translator, Recording<&'a mut Vec<u8>>>;

/// Time passes, with every timer on the way.
fn pass(machine: &mut Recorded<'_>, mut now: Instant, until: Instant) -> Instant {
    while let Some(due) = machine.poll_timeout().filter(|due| due.at <= until) {
        now = now.max(due.at);
        machine.handle_timeout(now);
        drain(machine, now);
    }
    until
}

fn drain(machine: &mut Recorded<'_>, now: Instant) {
    while machine.poll_event().is_some() {}
    let mut storage = Vec::new();
    while machine.poll_transmit(now, &mut Buf::new(&mut storage)).is_some() {}
}

fn rng(seed: [u8; 32]) -> Rng {
    Rng::from_seed(seed)
}

fn config() -> Config {
    let mut config = Config::new(Role::Single);
    let servers = Block::new(SERVER, 32).expect("an address has 32 bits");
    config.allowed.push(Allow { servers, ports: 80..=80, idempotent: false });
    config.limits.flows = 16;
    config
}

fn translator(seed: [u8; 32]) -> Translator {
    Translator::new(BEGUN, rng(seed), config()).expect("a sound configuration")
}

/// Lives with handshakes in them, and files.
pub(crate) fn seeds() -> Vec<Seed> {
    // Cold: a SYN, its SYN-ACK, and its acknowledgement. Warm: a SYN from another port, answered at once.
    let cold = [&[0, 0][..], &[1, 0, 2, 0, 0], &[1, 1, 18, 1, 0], &[1, 0, 16, 0x11, 0]].concat();
    let warm = [
        &cold[..],
        &[1, 0, 2, 0, 1],
        &[1, 0, 0x70, 0x11, 1, 7, 7, 7],
        &[255, 1, 18, 1, 1],
        &[1, 0x1f],
        &[1, 0, 2, 0, 2],
    ]
    .concat();
    let bytes = [&[0, 60][..], &[0, 8, 5, 1, 2, 3, 4, 5], &[0, 0xd, 0]].concat();
    let file = record(&mut Tape::new(&warm[2..]));
    let mut changed = file.clone();
    if let Some(byte) = changed.iter_mut().rev().nth(300) {
        *byte ^= 1;
    }
    vec![
        ("a_cold_handshake", cold),
        ("a_warm_handshake_a_timer_and_a_command", warm),
        ("bytes_that_are_no_segments", bytes),
        ("a_file_cut_off", file[..file.len() / 2].to_vec()),
        ("a_file_with_a_changed_byte", changed),
        ("a_file", file),
    ]
}
