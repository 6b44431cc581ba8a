//! Connections between model endpoints through one or two boxes, over links that do as the input says.
//!
//! Input: what stands in between (1 byte), a seed for everything that is not said here (2 bytes), a restart
//! (2 bytes: which box and whether its table is kept, and when), strangers (1 byte), and then what becomes of
//! each frame on a link, one byte each.

use gimlet_machine::Instant;
use gimlet_tcp_model::{Invariant, Middle, Plan, Restart, Saboteur, Topology, World, boxes};

use crate::tape::Tape;
use crate::target::bounded;

/// Connections in one world, bytes that one application sends, and strangers' frames: a run should be short.
const FLOWS_MAX: usize = 3;
const SENDS_MAX: i64 = 12_000;
const STRANGERS_MAX: u32 = 12;

/// Whatever links, strangers and restarts do: everything that `gimlet_tcp_model::Invariant` names holds.
pub fn tcp_flow(data: &[u8]) {
    check(data, |inner| inner);
}

/// A box that writes acknowledgments a little lower than it should.
pub(crate) fn planted(data: &[u8]) {
    check(data, |inner| Box::new(Saboteur::new(inner, Invariant::Oracle)));
}

fn check(data: &[u8], dress: fn(Box<dyn Middle>) -> Box<dyn Middle>) {
    let mut tape = Tape::new(bounded(data));
    let plan = plan(&mut tape);
    let script = tape.take(usize::MAX);
    let boxes = boxes(&plan).into_iter().map(dress).collect();
    let played = World::new(&plan, boxes, None).scripted(script).play();
    assert!(played.breaches.is_empty(), "{plan:?}\n{:#?}", played.breaches);
}

fn plan(tape: &mut Tape<'_>) -> Plan {
    let topology = match tape.u8() % 3 {
        0 => Topology::Single,
        1 => Topology::NearFar,
        _ => Topology::TfoUpgrade,
    };
    let mut plan = Plan::draw_in(u64::from(tape.u16()), topology);
    let (how, when) = (tape.u8(), tape.u8());
    let place = usize::from(how >> 1) % (plan.links.len() - 1);
    let at = Instant::from_millis(u64::from(when) * 20);
    plan.restart = (when > 0).then_some(Restart { at, place, keeps_table: how & 1 == 1 });
    plan.strangers = u32::from(tape.u8()) % STRANGERS_MAX;
    plan.faults_until = Instant::FAR;
    plan.flows.truncate(FLOWS_MAX);
    for app in plan.flows.iter_mut().flat_map(|flow| &mut flow.apps) {
        let sent = app.sends.min(SENDS_MAX);
        app.sends = sent;
        app.pause = app.pause.filter(|(at, _)| *at < sent);
        app.starts_after = app.starts_after.min(SENDS_MAX);
        app.closes_after = app.closes_after.min(SENDS_MAX);
    }
    plan
}
