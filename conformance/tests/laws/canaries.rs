//! One lawful machine, and the same machine with one fault at a time. Each fault has to be found.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gimlet_conformance::laws::{Side, Subject, flood, judge};
use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Queue, Rng, Transmit, Verdict};

use crate::heap::live_bytes;

/// How long the postman holds a letter.
const DELAY: Duration = Duration::from_millis(3);
/// How many letters the postman holds. Overflow: the new letter is dropped and counted.
const LETTERS_MAX: usize = 16;
/// Letters begin with this byte; all others are not for the postman.
const LETTER: u8 = b'L';

/// Answers each letter after a delay with a random stamp; counts what it does not take.
struct Postman<F> {
    letters: Queue<(Instant, u8, Vec<u8>)>,
    hoard: VecDeque<Vec<u8>>,
    told: VecDeque<String>,
    taken: u64,
    dropped: u64,
    whispers: u8,
    rng: Rng,
    fault: PhantomData<F>,
}

/// What is wrong with a postman: each method is a place where one thing can go wrong.
trait Fault: 'static {
    /// The deadline that is reported for a letter due at `at`.
    fn deadline(at: Instant) -> Instant {
        at
    }
    /// Whether the letter with this deadline is answered at `now`.
    fn answers(at: Instant, now: Instant) -> bool {
        at <= now
    }
    /// What is added to the random stamp.
    fn ink() -> u64 {
        0
    }
    /// Whether the length of a letter is believed.
    const TRUSTING: bool = false;
    /// Whether dropped letters are forgotten without a count.
    const FORGETFUL: bool = false;
    /// Whether dropped letters are kept.
    const HOARDING: bool = false;
    /// Whether a timeout is an occasion to speak.
    const CHATTY: bool = false;
    /// Whether it speaks when polled a second time.
    const WHISPERING: bool = false;
    /// Whether it never gets anywhere.
    const SHY: bool = false;
    /// Whether it scribbles on letters that are not for it.
    const SCRIBBLING: bool = false;
}

macro_rules! fault {
    ($name:ident { $($body:tt)* }) => {
        struct $name;
        impl Fault for $name { $($body)* }
    };
}

fault!(Lawful {});
fault!(Livelocked { fn answers(at: Instant, now: Instant) -> bool { at < now } });
fault!(Overdue { fn deadline(_: Instant) -> Instant { Instant::ZERO } });
fault!(Unrepeatable {
    fn ink() -> u64 {
        static DROPS: AtomicU64 = AtomicU64::new(0);
        DROPS.fetch_add(1, Ordering::Relaxed)
    }
});
fault!(Trusting { const TRUSTING: bool = true; });
fault!(Forgetful { const FORGETFUL: bool = true; });
fault!(Hoarding { const HOARDING: bool = true; });
fault!(Chatty { const CHATTY: bool = true; });
fault!(Whispering { const WHISPERING: bool = true; });
fault!(Shy { const SHY: bool = true; });
fault!(Scribbling { const SCRIBBLING: bool = true; });

impl<F: Fault> Postman<F> {
    fn drop_letter(&mut self, bytes: &[u8]) {
        self.dropped += u64::from(!F::FORGETFUL);
        if F::HOARDING {
            self.hoard.push_back(bytes.to_vec());
        }
    }
}

impl<F: Fault> Machine for Postman<F> {
    type Path = u8;
    type Event = String;

