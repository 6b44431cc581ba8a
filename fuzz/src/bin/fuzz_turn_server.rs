//! AFL's way into the `turn_server` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::turn_server(data));
}
