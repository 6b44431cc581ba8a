//! AFL's way into the `stun_message` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::stun_message(data));
}
