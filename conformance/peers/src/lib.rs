//! Gimlet beside other people's crates: one program per subject, one table each.
//!
//! Every row of a table does the same work on the same bytes. Rows are measured in turn, batch by batch, so
//! that whatever else the machine does falls on all of them; the figure is the median batch. Allocations
//! are counted, and instructions come from valgrind where it is installed.
//!
//! # What it deliberately does not do
//!
//! * It is no member of the workspace: cargo would unify features across members, which slows some peers
//!   down, and nobody who builds Gimlet should have to build its peers.
//! * It asserts nothing about speed. Machines differ; a table says on which one it was made.
#![deny(missing_docs)]

mod allocations;
mod meeting;
mod table;

pub use allocations::live_bytes;
pub use meeting::{Endpoint, Outcome, Scene, Signal, meet};
pub use table::Table;
