//! Outcomes for people and for programs.

use std::fmt::Write as _;

use serde_json::json;

use super::cell::{Cell, Outcome};
use super::expect::{Expected, Way};
use crate::lab::{Family, Nat};

/// One line of JSON.
pub fn json_line(outcome: &Outcome) -> String {
    let Cell { family, a, b, relay } = outcome.cell;
    json!({
        "family": family.to_string(),
        "a": a.name(),
        "b": b.name(),
        "relay": relay,
        "expected": outcome.cell.expected().to_string(),
        "found": outcome.way.to_string(),
        "connect_ms": outcome.connected_in.map(|time| time.as_millis()),
        "holds": outcome.complaint.is_none(),
    })
    .to_string()
}

/// A table for each protocol: a row for each kind of NAT before the sender, a column for each before the
/// receiver, and in each cell the ways without and with a relay.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for family in [Family::V4, Family::V6] {
        let of_family: Vec<&Outcome> = outcomes.iter().filter(|it| it.cell.family == family).collect();
        if of_family.is_empty() {
            continue;
        }
        let kinds = |which: fn(&Cell) -> Nat| {
            let mut kinds: Vec<Nat> = Vec::new();
            for outcome in &of_family {
                let kind = which(&outcome.cell);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            kinds
        };
        let (rows, columns) = (kinds(|cell| cell.a), kinds(|cell| cell.b));
        if !text.is_empty() {
            text.push('\n');
        }
        let names: Vec<&str> = columns.iter().map(|nat| nat.name()).collect();
        let _ = writeln!(text, "| {family}: from \\ to | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
        for a in rows {
            let _ = write!(text, "| {a} |");
            for b in &columns {
                let found = |relay| {
                    let wanted = Cell { family, a, b: *b, relay };
                    of_family.iter().find(|it| it.cell == wanted).map_or("·".to_owned(), |it| mark(it))
                };
                let _ = write!(text, " {} {} |", found(false), found(true));
            }
            text.push('\n');
        }
    }
    text
}

/// One letter for the way, a star if it could have been another, a cross if it should have been.
fn mark(outcome: &Outcome) -> String {
    let letter = match outcome.way {
        Way::Direct => "D",
        Way::Relayed => "R",
        Way::Nothing => "–",
    };
    let cross = match (&outcome.complaint, outcome.cell.expected()) {
        (Some(_), _) => "✗",
        (None, Expected::Raced(_)) => "*",
        (None, Expected::Surely(_)) => "",
    };
    format!("{letter}{cross}")
}
