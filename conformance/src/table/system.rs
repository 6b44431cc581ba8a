//! Cases 65 to 68: determinism, sharing a socket, interop, speed.

use std::time::Duration;

use super::desk::{Desk, Transcript, address, path};
use super::subject::Setup;
use super::wire::{Ask, Signed};
use super::world::World;
use super::{Bench, Case, Finding, Implementation, Judge, Outcome, ensure};

const LOCAL: &str = "192.0.2.1:4000";
const PEER: &str = "198.51.100.1:2000";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(65, "the same input, the same output", "no RFC: it is what replay needs", case_65)
        .given("two lives of 40 s of the same agent with the same input; a third with 10 extra calls per step")
        .requires("identical bytes at identical times, in the third life too"),
    Case::on_wire(66, "two agents on one socket", "RFC 8445 §7.3, RFC 8489 §6.3.1", case_66)
        .given("checks that are meant for another agent's ufrag, signed with its password and not at all")
        .requires("no answer, not even an error; nothing is checked"),
    Case {
        ours: Judge::Named,
        peers: Judge::InProcess(case_67),
        ..Case::on_wire(67, "other people's programs", "RFC 8445", case_67)
    }
    .given("aioice 0.13 and coturn 4.6 as processes in the lab; for the peers, Gimlet's agent in both roles")
    .requires("connected in both roles and both conflicts of roles"),
    Case::on_wire(68, "time to connect", "RFC 8445 §6.1.4.2, §14.2", case_68)
        .given("two agents of the implementation, RTT 100 ms, 19 silent candidates ahead of the one that works")
        .requires("both have a path to send on within 400 ms at Ta 5 ms, 1260 ms at 50 ms: the check's, plus nomination"),
];

/// Everything that an agent says in 40 s: connects after a while, is asked, loses its peer.
fn life(bench: &Bench, pokes: u32) -> Result<Vec<(Duration, Vec<u8>)>, Finding> {
    let mut desk = bench.desk(Setup::CONTROLLING)?;
    let mut trace = Vec::new();
    let mut poke = |desk: &mut Desk| {
        for _ in 0..pokes {
            desk.poke();
        }
        let said = desk.take_said();
        trace.extend(said.iter().map(|said| (said.at, said.bytes.clone())));
        said
    };
    desk.host(LOCAL)?;
    poke(&mut desk);
    desk.remote("198.51.100.77:2000")?;
    desk.remote_with(PEER, 65_000)?;
    desk.credentials();
    let mut pending = poke(&mut desk);
    for step in 0..400 {
        desk.wait(100);
        for said in pending.drain(..) {
            let is_request = said.is(gimlet_stun::Class::Request);
            if step < 100 && is_request && said.path == path(LOCAL, PEER) {
                desk.answer(&said);
            }
        }
        pending = poke(&mut desk);
    }
    Ok(trace)
}

fn case_65(bench: &Bench) -> Outcome {
    if matches!(bench.who, Implementation::Is | Implementation::RiceProto) {
        return Err(Finding::not_applicable(
            "it takes no seed: ids come from a generator that the owner cannot set",
        ));
    }
    let first = life(bench, 0)?;
    ensure!(first.len() > 10, "a life of {} datagrams shows nothing", first.len());
    ensure!(life(bench, 0)? == first, "two lives with the same seed and input differ");
    ensure!(life(bench, 10)? == first, "calls to handle_timeout that were not asked for change what is said");
    Ok(())
}

fn case_66(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    desk.host(LOCAL)?;
    desk.credentials();
    let stranger = path(LOCAL, "203.0.113.66:6666");
    for username in ["otherAgent:peerUfrag", "ourUfragLonger:peerUfrag", "our:peerUfrag"] {
        for signed in [Signed::Wrongly, Signed::Not] {
            let ask = Ask { usernames: vec![username.into()], signed, ..Ask::controlling() };
            let answers = desk.ask(stranger, &ask);
            let answer = answers.first().map(super::desk::Said::text).unwrap_or_default();
            ensure!(answers.is_empty(), "a request to {username} is answered: {answer}");
        }
    }
    desk.wait(1_000);
    ensure!(desk.take_checks().is_empty(), "it checks somebody else's peer");
    desk.asked(stranger, &Ask::controlling())?;
    Ok(())
}

fn case_67(bench: &Bench) -> Outcome {
    let gimlet = Bench { who: Implementation::Gimlet, transcript: Transcript::default() };
    for (ours, theirs) in [(true, false), (false, true), (true, true), (false, false)] {
        let setups = [Setup { seed: 5, ..Setup::role(ours) }, Setup::role(theirs)];
        let mut world = World::between([&gimlet, bench], setups)?;
        world.signal()?;
        world.run_while(10_000, |world| !world.is_selected());
        let [a, b] = world.roles();
        ensure!(
            world.is_selected() && a != b,
            "gimlet {} and {} {}: after {} ms roles are {a} and {b}, paths {:?} and {:?}",
            if ours { "controlling" } else { "controlled" },
            bench.who.name(),
            if theirs { "controlling" } else { "controlled" },
            world.desks[0].now.as_millis(),
            world.desks[0].subject.selected(),
            world.desks[1].subject.selected()
        );
    }
    Ok(())
}

fn case_68(bench: &Bench) -> Outcome {
    let dead: Vec<_> = (1..=19).map(|n| address(&format!("203.0.113.{n}:2000"))).collect();
    for (ta, goal) in [(5, 400), (50, 1_260)] {
        let setup = Setup { ta: Some(Duration::from_millis(ta)), ..Setup::CONTROLLING };
        let mut world = World::new(bench, [setup, Setup { controlling: false, seed: 2, ..setup }])?;
        world.delay_ms = 50;
        world.signal_with(&dead)?;
        world.run_while(30_000, |world| !world.is_selected());
        let ms = world.desks[0].now.as_millis();
        ensure!(world.is_selected() && ms <= goal, "connected after {ms} ms at Ta {ta} ms");
    }
    Ok(())
}
