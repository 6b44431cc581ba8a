//! AFL's way into the `node_datagram` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::node_datagram(data));
}
