//! Two nodes in networks from the dice, and an oracle that says beforehand what has to come of it.
//!
//! A seed decides everything: what is in front of each peer (nothing, a NAT, a NAT behind a carrier's, a
//! firewall that drops UDP), what mapping, filtering, ports, expiry and hairpinning each NAT has, whether both
//! share a carrier, a home or a private address, how long lines are and what they lose, and whether there is a relay.
//! The two meet through a public node and send a file; some are silent after that for longer than mappings live,
//! and send again.
//!
//! [`Expected`] says what the least is that has to come of it; coming off better is welcome, and anything
//! less is a defect. Where ports have to be guessed ([`Hard`]), one world proves nothing: all of a kind together have
//! to come off as often as the formula says. [`Table`] counts it all by cell and by kind.

mod expect;
mod hard;
mod plan;
mod play;
mod table;

pub use expect::{Expected, NODES_OUTLIVE_CLASHES};
pub use hard::Hard;
pub use plan::{Plan, RelayKind};
pub use play::{FILE_BYTES, Outcome, Played, play, play_before};
pub use table::Table;
