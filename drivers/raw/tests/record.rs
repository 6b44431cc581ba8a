//! Recordings: what is written can be shown by others' programs, replays the same, and if it was changed, says where.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use gimlet_machine::{Buf, Deadline, Ecn, Input, Instant, Machine, Rng, Transmit, Verdict};
use gimlet_raw::{
    Checksum, Difference, End, Forwarder, Heading, Leg, Part, Reader, RecordError, Recordable, Recorder,
    Recording, Replayed, Side, Stopped, Tape as _, replay,
};
use pcap_parser::traits::PcapReaderIterator as _;
use pcap_parser::{Block, PcapBlockOwned, PcapNGOption, PcapNGReader};
use proptest::prelude::*;

/// Passes what begins with an even byte with its last byte replaced by a random one, and swallows the others: each is
/// answered with noise after a while.
#[derive(Debug)]
struct Parrot {
    rng: Rng,
    held: Vec<(Instant, Leg)>,
    news: Vec<String>,
    swallowed: u64,
    is_mute: bool,
}

impl Parrot {
    fn new(seed: [u8; 32]) -> Self {
        Self { rng: Rng::from_seed(seed), held: Vec::new(), news: Vec::new(), swallowed: 0, is_mute: false }
    }
}

impl Machine for Parrot {
    type Path = Leg;
    type Event = String;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        if input.bytes.first().is_some_and(|first| first % 2 == 0) {
            if let Some(last) = input.bytes.last_mut() {
                *last = self.rng.u32() as u8;
            }
            return Verdict::Pass { path: input.path.across(), range: 0..input.bytes.len() };
        }
        self.swallowed += 1;
        if !self.is_mute {
            self.held.push((now + Duration::from_millis(self.rng.below(20)), input.path));
            self.news.push(format!("swallowed {}", input.bytes.len()));
        }
        Verdict::Consumed
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_event(&mut self) -> Option<String> {
        self.news.pop()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        let nth = self.held.iter().position(|(due, _)| *due <= now)?;
        let (_, leg) = self.held.remove(nth);
        let noise: [u8; 40] = self.rng.bytes();
        out.put(&noise);
        Some(Transmit::new(leg))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.held.iter().map(|(due, _)| *due).min()?;
        Some(Deadline { at, why: "squawk" })
    }
}

impl Recordable for Parrot {
    fn told(&mut self, _: Instant, command: &str) -> bool {
        self.is_mute |= command == "be quiet";
        command == "be quiet"
    }

    fn counted(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("swallowed", self.swallowed);
    }

    fn standing(&self, leg: Leg, frame: &[u8]) -> Option<String> {
        frame.first().map(|first| format!("{:?} {first}", leg.side))
    }
}

/// A file in memory that can be looked at while it is written.
#[derive(Clone, Debug, Default)]
struct Disk(Rc<RefCell<Vec<u8>>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SEED: [u8; 32] = [7; 32];
const BEGUN: Instant = Instant::from_millis(5_000);
/// More than any recording here takes.
const ROOMY: u64 = 1 << 20;

fn heading() -> Heading {
    Heading {
        machine: "parrot".into(),
        version: "0.1.0".into(),
        seed: SEED,
        begun: BEGUN,
        configuration: "secret = \"a b\"\n\n[limits]\nflows = 3\n".into(),
    }
}

/// Milliseconds of waiting, a frame, and whether the owner says something first.
type Step = (u64, Leg, Vec<u8>, bool);

fn pump(machine: &mut Recorder<Parrot, Recording<Disk>>, now: Instant) {
    let mut storage = Vec::new();
    if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
        machine.handle_timeout(now);
    }
    while machine.poll_event().is_some() {}
    while machine.poll_transmit(now, &mut Buf::new(&mut storage)).is_some() {}
}

/// The file of a parrot that went through `steps`.
fn record(steps: &[Step], bytes_max: u64) -> Vec<u8> {
    let disk = Disk::default();
    let tape = Recording::new(disk.clone(), &heading(), 1_700_000_000, bytes_max).unwrap();
    let mut machine = Recorder::new(Parrot::new(SEED), tape);
    let mut now = BEGUN;
    for (wait, leg, frame, is_told) in steps {
        let next = now + Duration::from_millis(*wait);
        while let Some(deadline) = machine.poll_timeout().filter(|deadline| deadline.at <= next) {
            pump(&mut machine, deadline.at.max(now));
        }
        now = next;
        if *is_told {
            assert!(machine.tell(now, "be quiet"));
            pump(&mut machine, now);
        }
        let ecn = Ecn::from_bits(frame.len() as u8);
        machine.handle_input(now, Input { path: *leg, ecn, bytes: &mut frame.clone() });
        pump(&mut machine, now);
    }
    machine.tape().finish(now).unwrap();
    drop(machine);
    disk.0.take()
}

