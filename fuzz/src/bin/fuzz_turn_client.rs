//! AFL's way into the `turn_client` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::turn_client(data));
}
