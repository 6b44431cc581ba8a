//! Tables of what is exact: bytes, and virtual milliseconds.

use std::time::Duration;

use gimlet_peers::{Endpoint, Outcome, Scene, live_bytes, meet};

use crate::gimlet::Gimlet;
use crate::is_agent::Is;

/// Candidates of each side: a hundred pairs.
const CANDIDATES: u8 = 10;

/// What agents weigh, by the allocator's count and their own size.
pub(crate) fn memory() {
    println!("### What an agent weighs, in bytes, heap and itself\n");
    println!("| who | new | 100 pairs, idle | 100 checks in flight | met, 1 x 1 | met, 10 x 10 |");
    println!("|---|--:|--:|--:|--:|--:|");
    weigh::<Gimlet>("gimlet");
    weigh::<Is>("is 0.12");
    println!();
}

fn weigh<E: Endpoint>(who: &str) {
    let mut signal = E::new(false).signal();
    let line = |n| format!("candidate:{n} 1 udp 2130706431 198.51.100.{n} 4000 typ host");
    signal.candidates = (0..CANDIDATES).map(line).collect();
    let (size, before) = (size_of::<E>() as u64, live_bytes());
    let weight = || live_bytes() - before + size;
    let mut agent = E::new(true);
    let fresh = weight();
    for number in 0..CANDIDATES {
        agent.add_socket(Duration::ZERO, ([10, 0, 0, number], 4_000).into());
    }
    agent.hear_signal(Duration::ZERO, &signal);
    let idle = weight();
    let (mut checks, mut now, mut out) = (0, Duration::ZERO, Vec::with_capacity(1_024));
    let held = out.capacity() as u64;
    while checks < u32::from(CANDIDATES) * u32::from(CANDIDATES) {
        while agent.say(now, &mut out).is_some() {
            checks += 1;
            out.clear();
        }
        now = agent.deadline().expect("more checks").max(now);
        agent.wake(now);
    }
    let in_flight = weight() - held;
    drop((agent, out));
    let [met_one, met_all] = [1, CANDIDATES].map(|sockets| {
        let before = live_bytes();
        let (_, ends) = meet::<E>(Scene {
            one_way: Duration::from_millis(10),
            signalling: Duration::ZERO,
            sockets,
            dead: 0,
        });
        let both = live_bytes() - before;
        drop(ends);
        both / 2 + size
    });
    println!("| {who} | {fresh} | {idle} | {in_flight} | {met_one} | {met_all} |");
}

/// When each side may send, in milliseconds.
pub(crate) fn time_to_connect() {
    println!("### Milliseconds until data may be sent (and until a path is nominated), RTT 100 ms\n");
    println!(
        "| signalling, one way | dead pairs ahead | gimlet, controlling | gimlet, controlled | is 0.12, controlling | is 0.12, controlled |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for signalling in [0, 50] {
        for dead in [0, 4, 9, 19] {
            let scene = Scene {
                one_way: Duration::from_millis(50),
                signalling: Duration::from_millis(signalling),
                sockets: 1,
                dead,
            };
            let [ours, theirs] = [meet::<Gimlet>(scene).0, meet::<Is>(scene).0].map(cells);
            println!("| {signalling} | {dead} | {ours} | {theirs} |");
        }
    }
    println!();
}

fn cells(Outcome { may_send, selected, .. }: Outcome) -> String {
    let ms = |at: Option<Duration>| at.map_or("–".to_owned(), |at| at.as_millis().to_string());
    format!("{} ({}) | {} ({})", ms(may_send[0]), ms(selected[0]), ms(may_send[1]), ms(selected[1]))
}