fn replayed(file: &[u8], seed: [u8; 32]) -> Result<Replayed, Stopped> {
    let nothing = |error| Stopped { error, found: Box::default() };
    replay(&mut Reader::open(file).map_err(nothing)?, Parrot::new(seed))
}

fn difference(file: &[u8], seed: [u8; 32]) -> Difference {
    replayed(file, seed).unwrap().difference.expect("a difference")
}

/// Frames of every kind, to both sides, with time between them.
fn story() -> Vec<Step> {
    let partial = Leg { checksum: Checksum::Partial, gso: 1448, ..Leg::new(Side::Client) };
    let tagged = Leg { tag: Some(42), ..Leg::new(Side::Server) };
    vec![
        (0, Leg::new(Side::Client), vec![2; 60], false),
        (1, partial, vec![3; 5_001], false),
        (0, tagged, vec![4; 61], false),
        (30, tagged, vec![5; 62], false),
        (0, Leg::new(Side::Server), Vec::new(), false),
        (50, Leg::new(Side::Client), vec![7; 60], true),
        (1, Leg::new(Side::Client), vec![8; 60], false),
    ]
}

fn file() -> Vec<u8> {
    record(&story(), ROOMY)
}

#[test]
fn a_life_is_lived_again_to_the_last_byte() {
    let file = file();
    let found = replayed(&file, SEED).unwrap();
    assert_eq!(found.difference, None);
    assert_eq!(found.end, Some(End::Finished));
    // Seven frames arrived. Three passed. Of four that were swallowed, three were answered: two with something to
    // say, an empty one, and not the one after it was told to be quiet.
    assert_eq!((found.arrived, found.left, found.left_bytes), (7, 6, 60 + 61 + 60 + 3 * 40));
    assert_eq!(found.others, 3 + 3 + 1, "three timers, three events, one command");
    assert_eq!(Reader::open(&file[..]).unwrap().heading(), &heading());
}

#[test]
fn what_passes_untouched_is_compared_too() {
    let disk = Disk::default();
    let mut recorder = Recorder::new(Forwarder, Recording::new(disk.clone(), &heading(), 0, ROOMY).unwrap());
    let leg = Leg::new(Side::Client);
    let verdict = recorder.handle_input(BEGUN, Input::new(leg, &mut [9; 60]));
    assert_eq!(verdict, Verdict::Pass { path: leg.across(), range: 0..60 });
    recorder.tape().finish(BEGUN).unwrap();
    drop(recorder);
    let file = disk.0.take();
    let found = replay(&mut Reader::open(&file[..]).unwrap(), Forwarder).unwrap();
    assert_eq!((found.entries, found.left_bytes, found.difference), (2, 60, None));
    let at = file.windows(60).rposition(|bytes| bytes == [9; 60]).unwrap();
    let mut changed = file.clone();
    changed[at + 33] = 8;
    let found = replay(&mut Reader::open(&changed[..]).unwrap(), Forwarder).unwrap();
    let difference = found.difference.unwrap();
    assert_eq!((difference.entry, difference.part), (2, Part::Bytes { offset: 33 }));
    assert!(difference.to_string().contains("recorded: 08 09 09"), "{difference}");
}

#[test]
fn another_seed_is_noticed_at_the_first_random_byte() {
    let found = difference(&file(), [8; 32]);
    assert_eq!((found.entry, found.at, found.part), (2, BEGUN, Part::Bytes { offset: 59 }));
}

#[test]
fn a_machine_that_does_something_else_is_noticed_where_it_does() {
    // Entry 3 is the first frame that is swallowed; entry 4 the event about it.
    let file = file();
    let swap = |from: &[u8], to: &[u8]| {
        let at = file.windows(from.len()).position(|bytes| bytes == from).unwrap();
        let mut changed = file.clone();
        changed[at..at + from.len()].copy_from_slice(to);
        difference(&changed, SEED)
    };
    let said_otherwise = swap(b"swallowed 5001", b"swallowed 4001");
    assert_eq!((said_otherwise.entry, said_otherwise.part), (4, Part::What));
    assert_eq!(said_otherwise.replayed, "event \"swallowed 5001\"");
    let said_though_silent = swap(b"passed", b"made  ");
    assert_eq!((said_though_silent.entry, said_though_silent.part), (2, Part::What));
    let counted_otherwise = swap(b"swallowed +1", b"swallowed +2");
    assert_eq!((counted_otherwise.entry, counted_otherwise.part), (3, Part::Note));
}

