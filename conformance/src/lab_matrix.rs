//! Every kind of NAT against every other, in the lab, with and without a relay: real `gimlet` processes,
//! a file from `a` to `b`, and an oracle that says which way it has to take.
//!
//! One [`Cell`] is a pair of NATs, a protocol, and a relay or none. It *holds* if the file went the way
//! that [`expect`] says and arrived with the hash it was sent with, or if nothing could connect and the
//! sender said so. Cells wait far more than they work, so several run at a time ([`run`]); they share
//! nothing, because each has its own namespaces.

mod cell;
mod expect;
mod relay;
mod run;
mod table;

pub use cell::{Cell, Outcome};
pub use expect::{Expected, PUNCH, Way, expect};
pub use relay::{RELAY, Relay, coturn, coturn_args, coturn_available};
pub use run::{every_cell, run, sample};
pub use table::{json_line, markdown};
