//! The machine: says our hello, hears the peer's.

use core::mem;
use core::time::Duration;

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Transmit, Verdict};

use crate::{Agreed, Event, HELLO_MAX, Hello, Refusal, State};

/// How long the peer may take to say hello. It comes with or right after the end of the TLS
/// handshake. Where a fifth of all packets is lost, the last flight of that may be repeated after 2.6, 5.2 and
/// 10.4 s: QUIC's probe timeout doubles, and begins at three round trips of which the first was a slow one.
pub const HELLO_WAIT: Duration = Duration::from_secs(25);

gimlet_machine::counters! {
    /// What a handshake did not want.
    pub struct HandshakeCounters {
        /// First messages that were no hello, or a broken one.
        malformed,
        /// Hellos without a version in common with ours.
        no_common_version,
        /// Waits that ended without a hello.
        silent,
        /// Messages after a refusal, dropped unread.
        after_refusal,
    }
}

/// One end of the handshake on one connection.
///
/// The path is `()`: there is one stream. What it transmits is the first message to send there, and
/// its input is the first message that arrives. Later messages are [`Verdict::NotMine`].
#[derive(Clone, Debug)]
pub struct Handshake {
    ours: Hello,
    state: State,
    said: bool,
    event: Option<Event>,
    counters: HandshakeCounters,
}

impl Handshake {
    /// A connection opened at `now`.
    pub fn new(now: Instant, ours: Hello) -> Self {
        Self {
            ours,
            state: State::AwaitHello { until: now + HELLO_WAIT },
            said: false,
            event: None,
            counters: HandshakeCounters::default(),
        }
    }

    /// What is known of the peer.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What both ends agreed on; `None` before the peer's hello and after a refusal.
    pub const fn agreed(&self) -> Option<&Agreed> {
        match &self.state {
            State::Known(agreed) => Some(agreed),
            State::AwaitHello { .. } | State::Refused(_) => None,
        }
    }

    /// What was dropped.
    pub const fn counters(&self) -> &HandshakeCounters {
        &self.counters
    }

    /// Moves to `next`, and tells the owner if that is news.
    fn on_state(&mut self, next: State) {
        let before = mem::replace(&mut self.state, next);
        if before == self.state {
            return;
        }
        debug_assert!(matches!(before, State::AwaitHello { .. }), "only AwaitHello is ever left");
        self.event = match &self.state {
            State::AwaitHello { .. } => None,
            State::Known(agreed) => Some(Event::Known(agreed.clone())),
            State::Refused(refusal) => {
                self.counters.count(*refusal);
                Some(Event::Refused(*refusal))
            }
        };
    }
}

impl Machine for Handshake {
    type Path = ();
    type Event = Event;

    fn handle_input(&mut self, _now: Instant, input: Input<'_, ()>) -> Verdict<()> {
        match self.state {
            State::AwaitHello { .. } => {
                let next = self.state.clone().on_hello(&self.ours, Hello::parse(input.bytes));
                self.on_state(next);
                Verdict::Consumed
            }
            State::Known(_) => Verdict::NotMine,
            State::Refused(_) => {
                self.counters.after_refusal += 1;
                Verdict::Consumed
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let next = self.state.clone().on_timeout(now);
        self.on_state(next);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<()>> {
        if self.said || out.remaining() < HELLO_MAX {
            return None;
        }
        self.said = true;
        self.ours.write(out.vec());
        debug_assert!(out.len() <= HELLO_MAX, "our own hello is within the limit");
        Some(Transmit::new(()))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self.state {
            State::AwaitHello { until } => Some(Deadline { at: until, why: "hello" }),
            State::Known(_) | State::Refused(_) => None,
        }
    }
}

impl HandshakeCounters {
    fn count(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Malformed(_) => &mut self.malformed,
            Refusal::PeerTooOld { .. } | Refusal::WeAreTooOld { .. } => &mut self.no_common_version,
            Refusal::Silent => &mut self.silent,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capabilities, HelloError, Role};
    use alloc::vec::Vec;
    use gimlet_machine::Counters as _;
    use gimlet_testkit::{Checked, Script, Shuttle};

    fn hello(role: Role, capabilities: Capabilities) -> Hello {
        Hello::new(role, capabilities, "test/1").unwrap()
    }

    fn wire(hello: &Hello) -> Vec<u8> {
        let mut out = Vec::new();
        hello.write(&mut out);
        out
    }

    fn ours() -> Hello {
        hello(Role::Peer, Capabilities::DATAGRAMS | Capabilities::INTRODUCTION)
    }

    fn script() -> Script<Checked<Handshake>> {
        Script::new(Checked::new(Handshake::new(Instant::ZERO, ours())))
    }

    #[test]
    fn our_hello_is_said_once_and_the_peers_makes_it_known() {
        let theirs = hello(Role::Public, Capabilities::DATAGRAMS | Capabilities::STUN);
        script()
            .says((), &wire(&ours()))
            .at(Instant::from_millis(30))
            .hears((), &wire(&theirs))
            .tells(|event| {
                matches!(event, Event::Known(agreed)
                    if agreed.capabilities() == Capabilities::DATAGRAMS && agreed.hello() == &theirs)
            })
            .ignores((), b"the owner's next message")
            .ignores((), &wire(&theirs))
            .at(Instant::from_millis(60_000))
            .quiet();
    }

    #[test]
    fn silence_is_refused_when_the_wait_is_over_and_not_before() {
        let mut script = script();
        script.says((), &wire(&ours())).at(Instant::ZERO + HELLO_WAIT - Duration::from_nanos(1)).quiet();
        script
            .at(Instant::ZERO + HELLO_WAIT)
            .tells(|event| *event == Event::Refused(Refusal::Silent))
            .hears((), &wire(&ours()))
            .quiet();
        let counted: Vec<_> = script.machine().inner().counters().each().map(|(_, count)| count).collect();
        assert_eq!(counted, [0, 0, 1, 1]);
    }

    #[test]
    fn garbage_and_foreign_versions_are_refused_and_counted() {
        let foreign = ours().with_versions(7, 9).unwrap();
        let required = Refusal::WeAreTooOld { newest: crate::VERSION, required: 7 };
        let malformed = Refusal::Malformed(HelloError::NotAHello);
        for (bytes, refusal) in [(wire(&foreign), required), (b"GET / HTTP/1.1".to_vec(), malformed)] {
            let mut script = script();
            script.says((), &wire(&ours())).hears((), &bytes);
            script.tells(|event| *event == Event::Refused(refusal)).quiet();
            assert_eq!(script.machine().inner().counters().total(), 1);
            assert_eq!(script.machine().inner().agreed(), None);
        }
    }

    #[test]
    fn two_ends_come_to_the_same_agreement() {
        let mut a = Checked::new(Handshake::new(Instant::ZERO, ours()));
        let mut b = Checked::new(Handshake::new(Instant::ZERO, hello(Role::Public, Capabilities::all())));
        let mut told = 0;
        let mut link = Shuttle::new(Duration::from_millis(20), |path| path);
        link.run(
            (&mut a, &mut b),
            Instant::from_millis(1_000),
            |_| true,
            |_, _, event| {
                assert!(matches!(event, Event::Known(_)));
                told += 1;
            },
        );
        let (a, b) = (a.inner().agreed().unwrap(), b.inner().agreed().unwrap());
        assert_eq!((a.version(), a.capabilities()), (b.version(), b.capabilities()));
        assert_eq!((told, link.sent()), (2, 2));
    }
}
