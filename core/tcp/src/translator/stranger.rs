//! Segments of flows that nobody knows.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use gimlet_machine::Instant;
use gimlet_wire::{Envelope, Fragment, Segment, TcpFlags, TcpOptionList};

use crate::config::RESET_FOR;
use crate::cookie::{Offer, offer_of};
use crate::flow::slot::{Flow, Slots, Tick};
use crate::handshake::{Client, Clock, FastOpen, Handshake, bare};
use crate::translator::admit::checksum_holds;
use crate::translator::client::promised;
use crate::translator::flow::ASKED;
use crate::translator::seen::{Arrival, Seen};
use crate::translator::{Fate, Translator};
use crate::{FlowState, Role, SeqNumber, Side, Translation, Unknown};

/// The segment size in a SYN that is made up (RFC 8200 §5: what every path of IPv6 carries, less its headers).
/// The client's own is in the SYN that was lost.
const SEGMENT_SIZE_MADE_UP: u16 = 1_220;

impl<S: Slots> Translator<S> {
    /// Whether anything is to be done about segments of unknown flows from this side.
    pub(crate) fn asks_about_strangers(&self, now: Instant, side: Side) -> bool {
        self.config.role == Role::Far && side == Side::Client || self.resets_strangers(now)
    }

    fn resets_strangers(&self, now: Instant) -> bool {
        match self.config.unknown {
            Unknown::Reset => now.since(self.moments.started) < RESET_FOR,
            Unknown::Pass => false,
        }
    }

    pub(crate) fn on_unknown(&mut self, now: Instant, arrival: &mut Arrival<'_>, seen: &Seen) -> Fate {
        let asks = self.asks_about_strangers(now, arrival.leg.side);
        if !asks || self.policy.serves(arrival.key.server()).is_none() {
            self.counters.unknown_passed += 1;
            return Fate::Pass;
        }
        if self.config.role == Role::Far && arrival.leg.side == Side::Client {
            if let Some(handshake) = self.make_up(now, arrival, seen) {
                return self.on_made_up(now, arrival, seen, handshake);
            }
            self.remember_unknown(now, arrival, seen);
        }
        if self.resets_strangers(now) {
            return self.reset_unknown(arrival, seen);
        }
        self.counters.unknown_passed += 1;
        Fate::Pass
    }

    /// The handshake whose SYN was lost on its way here, if this is the first segment of a client that Near
    /// answered. Everything about it is in the cookie: nobody makes one up. A client without a clock echoes
    /// nothing, and has to wait until Near sends the SYN again.
    pub(crate) fn make_up(&mut self, now: Instant, arrival: &Arrival<'_>, seen: &Seen) -> Option<Handshake> {
        let usual = seen.has(TcpFlags::ACK) && !seen.flags.intersects(TcpFlags::SYN | TcpFlags::RST);
        let whole = arrival.layout.fragment == Fragment::Whole;
        let asked = self.config.role == Role::Far && arrival.leg.side == Side::Client;
        if !asked || !usual || !whole {
            return None;
        }
        let isn = seen.seq - 1;
        let (value, echo) = seen.timestamps?;
        let offer = offer_of(echo);
        // The echo is T', to the bit: nobody else has said anything to this client.
        let (client, server) = (arrival.key.client(), arrival.key.server());
        let (cookie, _) = self.cookies.check(client, server, isn, offer, seen.ack - 1)?;
        if cookie.timestamp != echo {
            return None;
        }
        // Whoever has proof goes before those that have none.
        let room = !self.is_full() || self.handshakes.evict_unproven() && !self.is_full();
        if !room || !checksum_holds(arrival) {
            self.counters.overload += u64::from(!room);
            return None;
        }
        Some(Handshake {
            key: arrival.key,
            state: FlowState::HalfOpen,
            syn: made_up_syn(arrival, isn, offer, value),
            tag: arrival.leg.tag,
            client: Client { isn, window: seen.window, clock: Some(value), timestamps: seen.timestamps },
            spoof: Some(promised(cookie, offer, true)),
            real: None,
            hold: None,
            clock: Clock { born: now, syn_at: now, syns: 1, syn_acks: 0, due: None },
            fast_open: FastOpen::Off,
            doubtful: false,
        })
    }

