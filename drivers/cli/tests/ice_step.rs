//! `gimlet ice-step` as a process: sessions whose answers are known, in `sessions/`.
//!
//! A session is a text file. Lines at the margin are what the command reads, indented ones are its answer.
//! `UPDATE=1` rewrites the answers.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

const MARGIN: &str = "    ";

/// Runs the command on `input` to its end; returns what it printed.
fn answered(input: &[u8]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gimlet"))
        .arg("ice-step")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The session that its margin makes.
fn played(session: &str) -> String {
    let asked: Vec<&str> = session.lines().filter(|line| !line.starts_with(MARGIN)).collect();
    let output = answered(asked.join("\n").as_bytes());
    let mut answers = output.lines();
    let mut played = String::new();
    for line in asked {
        played.extend([line, "\n"]);
        loop {
            let answer = answers.next().expect("every line is answered");
            played.extend([MARGIN, answer, "\n"]);
            if answer == "." {
                break;
            }
        }
    }
    assert_eq!(answers.next(), None, "nothing is said unasked");
    played
}

fn sessions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_session_is_answered_as_it_is_written() {
    let files = sessions();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let session = fs::read_to_string(&file).unwrap();
        let played = played(&session);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, played).unwrap();
            continue;
        }
        let first = session.lines().zip(played.lines()).position(|(written, said)| written != said);
        let at = first.map_or(0, |at| at + 1);
        assert!(
            played == session,
            "{}:{at}; UPDATE=1 rewrites it; the command says\n{played}",
            file.display()
        );
    }
}

#[test]
fn the_same_input_gives_the_same_output_in_another_process() {
    for file in sessions() {
        let session = fs::read_to_string(&file).unwrap();
        assert_eq!(played(&session), played(&session), "{}", file.display());
    }
}

#[test]
fn bytes_that_are_no_lines_are_answered_with_errors() {
    let long = "x".repeat(300_000);
    let output = answered(&[&b"\xff\n"[..], long.as_bytes(), b"\nt=0 tick"].concat());
    let answers: Vec<&str> = output.lines().collect();
    assert_eq!(answers.len(), 6, "{output}");
    let errors = ["error the line is not UTF-8", "error the line is too long", "error the first line is"];
    for (answer, error) in answers.chunks(2).zip(errors) {
        assert!(answer[0].starts_with(error) && answer[1] == ".", "{output}");
    }
}
