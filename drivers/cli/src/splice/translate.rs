//! The TCP handshake accelerator between two interfaces.

use std::collections::BTreeMap;
use std::fmt;

use gimlet_machine::{Buf, Counters as _, Deadline, Input, Instant, Machine, Rng, Transmit, Verdict};
use gimlet_raw::{Clock, Leg, Recordable, Table, TableError};
use gimlet_tcp::{Attached, ConfigError, Event, FLOWS_MAX, Role, Slots, Translator, slots_for};
use serde_json::json;

use super::carry::{Carried, Interfaces};
use super::config::{Options, Told};
use super::record::{Made, Record};
use super::replay::word_of;
use crate::failure::{Exit, Failure};
use crate::line::{Line, millis};
use crate::report::Report;

/// Runs a translator until it is stopped.
pub(crate) fn translate(
    role: Role,
    interfaces: &Interfaces,
    options: &Options,
    record: &Record,
    report: &Report,
) -> Result<(), Failure> {
    let Told { config, table } = options.read(role)?;
    let configuration = if record.is_wanted() { options.text()? } else { String::new() };
    let bump = interfaces.open()?;
    let seed = gimlet_udp::seed().map_err(|error| Failure::local("seed a translator", &error))?;
    let (rng, now) = (Rng::from_seed(seed), Clock.now());
    let made = |found| Made { kind: word_of(role), seed, begun: now, configuration, found };
    // What is wrong with the number itself is the translator's to say.
    let slots = slots_for(config.limits.flows.min(FLOWS_MAX));
    let Some(path) = table else {
        let table = Table::in_memory(slots).map_err(|error| {
            Failure::new(Exit::Local, format!("no memory for a table of {slots} slots: {error}"))
        })?;
        let attached = Translator::attach(now, rng, config, table);
        let (translator, _) = attached.map_err(|error| refusal(&error))?;
        return record.carry(bump, Spliced { role, translator }, made(Vec::new()), report);
    };
    let table = Table::open(&path, slots).map_err(|error| match error {
        TableError::Refused(error) => Failure::file("open the table", &path, &error),
        error @ (TableError::InUse | TableError::Size { .. }) => {
            Failure::new(Exit::Local, format!("{}: {error}", path.display()))
        }
    })?;
    let found = record.found(table.as_ref());
    let (translator, attached) =
        Translator::attach(now, rng, config, table).map_err(|error| refusal(&error))?;
    let Attached { flows, discarded } = attached;
    report.json(&json!({ "event": "attached", "flows": flows, "discarded": discarded }));
    report.text(&format!("{flows} flows go on, {discarded} were not whole"));
    record.carry(bump, Spliced { role, translator }, made(found), report)
}

fn refusal(error: &ConfigError) -> Failure {
    Failure::new(Exit::Usage, error).remedy("see `gimlet splice --help`")
}

/// A translator that says what it is.
struct Spliced<S: Slots> {
    role: Role,
    translator: Translator<S>,
}

impl<S: Slots> Machine for Spliced<S> {
    type Path = Leg;
    type Event = Event;

    #[inline]
    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        self.translator.handle_input(now, input)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.translator.handle_timeout(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.translator.poll_event()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        self.translator.poll_transmit(now, out)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.translator.poll_timeout()
    }
}

impl<S: Slots> Recordable for Spliced<S> {
    fn told(&mut self, now: Instant, command: &str) -> bool {
        self.translator.told(now, command)
    }

    fn counted(&self, each: &mut dyn FnMut(&'static str, u64)) {
        self.translator.counted(each);
    }

    fn standing(&self, leg: Leg, frame: &[u8]) -> Option<String> {
        self.translator.standing(leg, frame)
    }
}

impl<S: Slots> Carried for Spliced<S> {
    #[inline]
    fn foresee(&self, leg: Leg, frame: &[u8]) {
        self.translator.foresee(leg, frame);
    }

    fn role(&self) -> &'static str {
        match self.role {
            Role::Near => "near",
            Role::Far => "far",
            Role::Single => "single",
            Role::TfoUpgrade => "single with Fast Open",
        }
    }

    fn drain(&mut self, now: Instant) {
        self.translator.drain(now);
    }

    fn is_idle(&self) -> bool {
        self.translator.is_idle()
    }

    fn tell(&self, event: Event, report: &Report) {
        report.say(&line_of(&event));
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        let mut counted: BTreeMap<_, _> = self.translator.counters().each().collect();
        counted.insert("memory", self.translator.memory() as u64);
        counted.insert("half_open", self.translator.half_open() as u64);
        counted
    }
}

/// An event as a line of the timeline.
fn line_of(event: &Event) -> Line {
    let (flow, what, detail): (String, _, String) = match event {
        Event::Learned { destination, profile } => (destination.to_string(), "learned", debug(profile)),
        Event::Spoofed { flow } => (flow.to_string(), "spoofed", String::new()),
        Event::Established { flow, early, waited } => {
            (flow.to_string(), "established", format!("{early} bytes early, {:.2} ms", millis(*waited)))
        }
        Event::Aborted { flow, cause } => (flow.to_string(), "aborted", debug(cause)),
        Event::Bypassed { flow, why } => (flow.to_string(), "bypassed", debug(why)),
        Event::Closed { flow } => (flow.to_string(), "closed", String::new()),
    };
    Line::Flow { flow, what, detail }
}

fn debug(value: impl fmt::Debug) -> String {
    format!("{value:?}")
}
