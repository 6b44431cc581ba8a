//! The real command, as its users meet it.

#[path = "cli/process.rs"]
mod process;

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::Path;

use gimlet_node::{Identity, Ticket};
use process::{Place, names, send, text, wait_until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn sha256(path: &Path) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(fs::read(path).unwrap()))
}

/// Bytes that do not repeat and do not compress.
fn made_up(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    gimlet_machine::Rng::from_u64(count as u64).fill(&mut bytes);
    bytes
}

#[test]
fn every_command_explains_itself_and_a_wrong_one_is_a_usage_error() {
    let place = Place::new();
    let help = place.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("Exit codes:") && help.out.contains("Examples:"), "{}", help.out);
    for command in
        ["demo", "init", "serve", "join", "send", "pipe", "peers", "network", "sim", "ice-peer", "ice-step"]
    {
        assert!(place.run(&[command, "--help"]).out.contains("Examples:"), "{command}");
    }
    assert_eq!(place.run(&["serve", "--no-such-option"]).code, Some(2));
    assert_eq!(place.run(&["no-such-command"]).code, Some(2));
}

#[cfg(unix)]
#[test]
fn init_makes_a_private_identity_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let made = place.run(&["init", "--json"]);
    assert_eq!((made.code, &made.last()["ok"]), (Some(0), &json!(true)), "{}", made.err);
    let path = place.path("gimlet/identity");
    assert_eq!(text(&made.last(), "path"), path.display().to_string());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let before = fs::read(&path).unwrap();
    let again = place.run(&["init"]);
    assert_eq!(again.code, Some(5));
    assert!(again.err.contains("--force"), "{}", again.err);
    assert_eq!(fs::read(&path).unwrap(), before);

    let forced = place.run(&["init", "--force", "--json"]);
    assert_eq!(forced.code, Some(0));
    assert_ne!(text(&forced.last(), "peer"), text(&made.last(), "peer"));
}

#[test]
fn a_file_and_a_message_are_delivered_and_an_existing_file_is_not_replaced() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let (mut join, peer) = place.join(&ticket, &[]);
    fs::write(place.path("inbox/cargo.bin"), "mine").unwrap();
    fs::write(place.path("cargo.bin"), made_up(3_000_000)).unwrap();

    let sent = place.run(&send(&ticket, &peer, &["cargo.bin", "--message", "hello\u{1b}[31m"]));
    assert_eq!(sent.code, Some(0), "{}\n{}", sent.out, sent.err);
    let digest = sha256(&place.path("cargo.bin"));
    assert_eq!(text(&sent.event("sent"), "sha256"), digest);
    let done = sent.last();
    assert_eq!(
        (&done["event"], &done["ok"], &done["path"], &done["files"], &done["bytes"]),
        (&json!("done"), &json!(true), &json!("direct"), &json!(1), &json!(3_000_000))
    );
    assert_eq!(text(&join.event("message"), "text"), "hello\u{fffd}[31m");
    assert_eq!(text(&join.event("received"), "sha256"), digest);
    assert_eq!(names(&place.path("inbox")), ["cargo (1).bin", "cargo.bin"]);
    assert_eq!(sha256(&place.path("inbox/cargo (1).bin")), digest);
    assert_eq!(fs::read_to_string(place.path("inbox/cargo.bin")).unwrap(), "mine");

    let ended = join.terminate();
    assert_eq!((ended.code, &ended.last()["ok"]), (Some(0), &json!(true)), "{}", ended.err);
}

