//! What it costs to stand in the wire: programs and kernels between two hosts, measured in one run.
//!
//! A [`Bench`] is three network namespaces: a client, a middle without addresses, a server. Something stands in the
//! middle ([`Between`]): the kernel's bridge, its router, our forwarder, the TCP translator, a script. Each of four
//! experiments drives the same traffic through one after the other, in turn, round after round, and reports the
//! median round:
//!
//! * [`bulk`]: one long TCP transfer with all offloads on;
//! * [`frames`]: as many 64-byte frames as there can be;
//! * [`churn`]: thousands of short connections per second;
//! * [`flood`]: short connections beside a flood of SYNs from everywhere.
//!
//! Every byte that arrives is compared with what was sent: streams repeat a pattern whose length is prime, so that
//! nothing can be missing, doubled or moved without being seen.
//!
//! # What it deliberately does not do
//!
//! * It does not judge speed: the machine is shared, and figures are for people. It fails when a byte is wrong or a
//!   connection of a test that demands all of them is missing.
//! * It does not measure the time to the first byte over long lines: `gimlet lab ttfb` does.
//! * It does not measure the core alone: `conformance/benches` does.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Figures for people: what is counted here fits the 52 bits, and so do medians of small test numbers.
#![allow(clippy::cast_precision_loss, clippy::float_cmp)]

mod bench;
mod between;
mod experiment;
mod process;
pub mod program;
mod rounds;
mod table;

pub use bench::Bench;
pub use between::{Between, Standing};
pub use experiment::{Flood, Load, Loaded, Sent, Server, bulk, churn, flood, frames};
pub use process::{Usage, load_average, usage};
pub use rounds::{median, spread};
pub use table::{Row, Table};
