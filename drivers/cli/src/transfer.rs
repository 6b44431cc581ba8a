//! Files, messages and pipes between two peers: one bidirectional stream for each.
//!
//! The opener says what the stream is for ([`note::Opening`]); the other side says whether it wants
//! it ([`note::Reply`]). A message or a pipe is plain bytes from there on. A file goes like this:
//!
//! ```text
//!   sender                                   receiver
//!   Opening { name, size, modified } ──────►
//!            ◄────── Reply::Ready { length, sha256 of what it has }
//!   Start { at: length or 0 } ─────────────►      0 if those bytes are not ours
//!   the bytes from `at` on ────────────────►      kept in NAME.gimlet-part
//!   32 bytes: SHA-256 of the whole ────────►      compared, synced, renamed
//!            ◄────── Outcome
//! ```
//!
//! An interrupted transfer leaves `NAME.gimlet-part` and a note beside it that says which file it
//! belongs to (name, size, time of last change, who sent it). When a file with the same name, size
//! and time is offered again, by whomever, the receiver names the SHA-256 of what it has and the
//! sender compares it with its own bytes: only an exact beginning is resumed. A full disk keeps the
//! part, too; a wrong hash at the end removes it, because resuming could never mend it.
//!
//! [`sender`] and [`receiver`] are the two ends without I/O; [`deliver`] and [`take`] drive them over
//! streams and files. The simulator drives the same two ends in memory.

pub(crate) mod deliver;
pub(crate) mod fault;
pub(crate) mod inbox;
pub(crate) mod note;
pub(crate) mod pace;
pub(crate) mod part;
pub(crate) mod receiver;
pub(crate) mod rivals;
pub(crate) mod sender;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod take;
#[cfg(test)]
mod tests;
