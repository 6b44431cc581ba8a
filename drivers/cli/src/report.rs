//! Everything that the command prints, in one place.
//!
//! People get a timeline, programs get NDJSON with the same content. The last JSON line is always a
//! `done` event with `ok`. Progress bars go to standard error, and only if that is a terminal.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gimlet_machine::PeerId;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;
use crate::line::{Line, millis};
use crate::transfer::pace::Pace;

/// How often a progress bar is redrawn.
const REDRAW: Duration = Duration::from_millis(100);

/// How much to print. JSON has at least the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// What people came for.
    Results,
    /// Every step on the way.
    Steps,
    /// Every packet of a simulation.
    Packets,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// NDJSON in place of text.
    pub(crate) json: bool,
    pub(crate) detail: Detail,
}

impl Style {
    /// Whether a line of this detail is printed.
    fn shows(self, detail: Detail) -> bool {
        detail <= if self.json { self.detail.max(Detail::Steps) } else { self.detail }
    }
}

/// Prints. Clones print to the same place.
#[derive(Clone)]
pub(crate) struct Report {
    shared: Arc<Shared>,
}

struct Shared {
    style: Style,
    begun: Instant,
    out: Mutex<Box<dyn Write + Send>>,
    /// What peers are called here: their short ids are replaced in text.
    names: Mutex<Vec<(String, &'static str)>>,
    bars: MultiProgress,
    done: AtomicBool,
}

/// A JSON line with the time and the host it is about.
#[derive(Serialize)]
struct Stamped<'a> {
    #[serde(flatten)]
    line: &'a Line,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<&'a str>,
}

impl Report {
    /// Prints to standard output.
    pub(crate) fn new(style: Style) -> Self {
        Self::to(style, Box::new(io::stdout()))
    }

    /// Prints to standard error, because standard output carries data.
    pub(crate) fn beside_data(style: Style) -> Self {
        Self::to(style, Box::new(io::stderr()))
    }

