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

mod envelope;
mod frame;
mod stun_message;
mod tape;

pub use envelope::envelope;
pub use frame::frame;
pub use stun_message::stun_message;

/// Longer inputs are cut off: what matters happens in less, and a fuzzer that grows inputs gets slow.
pub const INPUT_MAX: usize = 16 * 1024;

/// A named file of a corpus.
pub type Seed = (&'static str, Vec<u8>);

/// One body and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Names the body, its binary (`fuzz_<name>`) and its folder of the corpus.
    pub name: &'static str,
    /// Runs one input; panics if something is wrong.
    pub body: fn(&[u8]),
    /// The same body watching a subject with a bug in it: it has to panic on some seed.
    pub planted: fn(&[u8]),
    /// Inputs to begin from.
    pub seeds: fn() -> Vec<Seed>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "stun_message",
        body: stun_message,
        planted: stun_message::planted,
        seeds: stun_message::seeds,
    },
    Target { name: "frame", body: frame, planted: frame::planted, seeds: frame::seeds },
    Target { name: "envelope", body: envelope, planted: envelope::planted, seeds: envelope::seeds },
];

/// At most [`INPUT_MAX`] bytes of an input.
fn bounded(data: &[u8]) -> &[u8] {
    &data[..data.len().min(INPUT_MAX)]
}
