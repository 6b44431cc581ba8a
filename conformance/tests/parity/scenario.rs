//! The language of a scenario, and what it means to play one.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use gimlet_machine::{Direction, Instant, Path, PeerId, Session};
use gimlet_node::{Event, Node, Stream, Ticket, Via};

/// How long one line may take, by the stage's own clock.
const PATIENCE: Duration = Duration::from_secs(30);
/// The last lines of a file, which say what was told, begin with this.
const TOLD: char = '>';

/// Where a node runs, seen by somebody who gives it commands.
pub(crate) trait Stage {
    /// Runs a command on the node called `name`.
    fn verb<R>(&mut self, name: &str, verb: impl FnOnce(&mut Node, Instant) -> R) -> R;
    /// Lets a little time pass.
    fn turn(&mut self);
    /// Takes what the node called `name` has told.
    fn events(&mut self, name: &str) -> Vec<Event>;
    /// How much time has passed since the stage was built.
    fn elapsed(&self) -> Duration;
    /// The address of the node called `name`.
    fn address(&self, name: &str) -> std::net::SocketAddr;
}

/// One line: who does what, and the rest of it.
#[derive(Debug)]
struct Line {
    who: String,
    does: String,
    rest: String,
}

#[derive(Debug)]
pub(crate) struct Scenario {
    text: String,
    lines: Vec<Line>,
    pub(crate) expected: Transcript,
}

/// What each node told, by its name, in order.
#[derive(Debug, Default)]
pub(crate) struct Transcript(BTreeMap<String, Vec<String>>);

impl Scenario {
    pub(crate) fn parse(text: &str) -> Self {
        let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(TOLD)).collect();
        let done = text.lines().take_while(|line| !line.starts_with(TOLD));
        let script: Vec<&str> = done.collect();
        let steps = script.iter().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = |line: &&str| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap_or_else(|| panic!("`{line}`: who does what?")).to_owned();
            Line { who: word(), does: word(), rest: words.collect::<Vec<_>>().join(" ") }
        };
        let mut expected = Transcript::default();
        for (who, what) in told.iter().filter_map(|line| line.trim().split_once(' ')) {
            expected.0.entry(who.to_owned()).or_default().push(what.trim().to_owned());
        }
        Self { text: script.join("\n"), lines: steps.map(line).collect(), expected }
    }

    /// The names of the nodes, in order of appearance, and whether they are public.
    pub(crate) fn cast(&self) -> Vec<(String, bool)> {
        let mut cast: Vec<(String, bool)> = Vec::new();
        for line in &self.lines {
            if !cast.iter().any(|(name, _)| *name == line.who) {
                cast.push((line.who.clone(), line.does == "is"));
            }
        }
        cast
    }

    /// The file with another second half.
    pub(crate) fn with(&self, transcript: &Transcript) -> String {
        format!("{}\n{transcript}", self.text.trim_end())
    }
}

impl Transcript {
    pub(crate) fn lines(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (who, told) in &self.0 {
            told.iter().try_for_each(|what| writeln!(f, "{TOLD} {who:6} {what}"))?;
        }
        Ok(())
    }
}

/// Plays the scenario line by line, each as soon as the one before has come true.
pub(crate) fn play(stage: &mut impl Stage, scenario: &Scenario) -> Transcript {
    let names = scenario.cast();
    let peers = names.iter().map(|(name, _)| (name.clone(), stage.verb(name, |node, _| node.peer_id())));
    let mut player =
        Player { peers: peers.collect(), streams: BTreeMap::new(), transcript: Transcript::default() };
    for line in &scenario.lines {
        let begun = stage.elapsed();
        while !player.try_line(stage, line) {
            stage.turn();
            player.listen(stage);
            assert!(
                stage.elapsed() < begun + PATIENCE,
                "`{} {} {}` does not come true; so far:\n{}",
                line.who,
                line.does,
                line.rest,
                player.transcript
            );
        }
        player.listen(stage);
    }
    player.transcript
}

struct Player {
    peers: BTreeMap<String, PeerId>,
    /// By the name of the node and the name of the stream.
    streams: BTreeMap<(String, String), Stream>,
    transcript: Transcript,
}

