//! What the owner learns.

use crate::{Agreed, Refusal};

/// How the handshake ended. There is exactly one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer said who it is: let its other messages through.
    Known(Agreed),
    /// Close the connection and say why.
    Refused(Refusal),
}
