//! The handshake accelerator between hosts of a real kernel.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gimlet_lab::{Chain, Place, Process, SERVER};
use serde_json::Value;
use tempfile::TempDir;

use crate::traffic::{client, connection, exchange, serve};
use crate::{GIMLET, chain, start};

const FORWARD: &str = "splice forward --json";
/// A line of a quarter of the round trip.
const LINE: &str = "lab line --delay 20 --json";
/// Milliseconds: so long that what a busy computer adds is not mistaken for the half of one.
const ROUND_TRIP: f64 = 80.0;
/// Connections of which the median is taken.
const COUNT: usize = 7;

/// A configuration for both boxes, and room for their tables in memory.
pub(crate) struct Room(TempDir);

impl Room {
    pub(crate) fn new(more: &str) -> Self {
        let folder = tempfile::Builder::new().tempdir_in("/dev/shm").expect("a folder in memory");
        let servers =
            SERVER.map(|address| format!("[[allow]]\nservers = \"{address}\"\nidempotent = true\n"));
        let text = format!("secret = \"00112233445566778899aabbccddeeff\"\n{more}\n{}", servers.concat());
        std::fs::write(folder.path().join("pair.toml"), text).expect("a file");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `gimlet splice` in this role, told so.
    pub(crate) fn splice(&self, role: &str) -> String {
        format!("splice {role} --json --config {}", self.path("pair.toml").display())
    }

    /// The same with a table.
    pub(crate) fn kept(&self, role: &str) -> String {
        format!("{} --table {}", self.splice(role), self.path(role).display())
    }
}

/// The median time to the first byte of connections after the first, ms.
fn median(chain: &Chain, address: &str, more: &[&str]) -> f64 {
    let connections = (COUNT + 1).to_string();
    let mut client = client(chain, address, &[&["--connections", connections.as_str()], more].concat());
    let mut first: Vec<f64> = (0..=COUNT)
        .map(|_| connection(&mut client))
        .map(|told| {
            assert_eq!((&told["error"], &told["corrupt"]), (&Value::Null, &0.into()), "{told}");
            told["first_ms"].as_f64().unwrap_or_else(|| panic!("{told}"))
        })
        .skip(1)
        .collect();
    first.sort_by(f64::total_cmp);
    first[COUNT / 2]
}

/// Fails unless `ms` is so many round trips, and what a busy computer adds.
fn assert_round_trips(ms: f64, trips: f64, what: &str) {
    let expected = trips * ROUND_TRIP;
    assert!(
        (expected - 1.0..expected + 0.45 * ROUND_TRIP).contains(&ms),
        "{what}: {ms} ms, expected {expected}"
    );
}

#[test]
fn two_boxes_take_a_whole_round_trip_off_and_one_in_the_middle_half_of_it() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let (near, far, single) = (room.splice("near"), room.splice("far"), room.splice("single"));
    let _servers = serve(&chain, &SERVER, &[]);
    for (what, boxes, trips) in [
        ("plain", [FORWARD; 3], 2.0),
        ("one box at the client", [&single, FORWARD, FORWARD], 2.0),
        ("one box in the middle", [FORWARD, &single, FORWARD], 1.5),
        ("two boxes", [&near, FORWARD, &far], 1.0),
    ] {
        let _programs = start(&chain, [boxes[0], LINE, boxes[1], LINE, boxes[2]]);
        for address in SERVER {
            assert_round_trips(median(&chain, address, &["--up", "3000"]), trips, what);
        }
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_a_round_trip_earlier() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let _servers = serve(&chain, &SERVER[..1], &["--greets"]);
    let _programs = start(&chain, [&room.splice("near"), LINE, FORWARD, LINE, &room.splice("far")]);
    // The client's acknowledgement is behind its SYN already, not a round trip later.
    assert_round_trips(median(&chain, SERVER[0], &["--greeted"]), 1.0, "greeting");
}

#[test]
fn fast_open_is_added_for_a_client_that_does_not_speak_it() {
    let Some(chain) = chain() else { return };
    // Every listening socket of the server speaks Fast Open.
    chain.server.switch("ipv4/tcp_fastopen", 0x402).unwrap_or_else(|error| panic!("{error}"));
    let room = Room::new("");
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let single = format!("{} --fast-open", room.splice("single"));
    let _programs = start(&chain, [&single, LINE, FORWARD, LINE, FORWARD]);
    assert_round_trips(median(&chain, SERVER[0], &[]), 1.0, "Fast Open");
}

#[test]
fn bulk_both_ways_is_whole_with_loss_repetition_and_reordering() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let bad = "lab line --delay 2 --loss 1% --duplicate 1% --reorder 1% --json";
    let _programs = start(&chain, [&room.splice("near"), bad, FORWARD, LINE, &room.splice("far")]);
    let _servers = serve(&chain, &SERVER, &[]);
    for address in SERVER {
        exchange(&chain, address, 3 << 20);
        exchange(&chain, address, 3 << 20);
    }
}

