//! Two `gimlet ice-peer` processes, introduced to each other by the test. What other implementations
//! make of it is asked in `conformance/tests/aioice`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes, on a busy machine, too.
const SOON: Duration = Duration::from_secs(20);

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(10);

/// A running `ice-peer` on loopback. Dropping it ends it.
struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Agent {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gimlet"));
        command.args(["ice-peer", "--bind", "127.0.0.1"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Ends with the process, or with whoever listens.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    fn next(&mut self) -> String {
        self.lines.recv_timeout(SOON).expect("another line")
    }

    fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Everything up to `end`, line by line.
    fn introduction(&mut self) -> String {
        let mut told = String::new();
        while !told.ends_with("end\n") {
            told.extend([&self.next(), "\n"]);
        }
        told
    }

    fn close_input(&mut self) {
        drop(self.stdin.take());
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still runs after {SOON:?}");
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_processes_meet_in_any_roles_and_what_was_sent_last_still_leaves() {
    let (controlling, controlled): (&[&str], &[&str]) = (&["--controlling"], &[]);
    let roles = [(controlling, controlled), (controlling, controlling), (controlled, controlled)];
    for (role_a, role_b) in roles {
        let (mut a, mut b) = (Agent::start(role_a), Agent::start(role_b));
        let (of_a, of_b) = (a.introduction(), b.introduction());
        a.write(&format!("{of_b}start\n"));
        b.write(&format!("{of_a}start\n"));
        assert_eq!((a.next(), b.next()), ("state connected".to_owned(), "state connected".to_owned()));
        b.write("send 80\n");
        assert_eq!(a.next(), "recv 80");
        let sent: String = (0..20).map(|at| format!("send c0{at:02x}\n")).collect::<Vec<_>>().concat();
        a.write(&sent);
        a.close_input();
        assert!(a.ended().success());
        for at in 0..20 {
            assert_eq!(b.next(), format!("recv c0{at:02x}"));
        }
        b.write("quit\n");
        assert!(b.ended().success());
    }
}

#[test]
fn programs_that_punch_meet_others_and_each_other_with_the_same_lines() {
    for (args_a, args_b) in [(["--punch"].as_slice(), [].as_slice()), (&["--punch"], &["--punch"])] {
        let (mut a, mut b) = (Agent::start(args_a), Agent::start(args_b));
        let (of_a, of_b) = (a.introduction(), b.introduction());
        let verbs = |told: &str| {
            let mut verbs: Vec<_> =
                told.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
            verbs.dedup();
            verbs
        };
        assert_eq!(verbs(&of_a), ["ufrag", "pwd", "cand", "end"]);
        assert_eq!(verbs(&of_a), verbs(&of_b));
        a.write(&format!("{of_b}start\n"));
        b.write(&format!("{of_a}start\n"));
        assert_eq!((a.next(), b.next()), ("state connected".to_owned(), "state connected".to_owned()));
        for mut agent in [a, b] {
            agent.write("quit\n");
            assert!(agent.ended().success());
        }
    }
}

#[test]
fn a_peer_that_nobody_introduces_ends_when_its_time_is_over() {
    let mut agent = Agent::start(&["--timeout", "1"]);
    agent.introduction();
    assert_eq!(agent.ended().code(), Some(1));
}

#[test]
fn what_is_no_line_is_answered_and_the_next_is_heard() {
    let mut agent = Agent::start(&[]);
    agent.introduction();
    agent.stdin.as_mut().unwrap().write_all(b"\xff\n").unwrap();
    agent.write(&"x".repeat(300_000));
    agent.write("\nsend 00\nquit\n");
    for expected in ["error the line is not UTF-8", "error the line is too long", "error no path is selected"]
    {
        assert!(agent.next().starts_with(expected), "{expected}");
    }
    assert!(agent.ended().success());
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let nameless = ["--turn", "192.0.2.1:3478", "--turn-pass", "p"];
    let lite = ["--lite", "--turn", "192.0.2.1:3478", "--turn-user", "u", "--turn-pass", "p", "--relay-only"];
    let punch = ["--lite", "--punch"];
    for args in [&nameless[..], &["--relay-only"], &["--lite", "--controlling"], &lite, &punch] {
        assert_eq!(Agent::start(args).ended().code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_relay_that_does_not_answer_holds_up_the_end_for_some_seconds_only() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let mut agent = Agent::start(&["--turn", &server, "--turn-user", "u", "--turn-pass", "p"]);
    let told = agent.introduction();
    assert!(told.contains(&format!("error {server}: no answer")), "{told}");
    agent.write("quit\n");
    assert!(agent.ended().success());
}