#[test]
fn a_machine_that_stays_silent_is_noticed_where_it_does() {
    /// Swallows everything, and counts as a parrot does, but says nothing.
    #[derive(Debug, Default)]
    struct Silent(Option<Box<Parrot>>);
    impl Machine for Silent {
        type Path = Leg;
        type Event = String;
        fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
            self.0.get_or_insert_with(|| Box::new(Parrot::new(SEED))).handle_input(now, input)
        }
        fn handle_timeout(&mut self, _: Instant) {}
        fn poll_event(&mut self) -> Option<String> {
            None
        }
        fn poll_transmit(&mut self, _: Instant, _: &mut Buf<'_>) -> Option<Transmit<Leg>> {
            None
        }
        fn poll_timeout(&self) -> Option<Deadline> {
            None
        }
    }
    impl Recordable for Silent {
        fn counted(&self, each: &mut dyn FnMut(&'static str, u64)) {
            each("swallowed", self.0.as_ref().map_or(0, |parrot| parrot.swallowed));
        }
        fn standing(&self, leg: Leg, frame: &[u8]) -> Option<String> {
            Parrot::new(SEED).standing(leg, frame)
        }
    }
    let file = file();
    let found = replay(&mut Reader::open(&file[..]).unwrap(), Silent::default()).unwrap();
    let difference = found.difference.unwrap();
    assert_eq!((difference.entry, difference.replayed.as_str()), (4, "nothing"));
    assert_eq!(found.entries, 3);
}

#[test]
fn a_machine_that_goes_on_after_the_end_is_noticed() {
    let disk = Disk::default();
    let tape = Recording::new(disk.clone(), &heading(), 0, ROOMY).unwrap();
    let mut machine = Recorder::new(Parrot::new(SEED), tape);
    machine.handle_input(BEGUN, Input::new(Leg::new(Side::Client), &mut [1; 20]));
    // Its event was not polled, against the rules: the recording does not have it.
    machine.tape().finish(BEGUN).unwrap();
    drop(machine);
    let found = difference(&disk.0.take(), SEED);
    assert_eq!((found.entry, found.recorded.as_str()), (2, "end finished"));
}

#[test]
fn a_full_recording_says_so_and_the_machine_goes_on() {
    let whole = file();
    let (mut full, mut counts) = (0, Vec::new());
    for limit in (900..whole.len() as u64).step_by(97) {
        let file = record(&story(), limit);
        assert!(file.len() as u64 <= limit, "{} of {limit}", file.len());
        let found = replayed(&file, SEED).unwrap();
        assert_eq!(found.difference, None, "{limit}");
        full += usize::from(found.end == Some(End::Full));
        counts.push(found.entries);
    }
    assert!(full > 10 && counts.is_sorted(), "{full} {counts:?}");
    let refused = Recording::new(Disk::default(), &heading(), 0, 300).unwrap_err();
    assert!(refused.to_string().contains("at least"), "{refused}");
}

#[test]
fn a_disk_that_fails_ends_the_recording_and_not_the_machine() {
    #[derive(Debug)]
    struct Broken(usize);
    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tape = Recording::new(Broken(4_000), &heading(), 0, ROOMY).unwrap();
    let mut machine = Recorder::new(Forwarder, tape);
    let leg = Leg::new(Side::Client);
    for second in 0..20 {
        let now = BEGUN + Duration::from_secs(second);
        let verdict = machine.handle_input(now, Input::new(leg, &mut [9; 600]));
        assert_eq!(verdict, Verdict::Pass { path: leg.across(), range: 0..600 });
    }
    assert!(!machine.tape().is_running());
    assert_eq!(machine.tape().finish(BEGUN).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_file_is_made_for_its_owner_alone_and_never_replaces_another() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcapng");
    drop(Recording::create(&path, &heading(), ROOMY).unwrap());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = Recording::create(&path, &heading(), ROOMY).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(Reader::open(std::fs::File::open(&path).unwrap()).unwrap().heading(), &heading());
}

#[test]
fn a_recording_without_an_end_is_replayed_as_far_as_it_goes() {
    let file = file();
    // The last block is the end, and says its length last.
    let end = u32::from_le_bytes(*file.last_chunk().unwrap()) as usize;
    let found = replayed(&file[..file.len() - end], SEED).unwrap();
    assert_eq!((found.end, found.difference), (None, None));
    assert_eq!(found.entries, replayed(&file, SEED).unwrap().entries);
}

#[test]
fn wherever_a_file_is_cut_off_it_says_so_or_is_the_same_so_far() {
    let file = file();
    let (mut cuts, mut shorter) = (0, 0);
    for length in 0..file.len() {
        match replayed(&file[..length], SEED) {
            Ok(found) => {
                assert_eq!((found.difference, found.end), (None, None), "{length}");
                shorter += 1;
            }
            Err(Stopped { error: RecordError::Cut { at }, .. }) => {
                assert!(at <= length as u64);
                cuts += 1;
            }
            Err(Stopped { error: RecordError::NotARecording, .. }) => assert_eq!(length, 0),
            Err(stopped) => panic!("{length}: {stopped}"),
        }
    }
    // Between any two blocks it may end.
    assert!(cuts > 1_000 && shorter > 10, "{cuts} {shorter}");
}

#[test]
fn other_files_are_not_recordings() {
    let refused = |bytes: &[u8]| Reader::open(bytes).map(|_| ()).unwrap_err();
    for bytes in [&b""[..], b"x", b"#!/bin/sh\necho hello\n", &[0; 100], &[0xff; 100]] {
        assert!(matches!(refused(bytes), RecordError::NotARecording), "{bytes:?}");
    }
    let file = file();
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = file.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&changed)
    };
    assert!(changed(8, &[0x1a, 0x2b, 0x3c, 0x4d]).to_string().contains("big-endian"));
    assert!(matches!(changed(4, &[0xff; 4]), RecordError::Damaged { at: 0, .. }));
    let version = file.windows(18).position(|bytes| bytes == b"gimlet recording 1").unwrap();
    assert!(matches!(changed(version + 17, b"9"), RecordError::Version(9)));
    assert!(matches!(changed(version, b"Gimlet"), RecordError::NotARecording));
}

