use proptest::prelude::*;

use super::*;

/// How long a datagram travels, in microseconds.
const TRAVELS: u64 = 10_000;

/// One `ice-step`, what it was told and what it answered.
#[derive(Default)]
struct Instance {
    stepper: Stepper,
    transcript: String,
    deadline: Option<u64>,
}

impl Instance {
    /// Says `line`, and returns what was answered without its end.
    fn says(&mut self, line: &str) -> Vec<String> {
        let mut answer = String::new();
        self.stepper.answer(&Line::Text(line.to_owned()), &mut answer);
        let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
        assert_eq!(lines.pop().as_deref(), Some("."), "{answer}");
        let deadline = lines.last().expect("an answer").strip_prefix("deadline ");
        if let Some(deadline) = deadline {
            self.deadline = deadline.split(' ').next().unwrap().parse().ok();
        }
        self.transcript.extend([line, "\n", &answer]);
        lines
    }

    fn well(&mut self, line: &str) -> Vec<String> {
        let lines = self.says(line);
        assert!(!lines.iter().any(|line| line.starts_with("error")), "{line}: {lines:?}");
        lines
    }
}

/// Carries what one instance sends to the other, in order of arrival.
#[derive(Default)]
struct Network {
    /// When, to which instance, and the line without its time.
    under_way: Vec<(u64, usize, String)>,
}

impl Network {
    fn carry(&mut self, now: u64, from: usize, lines: &[String]) {
        for line in lines {
            if let Some(("out", rest)) = line.split_once(' ') {
                let [local, remote, hex] = rest.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
                self.under_way.push((now + TRAVELS, 1 - from, format!("in {remote} {local} {hex}")));
            }
        }
    }
}

/// Two instances, introduced to each other, in the roles and with the seeds given, run until both have
/// selected a path. Returns their transcripts.
fn meet(seeds: [&str; 2], roles: [&str; 2]) -> [String; 2] {
    let mut both = [Instance::default(), Instance::default()];
    let addresses = ["192.0.2.1:1000", "192.0.2.2:2000"];
    let mut introductions = Vec::new();
    for ((instance, seed), (role, address)) in
        both.iter_mut().zip(seeds).zip(roles.into_iter().zip(addresses))
    {
        let credentials = instance.well(&format!("t=0 seed {seed}")).remove(0);
        instance.well(&format!("t=0 role {role}"));
        let candidate = instance.well(&format!("t=0 local {address}")).remove(0);
        introductions.push([credentials, candidate]);
    }
    let mut network = Network::default();
    for (at, instance) in both.iter_mut().enumerate() {
        let [credentials, candidate] = &introductions[1 - at];
        let credentials = credentials.strip_prefix("event credentials").unwrap();
        let candidate = candidate.strip_prefix("event candidate").unwrap();
        for line in [format!("remote{credentials}"), format!("cand{candidate}"), "end".to_owned()] {
            let lines = instance.well(&format!("t=0 {line}"));
            network.carry(0, at, &lines);
        }
    }
    let is_met =
        |both: &[Instance; 2]| both.iter().all(|instance| instance.transcript.contains("event selected"));
    while !is_met(&both) {
        network.under_way.sort_by_key(|(when, to, _)| (*when, *to));
        let arrival = network.under_way.first().map(|(when, to, _)| (*when, *to));
        let wakes = both.iter().enumerate().filter_map(|(at, instance)| Some((instance.deadline?, at)));
        let wake = wakes.min();
        let (now, at, line) = match (arrival, wake) {
            (Some((when, to)), wake) if wake.is_none_or(|(wake, _)| when <= wake) => {
                (when, to, network.under_way.remove(0).2)
            }
            (_, Some((wake, at))) => (wake, at, "tick".to_owned()),
            (_, None) => panic!("nothing is left to wait for"),
        };
        assert!(
            now < 2_000_000,
            "two seconds and no path:\n{}\n--\n{}",
            both[0].transcript,
            both[1].transcript
        );
        let lines = both[at].well(&format!("t={now} {line}"));
        network.carry(now, at, &lines);
    }
    both.map(|instance| instance.transcript)
}

const SEEDS: [&str; 2] = ["00000000000000000000000000000001", "00000000000000000000000000000002"];

#[test]
fn two_instances_meet_over_their_lines() {
    let [a, b] = meet(SEEDS, ["controlling", "controlled"]);
    assert!(a.contains("\nevent selected 192.0.2.1:1000 192.0.2.2:2000\n"), "{a}");
    assert!(b.contains("\nevent selected 192.0.2.2:2000 192.0.2.1:1000\n"), "{b}");
}

#[test]
fn two_instances_settle_who_controls() {
    for roles in [["controlling"; 2], ["controlled"; 2]] {
        let both = meet(SEEDS, roles);
        let changed = both.iter().filter(|transcript| transcript.contains("\nevent role ")).count();
        assert_eq!(changed, 1, "{}\n--\n{}", both[0], both[1]);
    }
}

#[test]
fn the_same_lines_give_the_same_answers_and_another_seed_gives_others() {
    let roles = ["controlling", "controlled"];
    assert_eq!(meet(SEEDS, roles), meet(SEEDS, roles));
    assert_ne!(meet(SEEDS, roles), meet([SEEDS[0], "ff000000000000000000000000000000"], roles));
}