    fn to(style: Style, out: Box<dyn Write + Send>) -> Self {
        let shared = Shared {
            style,
            begun: Instant::now(),
            out: Mutex::new(out),
            names: Mutex::new(Vec::new()),
            bars: MultiProgress::new(),
            done: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Calls `peer` by a name from here on.
    pub(crate) fn name(&self, peer: PeerId, name: &'static str) {
        let mut names = self.shared.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.push((peer.short(), name));
    }

    /// Tells a line.
    pub(crate) fn say(&self, line: &Line) {
        self.say_at(self.shared.begun.elapsed(), None, line);
    }

    /// Tells a line about one of several hosts.
    pub(crate) fn say_of(&self, who: Option<&str>, line: &Line) {
        self.say_at(self.shared.begun.elapsed(), who, line);
    }

    /// Tells a line with a time of its own.
    pub(crate) fn say_at(&self, at: Duration, who: Option<&str>, line: &Line) {
        let style = self.shared.style;
        if !style.shows(line.detail()) {
            return;
        }
        if style.json {
            return self.print_json(&Stamped { line, ms: millis(at), who });
        }
        let text = self.with_names(line.to_string());
        let seconds = format!("{:>5}.{:04}", at.as_secs(), at.subsec_micros() / 100);
        match who {
            Some(who) => self.print(&format!("{seconds}  {who:<7} {text}")),
            None => self.print(&format!("{seconds}  {text}")),
        }
    }

    /// Prints plain text; nothing in JSON, where `line` says the same.
    pub(crate) fn text(&self, text: &str) {
        if !self.shared.style.json {
            self.print(text);
        }
    }

    /// Prints a JSON line exactly as it is; nothing as text.
    pub(crate) fn json(&self, line: &impl Serialize) {
        if self.shared.style.json {
            self.print_json(line);
        }
    }

    /// Prints the summary: the last line, whatever else happens afterwards.
    pub(crate) fn done<T: Serialize + fmt::Display>(&self, summary: &T) {
        if self.shared.style.json {
            self.write(&to_json(summary), true);
        } else {
            self.write(&self.with_names(summary.to_string()), true);
        }
    }

    /// Prints why the command ends badly. People read it on standard error.
    pub(crate) fn fail(&self, failure: &Failure) {
        if !self.shared.style.json {
            let _ = writeln!(io::stderr(), "gimlet: {}", self.with_names(failure.to_string()));
            return;
        }
        let Failure { exit, cause, remedy } = failure;
        let error = json!({ "event": "error", "exit": *exit as u8, "cause": cause, "remedy": remedy });
        if self.shared.done.load(Ordering::Relaxed) {
            // The summary is the last line, and it says `ok: false`. Programs that want the reason
            // find it on standard error.
            let _ = writeln!(io::stderr(), "{error}");
            return;
        }
        self.print_json(&error);
        self.write(&to_json(&json!({ "event": "done", "ok": false })), true);
    }

    /// Shows how far `pace` is on the way to `total`, if somebody watches; the bar goes with the value.
    pub(crate) fn bar(&self, label: &str, total: u64, pace: &Arc<Pace>) -> Bar {
        if self.shared.style.json || !io::stderr().is_terminal() {
            return Bar { shown: None };
        }
        let bar = self.shared.bars.add(ProgressBar::new(total));
        let template = "{msg:24!} {bar:32} {bytes:>11} of {total_bytes:<11} {bytes_per_sec:>13}  {eta:>4}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(label.to_owned());
        bar.set_position(pace.bytes());
        bar.reset_eta();
        let (shown, pace) = (bar.clone(), pace.clone());
        let redraw = tokio::spawn(async move {
            loop {
                shown.set_position(pace.bytes());
                tokio::time::sleep(REDRAW).await;
            }
        });
        Bar { shown: Some((bar, redraw)) }
    }

    fn with_names(&self, mut text: String) -> String {
        for (short, name) in self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let mut from = 0;
            while let Some(at) = text[from..].find(short.as_str()).map(|at| from + at) {
                let end = at + short.len();
                // A whole id stays readable.
                let is_whole = text[end..].starts_with(|letter: char| letter.is_ascii_alphanumeric());
                if !is_whole {
                    text.replace_range(at..end, name);
                }
                from = at + if is_whole { short.len() } else { name.len() };
            }
        }
        text
    }

    fn print_json(&self, line: &impl Serialize) {
        self.print(&to_json(line));
    }

    fn print(&self, line: &str) {
        self.write(line, false);
    }

    /// Prints a line, perhaps the last one: others wait for it, and find out then. A reader that has gone away is
    /// not an error: the work goes on without it.
    fn write(&self, line: &str, last: bool) {
        let mut out = self.shared.out.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.done.load(Ordering::Relaxed) {
            return;
        }
        self.shared.bars.suspend(|| {
            let _ = writeln!(out, "{line}");
            let _ = out.flush();
        });
        self.shared.done.store(last, Ordering::Relaxed);
    }
}

/// Our own values have string keys and finite numbers: serialising them does not fail.
fn to_json(line: &impl Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// A progress bar as long as it lives.
pub(crate) struct Bar {
    shown: Option<(ProgressBar, tokio::task::JoinHandle<()>)>,
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((bar, redraw)) = &self.shown {
            redraw.abort();
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(style: Style, write: impl FnOnce(&Report)) -> String {
        let paper = Paper::default();
        write(&Report::to(style, Box::new(paper.clone())));
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    fn progress() -> Line {
        Line::Progress { peer: PeerId([1; 32]).to_string(), text: "x".into() }
    }

    #[test]
    fn people_get_details_only_when_they_ask_and_programs_always() {
        let at = Duration::from_micros(1_234_500);
        let told = |json, detail| {
            written(Style { json, detail }, |report| report.say_at(at, Some("bob"), &progress()))
        };
        assert_eq!(told(false, Detail::Results), "");
        assert_eq!(told(false, Detail::Steps), "    1.2345  bob     to aeaqcaib: x\n");
        let json: serde_json::Value = serde_json::from_str(&told(true, Detail::Results)).unwrap();
        assert_eq!(
            (&json["event"], &json["ms"], &json["who"]),
            (&json!("progress"), &json!(1234.5), &json!("bob"))
        );
    }

    #[test]
    fn a_failure_ends_with_a_done_line_that_is_not_ok() {
        let failure = Failure::new(crate::failure::Exit::Local, "full");
        let told = written(Style { json: true, detail: Detail::Results }, |report| report.fail(&failure));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(r#""exit":5"#), "{told}");
        assert_eq!(lines[1], r#"{"event":"done","ok":false}"#);
    }

    #[test]
    fn names_stand_in_for_ids() {
        let told = written(Style { json: false, detail: Detail::Packets }, |report| {
            report.name(PeerId([1; 32]), "alice");
            report.say_at(Duration::ZERO, None, &progress());
        });
        assert_eq!(told, "    0.0000  to alice: x\n");
        let whole = written(Style { json: false, detail: Detail::Packets }, |report| {
            report.name(PeerId([1; 32]), "alice");
            report.text(&report.with_names(PeerId([1; 32]).to_string()));
        });
        assert_eq!(whole.trim(), PeerId([1; 32]).to_string());
    }

    #[test]
    fn nothing_follows_the_summary() {
        let told = written(Style { json: true, detail: Detail::Steps }, |report| {
            report.done(&"summary");
            report.say(&progress());
        });
        assert_eq!(told, "\"summary\"\n");
    }
}
