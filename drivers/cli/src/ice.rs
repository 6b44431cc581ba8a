//! ICE by itself, as lines of text: what `gimlet ice-step` and `gimlet ice-peer` speak.
//!
//! [`step`] steps one agent through virtual time, one line at a time, for judges without sockets;
//! [`peer`] is a machine with an agent, a STUN client and application datagrams on one set of
//! sockets, for other implementations to meet. Both take and give lines and know nothing of
//! terminals; [`lines`] reads them from a stream that may hold anything.

pub(crate) mod lines;
pub(crate) mod peer;
pub(crate) mod step;
mod word;
