//! AFL's way into the `tcp_frame` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::tcp_frame(data));
}
