//! The TCP translator: any frames at all, and whole connections through it.

pub(crate) mod flow;
pub(crate) mod frame;
mod seeds;

pub(crate) use flow::planted as planted_flow;
pub use flow::tcp_flow;
pub(crate) use frame::planted as planted_frame;
pub use frame::tcp_frame;
pub(crate) use seeds::{flow as flow_seeds, frame as frame_seeds};
