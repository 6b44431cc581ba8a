//! What `gimlet splice` and `gimlet lab line` share: a machine between two interfaces until somebody asks it to stop.

pub(crate) mod carry;
pub(crate) mod config;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod translate;
