//! The whole matrix of NATs, as a table for `conformance/README.md`.
//!
//! ```text
//! lab-matrix [--at-once N] [--only TEXT] [--lines FILE]     prints Markdown; fails unless every cell holds
//! ```
//!
//! `--only` keeps the cells whose description contains the text, such as `IPv6` or `cgn to none`.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use gimlet_conformance::lab::Lab;
use gimlet_conformance::lab_matrix::{every_cell, json_line, markdown, run};
use gimlet_conformance::program::gimlet;

/// Cells under way at once: they wait more than they work.
const AT_ONCE: usize = 6;

/// What the command line says.
struct Options {
    at_once: usize,
    only: String,
    lines: Option<File>,
}

fn main() -> ExitCode {
    let Options { at_once, only, lines } = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nusage: lab-matrix [--at-once N] [--only TEXT] [--lines FILE]");
            return ExitCode::from(2);
        }
    };
    if let Err(missing) = Lab::available() {
        eprintln!("no lab: {missing}");
        return ExitCode::from(2);
    }
    let cells: Vec<_> = every_cell().into_iter().filter(|cell| cell.to_string().contains(&only)).collect();
    let (lines, begun) = (Mutex::new(lines), Instant::now());
    let outcomes = run(&cells, at_once, &gimlet(), |outcome| {
        let verdict = outcome.complaint.as_deref().unwrap_or("as expected");
        eprintln!("{}: {} in {:?}: {verdict}", outcome.cell, outcome.way, outcome.connected_in);
        if let Some(file) = lines.lock().expect("no holder panics").as_mut() {
            writeln!(file, "{}", json_line(outcome)).expect("the file takes a line");
        }
    });
    print!("{}", markdown(&outcomes));
    let wrong = outcomes.iter().filter(|outcome| outcome.complaint.is_some()).count();
    eprintln!("{} cells in {} s, {wrong} wrong", outcomes.len(), begun.elapsed().as_secs());
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn options() -> Result<Options, String> {
    let mut options = Options { at_once: AT_ONCE, only: String::new(), lines: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} wants a value"))?;
        match name.as_str() {
            "--at-once" => options.at_once = value.parse().map_err(|_| format!("not a number: {value}"))?,
            "--only" => options.only = value,
            "--lines" => {
                options.lines = Some(File::create(&value).map_err(|error| format!("{value}: {error}"))?);
            }
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}
