//! AFL's way into the `splice_record` body.

#[cfg(target_os = "linux")]
fn main() {
    afl::fuzz!(|data: &[u8]| gimlet_fuzz::splice_record(data));
}

/// What it fuzzes is Linux's alone.
#[cfg(not(target_os = "linux"))]
fn main() {}
