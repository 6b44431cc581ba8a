//! AFL's way into the `candidate_line` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::candidate_line(data));
}
