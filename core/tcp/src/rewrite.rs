//! The rule: which fields of a segment move, and by how much.
//!
//! Two spaces of sequence numbers meet here. Bytes from client to server have the same numbers on both
//! sides. Bytes from server to client are numbered from Sr by the server and from S' by the client, so with
//! D = S' − Sr:
//!
//! | field | client → server | server → client |
//! |---|---|---|
//! | SEQ | stays | + D |
//! | ACK, if the flag is set | − D | stays |
//! | SACK edges, duplicates too | − D | stay |
//! | TSval | stays | + O |
//! | TSecr, if ACK is set | − O | stays |
//! | window | scaled if only the client scales | scaled by the difference of the shifts |
//!
//! A field moves if it counts in the server's space, and for no other reason. The urgent pointer is relative to
//! SEQ and stays, as do flags and payload.
//!
//! The checksum is updated by difference, all fields in one sum (RFC 1624): a segment that was corrupted
//! on its way stays corrupted. A partial checksum covers none of these fields and stays what it is.

use gimlet_wire::{IcmpQuote, Layout, Sum, TCP_HEADER, TcpFlags, TcpView};

use crate::{Checksum, Side};

const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// How nearly every stack begins the options of a segment: two no-operations, then timestamps (RFC 7323
/// appendix A).
const ALIGNED_TIMESTAMPS: [u8; 4] = [NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10];

/// Things that the SYN-ACK promised to the client and the server does not have. They are taken out of what
/// passes, and no header changes its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strip(u8);

impl Strip {
    /// Nothing was promised in vain.
    pub const NOTHING: Self = Self(0);
    /// Selective acknowledgements: the client's become no-operations.
    pub const SACK: Self = Self(1);
    /// Timestamps: the client's become no-operations.
    pub const TIMESTAMPS: Self = Self(2);
    /// Congestion echoes: a server that did not agree to them means nothing by the flag.
    pub const ECN: Self = Self(4);

    /// What either strips.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are stripped.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }
}

/// How the windows of a flow are rescaled, from three shifts that its ends believe in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// How far the server's windows are shifted to the left for the client, or to the right if negative.
    pub(crate) to_client: i8,
    /// How far the client's windows are shifted to the left for the server.
    pub(crate) to_server: u8,
}

impl Windows {
    /// The rescaling where the client's SYN offered `client`, our SYN-ACK answered `promised`, and the server's
    /// answered `server`; `None` is a SYN or SYN-ACK without the option. Shifts over 14 count as 14 (RFC 7323
    /// §2.3).
    ///
    /// A shift counts if both ends of a space have one (RFC 7323 §2.2). If the server does not take part, its
    /// windows are what they say, and so must the client's be that reach it. A client that offered no
    /// shift, or was promised none, has none.
    pub const fn new(client: Option<u8>, promised: Option<u8>, server: Option<u8>) -> Self {
        const fn cap(shift: u8) -> i8 {
            (if shift > 14 { 14 } else { shift }).cast_signed()
        }
        match (client, promised, server) {
            (Some(_), Some(promised), Some(server)) => {
                Self { to_client: cap(server) - cap(promised), to_server: 0 }
            }
            (Some(client), Some(promised), None) => {
                Self { to_client: -cap(promised), to_server: cap(client).cast_unsigned() }
            }
            (None, _, _) | (Some(_), None, _) => Self { to_client: 0, to_server: 0 },
        }
    }

    /// A window of the server as the client reads it. It is never rounded up: what a window shows beyond the
    /// server's, the server did not offer.
    pub const fn to_client(self, window: u16) -> u16 {
        if self.to_client < 0 {
            window >> -self.to_client
        } else {
            widen(window, self.to_client.cast_unsigned())
        }
    }

    /// A window of the client as the server reads it.
    pub const fn to_server(self, window: u16) -> u16 {
        widen(window, self.to_server)
    }
}

const fn widen(window: u16, shift: u8) -> u16 {
    let wide = (window as u32) << shift;
    if wide > 0xffff { 0xffff } else { wide as u16 }
}

/// What is done to every segment of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// D = S' − Sr: from the server's space to the client's.
    pub delta: u32,
    /// O = T' − T: from the server's clock to the one that the client was shown; 0 without timestamps.
    pub clock: u32,
    /// How windows are rescaled.
    pub windows: Windows,
    /// What is taken out.
    pub strip: Strip,
}

impl Translation {
    /// Nothing is done.
    pub const IDENTITY: Self =
        Self { delta: 0, clock: 0, windows: Windows { to_client: 0, to_server: 0 }, strip: Strip::NOTHING };