#[test]
fn peers_that_want_no_direct_path_are_relayed_by_the_public_node() {
    let place = Place::new();
    let mut serve = place.start(&["serve", "--json", "--listen", "127.0.0.1:0", "--identity", "serve.key"]);
    let ready = serve.event("ready");
    assert_eq!(ready["relay_max"], json!(256), "by default");
    let ticket = text(&ready, "ticket");
    let (mut join, peer) = place.join(&ticket, &["--relay-only"]);
    fs::write(place.path("cargo.bin"), made_up(3_000_000)).unwrap();

    let sent = place.run(&send(&ticket, &peer, &["cargo.bin", "--relay-only"]));
    assert_eq!(sent.code, Some(0), "{}\n{}", sent.out, sent.err);
    let done = sent.last();
    assert_eq!((&done["path"], &done["bytes"]), (&json!("relayed"), &json!(3_000_000)), "{}", sent.out);
    assert_eq!(text(&join.event("received"), "sha256"), sha256(&place.path("cargo.bin")));
    serve.event("relaying");
    let relayed = serve.event("relayed");
    assert!(
        relayed["bytes_to_peers"].as_u64().unwrap() + relayed["bytes_from_peers"].as_u64().unwrap()
            > 3_000_000
    );
    let ended = serve.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn a_public_node_that_is_told_not_to_relay_does_not() {
    let place = Place::new();
    let serve = ["serve", "--json", "--no-relay", "--listen", "127.0.0.1:0", "--identity", "serve.key"];
    let mut serve = place.start(&serve);
    let ready = serve.event("ready");
    assert_eq!(ready["relay_max"], Value::Null);
    let ticket = text(&ready, "ticket");
    let (_join, peer) = place.join(&ticket, &["--relay-only"]);
    let sent = place.run(&send(&ticket, &peer, &["--message", "x", "--relay-only", "--timeout", "2"]));
    assert_eq!(sent.code, Some(3), "{}\n{}", sent.out, sent.err);
    let sent = place.run(&send(&ticket, &peer, &["--message", "x", "--relay-only", "--direct-only"]));
    assert_eq!(sent.code, Some(2), "both cannot be had");
    let sent = place.run(&send(&ticket, &peer, &["--message", "x", "--no-punch", "--punch-both"]));
    assert_eq!(sent.code, Some(2), "both cannot be had");
}

#[test]
fn peers_says_how_a_peer_is_reached_and_why() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let (_join, peer) = place.join(&ticket, &[]);
    let looked = place.run(&["peers", "--via", &ticket, &peer, "--explain", "--json"]);
    assert_eq!(looked.code, Some(0), "{}\n{}", looked.out, looked.err);
    let seen = looked.event("peer");
    assert_eq!((text(&seen, "peer"), text(&seen, "path")), (peer.clone(), "direct".into()));
    assert!(seen["rtt_ms"].as_f64().is_some_and(|rtt| rtt < 1_000.0), "{seen}");
    let why = looked.event("explained");
    assert_eq!(text(&why, "verdict"), "the path is direct");
    let pairs = why["pairs"].as_array().expect("a list");
    assert!(pairs.iter().any(|pair| pair.as_str().is_some_and(|it| it.contains("Succeeded"))), "{why}");

    let nobody = Identity::from_secret([9; 32]).peer_id().to_string();
    let missed = place.run(&["peers", "--via", &ticket, &nobody, "--json"]);
    assert_eq!((missed.code, &missed.event("peer")["path"]), (Some(3), &json!("none")), "{}", missed.err);
}

/// Sends a large file, stops the sender in the middle, and sends it again.
fn resumes_after(stop: impl FnOnce(process::Process)) {
    const SIZE: u64 = 300 << 20;
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let (mut join, peer) = place.join(&ticket, &[]);
    // A sparse file costs no disk, and still has a hash.
    File::create(place.path("big.bin")).unwrap().set_len(SIZE).unwrap();

    let part = place.path("inbox/big.bin.gimlet-part");
    let sender = place.start(&send(&ticket, &peer, &["big.bin"]));
    wait_until("a part of the file", || fs::metadata(&part).is_ok_and(|part| part.len() > 4 << 20));
    stop(sender);
    let kept = fs::metadata(&part).expect("the part is kept").len();
    assert!(kept < SIZE, "it was faster than we");

    let sent = place.run(&send(&ticket, &peer, &["big.bin"]));
    assert_eq!(sent.code, Some(0), "{}\n{}", sent.out, sent.err);
    let resumed_at = sent.event("sent")["resumed_at"].as_u64().unwrap();
    assert!(resumed_at >= kept, "resumed at {resumed_at}, and {kept} bytes were there");
    let failed = join.event("transfer_failed");
    assert!(text(&failed, "cause").contains("sending again resumes"), "{failed}");
    let received = join.event("received");
    assert_eq!(received["resumed_at"], json!(resumed_at));
    assert_eq!(fs::metadata(place.path("inbox/big.bin")).unwrap().len(), SIZE);
    assert_eq!(sent.event("sent")["sha256"], received["sha256"]);
    assert_eq!(names(&place.path("inbox")), ["big.bin"]);
}

