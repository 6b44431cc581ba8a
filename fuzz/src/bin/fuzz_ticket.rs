//! AFL's way into the `ticket` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::ticket(data));
}
