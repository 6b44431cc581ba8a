//! Tells what a node does, and remembers why connecting failed.

use std::collections::BTreeMap;
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
}

impl Watch {
    /// Tells `report` what `node` does, as `who` if there are several.
    pub(crate) fn start(node: &Running, report: &Report, who: Option<&'static str>) -> Self {
        let watch = Self { failures: Arc::default() };
        let (node, report, failures) = (node.clone(), report.clone(), watch.failures.clone());
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
            }
        });
        watch
    }

    /// Why the last attempt to reach `peer` failed.
    pub(crate) fn last_failure(&self, peer: PeerId) -> Option<ConnectError> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}
