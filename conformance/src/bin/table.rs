//! The case table: 68 requirements, judged for Gimlet and for the peers with the same input.
//!
//! ```text
//! table [--quick | --results FILE] [--case N]... [--json | --markdown]
//! ```
//!
//! Most cases are judged in this process, in seconds. The others have tests of their own, which are run through
//! cargo, unless `--results` names what `cargo test --workspace` printed earlier. `--quick` leaves them out and says so.
//! With `--case` the exact input and output is printed. The exit code is 0 if every case of ours that was asked for
//! passes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use gimlet_conformance::table::{
    self, Case, Implementation, Row, Verdict, named_tests, read_named, run_named,
};
use gimlet_conformance::tidy::{root, sources};

const USAGE: &str = "usage: table [--quick | --results FILE] [--case N]... [--json | --markdown]";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Markdown,
}

struct Options {
    quick: bool,
    results: Option<String>,
    cases: Vec<u8>,
    format: Format,
}

fn options() -> Result<Options, String> {
    let mut options = Options { quick: false, results: None, cases: Vec::new(), format: Format::Text };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--results" => {
                let file = arguments.next().ok_or("--results takes a file")?;
                let printed = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
                options.results = Some(printed);
            }
            "--json" => options.format = Format::Json,
            "--markdown" => options.format = Format::Markdown,
            "--case" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                let known = number.filter(|number| (1..=68).contains(number));
                options.cases.push(known.ok_or("--case takes a number from 1 to 68")?);
            }
            unknown => return Err(format!("unknown argument {unknown}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A panic of an implementation is its verdict, and is printed there.
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = |case: &&Case| options.cases.is_empty() || options.cases.contains(&case.number);
    let cases: Vec<_> = table::cases().into_iter().filter(wanted).collect();
    let mut rows: Vec<Row> = cases.iter().map(|case| row(case)).collect();
    let tests = named_tests(&sources());
    let named: Vec<u8> = cases.iter().filter(|case| case.is_named()).map(|case| case.number).collect();
    let verdicts = match &options.results {
        Some(printed) => read_named(printed, &tests, &named),
        None if options.quick => BTreeMap::new(),
        None => run_named(&root(), &tests, &named),
    };
    for row in &mut rows {
        if let Some(verdict) = verdicts.get(&row.case.number) {
            row.cells[0].verdict = verdict.clone();
        }
    }
    match options.format {
        Format::Json => print!("{}", table::json(&rows)),
        Format::Markdown => print!("{}", table::markdown(&rows)),
        Format::Text if options.cases.is_empty() => print!("{}", table::text(&rows)),
        Format::Text => rows.iter().for_each(|row| println!("{}", table::details(row, &tests))),
    }
    let fulfilled = |row: &Row| match row.cells[0].verdict {
        Verdict::Pass => true,
        Verdict::NotRun(_) => options.quick,
        Verdict::Fail(_) | Verdict::NotApplicable(_) => false,
    };
    if rows.iter().all(fulfilled) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(case: &'static Case) -> Row {
    Row { case, cells: Implementation::ALL.iter().map(|who| case.judge(*who)).collect() }
}
