//! What somebody can send who listens and knows no secret.

use std::fmt::Debug;

use gimlet_machine::{Buf, Input, Instant, Machine, Rng, Verdict};

use crate::Checked;

/// The longest datagram of noise, in bytes.
const NOISE_MAX: u64 = 1_500;

/// A source of hostile datagrams: recorded ones as they were, with bits flipped, cut or with something
/// behind them, noise, and what [`Barrage::forging`] makes up.
///
/// ```
/// # use gimlet_testkit::Barrage;
/// let mut barrage = Barrage::new(7).recorded(0_u8, b"something genuine");
/// let (path, bytes) = barrage.draw();
/// assert!(path == 0 && bytes.len() <= 1_500);
/// ```
pub struct Barrage<'a, P> {
    rng: Rng,
    recorded: Vec<(P, Vec<u8>)>,
    forge: Option<Forge<'a, P>>,
}

/// Makes up a datagram.
type Forge<'a, P> = Box<dyn FnMut(&mut Rng) -> (P, Vec<u8>) + 'a>;

/// What came back from a machine under a [`Barrage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echo {
    /// Datagrams sent.
    pub answers: u64,
    /// The most bytes by which an answer, or several to one datagram together, were longer than it.
    pub growth: usize,
    /// Datagrams that were somebody else's.
    pub not_mine: u64,
}

impl<P> Debug for Barrage<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Barrage").field("recorded", &self.recorded.len()).finish_non_exhaustive()
    }
}

impl<'a, P: Copy + Ord + Debug> Barrage<'a, P> {
    /// One that knows nothing yet.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::from_u64(seed).fork("barrage"), recorded: Vec::new(), forge: None }
    }

    /// A genuine datagram that it has seen arrive on `path`: to be replayed there, whole and damaged.
    #[must_use]
    pub fn recorded(mut self, path: P, bytes: &[u8]) -> Self {
        assert!(!bytes.is_empty(), "an empty datagram cannot be damaged");
        self.recorded.push((path, bytes.to_vec()));
        self
    }

    /// What it can make up: well-made messages without the secret that would make them genuine.
    #[must_use]
    pub fn forging(mut self, forge: impl FnMut(&mut Rng) -> (P, Vec<u8>) + 'a) -> Self {
        self.forge = Some(Box::new(forge));
        self
    }

    /// The next datagram, and the path on which it arrives.
    pub fn draw(&mut self) -> (P, Vec<u8>) {
        let (path, mut bytes) = match &mut self.forge {
            Some(forge) if self.rng.below(3) == 0 => forge(&mut self.rng),
            Some(_) | None => {
                let nth = self.rng.below(self.recorded.len() as u64) as usize;
                self.recorded.get(nth).cloned().expect("something was recorded")
            }
        };
        let at = self.rng.below(bytes.len().max(1) as u64) as usize;
        match self.rng.below(8) {
            // As it is, more often than not.
            0..=3 => {}
            4 | 5 => {
                // One to three bits.
                for _ in 0..=self.rng.below(3) {
                    let at = self.rng.below(bytes.len().max(1) as u64) as usize;
                    let flip = 1 << self.rng.below(8);
                    bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= flip);
                }
            }
            6 if self.rng.chance(500_000) => bytes.truncate(at),
            6 => bytes.extend_from_within(at..),
            _ => {
                bytes.resize(self.rng.below(NOISE_MAX + 1) as usize, 0);
                self.rng.fill(&mut bytes);
            }
        }
        (path, bytes)
    }

    /// Sends `datagrams` of them, all at `now`, to a machine that has nothing left to say. Panics if it
    /// tells its owner anything, if its deadline moves, or if its state is another afterwards: everything
    /// that it prints, but for its counters and the fields named in `besides`.
    pub fn assert_harmless<M>(
        &mut self,
        machine: &mut Checked<M>,
        now: Instant,
        datagrams: u32,
        besides: &[&str],
    ) -> Echo
    where
        M: Machine<Path = P> + Debug,
        M::Event: Debug,
    {
        let (mut echo, mut out) = (Echo::default(), Vec::new());
        let (before, deadline) = (snapshot(machine.inner(), besides), machine.poll_timeout());
        for number in 0..datagrams {
            let (path, bytes) = self.draw();
            let verdict = machine.handle_input(now, Input::new(path, &mut bytes.clone()));
            assert!(!matches!(verdict, Verdict::Pass { .. }), "forwarded on {path:?}: {bytes:02x?}");
            echo.not_mine += u64::from(verdict == Verdict::NotMine);
            let mut answered = 0;
            while machine.poll_transmit(now, &mut Buf::new(&mut out)).is_some() {
                echo.answers += 1;
                answered += out.len();
            }
            echo.growth = echo.growth.max(answered.saturating_sub(bytes.len()));
            if let Some(event) = machine.poll_event() {
                panic!("datagram {number} on {path:?} made it tell {event:?}: {bytes:02x?}");
            }
        }
        assert_eq!(machine.poll_timeout(), deadline, "a deadline moved");
        let after = snapshot(machine.inner(), besides);
        let change = before.lines().zip(after.lines()).find(|(before, after)| before != after);
        assert!(before == after, "the state is another: {change:?}");
        echo
    }
}

