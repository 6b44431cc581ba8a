//! AFL's way into the `ice_agent` body.

fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::ice_agent(data));
}