#[test]
fn a_transfer_whose_sender_was_killed_resumes() {
    resumes_after(process::Process::kill);
}

#[test]
fn a_transfer_whose_sender_was_interrupted_resumes() {
    resumes_after(|sender| {
        let ended = sender.terminate();
        assert_eq!((ended.code, ended.last()), (Some(1), json!({ "event": "done", "ok": false })));
        assert!(text(&ended.event("error"), "remedy").contains("resumes"), "{}", ended.out);
    });
}

#[test]
fn a_disk_that_takes_no_more_is_told_to_both_sides_and_keeps_what_arrived() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    // A limit on the size of files stands in for a full disk: 1 MiB in blocks of 512 bytes.
    let args = ["join", "--json", &ticket, "--folder", "inbox", "--listen", "127.0.0.1:0"];
    let mut join = place.start_after("trap '' XFSZ; ulimit -f 2048", &args);
    let peer = text(&join.event("ready"), "peer");
    fs::write(place.path("cargo.bin"), made_up(3_000_000)).unwrap();

    let sent = place.run(&send(&ticket, &peer, &["cargo.bin"]));
    assert_eq!(sent.code, Some(4), "{}\n{}", sent.out, sent.err);
    assert!(text(&sent.event("error"), "cause").contains("cannot store it"), "{}", sent.out);
    assert_eq!(sent.last(), json!({ "event": "done", "ok": false }));
    assert!(!text(&join.event("transfer_failed"), "cause").is_empty());
    assert_eq!(names(&place.path("inbox")), ["cargo.bin.gimlet-part", "cargo.bin.gimlet-part.json"]);
}

#[test]
fn what_is_not_wanted_is_refused_with_the_reason() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let (_join, peer) = place.join(&ticket, &["--max-size", "1K"]);
    fs::write(place.path("cargo.bin"), made_up(2_000)).unwrap();
    let sent = place.run(&send(&ticket, &peer, &["cargo.bin"]));
    assert_eq!(sent.code, Some(4), "{}\n{}", sent.out, sent.err);
    assert!(text(&sent.event("error"), "cause").contains("at most 1024 bytes"), "{}", sent.out);
    assert_eq!(names(&place.path("inbox")), Vec::<String>::new());

    let public = ticket.parse::<Ticket>().unwrap().peer().to_string();
    let sent = place.run(&send(&ticket, &public, &["--message", "x"]));
    assert_eq!(sent.code, Some(4), "{}\n{}", sent.out, sent.err);
    assert!(text(&sent.event("error"), "cause").contains("does not accept messages"), "{}", sent.out);

    let piped = place.run(&["pipe", "--json", "--listen", "127.0.0.1:0", "--via", &ticket, &peer]);
    assert_eq!(piped.code, Some(4));
    assert!(piped.err.contains("nobody waits for a pipe"), "{}", piped.err);
}

#[test]
fn only_those_who_are_allowed_are_heard() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let friend = text(&place.run(&["init", "--json", "--identity", "friend.key"]).last(), "peer");
    let (_join, peer) = place.join(&ticket, &["--allow", &friend]);
    let stranger = place.run(&send(&ticket, &peer, &["--message", "x", "--timeout", "2"]));
    assert_eq!(stranger.code, Some(3), "{}\n{}", stranger.out, stranger.err);
    let friend = place.run(&send(&ticket, &peer, &["--message", "x", "--identity", "friend.key"]));
    assert_eq!(friend.code, Some(0), "{}\n{}", friend.out, friend.err);
}

