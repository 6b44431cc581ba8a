use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use gimlet_machine::{Ecn, Input, Verdict};

use super::*;
use crate::{CALLS_MAX, CallError};

/// Says what it is told to say, repeats each question back, and reports everything it hears.
#[derive(Debug, Default)]
struct Parrot {
    repeats: bool,
    say: VecDeque<(Transmit<FourTuple>, Vec<u8>)>,
    heard: VecDeque<(FourTuple, Ecn, Vec<u8>)>,
    alarm: Option<Instant>,
    timeouts: usize,
}

impl Parrot {
    fn say(&mut self, path: FourTuple, segment: Option<u16>, bytes: &[u8]) {
        self.say.push_back((Transmit { path, ecn: Ecn::Ect0, segment }, bytes.to_vec()));
    }
}

impl Machine for Parrot {
    type Path = FourTuple;
    type Event = (FourTuple, Ecn, Vec<u8>);

    fn handle_input(&mut self, _: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        if bytes.starts_with(b"pass ") {
            let after = 5..bytes.len();
            return Verdict::Pass { path, range: after };
        }
        if self.repeats {
            self.say.push_back((Transmit { path, ecn, segment: None }, bytes.to_vec()));
        }
        self.heard.push_back((path, ecn, bytes.to_vec()));
        Verdict::Consumed
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.alarm.take_if(|at| *at <= now).is_some() {
            self.timeouts += 1;
        }
    }

    fn poll_event(&mut self) -> Option<Self::Event> {
        self.heard.pop_front()
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let (transmit, bytes) = self.say.pop_front()?;
        assert!(out.is_empty() && out.put(&bytes));
        Some(transmit)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.alarm.map(|at| Deadline { at, why: "alarm" })
    }
}

fn parrot(repeats: bool, addresses: &[&str]) -> Driver<Parrot> {
    let sockets = Sockets::bind(addresses.iter().map(|text| text.parse().unwrap())).unwrap();
    Driver::new(Parrot { repeats, ..Parrot::default() }, sockets, Clock::start()).unwrap()
}

fn address(driver: &Driver<Parrot>, index: usize) -> SocketAddr {
    driver.sockets().local_addresses().nth(index).unwrap()
}

