//! What a segment says, read once.

use core::ops::Range;

use gimlet_wire::{Layout, TcpFlags, TcpOption, TcpView};

use crate::{FlowKey, Leg, SeqNumber};

/// A frame with a TCP segment, where the layout says.
pub(crate) struct Arrival<'a> {
    pub leg: Leg,
    pub frame: &'a mut [u8],
    pub layout: Layout,
    pub key: FlowKey,
}

/// The fields of a segment that a handshake looks at.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub seq: SeqNumber,
    pub ack: SeqNumber,
    pub flags: TcpFlags,
    pub window: u16,
    pub urgent: u16,
    pub timestamps: Option<(u32, u32)>,
    /// Where the payload lies in the frame.
    pub payload: Range<usize>,
}

impl Seen {
    pub(crate) fn of(view: &TcpView<&[u8]>, layout: &Layout) -> Self {
        let start = usize::from(layout.transport_at) + view.header_len();
        Self {
            seq: SeqNumber(view.seq()),
            ack: SeqNumber(view.ack()),
            flags: view.flags(),
            window: view.window(),
            urgent: view.urgent(),
            timestamps: view.timestamps(),
            payload: start..layout.end as usize,
        }
    }

    pub(crate) fn has(&self, flags: TcpFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Whether it is a SYN that begins something, and nothing else.
    pub(crate) fn is_opening(&self) -> bool {
        self.has(TcpFlags::SYN) && !self.flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN)
    }

    /// Whether it is a SYN-ACK.
    pub(crate) fn is_accepting(&self) -> bool {
        self.has(TcpFlags::SYN | TcpFlags::ACK) && !self.flags.intersects(TcpFlags::RST | TcpFlags::FIN)
    }
}

/// The options of a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SynOptions {
    pub segment_size: Option<u16>,
    pub scale: Option<u8>,
    pub timestamps: Option<(u32, u32)>,
    pub sack: bool,
    /// There is an option that nobody here can answer for, or one that cannot be read.
    pub strange: bool,
}

impl SynOptions {
    pub(crate) fn of(view: &TcpView<&[u8]>) -> Self {
        let mut found = Self::default();
        for option in view.options() {
            match option {
                // The user timeout (28, RFC 5482) is advice between the ends.
                Ok((
                    _,
                    TcpOption::EndOfList | TcpOption::NoOperation | TcpOption::Other { kind: 28, .. },
                )) => {}
                Ok((_, TcpOption::MaximumSegmentSize(size))) => found.segment_size = Some(size),
                // RFC 7323 §2.3: more than 14 counts as 14.
                Ok((_, TcpOption::WindowScale(shift))) => {
                    found.scale = Some(shift.min(gimlet_wire::WINDOW_SHIFT_MAX));
                }
                Ok((_, TcpOption::SackPermitted)) => found.sack = true,
                Ok((_, TcpOption::Timestamps { value, echo })) => found.timestamps = Some((value, echo)),
                Ok((
                    _,
                    TcpOption::Sack(_)
                    | TcpOption::FastOpen(_)
                    | TcpOption::Md5
                    | TcpOption::Ao
                    | TcpOption::Mptcp
                    | TcpOption::Other { .. },
                ))
                | Err(_) => found.strange = true,
            }
        }
        found
    }
}
