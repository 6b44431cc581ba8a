//! AFL's way into the `frame` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::frame(data));
}
