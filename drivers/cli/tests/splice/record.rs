//! What is recorded between hosts of a real kernel is lived again to the last byte.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use gimlet_lab::{Place, Process, SERVER};
use serde_json::Value;

use crate::forward::stopped;
use crate::pair::Room;
use crate::traffic::{client, connection, exchange, serve};
use crate::{GIMLET, chain, start};

const FORWARD: &str = "splice forward --json";

/// The exit code of a replay, its summary, and everything that it said.
fn replay(path: &Path) -> (Option<i32>, Value, String) {
    let output =
        Command::new(GIMLET).args(["splice", "replay", "--json"]).arg(path).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|line: &Value| line["event"] == "done");
    (output.status.code(), summary.unwrap_or_default(), said + &String::from_utf8_lossy(&output.stderr))
}

/// Ends a box that may have flows: it is asked twice.
fn end(process: &mut Process) -> Value {
    process.terminate();
    sleep(Duration::from_millis(300));
    stopped(process)
}

#[test]
fn two_boxes_and_a_forwarder_on_a_bad_line_are_lived_again_to_the_last_byte() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let file = |name: &str| room.path(name);
    let recorded = |words: &str, name: &str| format!("{words} --record {}", file(name).display());
    let near = recorded(&room.splice("near"), "near.pcapng");
    let middle = recorded(FORWARD, "middle.pcapng");
    let far = recorded(&room.splice("far"), "far.pcapng");
    let bad = "lab line --delay 2 --loss 1% --duplicate 1% --reorder 1% --json";
    let mut programs = start(&chain, [&near, bad, &middle, "lab line --delay 2 --json", &far]);
    let _servers = serve(&chain, &SERVER, &[]);
    for address in SERVER {
        exchange(&chain, address, 2 << 20);
        exchange(&chain, address, 2 << 20);
        connection(&mut client(&chain, address, &["--up", "3000"]));
    }
    for (place, name) in
        [(Place::Near, "near.pcapng"), (Place::Middle, "middle.pcapng"), (Place::Far, "far.pcapng")]
    {
        let summary = end(&mut programs[place as usize]);
        let (code, found, said) = replay(&file(name));
        assert_eq!(
            (code, &found["ok"], &found["difference"]),
            (Some(0), &true.into(), &Value::Null),
            "{said}"
        );
        assert_eq!(found["end"], "is whole", "{said}");
        let heard = ["client", "server"].map(|side| summary[side]["received"].as_u64().expect("a count"));
        assert_eq!(found["arrived"], heard[0] + heard[1], "{said} {summary}");
    }
    assert!(fs::read(file("near.pcapng")).expect("a file").windows(12).any(|text| text == b"event Spoofe"));
}

#[test]
fn files_that_were_changed_cut_off_or_are_something_else_are_told_apart() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let path = room.path("forward.pcapng");
    let words = format!("{FORWARD} --record {} --record-max 100K", path.display());
    let mut programs = start(&chain, [FORWARD, FORWARD, &words, FORWARD, FORWARD]);
    let _servers = serve(&chain, &SERVER[..1], &[]);
    exchange(&chain, SERVER[0], 1 << 20);
    stopped(&mut programs[Place::Middle as usize]);
    let whole = fs::read(&path).expect("a file");
    assert!(whole.len() <= 100 << 10);
    let (code, found, said) = replay(&path);
    assert_eq!((code, &found["end"]), (Some(0), &"was full there".into()), "{said}");
    // The last byte of a frame that passed: its comment says so behind it.
    let comment = b"\x01\x00\x06\x00passed";
    let at = whole.windows(comment.len()).position(|bytes| bytes == comment).expect("a frame that passed");
    let mut changed = whole.clone();
    changed[at - 16] ^= 1;
    fs::write(&path, &changed).expect("a file");
    let (code, found, said) = replay(&path);
    assert_eq!(
        (code, &found["ok"], &found["difference"]["part"]),
        (Some(1), &false.into(), &"bytes".into()),
        "{said}"
    );
    fs::write(&path, &whole[..whole.len() / 2]).expect("a file");
    let (code, _, said) = replay(&path);
    assert!(code == Some(2) && said.contains("in the middle of the block"), "{said}");
    fs::write(&path, b"a text").expect("a file");
    let (code, _, said) = replay(&path);
    assert!(code == Some(2) && said.contains("--record"), "{said}");
    assert_eq!(replay(&room.path("nothing")).0, Some(5));
}

#[test]
fn a_box_that_goes_on_with_the_flows_of_a_killed_one_is_lived_again_from_there() {
    let Some(chain) = chain() else { return };
    let room = Room::new("");
    let _servers = serve(&chain, &SERVER[..1], &[]);
    let pair = [room.kept("near"), room.kept("far")];
    let line = "lab line --delay 2 --json";
    let mut programs = start(&chain, [&pair[0], line, FORWARD, line, &pair[1]]);
    exchange(&chain, SERVER[0], 1);
    let mut client = client(&chain, SERVER[0], &["--down", "60M", "--timeout", "20"]);
    sleep(Duration::from_millis(100));
    let path = room.path("far.pcapng");
    let words = format!("{} --record {} --record-max 1G", pair[1], path.display());
    let words: Vec<&str> = words.split_whitespace().collect();
    let far = &mut programs[Place::Far as usize];
    far.kill();
    *far = chain.start(Place::Far, GIMLET, &words).unwrap_or_else(|error| panic!("{error}"));
    let told = connection(&mut client);
    assert_eq!((&told["error"], &told["corrupt"]), (&Value::Null, &0.into()), "{told}");
    let summary = end(&mut programs[Place::Far as usize]);
    assert!(summary["counters"]["translated"].as_u64() > Some(100), "{summary}");
    let (code, found, said) = replay(&path);
    assert_eq!((code, &found["ok"]), (Some(0), &true.into()), "{said}");
    // A process that is killed leaves what it has written.
    let bytes = fs::read(&path).expect("a file");
    fs::write(&path, &bytes[..bytes.len() - 32]).expect("a file");
    assert!(matches!(replay(&path).0, Some(0 | 2)));
}
