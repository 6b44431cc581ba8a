//! Cases 50 and 51: floods and noise.

use gimlet_machine::Rng;
use gimlet_stun::Class;

use super::desk::{Desk, LOCAL, PEER, path};
use super::subject::Setup;
use super::wire::{self, Ask};
use super::{Bench, Case, Finding, Outcome, ensure};

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(50, "a flood of signed checks", "RFC 8445 §19, §7.3.1.3", case_50)
        .given("1000 well signed checks from 1000 ports (100,000 in the test) to a connected agent, 10 in each ms")
        .requires("at most 16 learned addresses, never two checks within 5 ms, the pair in use untouched"),
    Case::on_wire(51, "noise", "RFC 8489 §5, §6.3", case_51)
        .given("20,000 datagrams, random ones of 0 to 1500 bytes and signed checks with flipped bytes")
        .requires("no panic, no answer of success, no learned address, no change of role or path"),
];

fn connected(bench: &Bench) -> Result<Desk, Finding> {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    desk.host(LOCAL)?;
    desk.remote(PEER)?;
    desk.credentials();
    let check = desk.next_check()?;
    desk.answer(&check);
    desk.asked(check.path, &Ask::nominating())?;
    desk.live(200, &[check.path]);
    ensure!(desk.subject.selected() == Some(check.path), "not connected");
    desk.take_said();
    Ok(desk)
}

fn case_50(bench: &Bench) -> Outcome {
    let mut desk = connected(bench)?;
    let mut last = None;
    for number in 0..1_000 {
        let bytes = Ask::controlling().write(desk.id());
        desk.hear(path(LOCAL, &format!("203.0.113.66:{}", 10_000 + number)), &bytes);
        if number % 10 == 9 {
            desk.wait(1);
            for check in desk.take_checks() {
                let since = last.map(|last| check.at.saturating_sub(last));
                ensure!(
                    since.is_none_or(|since| since.as_millis() >= 5),
                    "two checks {} ms apart",
                    since.unwrap_or_default().as_millis()
                );
                last = Some(check.at);
                if check.path.remote == super::desk::address(PEER) {
                    desk.answer(&check);
                }
            }
        }
    }
    let learned = desk.subject.remote_candidates();
    ensure!(learned <= 17, "it holds {learned} of the peer's addresses");
    ensure!(desk.subject.selected() == Some(path(LOCAL, PEER)), "the pair in use is lost");
    Ok(())
}

fn case_51(bench: &Bench) -> Outcome {
    let mut desk = connected(bench)?;
    let mut rng = Rng::from_u64(51);
    let stranger = path(LOCAL, "203.0.113.66:6666");
    for number in 0..20_000_usize {
        let bytes = if number % 2 == 0 {
            let mut bytes = vec![0; number / 2 % 1_501];
            rng.fill(&mut bytes);
            bytes
        } else {
            let ask = Ask { use_candidate: true, ..Ask::new(wire::Claim::Controlled(u64::MAX)) };
            let mut bytes = ask.write(desk.id());
            // Behind the header and before the FINGERPRINT, so that the signature is never right.
            let at = 20 + rng.below(bytes.len() as u64 - 28) as usize;
            bytes[at] ^= 1 + rng.below(255) as u8;
            let end = bytes.len() - 8;
            bytes.truncate(end);
            wire::fingerprint(&mut bytes, 0);
            bytes
        };
        desk.hear(stranger, &bytes);
        if number % 100 == 0 {
            desk.wait(1);
        }
        let said = desk.take_said();
        let granted = said.iter().find(|said| said.path == stranger && said.is(Class::Success));
        ensure!(granted.is_none(), "datagram {number} is answered: {:02x?}", bytes);
        for check in said.into_iter().filter(|said| said.is(Class::Request)) {
            ensure!(check.path != stranger, "datagram {number} makes it check the sender: {bytes:02x?}");
            desk.answer(&check);
        }
    }
    ensure!(desk.subject.remote_candidates() == 1, "it learned an address");
    ensure!(!desk.subject.is_controlling(), "it changed its role");
    ensure!(desk.subject.selected() == Some(path(LOCAL, PEER)), "the pair in use is lost");
    Ok(())
}
