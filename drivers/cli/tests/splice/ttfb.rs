//! The table of `gimlet lab ttfb`, small.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gimlet_lab::Process;
use serde_json::Value;

use crate::{GIMLET, available, turn};

const LONG: Duration = Duration::from_secs(60);

/// Starts the measurement as a user would.
fn measure(more: &[&str]) -> Process {
    let mut command = Command::new(GIMLET);
    command.args(["lab", "ttfb", "--json", "--rtt", "40", "--connections", "8"]).args(more);
    Process::start("ttfb", command).unwrap_or_else(|error| panic!("{error}"))
}

fn event(process: &mut Process, name: &[&str]) -> Value {
    let wanted = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        name.iter().any(|name| value["event"] == **name).then_some(value)
    };
    process.find(LONG, name[0], wanted).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether namespaces of that process are left.
fn is_clean(id: u32) -> bool {
    let beginning = format!("gimlet-lab-{id}-");
    let names = std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let temporary = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let mut temporary = temporary.map(|entry| entry.file_name().to_string_lossy().into_owned());
    !names.any(|name| name.starts_with(&beginning)) && !temporary.any(|name| name.starts_with(&beginning))
}

#[test]
fn the_table_has_seven_rows_a_picture_and_leaves_nothing_behind() {
    if !available() {
        return;
    }
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("ttfb.svg");
    let mut process = measure(&["--svg", &picture.to_string_lossy()]);
    for nth in 0..7 {
        let cell = event(&mut process, &["cell", "skipped"]);
        // A kernel may lack SYNPROXY, and says so; it lacks nothing else.
        if cell["event"] == "skipped" {
            assert!(nth == 6 && cell["why"].as_str().is_some_and(|why| !why.is_empty()), "{cell}");
            continue;
        }
        assert_eq!((&cell["failed"], &cell["corrupt"]), (&0.into(), &0.into()), "{cell}");
        let (first, predicted) = (cell["first_ms"]["p50"].as_f64(), cell["predicted_ms"].as_f64());
        let late = first.zip(predicted).map(|(first, predicted)| first - predicted);
        assert!(late.is_some_and(|late| (-1.0..36.0).contains(&late)), "{cell}");
    }
    assert_eq!(event(&mut process, &["done"])["ok"], true);
    assert!(process.wait(LONG).is_ok_and(|status| status.success()));
    assert!(is_clean(process.id()));
    assert_picture(&picture);
}

/// A picture with a curve for every row.
fn assert_picture(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text:.200}");
    assert!(text.matches("stroke-width=\"1.5\"").count() >= 6);
}

#[test]
fn a_measurement_that_is_interrupted_leaves_nothing_behind() {
    if !available() {
        return;
    }
    let _turn = turn();
    let mut process = measure(&[]);
    event(&mut process, &["cell"]);
    assert!(!is_clean(process.id()));
    process.terminate();
    let status = process.wait(LONG).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(1), "{}", process.said());
    assert!(process.said().contains("interrupted") && is_clean(process.id()), "{}", process.said());
}

#[test]
fn without_root_it_says_what_is_missing() {
    if !available() {
        return;
    }
    // Somebody else than root: the same binary, without the right to make namespaces.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", GIMLET, "lab", "ttfb"]);
    let Ok(output) = command.output() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && said.contains("root") && said.contains("sudo"), "{said}");
}