#[test]
fn a_pipe_carries_both_directions_and_ends_each_on_its_own() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let common = ["pipe", "--json", "--listen", "127.0.0.1:0", "--via", &ticket];
    let mut waiting = place.start(&common);
    let peer = text(&waiting.event("ready"), "peer");
    let mut dialing = place.start(&[&common[..], &[&peer]].concat());
    dialing.write("from the dialing side\n");
    dialing.close_input();
    // The other direction stays open after the first has ended.
    waiting.event("piped");
    let late = place.run(&[&common[..], &[&peer]].concat());
    assert!(late.code == Some(4) && late.err.contains("nobody waits for a pipe"), "{}", late.err);
    waiting.write("from the waiting side\n");
    waiting.close_input();
    let (waiting, dialing) = (waiting.end(), dialing.end());
    assert_eq!((waiting.code, waiting.out.as_str()), (Some(0), "from the dialing side"), "{}", waiting.err);
    assert_eq!((dialing.code, dialing.out.as_str()), (Some(0), "from the waiting side"), "{}", dialing.err);
}

#[test]
fn bad_tickets_say_what_is_wrong_with_them() {
    let place = Place::new();
    let owner = Identity::from_secret([7; 32]);
    let addresses = ["127.0.0.1:9".parse().unwrap()];
    let expired = Ticket::issue(&owner, &addresses, 1_000_000_000).unwrap().to_string();
    let refused = place.run(&["join", &expired]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.err.contains("expired") && refused.err.contains("gimlet serve"), "{}", refused.err);

    let mut tampered = expired.into_bytes();
    tampered[60] = if tampered[60] == b'a' { b'b' } else { b'a' };
    let tampered = place.run(&["join", std::str::from_utf8(&tampered).unwrap()]);
    assert_eq!(tampered.code, Some(2));
    assert!(tampered.err.contains("altered") || tampered.err.contains("not a ticket"), "{}", tampered.err);
}

#[test]
fn a_public_node_that_does_not_answer_is_unreachable() {
    let place = Place::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap()];
    let ticket = Ticket::issue(&Identity::from_secret([7; 32]), &addresses, u64::from(u32::MAX)).unwrap();
    let refused = place.run(&["join", "--json", "--timeout", "1", &ticket.to_string()]);
    assert_eq!(refused.code, Some(3));
    assert!(text(&refused.event("error"), "cause").contains(&addresses[0].to_string()), "{}", refused.out);
    assert_eq!(refused.last(), json!({ "event": "done", "ok": false }));
}

#[test]
fn an_unknown_peer_is_unreachable_and_says_what_to_check() {
    let place = Place::new();
    let (_serve, ticket) = place.serve();
    let nobody = Identity::from_secret([9; 32]).peer_id().to_string();
    let sent = place.run(&send(&ticket, &nobody, &["--message", "x"]));
    assert_eq!(sent.code, Some(3), "{}", sent.out);
    assert!(text(&sent.event("error"), "remedy").contains("gimlet join"), "{}", sent.out);
}

#[test]
fn a_port_in_use_is_a_local_failure_with_a_remedy() {
    let place = Place::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = place.run(&["serve", "--listen", &address]);
    assert_eq!(refused.code, Some(5), "{}", refused.err);
    assert!(refused.err.contains(&address) && refused.err.contains("--listen"), "{}", refused.err);
}

#[test]
fn a_missing_file_is_noticed_before_anybody_is_troubled() {
    let place = Place::new();
    let (serve, ticket) = place.serve();
    drop(serve);
    let nobody = Identity::from_secret([9; 32]).peer_id().to_string();
    let sent = place.run(&send(&ticket, &nobody, &["no-such-file"]));
    assert_eq!(sent.code, Some(5));
    assert!(text(&sent.event("error"), "cause").contains("no-such-file"), "{}", sent.out);
}