/// Turns both until `done`, for two seconds at most.
fn turn_until(
    drivers: [&mut Driver<Parrot>; 2],
    mut done: impl FnMut(&mut Driver<Parrot>, &mut Driver<Parrot>) -> bool,
) {
    let [a, b] = drivers;
    let start = std::time::Instant::now();
    while !done(a, b) {
        assert!(start.elapsed() < Duration::from_secs(2), "nothing more happens");
        a.turn(Some(Duration::from_millis(1))).unwrap();
        b.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

#[test]
fn a_question_is_answered_on_both_families() {
    let loopback = ["127.0.0.1:0", "[::1]:0"];
    let (mut asks, mut answers) = (parrot(false, &loopback), parrot(true, &loopback));
    for index in 0..2 {
        let path = FourTuple::new(address(&asks, index), address(&answers, index));
        asks.machine_mut().say(path, None, b"who?");
        let mut answer = None;
        turn_until([&mut asks, &mut answers], |asks, _| {
            answer = asks.poll_event();
            answer.is_some()
        });
        assert_eq!(answer, Some((path, Ecn::Ect0, b"who?".to_vec())));
    }
}

#[test]
fn more_than_one_batch_arrives_whole_and_in_order_over_several_turns() {
    let (mut asks, mut answers) = (parrot(false, &["127.0.0.1:0"]), parrot(false, &["127.0.0.1:0"]));
    let path = FourTuple::new(address(&asks, 0), address(&answers, 0));
    for n in 0..200_u16 {
        asks.machine_mut().say(path, None, &n.to_be_bytes());
    }
    let mut heard = Vec::new();
    turn_until([&mut asks, &mut answers], |_, answers| {
        heard.extend(std::iter::from_fn(|| answers.poll_event()).map(|(.., bytes)| bytes));
        heard.len() == 200
    });
    assert!(heard.iter().zip(0_u16..).all(|(bytes, n)| **bytes == n.to_be_bytes()));
}

#[test]
fn a_train_leaves_as_one_and_arrives_as_its_datagrams() {
    let (mut asks, mut answers) = (parrot(false, &["127.0.0.1:0"]), parrot(false, &["127.0.0.1:0"]));
    let path = FourTuple::new(address(&asks, 0), address(&answers, 0));
    asks.machine_mut().say(path, Some(3), b"onetwo!");
    let mut heard = Vec::new();
    turn_until([&mut asks, &mut answers], |_, answers| {
        heard.extend(std::iter::from_fn(|| answers.poll_event()).map(|(.., bytes)| bytes));
        heard.len() == 3
    });
    assert_eq!(heard, [&b"one"[..], b"two", b"!"]);
}

#[test]
fn what_a_machine_passes_leaves_rewritten() {
    let (mut asks, mut answers) = (parrot(false, &["127.0.0.1:0"]), parrot(false, &["127.0.0.1:0"]));
    let path = FourTuple::new(address(&asks, 0), address(&answers, 0));
    asks.machine_mut().say(path, None, b"pass on");
    let mut heard = None;
    turn_until([&mut asks, &mut answers], |asks, _| {
        heard = asks.poll_event();
        heard.is_some()
    });
    assert_eq!(heard, Some((path, Ecn::Ect0, b"on".to_vec())));
}

#[test]
fn a_deadline_ends_the_wait_and_is_met_late_by_little() {
    let mut driver = parrot(false, &[]);
    let due = driver.now() + Duration::from_millis(20);
    driver.machine_mut().alarm = Some(due);
    while driver.machine().timeouts == 0 {
        assert!(driver.now() < due + Duration::from_secs(2), "the alarm is overdue");
        driver.turn(None).unwrap();
    }
    assert!(driver.now() >= due);
}

#[test]
fn a_timeout_ends_the_wait_of_an_idle_driver() {
    let mut driver = parrot(false, &["127.0.0.1:0"]);
    let start = driver.now();
    driver.turn(Some(Duration::from_millis(10))).unwrap();
    driver.turn(Some(Duration::from_millis(10))).unwrap();
    assert!(driver.now().since(start) >= Duration::from_millis(10));
}

#[test]
fn another_thread_ends_the_wait_and_reads_the_machine() {
    let mut driver = parrot(false, &["127.0.0.1:0"]);
    let path = FourTuple::new(address(&driver, 0), address(&driver, 0));
    let remote = driver.remote();
    let (answers, answer) = mpsc::channel();
    let caller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        remote.call(move |machine, _| {
            machine.say(path, None, b"to myself");
            answers.send(machine.timeouts).unwrap();
        })
    });
    let heard = driver.run(|_, (.., bytes)| ControlFlow::Break(bytes)).unwrap();
    assert_eq!(heard, b"to myself");
    assert_eq!(answer.recv(), Ok(0));
    assert_eq!(caller.join().unwrap(), Ok(()));
}

#[test]
fn calls_are_bounded_and_refused_once_the_driver_is_gone() {
    let mut driver = parrot(false, &[]);
    let remote = driver.remote();
    let ring = |remote: &Remote<Parrot>| remote.call(|machine, _| machine.timeouts += 1);
    for _ in 0..CALLS_MAX {
        assert_eq!(ring(&remote), Ok(()));
    }
    assert_eq!(ring(&remote), Err(CallError::Full));
    driver.turn(None).unwrap();
    assert_eq!(driver.machine().timeouts, CALLS_MAX);
    assert_eq!(ring(&remote), Ok(()));
    driver.turn(None).unwrap();
    assert_eq!(driver.machine().timeouts, CALLS_MAX + 1);
    drop(driver);
    assert_eq!(ring(&remote), Err(CallError::Gone));
}
