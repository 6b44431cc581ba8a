//! AFL's way into the `tcp_flow` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::tcp_flow(data));
}
