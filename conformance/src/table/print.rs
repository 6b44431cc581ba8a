//! The table for people, for programs and for the README.

use std::fmt::Write as _;

use serde_json::json;

use super::{Case, Cell, Implementation, NamedTest, Row, Verdict};

impl Verdict {
    /// In a cell.
    pub const fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "FAIL",
            Verdict::NotApplicable(_) => "n/a",
            Verdict::NotRun(_) => "not run",
        }
    }

    /// Why it is no pass.
    pub fn why(&self) -> &str {
        match self {
            Verdict::Pass => "",
            Verdict::Fail(why) | Verdict::NotApplicable(why) | Verdict::NotRun(why) => why,
        }
    }
}

/// Fixed columns, with the input of each case and what the others did instead.
pub fn text(rows: &[Row]) -> String {
    let mut out = format!("{:>2}  {:<48}", "", "case");
    for who in Implementation::ALL {
        let _ = write!(out, "  {:<14}", who.name());
    }
    out += "\n";
    for row in rows {
        let _ = write!(out, "{:>2}  {:<48}", row.case.number, row.case.title);
        for cell in &row.cells {
            let _ = write!(out, "  {:<14}", cell.verdict.word());
        }
        let _ = writeln!(out, "\n      {}; in: {}", row.case.section, row.case.input);
        for (who, cell) in Implementation::ALL.iter().zip(&row.cells) {
            if cell.verdict != Verdict::Pass {
                let _ = writeln!(out, "      {} {}: {}", who.name(), cell.verdict.word(), cell.verdict.why());
            }
        }
    }
    out += "\n";
    for (who, index) in Implementation::ALL.iter().zip(0..) {
        let count = |word| rows.iter().filter(|row| row.cells[index].verdict.word() == word).count();
        let _ = writeln!(
            out,
            "{:<14} {} pass, {} fail, {} not applicable, {} not run",
            who.name(),
            count("pass"),
            count("FAIL"),
            count("n/a"),
            count("not run"),
        );
    }
    out
}

/// One line of JSON for each case.
pub fn json(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let cell =
            |cell: &Cell| json!({ "verdict": cell.verdict.word().to_lowercase(), "why": cell.verdict.why() });
        let line = json!({
            "case": row.case.number,
            "title": row.case.title,
            "section": row.case.section,
            "input": row.case.input,
            "required": row.case.required,
            "gimlet": cell(&row.cells[0]),
            "is": cell(&row.cells[1]),
            "rice-proto": cell(&row.cells[2]),
        });
        let _ = writeln!(out, "{line}");
    }
    out
}

/// A table for the README, with what the peers did instead.
pub fn markdown(rows: &[Row]) -> String {
    let mut out =
        "| # | case | requirement | gimlet | is 0.12 | rice-proto 0.4 |\n|--:|---|---|---|---|---|\n"
            .to_owned();
    let escaped = |text: &str| text.replace('|', "\\|").replace(['\r', '\n'], " ");
    for row in rows {
        let _ = write!(out, "| {} | {} | {} |", row.case.number, row.case.title, row.case.section);
        for cell in &row.cells {
            let _ = match &cell.verdict {
                Verdict::Pass => write!(out, " pass |"),
                verdict => {
                    write!(out, " **{}**: {} |", verdict.word().to_lowercase(), escaped(verdict.why()))
                }
            };
        }
        out += "\n";
    }
    out
}

/// Everything about one case: the requirement, the exact input, and what each implementation did.
pub fn details(row: &Row, tests: &[NamedTest]) -> String {
    let Case { number, title, section, input, required, .. } = row.case;
    let mut out = format!("case {number}: {title}\n{section}\n\ninput:    {input}\nrequired: {required}\n");
    for (who, cell) in Implementation::ALL.iter().zip(&row.cells) {
        let _ = writeln!(out, "\n--- {}: {} {}", who.name(), cell.verdict.word(), cell.verdict.why());
        for line in &cell.transcript {
            let _ = writeln!(out, "{line}");
        }
    }
    out += "\nnamed tests:\n";
    for test in tests.iter().filter(|test| test.case == *number) {
        let _ = writeln!(out, "  cargo test -p {} {}  ({})", test.package, test.name, test.path);
    }
    out
}