    /// Rewrites a segment that comes from `side`, in place. A complete checksum is updated if something changed;
    /// a segment in which nothing changes keeps every bit.
    // Inlined, what the caller knows of the translation is not asked for again.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn apply(&self, side: Side, checksum: Checksum, tcp: &mut TcpView<&mut [u8]>) {
        let change = match side {
            Side::Client => self.toward_server(tcp),
            Side::Server => self.toward_client(tcp),
        };
        if change != Sum::new() && checksum == Checksum::Complete {
            let updated = (Sum::from_checksum(tcp.checksum()) + change).finish();
            tcp.set_checksum(updated);
        }
    }

    #[allow(clippy::inline_always)] // As `apply`.
    #[inline(always)]
    fn toward_client(&self, tcp: &mut TcpView<&mut [u8]>) -> Sum {
        let mut change = Sum::new();
        if self.delta != 0 {
            let (old, new) = (tcp.seq(), tcp.seq().wrapping_add(self.delta));
            tcp.set_seq(new);
            change = change.replace_u32(old, new);
        }
        if self.windows.to_client != 0 {
            change = change + rescale(tcp, self.windows.to_client(tcp.window()));
        }
        if self.strip.contains(Strip::ECN) {
            change = change + forget_echo(tcp);
        }
        if self.clock != 0 && tcp.header_len() > TCP_HEADER {
            let options = tcp.option_bytes_mut();
            let aligned = aligned_timestamps(options).map(|stamps| {
                change = change + shift(stamps, 4, self.clock);
                stamps.len()
            });
            let rest = &mut options[aligned.unwrap_or(0)..];
            if !rest.is_empty() {
                change = change.word(self.options_to_client(rest));
            }
        }
        change
    }

    #[allow(clippy::inline_always)] // As `apply`.
    #[inline(always)]
    fn toward_server(&self, tcp: &mut TcpView<&mut [u8]>) -> Sum {
        let mut change = Sum::new();
        // Without the flag the field means nothing, and stays.
        let has_ack = tcp.flags().contains(TcpFlags::ACK);
        if has_ack && self.delta != 0 {
            let (old, new) = (tcp.ack(), tcp.ack().wrapping_sub(self.delta));
            tcp.set_ack(new);
            change = change.replace_u32(old, new);
        }
        if self.windows.to_server != 0 {
            change = change + rescale(tcp, self.windows.to_server(tcp.window()));
        }
        if tcp.header_len() > TCP_HEADER {
            let options = tcp.option_bytes_mut();
            let keeps = !self.strip.contains(Strip::TIMESTAMPS);
            let aligned = aligned_timestamps(options).filter(|_| keeps).map(|stamps| {
                if has_ack && self.clock != 0 {
                    change = change + shift(stamps, 8, self.clock.wrapping_neg());
                }
                stamps.len()
            });
            let rest = &mut options[aligned.unwrap_or(0)..];
            if !rest.is_empty() {
                change = change.word(self.options_to_server(rest, has_ack));
            }
        }
        change
    }

    // By value: a translation that is lent has to be written to memory first.
    #[inline(never)]
    fn options_to_client(self, options: &mut [u8]) -> u16 {
        each_option(options, |kind, at, option| match (kind, option.len()) {
            (TIMESTAMPS, 10) => shift_at(option, 2, at, self.clock),
            (_, _) => Sum::new(),
        })
    }

    #[inline(never)]
    fn options_to_server(self, options: &mut [u8], has_ack: bool) -> u16 {
        each_option(options, |kind, at, option| match (kind, option.len()) {
            (TIMESTAMPS, 10) if self.strip.contains(Strip::TIMESTAMPS) => strip(option, at),
            (TIMESTAMPS, 10) if has_ack && self.clock != 0 => {
                shift_at(option, 6, at, self.clock.wrapping_neg())
            }
            (SACK, _) if self.strip.contains(Strip::SACK) => strip(option, at),
            (SACK, length) if length % 8 == 2 && self.delta != 0 => {
                let edges = (2..length).step_by(4);
                edges
                    .fold(Sum::new(), |sum, edge| sum + shift_at(option, edge, at, self.delta.wrapping_neg()))
            }
            (_, _) => Sum::new(),
        })
    }

    /// Rewrites what an ICMP error that comes from `side` quotes, so that whoever sent the quoted segment knows it
    /// again: its numbers are of the space on the other side of the box.
    ///
    /// A server looks for SEQ among what it has in flight, so SEQ has to be right or path MTU discovery ends in
    /// a black hole. A client's own SEQ needs no change; ACK, which few look at, is put right where it is
    /// quoted. So is the quoted checksum.
    pub fn apply_to_quote(
        &self,
        side: Side,
        checksum: Checksum,
        frame: &mut [u8],
        layout: &Layout,
        quote: &IcmpQuote,
    ) {
        let Some(segment) = quote.segment(frame) else { return };
        let quoted = &mut frame[quote.packet.transport_range()];
        let mut change = match side {
            Side::Client => shift(quoted, 4, self.delta.wrapping_neg()),
            Side::Server
                if segment.ack.is_some() && segment.flags.is_none_or(|f| f.contains(TcpFlags::ACK)) =>
            {
                shift(quoted, 8, self.delta)
            }
            Side::Server => Sum::new(),
        };
        if self.delta == 0 || change == Sum::new() {
            return;
        }
        // A quote of the header up to here shows the checksum, which the change goes through as well.
        if let Some(field) = quoted.get_mut(16..18) {
            let old = u16::from_be_bytes([field[0], field[1]]);
            let new = (Sum::from_checksum(old) + change).finish();
            field.copy_from_slice(&new.to_be_bytes());
            change = change.replace(old, new);
        }
        if checksum == Checksum::Complete {
            let at = usize::from(layout.transport_at) + 2;
            let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
            let new = (Sum::from_checksum(old) + change).finish();
            frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
        }
    }
}

