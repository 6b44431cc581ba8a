//! What the fuzzers run, and what `cargo test` replays.
//!
//! Each target is a body: a function from bytes to nothing, which panics when something that must
//! hold does not. A body asserts more than survival: what is read is written back the same, an
//! independent reading agrees, the laws of machines hold on every call, memory stays within its
//! bound. The AFL binaries in `src/bin` are one line each and need the feature `afl`; any other fuzzer
//! can call the same bodies.
//!
//! * [`TARGETS`] lists them. Each comes with its seeds, made from real messages, and with itself
//!   once more with a planted bug.
//! * `fuzz/corpus/<target>` holds the seeds and every input that ever found a bug. `tests/replay.rs`
//!   runs them all, and checks that the planted bug of each target is found by its own corpus.
//!
//! # What it deliberately does not do
//!
//! It does not generate inputs itself: that is the fuzzer's work, and proptest's beside the code. It
//! does not open sockets or read clocks: bodies decode time and packets from their input.
//!
//! # Example
//!
//! ```
//! for target in gimlet_fuzz::TARGETS {
//!     (target.body)(b"not much of a message");
//! }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod candidate_line;
mod envelope;
mod frame;
mod ice_agent;
mod node_datagram;
#[cfg(target_os = "linux")]
mod splice_record;
mod stun_message;
mod tape;
mod target;
mod tcp;
mod ticket;
mod turn;

pub use candidate_line::candidate_line;
pub use envelope::envelope;
pub use frame::frame;
pub use ice_agent::ice_agent;
pub use node_datagram::node_datagram;
#[cfg(target_os = "linux")]
pub use splice_record::splice_record;
pub use stun_message::stun_message;
pub use target::{INPUT_MAX, Seed, TARGETS, Target};
pub use tcp::{tcp_flow, tcp_frame};
pub use ticket::ticket;
pub use turn::{turn_client, turn_server};
