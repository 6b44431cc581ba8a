//! Two nodes behind two NATs, in one process: no sockets, a virtual clock, and a seed that decides
//! everything left to chance.
//!
//! The nodes are the ones that run on real sockets elsewhere. They know a public node's ticket and
//! each other's id; the public node introduces them, and they bore through both NATs. Then the story
//! is played again from the same seed, and it is the same to the last byte.

use std::error::Error;
use std::time::Duration;

use gimlet_machine::{Direction, Instant, PeerId, Session};
use gimlet_node::{Config, Event, Identity, Node};
use gimlet_sim::{
    Happening, HostConfig, HostId, LinkConfig, NatConfig, NatKind, TraceHash, World, seeded_provider,
};

/// What the calendars say when the story begins: some moment in 2023.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Adds a host with a node on `socket`, behind a NAT of `kind`. The `nth` node has the `nth` identity.
fn add(
    world: &mut World<Node>,
    nth: u8,
    name: &str,
    socket: &str,
    kind: NatKind,
) -> Result<HostId, Box<dyn Error>> {
    let nat = NatConfig::of_kind(kind, [203, 0, 113, nth]);
    let nat = nat.map(|config| world.add_nat(config, LinkConfig::default()));
    let line = LinkConfig::with_latency(Duration::from_millis(10));
    let host = HostConfig::new(name, [socket.parse()?]).behind(nat).link(line);

    let mut dice = world.rng("node", u64::from(nth));
    let mut config = Config::new(
        Identity::from_secret([nth; 32]),
        dice.bytes(),
        host.sockets.clone(),
        std::time::Instant::now(),
        EPOCH,
        seeded_provider(dice.fork("tls")),
    );
    config.public = kind == NatKind::None;
    let node = Node::new(world.now(), config)?;
    Ok(world.add_host(host, node))
}

/// Plays the story that `seed` decides. Returns it in lines, and the hash of every packet in it.
fn tell(seed: u64) -> Result<(Vec<String>, TraceHash), Box<dyn Error>> {
    let mut world = World::new(seed);
    let public = add(&mut world, 1, "public", "198.51.100.1:4433", NatKind::None)?;
    let alice = add(&mut world, 2, "alice", "192.168.0.2:5000", NatKind::PortRestricted)?;
    let bob = add(&mut world, 3, "bob", "10.0.0.2:5000", NatKind::PortRestricted)?;

    // Both know where the public node is, and alice knows whom she wants to reach.
    let addresses = ["198.51.100.1:4433".parse()?];
    let ticket = world.touch(public, |node, now| node.ticket(&addresses, node.unix_seconds(now) + 3_600))?;
    for host in [alice, bob] {
        world.touch(host, |node, now| node.add_ticket(now, &ticket))?;
    }
    let alices_id = world.touch(alice, |node, _| node.peer_id());
    let bobs_id = world.touch(bob, |node, _| node.peer_id());
    world.touch(alice, |node, now| node.connect(now, bobs_id))?;

    // An application reacts to events. This one stands outside and sees those of everybody.
    let (mut story, mut stream, mut heard) = (Vec::new(), None, None);
    world.run_to(Instant::from_millis(10_000), |world| {
        while let Some(Happening { at, host, event }) = world.poll_event() {
            story.push(format!("{at} s  {:6}  {event:?}", world.name(host)));
            match event {
                Event::Connected { peer, .. } if (host, peer) == (alice, bobs_id) => {
                    world.touch(alice, |node, now| say(node, now, peer)).expect("they are connected");
                }
                Event::StreamsReady { peer } if (host, peer) == (bob, alices_id) => {
                    stream =
                        world.touch(bob, |node, now| node.accept_stream(now, peer)).expect("it is there");
                }
                _ => {}
            }
        }
        heard = stream.and_then(|stream| world.touch(bob, |node, now| node.receive(now, stream)).ok()?);
        heard.is_some()
    });

    let path = world.machine(alice).and_then(|node| node.path(bobs_id)).ok_or("alice has no path to bob")?;
    let heard = heard.ok_or("bob heard nothing")?;
    story.push(format!("{} s  bob heard {heard:?}; alice's path is {path}", world.now()));
    Ok((story, world.trace_hash()))
}

fn say(node: &mut Node, now: Instant, peer: PeerId) -> Result<(), gimlet_node::Error> {
    let stream = node.open(now, peer, Direction::Unidirectional)?.expect("a fresh connection takes a stream");
    let accepted = node.send(now, stream, b"through two NATs")?;
    assert!(accepted, "a fresh stream takes a message");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let ((story, hash), again) = (tell(7)?, tell(7)?);
    println!("{}\ntrace hash {hash}", story.join("\n"));
    assert_eq!((story, hash), again, "one seed tells one story");
    Ok(())
}