impl Player {
    /// Tries to do what the line says, or to see that it is so.
    fn try_line(&mut self, stage: &mut impl Stage, line: &Line) -> bool {
        let Line { who, does, rest } = line;
        let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
        match does.as_str() {
            "is" => true,
            "knows" => self.knows(stage, who, first),
            "connects" => self.connects(stage, who, first),
            "accepts" => {
                let peer = self.peers[first];
                stage.verb(who, Node::accept).is_some_and(|found| found == peer)
            }
            "opens" | "takes" => {
                let peer = self.peers[others.split_once(' ').expect("`opens STREAM to PEER`").1];
                let stream = stage.verb(who, |node, now| match does.as_str() {
                    "opens" => node.open(now, peer, Direction::Bidirectional),
                    _ => node.accept_stream(now, peer),
                });
                let stream = stream.unwrap_or_else(|error| panic!("{who} {does} {rest}: {error}"));
                stream.is_some_and(|stream| {
                    self.streams.insert((who.clone(), first.to_owned()), stream);
                    true
                })
            }
            "closes" => {
                let peer = self.peers[first];
                stage.verb(who, |node, now| node.close(now, peer));
                true
            }
            "loses" => {
                let peer = self.peers[first];
                stage.verb(who, |node, _| node.is_connected(peer)) != Ok(true)
            }
            _ => self.on_stream(stage, line, first, others),
        }
    }

    fn on_stream(&self, stage: &mut impl Stage, line: &Line, stream: &str, text: &str) -> bool {
        let Line { who, does, .. } = line;
        let stream = self.streams[&(who.clone(), stream.to_owned())];
        match does.as_str() {
            "sends" => stage
                .verb(who, |node, now| node.send(now, stream, text.as_bytes()))
                .expect("the stream is open"),
            "receives" => {
                let message =
                    stage.verb(who, |node, now| node.receive(now, stream)).expect("the stream is open");
                message
                    .inspect(|message| assert_eq!(message, text, "{who} received something else"))
                    .is_some()
            }
            "finishes" => stage
                .verb(who, |node, now| node.finish(now, stream))
                .map(|()| true)
                .expect("the stream is open"),
            "ends" => {
                let next = stage.verb(who, |node, now| node.receive(now, stream));
                next.map_or(true, |message| message.inspect(|_| panic!("{who} expected the end")).is_some())
            }
            "delivered" => stage.verb(who, |node, _| node.is_delivered(stream)) != Ok(false),
            _ => panic!("`{does}` is not a word of this language"),
        }
    }

    fn knows(&self, stage: &mut impl Stage, who: &str, public: &str) -> bool {
        let (address, peer) = (stage.address(public), self.peers[public]);
        let ticket: Ticket = stage.verb(public, |node, now| {
            let expires = node.unix_seconds(now) + 3_600;
            node.ticket(&[address], expires).expect("one address is enough")
        });
        let forth = stage.verb(who, |node, now| {
            node.add_ticket(now, &ticket).expect("a fresh ticket");
            node.is_connected(peer)
        });
        let us = self.peers[who];
        let back = stage.verb(public, |node, _| node.is_connected(us));
        (forth, back) == (Ok(true), Ok(true))
    }

    fn connects(&self, stage: &mut impl Stage, who: &str, whom: &str) -> bool {
        let (from, to) = (self.peers[who], self.peers[whom]);
        stage.verb(who, |node, now| node.connect(now, to)).expect("an introducer is connected");
        let forth = stage.verb(who, |node, _| node.is_connected(to));
        let back = stage.verb(whom, |node, _| node.is_connected(from));
        (forth, back) == (Ok(true), Ok(true))
    }

    /// Writes down what was told: who came, how, and who went. What depends on how bytes fall into packets
    /// (readable, writable, progress) may differ between drivers and is not part of the story.
    fn listen(&mut self, stage: &mut impl Stage) {
        let names: Vec<String> = self.peers.keys().cloned().collect();
        for who in names {
            for event in stage.events(&who) {
                if let Some(what) = self.told(&event) {
                    self.transcript.0.entry(who.clone()).or_default().push(what);
                }
            }
        }
    }

    fn told(&self, event: &Event) -> Option<String> {
        let name = |peer: &PeerId| {
            self.peers.iter().find(|(_, id)| *id == peer).map_or("?", |(name, _)| name.as_str())
        };
        let way = |path: &Path| if path.is_direct() { "directly" } else { "relayed" };
        let mut what = String::new();
        match event {
            Event::Connected { peer, path, via, dialed } => {
                let via = match via {
                    Via::Address => "by address".to_owned(),
                    Via::Introducer(peer) => format!("introduced by {}", name(peer)),
                };
                let role = if *dialed { "dialled" } else { "answered" };
                write!(what, "connected {} {} {via}, {role}", name(peer), way(path))
            }
            Event::Incoming { peer } => write!(what, "incoming {}", name(peer)),
            Event::Failed { peer, cause } => write!(what, "failed {}: {cause:?}", name(peer)),
            Event::Lost { peer, cause, reconnecting } => {
                write!(
                    what,
                    "lost {}: {cause:?}{}",
                    name(peer),
                    if *reconnecting { ", reconnecting" } else { "" }
                )
            }
            Event::PathChanged { .. }
            | Event::StreamsReady { .. }
            | Event::Readable { .. }
            | Event::Writable { .. }
            | Event::DatagramReceived { .. }
            | Event::Progress { .. } => return None,
        }
        .expect("a string grows");
        Some(what)
    }
}
