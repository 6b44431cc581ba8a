//! What is right, and who says so: the judge of the rest of the tree.
//!
//! Each file in `tests/` asks one question and answers it with a command that exits with 0 or not:
//!
//! * `tidy`: does the tree keep the house rules of `CONTRIBUTING.md`? (`cargo tidy`)
//! * `no_std`: do the protocol crates build and link without std?
//! * `laws`: does every machine keep the laws of `core/README.md` under generated schedules? (`cargo laws`)
//! * `vectors`: does every room carry the test vectors that its RFC gives it?
//! * `scenarios`: do the things that users do work in a simulated network, whatever goes wrong in it?
//! * `scenarios_random`: does a model that keeps the books find anything lost, misplaced or left behind?
//! * `matrix`: does every pair of NATs from the dice come off as an oracle says, or better? (`--bin matrix` for all of it)
//! * `parity`: does one scenario give the same events on every driver?
//! * `lab`: do two hosts behind the NATs of a real kernel meet, whatever NATs they are? (`cargo lab`, as root)
//! * `table`: does every one of 68 cases have a test, and do we pass those that are judged beside the peers? (`cargo table`)
//! * `aioice`: does our ICE agent agree with somebody else's, in the lab?
//!
//! The library holds what those tests share: [`tidy`], the rules as functions from sources to
//! complaints; [`laws`], generated lives of any machine; [`lab`], hosts and NATs as network namespaces;
//! [`lab_matrix`], every kind of NAT in it against every other; [`matrix`], simulated worlds from the dice and
//! what has to come of them; [`inhabitant`], nodes and relays in one world; and [`table`], 68 requirements and
//! a judge for each. Every harness here has a *canary*, a planted fault that it has to find: a test that cannot
//! fail says nothing.
//!
//! # What it deliberately does not do
//!
//! * It does not test features. Each room tests itself, beside its code; what lies here holds for all
//!   rooms, or takes two of them, or takes somebody else's word (an RFC, a kernel, another stack).
//! * It does not measure in tests. Figures come from programs that are run on purpose, and their tables
//!   in `conformance/README.md` say on what machine.
//! * The lab makes no network of its own: it configures namespaces, bridges and packet filters with
//!   `ip` and `nft`. Delay and reordering are the simulator's job (`drivers/sim`).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod inhabitant;
pub mod lab;
pub mod lab_matrix;
pub mod laws;
pub mod matrix;
pub mod meeting;
pub mod program;
mod seeds;
mod stream_side;
pub mod table;
pub mod tidy;

pub use seeds::seeds;
pub use stream_side::PEM as RELAY_CERTIFICATE;
