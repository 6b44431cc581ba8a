//! TCP Fast Open for clients that do not speak it (RFC 7413): a SYN waits a moment for the first data and takes
//! it along, with a cookie that an earlier SYN-ACK brought.

use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_machine::Instant;
use gimlet_wire::{
    Envelope, Layout, Segment, Sum, TCP_HEADER, TCP_OPTIONS_MAX, TcpFlags, TcpOption, TcpOptionList,
};

use crate::destination::FastCookie;
use crate::flow::slot::Slots;
use crate::handshake::{FastOpen, Handshake, SEGMENT_SIZE_DEFAULT, bare};
use crate::translator::Fate;
use crate::translator::Translator;
use crate::translator::seen::Arrival;
use crate::{Checksum, Role, SeqNumber, Side};

/// The option that asks for a cookie (RFC 7413 §4.1.1), on a whole number of words.
const REQUEST: [u8; 4] = [34, 2, 1, 1];

impl<S: Slots> Translator<S> {
    /// Whether this client's data may go along with its SYN to this server.
    pub(crate) fn has_cookie(&self, now: Instant, client: SocketAddr, server: SocketAddr) -> bool {
        self.is_idempotent(client, server) && self.destinations.cookie(now, client.ip(), server).is_some()
    }

    fn is_idempotent(&self, client: SocketAddr, server: SocketAddr) -> bool {
        self.policy.permits(client.ip(), server).is_some_and(|allow| allow.idempotent)
    }

    /// Whether this SYN, which passes, is to ask for a cookie.
    pub(crate) fn asks_for_cookie(&self, now: Instant, arrival: &Arrival<'_>) -> bool {
        let (client, server) = (arrival.key.client(), arrival.key.server());
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return false };
        self.config.role == Role::TfoUpgrade
            && view.header_len() + REQUEST.len() <= TCP_HEADER + TCP_OPTIONS_MAX
            && self.is_idempotent(client, server)
            && self.destinations.may_fast_open(now, server)
            && self.destinations.cookie(now, client.ip(), server).is_none()
    }

    /// Sends a SYN on with the request for a cookie in it. The frame grows, so it cannot pass in place.
    pub(crate) fn pass_with_request(&mut self, arrival: &Arrival<'_>) -> Fate {
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return Fate::Pass };
        // What follows the end of the list would not be read.
        let options = view.options().flatten().find(|(_, option)| *option == TcpOption::EndOfList);
        let end = options.map_or(view.header_len(), |(at, _)| at) - TCP_HEADER;
        let options = TcpOptionList::new().raw(&view.option_bytes()[..end]).raw(&REQUEST);
        let segment = Segment {
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            flags: view.flags(),
            window: view.window(),
            options,
            ..bare(SeqNumber(view.seq()), SeqNumber(0))
        };
        let mut frame = Vec::with_capacity(128);
        Envelope::of(arrival.frame, &arrival.layout).write(&mut frame, &segment);
        self.send(Side::Server, arrival.leg.tag, Some(frame));
        Fate::Consumed
    }

    /// Takes the cookie out of a SYN-ACK: the client did not ask for one.
    pub(crate) fn harvest(&mut self, now: Instant, arrival: &mut Arrival<'_>) {
        let (client, server) = (arrival.key.client(), arrival.key.server());
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return };
        let found = view.options().flatten().find_map(|(at, option)| match option {
            TcpOption::FastOpen(cookie) => Some((at, FastCookie::new(cookie), cookie.len() + 2)),
            TcpOption::EndOfList
            | TcpOption::NoOperation
            | TcpOption::MaximumSegmentSize(_)
            | TcpOption::WindowScale(_)
            | TcpOption::SackPermitted
            | TcpOption::Sack(_)
            | TcpOption::Timestamps { .. }
            | TcpOption::Md5
            | TcpOption::Ao
            | TcpOption::Mptcp
            | TcpOption::Other { .. } => None,
        });
        let Some((at, cookie, length)) = found else { return };
        if let Some(cookie) = cookie {
            self.destinations.keep_cookie(now, client.ip(), server, cookie);
        }
        let start = usize::from(arrival.layout.transport_at);
        let mut sum = Sum::from_checksum(view.checksum());
        for offset in at..at + length {
            let old = core::mem::replace(&mut arrival.frame[start + offset], 1);
            sum = sum.replace_u8_at(offset, old, 1);
        }
        if arrival.leg.checksum == Checksum::Complete
            && let Ok(mut view) = arrival.layout.tcp_mut(arrival.frame)
        {
            view.set_checksum(sum.finish());
        }
    }

    /// The first data is here and its SYN waits for it: both go.
    pub(crate) fn open_fast(&mut self, now: Instant, handshake: &mut Handshake) {
        let FastOpen::Waiting(_) = handshake.fast_open else { return };
        let Some(hold) = handshake.hold.as_ref().filter(|hold| hold.contiguous() != handshake.first_byte())
        else {
            return;
        };
        let (client, server) = (handshake.key.client(), handshake.key.server());
        let cookie = self.destinations.cookie(now, client.ip(), server);
        let size = handshake.spoof.and_then(|spoof| spoof.segment_size).unwrap_or(SEGMENT_SIZE_DEFAULT);
        let built = cookie.and_then(|cookie| {
            with_data(handshake, &cookie, hold.at(handshake.first_byte(), usize::from(size)), size)
        });
        handshake.clock.syn_at = now;
        if let Some((frame, bytes)) = built {
            handshake.fast_open = FastOpen::Sent(bytes);
            self.send(Side::Server, handshake.tag, Some(frame));
        } else {
            // The options leave no room for a cookie, or there is none any more.
            handshake.fast_open = FastOpen::Off;
            self.send_syn(now, handshake);
        }
    }
}

/// The SYN with a cookie and as much of `data` as a segment takes beside its options, and how much that is.
fn with_data(handshake: &Handshake, cookie: &FastCookie, data: &[u8], size: u16) -> Option<(Vec<u8>, u16)> {
    let layout = Layout::of(&handshake.syn).ok()?;
    let view = layout.tcp(&handshake.syn).ok()?;
    let end = view.options().flatten().find(|(_, option)| *option == TcpOption::EndOfList);
    let end = end.map_or(view.header_len(), |(at, _)| at) - TCP_HEADER;
    let options = TcpOptionList::new().raw(&view.option_bytes()[..end]).fast_open(cookie.as_slice());
    if options.is_full() {
        return None;
    }
    let room = usize::from(size).checked_sub(options.as_slice().len())?;
    let data = &data[..data.len().min(room)];
    let segment = Segment {
        flags: view.flags() | TcpFlags::NONE,
        window: view.window(),
        options,
        payload: data,
        ..bare(handshake.client.isn, SeqNumber(0))
    };
    Some((handshake.server_frame(segment)?, data.len() as u16))
}
