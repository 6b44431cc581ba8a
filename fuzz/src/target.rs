//! The table of targets.

use crate::tape::Tape;
use crate::{
    candidate_line, envelope, frame, ice_agent, node_datagram, stun_message, tcp, tcp_flow, tcp_frame,
    ticket, turn, turn_client, turn_server,
};

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
    /// How many places of each seed `cargo test` changes: few where a run is long.
    pub neighbours: usize,
    /// Inputs to begin from.
    pub seeds: fn() -> Vec<Seed>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "stun_message",
        body: stun_message,
        planted: stun_message::planted,
        neighbours: 200,
        seeds: stun_message::seeds,
    },
    Target { name: "frame", body: frame, planted: frame::planted, neighbours: 200, seeds: frame::seeds },
    Target {
        name: "envelope",
        body: envelope,
        planted: envelope::planted,
        neighbours: 200,
        seeds: envelope::seeds,
    },
    Target { name: "ticket", body: ticket, planted: ticket::planted, neighbours: 50, seeds: ticket::seeds },
    Target {
        name: "ice_agent",
        body: ice_agent,
        planted: ice_agent::planted,
        neighbours: 50,
        seeds: ice_agent::seeds,
    },
    Target {
        name: "candidate_line",
        body: candidate_line,
        planted: candidate_line::planted,
        neighbours: 200,
        seeds: candidate_line::seeds,
    },
    Target {
        name: "turn_client",
        body: turn_client,
        planted: turn::planted_client,
        neighbours: 40,
        seeds: turn::client_seeds,
    },
    Target {
        name: "turn_server",
        body: turn_server,
        planted: turn::planted_server,
        neighbours: 40,
        seeds: turn::server_seeds,
    },
    Target {
        name: "tcp_frame",
        body: tcp_frame,
        planted: tcp::planted_frame,
        neighbours: 40,
        seeds: tcp::frame_seeds,
    },
    Target {
        name: "tcp_flow",
        body: tcp_flow,
        planted: tcp::planted_flow,
        neighbours: 12,
        seeds: tcp::flow_seeds,
    },
    Target {
        name: "node_datagram",
        body: node_datagram,
        planted: node_datagram::planted,
        neighbours: 6,
        seeds: node_datagram::seeds,
    },
    #[cfg(target_os = "linux")]
    Target {
        name: "splice_record",
        body: crate::splice_record,
        planted: crate::splice_record::planted,
        neighbours: 100,
        seeds: crate::splice_record::seeds,
    },
];

/// At most [`INPUT_MAX`] bytes of an input.
pub(crate) fn bounded(data: &[u8]) -> &[u8] {
    &data[..data.len().min(INPUT_MAX)]
}

/// The bit of the set-up that asks for a second run, to be compared with the first.
const REPLAY: u8 = 0x80;

/// Plays an input whose first byte is the set-up, twice if that asks for it: `play` gives the trace.
pub(crate) fn replayed(data: &[u8], play: impl Fn(u8, Tape<'_>) -> u64) {
    let mut tape = Tape::new(bounded(data));
    let setup = tape.u8();
    let trace = play(setup, tape);
    if setup & REPLAY != 0 {
        assert_eq!(play(setup, tape), trace, "law 6: the same inputs gave other outputs");
    }
}