#[test]
fn settings_may_come_after_local_and_change_nothing_else() {
    let settings = ["role controlled", "tiebreaker 7", "creds ours ourpasswordourpassword"];
    let asks = ["cand 1 1 UDP 2130706431 192.0.2.2 2000 typ host", "remote they theirpasswordtheirpassword"];
    let answer_in_order = |order: [usize; 4]| {
        let mut instance = Instance::default();
        instance.well(&format!("t=0 seed {}", SEEDS[0]));
        for at in order {
            let lines = [&settings[..], &["local 192.0.2.1:1000"]].concat();
            instance.well(&format!("t=0 {}", lines[at]));
        }
        asks.map(|ask| instance.well(&format!("t=9 {ask}")))
    };
    let answers = answer_in_order([3, 0, 1, 2]);
    assert!(answers[1].iter().any(|line| line.starts_with("out ")), "{answers:?}");
    assert_eq!(answers, answer_in_order([0, 1, 2, 3]));
    assert_eq!(answers, answer_in_order([2, 3, 1, 0]));
}

#[test]
fn what_is_refused_is_answered_with_one_error_and_changes_nothing() {
    let mut instance = Instance::default();
    for line in ["t=0 tick", "t=0 local 192.0.2.1:1", "", "t=0", "t=0 seed 00", "t=-1 tick", "seed"] {
        assert!(matches!(&instance.says(line)[..], [error] if error.starts_with("error ")), "{line}");
    }
    instance.well(&format!("t=5 seed {}", SEEDS[0]));
    let before = instance.well("t=5 tick");
    let refused = [
        "t=4 tick",
        "t=6 seed 00000000000000000000000000000003",
        "t=6 role leader",
        "t=6 role",
        "t=6 tiebreaker 18446744073709551616",
        "t=6 tiebreaker +1",
        "t=6 creds abc ourpasswordourpassword",
        "t=6 creds ours short",
        "t=6 creds ours ourpasswordourpassword more",
        "t=6 local 192.0.2.1",
        "t=6 local 0.0.0.0:7",
        "t=6 remote they short",
        "t=6 cand",
        "t=6 cand candidate:1 1 UDP 1 224.0.0.1 1 typ host",
        "t=6 cand candidate:1 1 UDP 1 somebody.local 1 typ host",
        "t=6 end everything",
        "t=6 in 192.0.2.1:1 192.0.2.2:2 0",
        "t=6 in 192.0.2.1:1 192.0.2.2 00",
        "t=6 tick tock",
        "t=6 dance",
        "t=99999999999999999999 tick",
    ];
    for line in refused {
        assert!(matches!(&instance.says(line)[..], [error] if error.starts_with("error ")), "{line}");
    }
    assert_eq!(instance.well("t=5 tick"), before);
    instance.well("t=5 role controlled");
}

#[test]
fn a_datagram_for_somebody_else_is_said_to_be() {
    let mut instance = Instance::default();
    instance.well(&format!("t=0 seed {}", SEEDS[0]));
    let lines = instance.well("t=0 in 192.0.2.1:1 192.0.2.2:2 00");
    assert_eq!(lines[0], "event not-mine 192.0.2.1:1 192.0.2.2:2");
    assert_eq!(instance.well("t=0 in 192.0.2.1:1 192.0.2.2:2")[0], lines[0]);
}

proptest! {
    #[test]
    fn any_lines_are_answered(lines in prop::collection::vec(any_line(), 1..40)) {
        let mut stepper = Stepper::default();
        for line in [format!("t=0 seed {}", SEEDS[0])].iter().chain(&lines) {
            let mut answer = String::new();
            stepper.answer(&Line::Text(line.clone()), &mut answer);
            prop_assert!(answer == ".\n" || answer.ends_with("\n.\n"), "{line}: {answer}");
            let ends: Vec<&str> = answer.lines().filter(|line| line.starts_with("deadline ") || line.starts_with("error ")).collect();
            prop_assert!(ends.len() == 1, "{line}: {answer}");
        }
    }
}

/// Lines that mean something, nearly mean something, or do not.
fn any_line() -> impl Strategy<Value = String> {
    let address =
        prop_oneof![Just("192.0.2.1:1000"), Just("192.0.2.2:2000"), Just("[2001:db8::1]:1"), Just("x")];
    let verb = prop_oneof![
        Just("role controlled".to_owned()),
        Just("tiebreaker 5".to_owned()),
        Just("creds ours ourpasswordourpassword".to_owned()),
        Just("remote they theirpasswordtheirpassword".to_owned()),
        Just("cand 1 1 UDP 2130706431 192.0.2.2 2000 typ host".to_owned()),
        Just("end".to_owned()),
        Just("tick".to_owned()),
        address.clone().prop_map(|address| format!("local {address}")),
        (address.clone(), address, prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(local, remote, bytes)| format!("in {local} {remote} {}", hex(&bytes))),
        "\\PC{0,40}",
    ];
    prop_oneof![
        9 => (0u64..100_000_000, verb).prop_map(|(at, verb)| format!("t={at} {verb}")),
        1 => "\\PC{0,40}",
    ]
}
