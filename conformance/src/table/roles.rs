//! Cases 34 to 37: who controls.

use super::desk::{LOCAL, PEER, address, path};
use super::subject::Setup;
use super::wire::{self, Ask, Claim, Signed};
use super::world::World;
use super::{Bench, Case, Finding, Outcome, ensure};

const OTHER: &str = "198.51.100.2:2000";
const STRANGER: &str = "203.0.113.66:6666";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(34, "role conflict, every cell of the table", "RFC 8445 §7.3.1.1", case_34)
        .given(
            "a request that claims our own role with a tiebreaker one less, equal, one more than ours; and \
             requests that claim the other role",
        )
        .requires(
            "controlling: 487 and keep if ours >= theirs, else switch and answer success; controlled: switch and \
             answer success if ours >= theirs, else 487 and keep; answers are signed",
        ),
    Case::on_wire(35, "487 to our check", "RFC 8445 §7.2.5.1", case_35)
        .given("487 to one of two checks in flight, then 487 to the other; before both, one signed wrongly")
        .requires(
            "the role of that request is flipped, the tiebreaker changes, the check is repeated; the second 487 \
             belongs to an older role and the forged one to nobody: both mean nothing",
        ),
    Case::on_wire(36, "an unauthenticated claim of a role", "RFC 8445 §7.3", case_36)
        .given("a request with ICE-CONTROLLING 2^64-1, not signed, and signed with another password")
        .requires("no change of role, no 487, no check to where it came from"),
    Case::on_wire(37, "both sides in one role, with loss", "RFC 8445 §7.3.1.1, §7.2.5.1", case_37)
        .given(
            "two agents of the implementation, both controlling or both controlled, RTT 40 ms, 0 to 30 % loss, \
             100 seeds, every fifth with equal tiebreakers where the owner may choose them",
        )
        .requires("exactly one of them controls within 3 s"),
];

fn role(controlling: bool) -> &'static str {
    if controlling { "controlling" } else { "controlled" }
}

fn case_34(bench: &Bench) -> Outcome {
    for controlling in [true, false] {
        for (theirs, keeps) in [(-1_i64, controlling), (0, controlling), (1, !controlling)] {
            let mut desk = bench.pair(Setup::role(controlling))?;
            let (_, ours) =
                desk.next_check()?.claim().ok_or_else(|| Finding::fails("a check without a role".into()))?;
            let tiebreaker = ours.wrapping_add_signed(theirs);
            let claim =
                if controlling { Claim::Controlling(tiebreaker) } else { Claim::Controlled(tiebreaker) };
            let answers = desk.ask(path(LOCAL, PEER), &Ask::new(claim));
            let cell = format!("{} {ours} hears the same role with {tiebreaker}", role(controlling));
            ensure!(answers.len() == 1, "{cell}: {} answers", answers.len());
            let expected = keeps.then_some(487);
            ensure!(answers[0].error() == expected, "{cell}: {}", answers[0].text());
            ensure!(
                desk.subject.is_controlling() == (controlling == keeps),
                "{cell}: it is {} afterwards",
                role(desk.subject.is_controlling())
            );
            let key = gimlet_stun::Key::short_term(wire::OUR_PWD.as_bytes());
            ensure!(answers[0].message().verify(&key).is_ok(), "{cell}: the answer is not signed");
        }
        for theirs in [0, u64::MAX] {
            let mut desk = bench.pair(Setup::role(controlling))?;
            let claim = if controlling { Claim::Controlled(theirs) } else { Claim::Controlling(theirs) };
            desk.asked(path(LOCAL, PEER), &Ask::new(claim))?;
            ensure!(desk.subject.is_controlling() == controlling, "roles that fit were changed");
        }
    }
    Ok(())
}

fn case_35(bench: &Bench) -> Outcome {
    for controlling in [true, false] {
        let mut desk = bench.pair(Setup::role(controlling))?;
        desk.remote_with(OTHER, 65_000)?;
        let (first, second) = (desk.next_check()?, desk.next_check()?);
        let claimed = first.claim();
        desk.hear(first.path, &wire::refusal(&first.bytes, 487, Some("somebodyElsesPassword")));
        ensure!(desk.subject.is_controlling() == controlling, "a 487 that the peer did not sign switched it");
        desk.take_said();
        desk.refuse(&first, 487);
        ensure!(desk.subject.is_controlling() != controlling, "it stays {} after 487", role(controlling));
        let again = desk.next_check_on(first.path)?;
        let (now_controlling, tiebreaker) =
            again.claim().ok_or_else(|| Finding::fails("a check without a role".into()))?;
        ensure!(now_controlling != controlling, "the repeated check claims {}", role(now_controlling));
        ensure!(claimed != Some((controlling, tiebreaker)), "the tiebreaker {tiebreaker} is still the same");
        desk.refuse(&second, 487);
        ensure!(
            desk.subject.is_controlling() != controlling,
            "a 487 to a check of the earlier role switched it back"
        );
    }
    Ok(())
}

fn case_36(bench: &Bench) -> Outcome {
    for signed in [Signed::Not, Signed::Wrongly] {
        let mut desk = bench.pair(Setup::CONTROLLING)?;
        let ask = Ask { signed, ..Ask::new(Claim::Controlling(u64::MAX)) };
        for remote in [PEER, STRANGER] {
            let answers = desk.ask(path(LOCAL, remote), &ask);
            ensure!(answers.iter().all(|answer| answer.error() != Some(487)), "it answered with 487");
        }
        desk.wait(2_000);
        ensure!(desk.subject.is_controlling(), "it gave up its role");
        let astray = desk
            .take_said()
            .iter()
            .any(|said| said.path.remote == address(STRANGER) && said.is(gimlet_stun::Class::Request));
        ensure!(!astray, "it checks the stranger's address");
        desk.asked(path(LOCAL, PEER), &Ask::controlled())?;
    }
    Ok(())
}

fn case_37(bench: &Bench) -> Outcome {
    for seed in 0..100_u64 {
        let (controlling, loss) = (seed % 2 == 0, (seed % 4) * 10);
        // Every fifth pair has equal tiebreakers, where the owner may choose them.
        let tiebreaker = seed.is_multiple_of(5).then_some(7);
        let setup = Setup { tiebreaker, seed: seed * 2, ..Setup::role(controlling) };
        let mut world = World::new(bench, [setup, Setup { seed: seed * 2 + 1, ..setup }])?;
        world.loss_percent = loss as u32;
        world.delay_ms = 20;
        world.signal()?;
        world.run_until(3_000);
        let roles = world.roles();
        ensure!(
            roles[0] != roles[1],
            "seed {seed}, {loss} % loss, {} tiebreakers: both {} after 3 s, having begun as both {}",
            if tiebreaker.is_some() { "equal" } else { "random" },
            role(roles[0]),
            role(controlling)
        );
    }
    Ok(())
}
