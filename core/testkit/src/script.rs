//! A machine's life as a timeline.

use std::collections::VecDeque;
use std::fmt::Debug;

use gimlet_machine::{Answer, Buf, Input, Instant, Machine, Request, Verdict};

/// Plays a timeline against a machine. Every output must be expected, in order, at its moment.
///
/// Timers fire by themselves on the way from one [`Script::at`] to the next; whatever they make the
/// machine say in between is an error, because nobody expected it.
#[derive(Debug)]
pub struct Script<M: Machine> {
    machine: M,
    now: Instant,
    said: VecDeque<(Instant, M::Path, Vec<u8>)>,
    told: VecDeque<(Instant, M::Event)>,
    asked: VecDeque<(Instant, Request)>,
}

impl<M: Machine> Script<M>
where
    M::Event: Debug,
{
    /// Starts at [`Instant::ZERO`].
    pub fn new(machine: M) -> Self {
        let mut script = Self {
            machine,
            now: Instant::ZERO,
            said: VecDeque::new(),
            told: VecDeque::new(),
            asked: VecDeque::new(),
        };
        script.drain();
        script
    }

    /// Moves time to `at`, firing timers on the way and at `at` itself.
    #[track_caller]
    pub fn at(&mut self, at: Instant) -> &mut Self {
        assert!(at >= self.now, "the script goes forward only");
        self.expect_silence();
        while let Some(deadline) = self.machine.poll_timeout().filter(|deadline| deadline.at <= at) {
            self.now = self.now.max(deadline.at);
            self.machine.handle_timeout(self.now);
            self.drain();
            if self.now < at {
                self.expect_silence();
            }
        }
        self.now = at;
        self.drain();
        self
    }

    /// A datagram arrives and is consumed.
    #[track_caller]
    pub fn hears(&mut self, path: M::Path, bytes: &[u8]) -> &mut Self {
        let verdict = self.offer(path, bytes);
        assert_eq!(verdict, Verdict::Consumed, "{}: {bytes:02x?} on {path:?}", self.now);
        self
    }

    /// A datagram arrives and is refused as somebody else's.
    #[track_caller]
    pub fn ignores(&mut self, path: M::Path, bytes: &[u8]) -> &mut Self {
        let verdict = self.offer(path, bytes);
        assert_eq!(verdict, Verdict::NotMine, "{}: {bytes:02x?} on {path:?}", self.now);
        self
    }

    fn offer(&mut self, path: M::Path, bytes: &[u8]) -> Verdict<M::Path> {
        let verdict = self.machine.handle_input(self.now, Input::new(path, &mut bytes.to_vec()));
        self.drain();
        verdict
    }

    /// Runs a command.
    pub fn does(&mut self, command: impl FnOnce(&mut M, Instant)) -> &mut Self {
        command(&mut self.machine, self.now);
        self.drain();
        self
    }

    /// The next datagram said is exactly this one.
    #[track_caller]
    pub fn says(&mut self, path: M::Path, bytes: &[u8]) -> &mut Self {
        let (to, said) = self.next_said();
        assert_eq!((to, &said[..]), (path, bytes), "at {}", self.now);
        self
    }

    /// The next datagram said goes to `path` and satisfies `judge`, which may keep the bytes.
    #[track_caller]
    pub fn says_that(&mut self, path: M::Path, judge: impl FnOnce(&[u8])) -> &mut Self {
        let (to, said) = self.next_said();
        assert_eq!(to, path, "at {}", self.now);
        judge(&said);
        self
    }

    /// The next event told satisfies `judge`.
    #[track_caller]
    pub fn tells(&mut self, judge: impl FnOnce(&M::Event) -> bool) -> &mut Self {
        let (_, event) = self.told.pop_front().unwrap_or_else(|| panic!("{}: no event was told", self.now));
        assert!(judge(&event), "{}: told {event:?}", self.now);
        self
    }

    /// The next request to the driver satisfies `judge`.
    #[track_caller]
    pub fn asks(&mut self, judge: impl FnOnce(&Request) -> bool) -> &mut Self {
        let (_, request) =
            self.asked.pop_front().unwrap_or_else(|| panic!("{}: nothing was asked", self.now));
        assert!(judge(&request), "{}: asked for {request:?}", self.now);
        self
    }

    /// The driver answers.
    pub fn answered(&mut self, answer: Answer<'_>) -> &mut Self {
        self.machine.handle_answer(self.now, answer);
        self.drain();
        self
    }

    /// Nothing was said or told that has not been expected.
    #[track_caller]
    pub fn quiet(&mut self) -> &mut Self {
        self.expect_silence();
        self
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    #[track_caller]
    fn next_said(&mut self) -> (M::Path, Vec<u8>) {
        let (_, path, bytes) =
            self.said.pop_front().unwrap_or_else(|| panic!("{}: nothing was said", self.now));
        (path, bytes)
    }

    #[track_caller]
    fn expect_silence(&self) {
        if let Some((at, path, bytes)) = self.said.front() {
            panic!("{at}: said {bytes:02x?} to {path:?}, which nobody expected");
        }
        if let Some((at, event)) = self.told.front() {
            panic!("{at}: told {event:?}, which nobody expected");
        }
        if let Some((at, request)) = self.asked.front() {
            panic!("{at}: asked for {request:?}, which nobody expected");
        }
    }

    fn drain(&mut self) {
        let mut storage = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(event) = self.machine.poll_event() {
                self.told.push_back((self.now, event));
                quiet = false;
            }
            while let Some(request) = self.machine.poll_request() {
                self.asked.push_back((self.now, request));
                quiet = false;
            }
            while let Some(transmit) = self.machine.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
                self.said.push_back((self.now, transmit.path, storage.clone()));
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }
}
