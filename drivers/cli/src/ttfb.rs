//! `gimlet lab ttfb`: seven ways to the first byte, side by side.
//!
//! The chain is the same for all: five programs in the wire between an ordinary client and an ordinary server. Only what
//! three of them do changes from row to row.

mod cell;
mod picture;
mod row;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gimlet_lab::{LabError, ProcessError};
use serde_json::json;

use crate::command::lab::Summary;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::report::Report;
use cell::{Bench, Cell};
use row::Row;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Milliseconds.
    pub(crate) rtts: Vec<u32>,
    pub(crate) connections: u32,
    pub(crate) congestion: String,
}

/// Why a measurement ends early.
#[derive(Debug)]
enum Stop {
    /// A step of building the lab failed.
    Lab(LabError),
    /// A program did not do what it should.
    Program(ProcessError),
    /// A file could not be written.
    File(std::io::Error),
}

impl From<LabError> for Stop {
    fn from(error: LabError) -> Self {
        Stop::Lab(error)
    }
}

impl From<ProcessError> for Stop {
    fn from(error: ProcessError) -> Self {
        Stop::Program(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Lab(error) => Failure::new(Exit::Local, error),
            Stop::Program(error) => Failure::new(Exit::Failed, error),
            Stop::File(error) => Failure::local("write the configuration of the boxes", &error),
        }
    }
}

/// Builds, measures, prints and removes everything.
pub(crate) fn run(plan: &Plan, svg: Option<&Path>, report: &Report) -> Result<(), Failure> {
    gimlet_lab::available().map_err(|missing| {
        Failure::new(Exit::Local, missing)
            .remedy("run it with sudo, on Linux, where network namespaces are allowed")
    })?;
    let interrupted = interrupted().map_err(|error| Failure::local("listen for signals", &error))?;
    let mut cells = Vec::new();
    for rtt in &plan.rtts {
        let name = format!("ttfb-{rtt}");
        let bench = Bench::new(&name, *rtt, plan).map_err(Failure::from)?;
        report
            .text(&format!("\nround trip {rtt} ms, {} connections per cell, milliseconds", plan.connections));
        report.text(cell::HEADING);
        for row in Row::ALL {
            let measured = measure(&bench, row, &name, *rtt, plan, report);
            // Whatever went wrong after Ctrl-C went wrong because of it. What was built goes away on the way out.
            if interrupted.load(Ordering::Relaxed) {
                return Err(Failure::interrupted());
            }
            if let Some(cell) = measured? {
                report.json(&cell.json());
                report.text(&cell.to_string());
                cells.push(cell);
            }
        }
    }
    if let Some(path) = svg {
        fs::write(path, picture::draw(&cells)).map_err(|error| Failure::file("write", path, &error))?;
    }
    conclude(&cells, report)
}

/// One row; `None` if this kernel cannot, which is said.
fn measure(
    bench: &Bench,
    row: Row,
    name: &str,
    rtt: u32,
    plan: &Plan,
    report: &Report,
) -> Result<Option<Cell>, Failure> {
    if row != Row::SynProxy {
        return bench.measure(row).map(Some).map_err(Failure::from);
    }
    // A router, not a bump: it gets a chain of its own.
    let other = Bench::new(&format!("{name}-proxy"), rtt, plan).map_err(Failure::from)?;
    if let Err(error) = row::synproxy(other.chain()) {
        let why = error.to_string();
        report.json(&json!({ "event": "skipped", "row": row.name(), "rtt_ms": rtt, "why": why }));
        report.text(&format!("  {:<24} skipped: {why}", row.name()));
        return Ok(None);
    }
    other.measure(row).map(Some).map_err(Failure::from)
}

fn conclude(cells: &[Cell], report: &Report) -> Result<(), Failure> {
    let failed: u32 = cells.iter().map(Cell::failed).sum();
    let corrupt: u64 = cells.iter().map(Cell::corrupt).sum();
    let connections: usize = cells.iter().map(Cell::connections).sum();
    if failed > 0 || corrupt > 0 {
        let cause = format!("{failed} of {connections} connections failed, {corrupt} bytes were wrong");
        return Err(Failure::new(Exit::Failed, cause));
    }
    report.done(&Summary {
        json: json!({ "event": "done", "ok": true, "cells": cells.len(), "connections": connections }),
        text: format!("\n{connections} connections, none failed, every byte as it was sent"),
    });
    Ok(())
}

/// Becomes true when the user wants to stop.
fn interrupted() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupts = {
        let _inside = runtime.enter();
        Interrupts::listen()?
    };
    let flag = interrupted.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(interrupts.next());
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(interrupted)
}
