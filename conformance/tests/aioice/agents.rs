//! Two programs that speak the lines of `gimlet ice-peer`, and the signalling between them.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use gimlet_conformance::tidy::root;

use crate::SOON;

/// What is installed.
const AIOICE: &str = "aioice==0.13.0";

/// How long one step of the installation may take.
const INSTALL: Duration = Duration::from_secs(180);

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(10);

/// The command: `GIMLET_BIN`, or built here.
pub(crate) fn gimlet() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("GIMLET_BIN") {
            let path = root().join(path);
            assert!(path.is_file(), "GIMLET_BIN: there is no {}", path.display());
            return path;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["build", "--package", "gimlet-cli", "--bin", "gimlet"]);
        let output = cargo.arg("--target-dir").arg(target()).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target().join("debug").join("gimlet")
    })
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder")
}

/// A Python that has aioice.
#[derive(Clone, Debug)]
pub(crate) struct Python(PathBuf);

impl Python {
    /// Makes it, once for each target folder; or says what is missing.
    pub(crate) fn available() -> Result<Python, String> {
        static ANSWER: OnceLock<Result<Python, String>> = OnceLock::new();
        ANSWER.get_or_init(Python::install).clone()
    }

    fn install() -> Result<Python, String> {
        let folder = target().join("aioice-0.13.0");
        let program = folder.join("bin").join("python");
        let check = ["-c", "import aioice"];
        if run(&program, &check).is_ok() {
            return Ok(Python(program));
        }
        let place = folder.to_str().ok_or("the target folder's name is not UTF-8")?;
        run(Path::new("python3"), &["-m", "venv", "--clear", place])
            .map_err(|error| format!("no virtual environment (apt-get install python3-venv): {error}"))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", AIOICE];
        run(&program, &pip).map_err(|error| format!("{AIOICE} cannot be installed: {error}"))?;
        run(&program, &check)?;
        Ok(Python(program))
    }

    pub(crate) fn program(&self) -> &Path {
        &self.0
    }

    pub(crate) fn script() -> PathBuf {
        root().join("conformance/live/aioice_peer.py")
    }
}

/// Runs a program to its end, which comes within [`INSTALL`].
fn run(program: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let mut errors = child.stderr.take().expect("a pipe");
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let deadline = Instant::now() + INSTALL;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(errors.join().unwrap_or_default().trim().to_owned()),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{} still runs after {INSTALL:?}", program.display()));
            }
            None => thread::sleep(LOOK),
        }
    }
}

/// A running agent. Dropping it ends it.
pub(crate) struct Agent {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    heard: Receiver<String>,
    said: Vec<String>,
    /// What [`introduce`] passes on in the place of lines that begin so.
    altered: Option<(&'static str, &'static str)>,
}

impl Agent {
    pub(crate) fn start(name: &'static str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let (sender, heard) = channel();
        read_lines(child.stdout.take().expect("a pipe"), sender.clone(), "");
        read_lines(child.stderr.take().expect("a pipe"), sender, "! ");
        let stdin = child.stdin.take().expect("a pipe");
        Self { name, child, stdin, heard, said: Vec::new(), altered: None }
    }

    /// Has [`introduce`] pass on `with` in the place of the beginning `what`.
    pub(crate) fn alter(&mut self, what: &'static str, with: &'static str) {
        self.altered = Some((what, with));
    }

    pub(crate) fn say(&mut self, line: &str) {
        if let Err(error) = writeln!(self.stdin, "{line}") {
            let name = self.name;
            panic!("{name} hears nothing: {error}; it said:\n{}", self.said());
        }
    }

    /// Waits for a line that begins with `what`; returns every line from the last one found to this.
    pub(crate) fn find(&mut self, limit: Duration, what: &str) -> Vec<String> {
        let deadline = Instant::now() + limit;
        let from = self.said.len();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.heard.recv_timeout(left) else {
                let name = self.name;
                panic!("{name} did not say `{what}` within {limit:?}; it said:\n{}", self.said());
            };
            let found = line.starts_with(what);
            self.said.push(line);
            if found {
                return self.said[from..].to_vec();
            }
        }
    }

    pub(crate) fn has_said(&mut self, line: &str) -> bool {
        self.said.extend(self.heard.try_iter());
        self.said.iter().any(|said| said == line)
    }

    /// Everything it has said, for people; standard error is marked with `!`.
    pub(crate) fn said(&mut self) -> String {
        self.said.extend(self.heard.try_iter());
        self.said.join("\n")
    }

    /// Waits for the end, and says whether it was good.
    pub(crate) fn ends_well(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.success();
            }
            thread::sleep(LOOK);
        }
        false
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carries what each says of itself to the other, and starts both.
pub(crate) fn introduce(a: &mut Agent, b: &mut Agent) {
    let (of_a, of_b) = (a.find(SOON, "end"), b.find(SOON, "end"));
    let altered = (a.altered, b.altered);
    for (lines, altered, to) in [(of_a, altered.0, &mut *b), (of_b, altered.1, &mut *a)] {
        for line in lines.iter().filter(|line| !line.starts_with('!')) {
            match altered.and_then(|(what, with)| Some(format!("{with}{}", line.strip_prefix(what)?))) {
                Some(other) => to.say(&other),
                None => to.say(line),
            }
        }
    }
    a.say("start");
    b.say("start");
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<String>, mark: &'static str) {
    thread::spawn(move || {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        for line in lines {
            if to.send(format!("{mark}{line}")).is_err() {
                return;
            }
        }
    });
}