#[cfg(target_os = "linux")]
#[test]
fn the_mapping_is_known_from_two_addresses_and_unknown_from_one() {
    let place = Place::new();
    let (_one, first) = place.serve();
    let mut other = place.start(&["serve", "--json", "--listen", "127.0.0.2:0", "--identity", "other.key"]);
    let second = text(&other.event("ready"), "ticket");
    let address = |ticket: &str| ticket.parse::<Ticket>().unwrap().addresses()[0].to_string();
    let (first, second) = (address(&first), address(&second));

    let both = place.run(&["network", "--json", "--stun", &first, &second]);
    assert_eq!((both.code, &both.last()["endpoint_dependent"]), (Some(0), &json!(false)), "{}", both.out);
    let servers = both.out.lines().filter(|line| line.contains("\"event\":\"server\"")).count();
    assert_eq!(servers, 2, "{}", both.out);
    let one = place.run(&["network", "--json", "--stun", &first]);
    assert_eq!((one.code, &one.last()["endpoint_dependent"]), (Some(0), &Value::Null), "{}", one.out);
}

#[test]
fn the_same_seed_gives_the_same_trace_in_another_process() {
    let place = Place::new();
    let sim = |seed: &str| {
        let args =
            ["sim", "--json", "--seed", seed, "--nat-a", "port-restricted", "--nat-b", "port-restricted"];
        let ended = place.run(&[&args[..], &["--loss", "3%", "--jitter", "5"]].concat());
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
        ended.out
    };
    let (first, again, other) = (sim("7"), sim("7"), sim("8"));
    assert_eq!(first, again, "every line, not only the hash");
    let last: Value = serde_json::from_str(first.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["ok"], &last["path"]),
        (&json!("done"), &json!(true), &json!("direct"))
    );
    let keys: Vec<&String> = last.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 6, "{last}");
    assert_ne!(first.lines().last(), other.lines().last());
}

#[test]
fn a_campaign_finds_every_way_that_exists_and_says_where_none_does() {
    let place = Place::new();
    let pairs = "port-restricted:port-restricted,symmetric:full-cone,symmetric:symmetric";
    let campaign =
        place.run(&["sim", "campaign", "--json", "--seeds", "0..3", "--nat-pairs", pairs, "--repeat", "2"]);
    assert_eq!(campaign.code, Some(0), "{}\n{}", campaign.out, campaign.err);
    let rows: Vec<Value> = campaign.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = rows[..3].iter().map(|row| (&row["direct"], &row["possible"])).collect();
    assert_eq!(told, [(&json!(3), &json!(true)), (&json!(3), &json!(true)), (&json!(0), &json!(false))]);
}

/// The canary: where no direct path exists, the command says so.
#[test]
fn two_symmetric_nats_are_not_connected_and_the_exit_code_says_so() {
    let place = Place::new();
    let ended = place.run(&["sim", "--json", "--nat-a", "symmetric", "--nat-b", "symmetric"]);
    assert_eq!(ended.code, Some(3));
    assert_eq!((&ended.last()["ok"], &ended.last()["path"]), (&json!(false), &Value::Null));
}

#[test]
fn the_demo_ends_with_the_line_that_programs_read() {
    let place = Place::new();
    let demo = place.run(&["demo", "--json", "--size", "2M"]);
    assert_eq!(demo.code, Some(0), "{}\n{}", demo.out, demo.err);
    let last = demo.out.lines().last().unwrap();
    assert!(last.starts_with(r#"{"event":"done","ok":true,"connect_ms":"#), "{last}");
    let keys =
        ["connect_ms", "path", "bytes", "mbit_per_s", "sha256"].map(|key| last.find(&format!("\"{key}\":")));
    assert!(keys.is_sorted() && keys.iter().all(Option::is_some), "{last}");
    assert_eq!((&demo.last()["path"], &demo.last()["bytes"]), (&json!("direct"), &json!(2 << 20)));
}
