//! What a host's TCP is like, what its application does, and the bytes that it sends.

use std::sync::OnceLock;
use std::time::Duration;

use gimlet_machine::Rng;

use crate::segment::Dress;

/// How one host speaks TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The largest segment it takes, as it says in its SYN.
    pub mss: u16,
    /// Its window scale shift, if it speaks that (RFC 7323 §2).
    pub shift: Option<u8>,
    /// Whether it speaks SACK (RFC 2018).
    pub sack: bool,
    /// Whether it speaks timestamps (RFC 7323 §3).
    pub timestamps: bool,
    /// Receive buffer in bytes.
    pub buffer: u32,
    /// Segments in its first flight (RFC 6928).
    pub initial_segments: u8,
    /// How long it keeps an acknowledgment back (RFC 9293 §3.8.6.3).
    pub delayed_ack: Duration,
    /// How it lays out options, and whether the network card finishes its checksums.
    pub dress: Dress,
    /// The cookie that it gives to clients, if it is a server that takes data in a SYN (RFC 7413).
    pub fast_open: Option<[u8; 8]>,
    /// Segments that it hands to the network card as one.
    pub train: u8,
}

impl Default for Stack {
    /// What an unmodified server of these years says.
    fn default() -> Self {
        Self {
            mss: 1460,
            shift: Some(7),
            sack: true,
            timestamps: true,
            buffer: 64 * 1024,
            initial_segments: 10,
            delayed_ack: Duration::from_millis(40),
            dress: Dress::default(),
            fast_open: None,
            train: 1,
        }
    }
}

/// What the application at one end does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Which bytes: see [`content`].
    pub content: u64,
    /// How many bytes it sends.
    pub sends: i64,
    /// How many it has to have read before it sends the first.
    pub starts_after: i64,
    /// How many it has to have read before it closes.
    pub closes_after: i64,
    /// After so many it makes a pause.
    pub pause: Option<(i64, Duration)>,
    /// It reads no more than so many bytes every [`READ_EVERY`].
    pub reads: Option<u32>,
    /// It resets the connection once it has read so many.
    pub aborts_after: Option<i64>,
    /// It marks one segment urgent.
    pub urgent: bool,
}

/// How often a slow application reads.
pub const READ_EVERY: Duration = Duration::from_millis(20);

/// A prime, so that bytes repeat at no distance at which segments do.
const PERIOD: usize = 65_521;

/// The longest piece that is looked at in one go.
const PIECE: usize = 65_536;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![0; PERIOD];
        Rng::from_u64(0).fork("content").fill(&mut table);
        table.extend_from_within(..PIECE.min(PERIOD));
        table
    })
}

/// `length` bytes from `offset` of the stream named `content`: what everybody knows who has to check it.
///
/// # Panics
///
/// If that is more than a packet holds, or before the beginning.
pub fn content(content: u64, offset: i64, length: usize) -> &'static [u8] {
    let offset = u64::try_from(offset).expect("an offset in a stream");
    let at = (content.wrapping_mul(9_973).wrapping_add(offset) % PERIOD as u64) as usize;
    &table()[at..at + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_stream_fit_together_and_streams_differ() {
        let whole = content(3, 65_000, 1_400);
        assert_eq!(&whole[..700], content(3, 65_000, 700));
        assert_eq!(&whole[700..], content(3, 65_700, 700));
        assert_ne!(whole, content(4, 65_000, 1_400));
    }
}