#[test]
fn somebody_elses_program_reads_the_same_file() {
    let file = file();
    let mut reader = PcapNGReader::new(1 << 20, &file[..]).unwrap();
    let (mut names, mut frames, mut first) = (Vec::new(), Vec::new(), None);
    while let Ok((consumed, block)) = reader.next() {
        match block {
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                assert!(section.options.iter().any(|option| option.value[..] == b"gimlet 0.1.0"[..]));
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                assert_eq!(
                    (interface.ts_resolution(), interface.ts_offset()),
                    (Some(1_000_000_000), 1_700_000_000)
                );
                let name = interface.options.iter().find(|option| option.code.0 == 2);
                names.push(text(name.unwrap()));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                first.get_or_insert(packet.decode_ts(1_700_000_000, 1_000_000_000));
                let comments: Vec<String> = packet.options.iter().filter_map(comment).collect();
                assert_eq!(packet.caplen, packet.origlen);
                frames.push((packet.if_id, comments.join(" | "), packet.caplen));
            }
            _ => panic!("a block of another kind"),
        }
        reader.consume(consumed);
    }
    assert_eq!(names, ["client", "server", "machine"]);
    assert_eq!(first, Some((1_700_000_005, 0)));
    let texts: Vec<(u32, &str, u32)> =
        frames.iter().map(|(side, text, len)| (*side, &text[..], *len)).collect();
    assert_eq!(texts.len() as u64, replayed(&file, SEED).unwrap().entries + 1);
    assert_eq!(texts[0], (0, "arrived | passes to the server\nflow: Client 2", 60));
    assert_eq!(texts[1], (1, "passed", 60));
    let swallowed =
        "arrived checksum=partial gso=1448 ecn=1 | consumed\ncounters: swallowed +1\nflow: Client 3";
    assert_eq!(texts[2], (0, swallowed, 5_001));
    assert_eq!(texts[3], (2, "event \"swallowed 5001\"", 0));
    assert_eq!(texts[4], (1, "arrived vlan=42 ecn=1 | passes to the client\nflow: Server 4", 61));
    assert_eq!(texts.last(), Some(&(2, "end finished", 0)));
}

fn comment(option: &PcapNGOption<'_>) -> Option<String> {
    (option.code.0 == 1).then(|| text(option))
}

/// An option's text without its padding.
fn text(option: &PcapNGOption<'_>) -> String {
    String::from_utf8(option.value[..usize::from(option.len)].to_vec()).unwrap()
}

fn any_leg() -> impl Strategy<Value = Leg> {
    (any::<bool>(), any::<bool>(), any::<u16>(), any::<Option<u16>>()).prop_map(
        |(side, checksum, gso, tag)| Leg {
            side: if side { Side::Client } else { Side::Server },
            checksum: if checksum { Checksum::Complete } else { Checksum::Partial },
            gso,
            tag,
        },
    )
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..40u64, any_leg(), prop::collection::vec(any::<u8>(), 0..200), prop::bool::weighted(0.05));
    prop::collection::vec(step, 0..20)
}

proptest! {
    #[test]
    fn any_life_is_lived_again(steps in any_steps()) {
        let found = replayed(&record(&steps, ROOMY), SEED).unwrap();
        prop_assert_eq!(found.difference, None);
        prop_assert_eq!(found.arrived, steps.len() as u64);
    }

    #[test]
    fn any_change_to_a_file_is_an_ordinary_answer(
        steps in any_steps(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = record(&steps, ROOMY);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        match replayed(&file, SEED) {
            Ok(found) => prop_assert!(found.entries <= file.len() as u64 / 32),
            Err(stopped) => prop_assert!(!stopped.to_string().is_empty()),
        }
    }
}