/// Both boxes, with a table if `kept`, and a client in the middle of a long download.
fn downloading(chain: &Chain, room: &Room, kept: bool) -> (Vec<Process>, Process, [String; 2]) {
    let words = |role| if kept { room.kept(role) } else { room.splice(role) };
    let pair = [words("near"), words("far")];
    let line = "lab line --delay 2 --json";
    let programs = start(chain, [&pair[0], line, FORWARD, line, &pair[1]]);
    exchange(chain, SERVER[0], 1);
    let client = client(chain, SERVER[0], &["--down", "200M", "--timeout", "20"]);
    sleep(Duration::from_millis(300));
    (programs, client, pair)
}

/// Kills both boxes as a crash would and starts them again; gives how long nobody was there.
fn crash(chain: &Chain, programs: &mut [Process], pair: &[String; 2]) -> Duration {
    let begun = Instant::now();
    for (place, words) in [(Place::Near, &pair[0]), (Place::Far, &pair[1])] {
        programs[place as usize].kill();
        let words: Vec<&str> = words.split_whitespace().collect();
        programs[place as usize] =
            chain.start(place, GIMLET, &words).unwrap_or_else(|error| panic!("{error}"));
    }
    begun.elapsed()
}

#[test]
fn case_70_a_download_goes_on_when_both_boxes_are_killed_and_started_again() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let (mut programs, mut client, pair) = downloading(&chain, &room, true);
    for _ in 0..3 {
        let gap = crash(&chain, &mut programs, &pair);
        assert!(gap < Duration::from_secs(2), "{gap:?}");
        sleep(Duration::from_millis(300));
    }
    let told = connection(&mut client);
    assert_eq!((&told["error"], &told["corrupt"]), (&Value::Null, &0.into()), "{told}");
    assert_eq!(told["received"], 200 << 20, "{told}");
}

#[test]
fn case_71_without_a_table_and_told_to_reset_both_programs_hear_of_it_at_once() {
    let Some(chain) = chain() else { return };
    let room = Room::new("unknown = \"reset\"");
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let (mut programs, mut client, pair) = downloading(&chain, &room, false);
    crash(&chain, &mut programs, &pair);
    let restarted = Instant::now();
    let told = connection(&mut client);
    assert_eq!(told["error"], "connection reset", "{told}");
    assert!(restarted.elapsed() < Duration::from_secs(1), "{:?} {told}", restarted.elapsed());
}

#[test]
fn case_72_a_box_that_is_asked_to_stop_does_not_before_its_last_flow() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let (mut programs, mut client, _) = downloading(&chain, &room, false);
    let far = &mut programs[Place::Far as usize];
    far.terminate();
    far.find(Duration::from_secs(5), "that it drains", |line| line.contains("draining").then_some(()))
        .unwrap_or_else(|error| panic!("{error}"));
    let told = connection(&mut client);
    assert_eq!((&told["error"], &told["corrupt"]), (&Value::Null, &0.into()), "{told}");
}
