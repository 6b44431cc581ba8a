use super::*;
use alloc::string::String;
use core::fmt::{Debug, Write};

extern crate std;

/// One line per legal edge, in the order of the declarations.
fn table<S: Copy + Debug, T: Copy + Debug>(
    states: &[S],
    steps: &[T],
    after: impl Fn(S, T) -> Option<S>,
) -> String {
    let mut text = String::new();
    for state in states {
        for step in steps {
            if let Some(next) = after(*state, *step) {
                writeln!(text, "{state:?} --{step:?}--> {next:?}").unwrap();
            }
        }
    }
    text
}

/// Compares with the committed table; `UPDATE=1` rewrites it.
#[allow(clippy::disallowed_methods, reason = "a developer asks for the table to be rewritten")]
fn matches_snapshot(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(actual, expected, "{name} changed: look at the edges, then run with UPDATE=1");
}

const ALLOCATION_STEPS: [AllocationStep; 11] = [
    AllocationStep::Ask,
    AllocationStep::Grant,
    AllocationStep::Clear,
    AllocationStep::BackOff,
    AllocationStep::Redirect,
    AllocationStep::Refresh,
    AllocationStep::Confirm,
    AllocationStep::Lose,
    AllocationStep::Delete,
    AllocationStep::End,
    AllocationStep::Fail,
];

#[test]
fn the_allocation_graph_is_the_committed_one() {
    let actual = table(&AllocationState::ALL, &ALLOCATION_STEPS, AllocationState::after);
    matches_snapshot("allocation.txt", &actual);
}

#[test]
fn the_permission_graph_is_the_committed_one() {
    let steps = [PermissionStep::Ask, PermissionStep::Grant, PermissionStep::Reset];
    matches_snapshot("permission.txt", &table(&PermissionState::ALL, &steps, PermissionState::after));
}

#[test]
fn the_channel_graph_is_the_committed_one() {
    let steps =
        [ChannelStep::Want, ChannelStep::Ask, ChannelStep::Grant, ChannelStep::Release, ChannelStep::Reset];
    matches_snapshot("channel.txt", &table(&ChannelState::ALL, &steps, ChannelState::after));
}

#[test]
fn the_servers_graph_is_the_committed_one() {
    let steps = [ServedStep::Open, ServedStep::Close];
    matches_snapshot("served.txt", &table(&ServedState::ALL, &steps, ServedState::after));
}

#[test]
fn a_channel_cools_down_before_it_can_be_reset_and_a_closed_allocation_stays_closed() {
    assert_eq!(ChannelState::Cooling.after(ChannelStep::Reset), None);
    let steps = [ServedStep::Open, ServedStep::Close];
    assert!(steps.into_iter().all(|step| ServedState::Closed.after(step).is_none()));
    let relaying: alloc::vec::Vec<_> =
        AllocationState::ALL.into_iter().filter(|state| state.is_allocated()).collect();
    assert_eq!(relaying, [AllocationState::Allocated, AllocationState::Refreshing]);
}
