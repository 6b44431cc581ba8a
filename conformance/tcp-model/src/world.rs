//! Hosts, links and boxes under one virtual clock, and everything that has to hold of them.
//!
//! ```text
//! client --link-- box --link-- box --link-- server        none, one or two boxes
//! ```

mod host;
mod ledger;
mod link;
mod plan;
mod play;
mod stranger;

pub use ledger::{Given, Ledger};
pub use link::{Card, LinkPlan};
pub use plan::{FlowPlan, Outage, Plan, Restart, Service, Topology};
pub use play::{Outcome, Played, Tell, World};
