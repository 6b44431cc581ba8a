//! Results, for people and for programs.

use std::fmt;

use serde::Serialize;

/// One experiment's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What was measured.
    pub title: String,
    /// What the columns behind the first are.
    pub columns: Vec<&'static str>,
    /// One for each that stood in the middle.
    pub rows: Vec<Row>,
    /// What has to be said about it.
    pub notes: Vec<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What stood in the middle.
    pub name: String,
    /// As many as there are columns.
    pub cells: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        writeln!(f, "| | {} |", self.columns.join(" | "))?;
        writeln!(f, "|---|{}", "--:|".repeat(self.columns.len()))?;
        for Row { name, cells } in &self.rows {
            writeln!(f, "| {name} | {} |", cells.join(" | "))?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}