/// Sets the window of a segment; what that changes in its sum. Windows in segments with SYN are never scaled
/// (RFC 7323 §2.2).
#[inline]
fn rescale(tcp: &mut TcpView<&mut [u8]>, new: u16) -> Sum {
    let old = tcp.window();
    if new == old || tcp.flags().contains(TcpFlags::SYN) {
        return Sum::new();
    }
    tcp.set_window(new);
    Sum::new().replace(old, new)
}

fn forget_echo(tcp: &mut TcpView<&mut [u8]>) -> Sum {
    let old = tcp.flags();
    let new = old & !TcpFlags::ECE;
    if new == old {
        return Sum::new();
    }
    tcp.set_flags(new);
    Sum::new().replace(old.0, new.0)
}

/// The aligned timestamps with which nearly every segment begins its options.
#[allow(clippy::inline_always)] // As `Translation::apply`.
#[inline(always)]
fn aligned_timestamps(options: &mut [u8]) -> Option<&mut [u8; ALIGNED_TIMESTAMPS.len() + 8]> {
    options.first_chunk_mut().filter(|stamps| stamps.starts_with(&ALIGNED_TIMESTAMPS))
}

/// Adds `by` to the four bytes at `at`, an offset that is even in the packet if it is even here.
#[allow(clippy::inline_always)] // As `Translation::apply`.
#[inline(always)]
fn shift(bytes: &mut [u8], at: usize, by: u32) -> Sum {
    debug_assert!(at & 1 == 0, "halves of words");
    let field: &mut [u8; 4] = bytes[at..].first_chunk_mut().expect("the caller looked at the length");
    let old = u32::from_be_bytes(*field);
    let new = old.wrapping_add(by);
    *field = new.to_be_bytes();
    Sum::new().replace_u32(old, new)
}

/// Adds `by` to the four bytes at `at`; `start` is where `bytes` begin in the packet.
#[inline]
fn shift_at(bytes: &mut [u8], at: usize, start: usize, by: u32) -> Sum {
    let field: &mut [u8; 4] = bytes[at..].first_chunk_mut().expect("the caller looked at the length");
    let old = u32::from_be_bytes(*field);
    let new = old.wrapping_add(by);
    *field = new.to_be_bytes();
    Sum::new().replace_u32_at(start + at, old, new)
}

/// Makes no-operations of an option that begins at `start` in the packet.
fn strip(option: &mut [u8], start: usize) -> Sum {
    let nothing = |sum: Sum, (at, byte): (usize, &mut u8)| {
        let old = core::mem::replace(byte, NO_OPERATION);
        sum.replace_u8_at(start + at, old, NO_OPERATION)
    };
    option.iter_mut().enumerate().fold(Sum::new(), nothing)
}

/// Calls `visit` with kind, offset and bytes of each option that has a length. It ends where a list does, or at
/// the first option that is malformed: nobody who receives it can read on either. What that changes in the sum comes
/// back as one word, which cannot overflow what it is added to.
#[inline]
fn each_option(options: &mut [u8], mut visit: impl FnMut(u8, usize, &mut [u8]) -> Sum) -> u16 {
    let (mut at, mut change) = (0, Sum::new());
    while let Some(kind) = options.get(at).copied().filter(|kind| *kind != END_OF_LIST) {
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let length = options.get(at + 1).map_or(0, |length| usize::from(*length));
        let Some(option) = options.get_mut(at..at + length).filter(|option| option.len() >= 2) else { break };
        change = change + visit(kind, at, option);
        at += length;
    }
    !change.finish()
}