    fn handle_input(&mut self, now: Instant, input: Input<'_, u8>) -> Verdict<u8> {
        match input.bytes.first() {
            Some(&LETTER) => {
                let held = self.letters.push((now + DELAY, input.path, input.bytes.to_vec()));
                match held {
                    Ok(()) => self.taken += 1,
                    Err(_) => self.drop_letter(input.bytes),
                }
                Verdict::Consumed
            }
            Some(byte) if byte % 2 == 0 => {
                if F::SCRIBBLING {
                    input.bytes[0] = 0xff;
                }
                Verdict::NotMine
            }
            Some(_) | None => {
                if F::TRUSTING && input.bytes.len() > 4 {
                    let _ = input.bytes[usize::from(input.bytes[1])];
                }
                self.drop_letter(input.bytes);
                Verdict::Consumed
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.whispers = 0;
        if F::CHATTY {
            self.told.push_back(format!("it is {now}"));
        }
    }

    fn poll_event(&mut self) -> Option<String> {
        self.told.pop_front()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<u8>> {
        self.whispers = self.whispers.saturating_add(1);
        let whisper = F::WHISPERING && self.whispers == 7;
        let due = self.letters.front().is_some_and(|(at, ..)| F::answers(*at, now));
        if !due && !whisper {
            return None;
        }
        let (_, path, _) = self.letters.pop().unwrap_or((now, 0, Vec::new()));
        out.put(&(self.rng.u64().wrapping_add(F::ink())).to_be_bytes());
        Some(Transmit::new(path))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.letters.front().map(|(at, ..)| Deadline { at: F::deadline(*at), why: "letter" })
    }
}

impl<F: Fault> Subject for Postman<F> {
    type Machine = Self;
    /// 16 letters of at most 200 bytes, and the tables that hold them.
    const HEAP_MAX: usize = 16 * 1024;

    fn build(seed: u64, _: Side) -> Self {
        Postman {
            letters: Queue::new(LETTERS_MAX),
            hoard: VecDeque::new(),
            told: VecDeque::new(),
            taken: 0,
            dropped: 0,
            whispers: 0,
            rng: Rng::from_u64(seed),
            fault: PhantomData,
        }
    }
    fn path(_: Side, n: u8) -> u8 {
        n
    }
    fn arrives(_: Side, path: u8) -> Option<u8> {
        Some(path)
    }
    fn introduce(now: Instant, a: &mut Self, b: &mut Self) {
        for machine in [a, b] {
            machine.handle_input(now, Input::new(0, &mut [LETTER; 9]));
        }
    }
    fn command(now: Instant, machine: &mut Self, _: Side, which: u16) {
        machine.handle_input(now, Input::new(which as u8, &mut [LETTER; 9]));
    }
    fn has_arrived(machine: &Self) -> bool {
        machine.taken > 2 && !F::SHY
    }
    fn counted(machine: &Self) -> u64 {
        machine.taken + machine.dropped
    }
}

fn found<F: Fault>(words: &str) {
    let verdict = judge::<Postman<F>>().expect_err("a planted fault");
    assert!(verdict.contains(words), "{words}: {verdict}");
}

#[test]
fn a_lawful_machine_is_left_alone() {
    assert_eq!(judge::<Postman<Lawful>>(), Ok(()));
    let peak = flood::<Postman<Lawful>>(20_000, live_bytes);
    assert!(peak <= Postman::<Lawful>::HEAP_MAX, "{peak} bytes");
}

#[test]
fn law_3_output_without_a_touch_is_noticed() {
    found::<Whispering>("law 3");
}

#[test]
fn law_4_a_timer_that_stays_due_is_noticed() {
    found::<Livelocked>("law 4");
    found::<Overdue>("law 4");
}

#[test]
fn law_4_output_on_a_timeout_that_was_not_due_is_noticed() {
    found::<Chatty>("law 4");
}

#[test]
fn law_5_a_panic_on_hostile_bytes_is_noticed() {
    found::<Trusting>("index out of bounds");
}

#[test]
fn law_5_a_drop_without_a_count_is_noticed() {
    found::<Forgetful>("law 5");
}

#[test]
fn law_5_bytes_changed_and_then_refused_are_noticed() {
    found::<Scribbling>("NotMine");
}

#[test]
fn law_6_a_run_that_cannot_be_repeated_is_noticed() {
    found::<Unrepeatable>("law 6");
}

#[test]
fn lives_that_get_nowhere_are_noticed() {
    found::<Shy>("too shallow");
}

#[test]
fn law_8_memory_that_grows_with_a_flood_is_noticed() {
    let peak = flood::<Postman<Hoarding>>(20_000, live_bytes);
    assert!(peak > Postman::<Hoarding>::HEAP_MAX, "{peak} bytes");
}
