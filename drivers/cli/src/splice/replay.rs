//! `gimlet splice replay`: the life in a recording, lived again.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use gimlet_machine::Rng;
use gimlet_raw::{
    Difference, End, Forwarder, Heading, Part, Reader, RecordError, Replayed, Stopped, replay,
    slots_from_bytes,
};
use gimlet_tcp::{Role, Slot, Translator, slots_for};
use serde::Serialize;

use super::config;
use crate::failure::{Exit, Failure};
use crate::report::Report;

/// The forwarder's word in a recording.
pub(crate) const FORWARD: &str = "forward";

/// A translator's word in a recording.
pub(crate) const fn word_of(role: Role) -> &'static str {
    match role {
        Role::Near => "near",
        Role::Far => "far",
        Role::Single => "single",
        Role::TfoUpgrade => "fast-open",
    }
}

/// Make the machine of a recording again, let everything happen to it that happened, and compare every byte
///
/// Ends with 0 if everything is the same, with 1 if something differs (the first difference is shown), and with 2 if the
/// file is no recording or is damaged. A recording that is full, or whose process was killed, is compared as far as it
/// goes.
#[derive(clap::Args, Debug)]
pub(crate) struct ReplayArgs {
    /// A file made by --record
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The summary.
#[derive(Serialize)]
struct Done<'a> {
    event: &'static str,
    ok: bool,
    machine: &'a str,
    /// The version of the program that recorded.
    version: &'a str,
    entries: u64,
    arrived: u64,
    left: u64,
    left_bytes: u64,
    end: &'static str,
    difference: Option<Different<'a>>,
}

#[derive(Serialize)]
struct Different<'a> {
    entry: u64,
    at_ns: u64,
    part: &'static str,
    offset: Option<usize>,
    recorded: &'a str,
    replayed: &'a str,
}

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { machine, version, entries, arrived, left, left_bytes, end, .. } = self;
        let sameness = if self.ok { "everything is the same" } else { "not everything is the same" };
        write!(
            f,
            "{sameness}: {machine}, recorded by version {version}, {entries} entries, {arrived} frames in, {left} out \
             with {left_bytes} bytes; the recording {end}"
        )
    }
}

/// Replays a file.
pub(crate) fn run(args: &ReplayArgs, report: &Report) -> Result<(), Failure> {
    let path = &args.file;
    let file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let mut reader = Reader::open(BufReader::new(file)).map_err(|error| damaged(path, &error, None))?;
    let heading = reader.heading().clone();
    let outcome = match role_of(&heading.machine) {
        Some(role) => replay_translator(path, &mut reader, &heading, role)?,
        None if heading.machine == FORWARD => replay(&mut reader, Forwarder),
        None => {
            let unknown =
                format!("{} is of a `{}`, which this version has not", path.display(), heading.machine);
            return Err(
                Failure::new(Exit::Usage, unknown).remedy("replay it with the version that recorded it")
            );
        }
    };
    let found = outcome.map_err(|Stopped { error, found }| damaged(path, &error, Some(found.entries)))?;
    tell(&heading, &found, report);
    match &found.difference {
        None => Ok(()),
        Some(difference) => Err(Failure::new(Exit::Failed, difference)),
    }
}

fn role_of(word: &str) -> Option<Role> {
    [Role::Near, Role::Far, Role::Single, Role::TfoUpgrade].into_iter().find(|role| word_of(*role) == word)
}

fn replay_translator(
    path: &Path,
    reader: &mut Reader<BufReader<File>>,
    heading: &Heading,
    role: Role,
) -> Result<Result<Replayed, Stopped>, Failure> {
    let wrong =
        |why: String| Failure::new(Exit::Usage, format!("{}: its configuration: {why}", path.display()));
    let config = config::parse(role, &heading.configuration).map_err(wrong)?.config;
    // Whoever wrote the file says how large the table is. The translator has a limit, and says so first.
    let rng = Rng::from_seed(heading.seed);
    Translator::new(heading.begun, rng.clone(), config.clone()).map_err(|error| wrong(error.to_string()))?;
    let mut table = vec![0; slots_for(config.limits.flows) * size_of::<Slot>()];
    reader.origin(&mut table).map_err(|error| damaged(path, &error, None))?;
    let slots = slots_from_bytes(&table);
    drop(table);
    let (translator, _) =
        Translator::attach(heading.begun, rng, config, slots).map_err(|error| wrong(error.to_string()))?;
    Ok(replay(reader, translator))
}

fn damaged(path: &Path, error: &RecordError, same: Option<u64>) -> Failure {
    let so_far = same.map_or(String::new(), |same| format!("; the {same} entries before are the same"));
    let text = format!("{}: {error}{so_far}", path.display());
    match error {
        RecordError::Io(_) => Failure::new(Exit::Local, text),
        RecordError::NotARecording
        | RecordError::Version(_)
        | RecordError::Cut { .. }
        | RecordError::Damaged { .. } => Failure::new(Exit::Usage, text),
    }
}

fn tell(heading: &Heading, found: &Replayed, report: &Report) {
    report.done(&Done {
        event: "done",
        ok: found.difference.is_none(),
        machine: &heading.machine,
        version: &heading.version,
        entries: found.entries,
        arrived: found.arrived,
        left: found.left,
        left_bytes: found.left_bytes,
        end: match (found.end, &found.difference) {
            (_, Some(_)) => "goes on",
            (Some(End::Finished), None) => "is whole",
            (Some(End::Full), None) => "was full there",
            (None, None) => "breaks off there",
        },
        difference: found.difference.as_ref().map(|difference| {
            let Difference { entry, at, part, recorded, replayed } = difference;
            let (part, offset) = match part {
                Part::What => ("what", None),
                Part::Bytes { offset } => ("bytes", Some(*offset)),
                Part::Note => ("effect", None),
            };
            Different { entry: *entry, at_ns: at.as_nanos(), part, offset, recorded, replayed }
        }),
    });
}
