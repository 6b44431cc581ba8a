use super::*;
use gimlet_testkit::{edges, matches_committed};

fn matches_snapshot(name: &str, actual: &str) {
    matches_committed(env!("CARGO_MANIFEST_DIR"), name, actual);
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
    let actual = edges(&AllocationState::ALL, &ALLOCATION_STEPS, AllocationState::after);
    matches_snapshot("allocation.txt", &actual);
}

#[test]
fn the_permission_graph_is_the_committed_one() {
    let steps = [PermissionStep::Ask, PermissionStep::Grant, PermissionStep::Reset];
    matches_snapshot("permission.txt", &edges(&PermissionState::ALL, &steps, PermissionState::after));
}

#[test]
fn the_channel_graph_is_the_committed_one() {
    let steps =
        [ChannelStep::Want, ChannelStep::Ask, ChannelStep::Grant, ChannelStep::Release, ChannelStep::Reset];
    matches_snapshot("channel.txt", &edges(&ChannelState::ALL, &steps, ChannelState::after));
}

#[test]
fn the_servers_graph_is_the_committed_one() {
    let steps = [ServedStep::Open, ServedStep::Close];
    matches_snapshot("served.txt", &edges(&ServedState::ALL, &steps, ServedState::after));
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
