//! What unit tests need to make an endpoint.

use std::sync::Arc;
use std::time::Duration;

use crate::Config;

/// Any moment will do: only differences to it are computed.
#[expect(clippy::disallowed_methods, reason = "an origin from which only differences are computed")]
pub(crate) fn origin() -> std::time::Instant {
    std::time::Instant::now()
}

pub(crate) fn config(identity: [u8; 32]) -> Config {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Config::new(origin(), Duration::from_secs(1_700_000_000), provider, identity)
}
