//! Tells what a node does, and remembers why connecting failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gimlet_machine::PeerId;
use gimlet_node::{ConnectError, Event};

use crate::line::Line;
use crate::node::Running;
use crate::report::Report;

/// Peers whose failures are remembered; beyond, the one with the smallest id is forgotten.
const FAILURES_MAX: usize = 64;

/// Reads the events of a node as long as it runs.
#[derive(Clone)]
pub(crate) struct Watch {
    failures: Arc<Mutex<BTreeMap<PeerId, ConnectError>>>,
    explains: Arc<AtomicBool>,
}

impl Watch {
    /// Tells `report` what `node` does, as `who` if there are several.
    pub(crate) fn start(node: &Running, report: &Report, who: Option<&'static str>) -> Self {
        let watch = Self { failures: Arc::default(), explains: Arc::default() };
        let (node, report) = (node.clone(), report.clone());
        let Self { failures, explains } = watch.clone();
        tokio::spawn(async move {
            while let Ok(event) = node.next_event().await {
                if let Event::Failed { peer, cause } = &event {
                    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    failures.insert(*peer, cause.clone());
                    while failures.len() > FAILURES_MAX {
                        failures.pop_first();
                    }
                }
                // By the time it is told, the node may know better than at the time of the event.
                let relayed = match &event {
                    Event::Connected { peer, .. } | Event::PathChanged { peer, .. } => {
                        node.read(|node| node.is_relayed(*peer)).unwrap_or(false)
                    }
                    Event::Incoming { .. }
                    | Event::Failed { .. }
                    | Event::Lost { .. }
                    | Event::StreamsReady { .. }
                    | Event::Readable { .. }
                    | Event::Writable { .. }
                    | Event::DatagramReceived { .. }
                    | Event::Progress { .. } => false,
                };
                if let Some(line) = Line::of(&event, relayed) {
                    report.say_of(who, &line);
                }
                if explains.load(Ordering::Relaxed)
                    && let Some(line) = explain(&node, &event)
                {
                    report.say_of(who, &line);
                }
            }
        });
        watch
    }

    /// Whether to tell, with each path that is found, changed or lost, why it is the one.
    pub(crate) fn explaining(self, yes: bool) -> Self {
        self.explains.store(yes, Ordering::Relaxed);
        self
    }

    /// Why the last attempt to reach `peer` failed.
    pub(crate) fn last_failure(&self, peer: PeerId) -> Option<ConnectError> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// What is known about the way to the peer whose path `event` is about.
fn explain(node: &Running, event: &Event) -> Option<Line> {
    let peer = match event {
        Event::Connected { peer, .. }
        | Event::PathChanged { peer, .. }
        | Event::Failed { peer, .. }
        | Event::Lost { peer, .. } => *peer,
        Event::Incoming { .. }
        | Event::StreamsReady { .. }
        | Event::Readable { .. }
        | Event::Writable { .. }
        | Event::DatagramReceived { .. }
        | Event::Progress { .. } => return None,
    };
    node.read(|node| node.explain(peer).map(|explanation| Line::explained(&explanation))).ok().flatten()
}