    pub(crate) fn on_made_up(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        mut handshake: Handshake,
    ) -> Fate {
        self.counters.syns_made_up += 1;
        self.send_syn(now, &mut handshake);
        self.on_handshake(now, arrival, seen, handshake)
    }

    /// Far: this flow was asked about, and is not Near's. So it need not be asked about again, and a cookie does
    /// not fit by accident in the end. A SYN makes an end of that.
    fn remember_unknown(&mut self, now: Instant, arrival: &Arrival<'_>, seen: &Seen) {
        let room = self.bypassed < self.config.limits.flows.min(self.flows.limit()) / 4;
        let usual = !seen.flags.intersects(TcpFlags::RST | TcpFlags::SYN);
        if room && usual && arrival.layout.fragment == Fragment::Whole && checksum_holds(arrival) {
            let tick = Tick::of(now);
            let flow = Flow {
                key: arrival.key,
                translation: Translation { delta: seen.seq.0, clock: seen.ack.0, ..Translation::IDENTITY },
                // Whose size is no matter: when it was.
                segment_size: tick.0 as u16,
                state: FlowState::Bypass as u8,
                mark: ASKED,
                seen: tick,
            };
            self.keep(now, &flow);
        }
    }

    /// After a start without the table: both ends of a connection that may have been translated are told that it
    /// is over, as far as the segment tells where they are.
    fn reset_unknown(&mut self, arrival: &Arrival<'_>, seen: &Seen) -> Fate {
        if seen.has(TcpFlags::RST) || !seen.has(TcpFlags::ACK) || seen.has(TcpFlags::SYN) {
            return Fate::Pass;
        }
        self.counters.unknown_reset += 1;
        // Where the sender expects the next byte.
        self.answer(arrival, Segment { flags: TcpFlags::RST, ..bare(seen.ack, SeqNumber(0)) });
        match arrival.leg.side {
            Side::Client => {
                self.counters.resets_to_client += 1;
                self.counters.resets_to_server += 1;
                self.forward(arrival, Segment { flags: TcpFlags::RST, ..bare(seen.seq, SeqNumber(0)) });
                Fate::Consumed
            }
            Side::Server => {
                self.counters.resets_to_server += 1;
                // Numbers that the client does not know: it answers with its own (RFC 9293 §3.10.7.4), and
                // hears the truth.
                Fate::Pass
            }
        }
    }

    /// Sends a segment on, in the name of whoever sent this frame.
    fn forward(&mut self, arrival: &Arrival<'_>, segment: Segment<'_>) {
        let Arrival { leg, frame, layout, key } = arrival;
        let (ours, theirs) = (key.client().port(), key.server().port());
        let mut out = Vec::with_capacity(128);
        let segment = Segment { source_port: ours, destination_port: theirs, ..segment };
        Envelope::of(frame, layout).write(&mut out, &segment);
        self.send(leg.side.across(), leg.tag, Some(out));
    }
}

/// The SYN that was lost, as far as it can be known.
fn made_up_syn(arrival: &Arrival<'_>, isn: SeqNumber, offer: Offer, clock: u32) -> Box<[u8]> {
    let headers = match arrival.key.client().ip() {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 0,
    };
    let mut options = TcpOptionList::new().maximum_segment_size(SEGMENT_SIZE_MADE_UP + headers);
    if offer.sack {
        options = options.sack_permitted();
    }
    options = options.timestamps(clock, 0);
    if let Some(scale) = offer.client_scale {
        options = options.no_operation().window_scale(scale);
    }
    let ecn = if offer.ecn { TcpFlags::ECE | TcpFlags::CWR } else { TcpFlags::NONE };
    let (client, server) = (arrival.key.client().port(), arrival.key.server().port());
    let segment = Segment {
        source_port: client,
        destination_port: server,
        flags: TcpFlags::SYN | ecn,
        // The window of a SYN is not scaled; the client's next segment says its window anyway.
        window: u16::MAX,
        options,
        ..bare(isn, SeqNumber(0))
    };
    let mut frame = Vec::with_capacity(128);
    Envelope::of(arrival.frame, &arrival.layout).write(&mut frame, &segment);
    frame.into_boxed_slice()
}