/// What `machine` prints, without its counters and the fields named in `besides`, wherever they are.
///
/// ```
/// # use gimlet_testkit::snapshot;
/// #[derive(Debug)]
/// struct Machine { counters: Vec<u8>, sent: u8, at: u8 }
/// let text = snapshot(&Machine { counters: vec![1, 2], sent: 3, at: 4 }, &["sent"]);
/// assert_eq!(text, "Machine {\n    at: 4,\n}\n");
/// ```
pub fn snapshot(machine: &impl Debug, besides: &[&str]) -> String {
    let (mut text, mut skipped) = (String::new(), None);
    for line in format!("{machine:#?}").lines() {
        let depth = line.len() - line.trim_start().len();
        let field = line.trim_start().split_once(':').map(|(field, _)| field);
        let unwanted = field.is_some_and(|field| field == "counters" || besides.contains(&field));
        if skipped.is_none() && unwanted {
            skipped = Some(depth);
            if line.ends_with(',') {
                skipped = None;
            }
            continue;
        }
        match skipped {
            // The bracket that ends the field, or something inside it.
            Some(at) if depth <= at => skipped = None,
            Some(_) => {}
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimlet_machine::{Deadline, Transmit};

    /// Counts what it hears, and remembers what begins with an exclamation mark.
    #[derive(Debug, Default)]
    struct Listener {
        counters: u64,
        shouted: Vec<u8>,
    }

    impl Machine for Listener {
        type Path = u8;
        type Event = ();
        fn handle_input(&mut self, _: Instant, input: Input<'_, u8>) -> Verdict<u8> {
            self.counters += 1;
            if input.bytes.first() == Some(&b'!') {
                self.shouted.extend_from_slice(input.bytes);
            }
            Verdict::Consumed
        }
        fn handle_timeout(&mut self, _: Instant) {}
        fn poll_event(&mut self) -> Option<()> {
            None
        }
        fn poll_transmit(&mut self, _: Instant, _: &mut Buf<'_>) -> Option<Transmit<u8>> {
            None
        }
        fn poll_timeout(&self) -> Option<Deadline> {
            None
        }
    }

    #[test]
    fn counters_may_move() {
        let mut machine = Checked::new(Listener::default());
        let mut barrage = Barrage::new(1).recorded(0, &[0; 40]);
        barrage.assert_harmless(&mut machine, Instant::ZERO, 100, &["shouted"]);
        assert_eq!(machine.inner().counters, 100);
    }

    #[test]
    #[should_panic(expected = "the state is another")]
    fn anything_else_may_not() {
        let mut machine = Checked::new(Listener::default());
        let mut barrage = Barrage::new(1).recorded(0, b"!");
        barrage.assert_harmless(&mut machine, Instant::ZERO, 100, &[]);
    }
}
