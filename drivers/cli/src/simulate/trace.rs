//! Tells every packet of a simulation, for those who ask.

use std::time::Duration;

use gimlet_machine::Instant;
use gimlet_sim::{Observer, PacketRecord, Step};

use super::plan::NAMES;
use crate::line::Line;
use crate::report::Report;

/// Tells packets as they take their steps.
pub(crate) struct Teller {
    pub(crate) report: Report,
}

impl Observer for Teller {
    fn packet(&mut self, record: &PacketRecord<'_>) {
        let who = match record.step {
            Step::Delivered { to } => NAMES.get(to.index()),
            Step::Sent { .. } | Step::Duplicated | Step::Translated { .. } | Step::Dropped { .. } => {
                NAMES.get(record.sender.index())
            }
        };
        let step = match record.step {
            Step::Sent { .. } => "sent".to_owned(),
            Step::Duplicated => "duplicated".to_owned(),
            Step::Translated { by } => format!("translated by {by}"),
            Step::Delivered { .. } => "delivered".to_owned(),
            Step::Dropped { why } => format!("dropped ({why})"),
        };
        let line = Line::Packet {
            number: record.number,
            step,
            source: record.source.to_string(),
            destination: record.destination.to_string(),
            bytes: record.bytes.len(),
        };
        self.report.say_at(elapsed(record.at), who.copied(), &line);
    }
}

/// Virtual time as a duration since the beginning.
pub(crate) fn elapsed(at: Instant) -> Duration {
    at.since(Instant::ZERO)
}
