//! AFL's way into the `envelope` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::envelope(data));
}
