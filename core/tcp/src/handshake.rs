//! One handshake under way: what each side said, and what waits between them.

pub(crate) mod pending;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use gimlet_machine::Instant;
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};

use crate::cookie::{Cookie, Offer};
use crate::hold::Hold;
use crate::state::FlowStep;
use crate::timer::{
    ANSWER_TIMEOUT, CONNECT_TIMEOUT, FAST_OPEN_WAIT, SYN_ACK_TRIES_MAX, SYN_TRIES_MAX, backoff,
};
use crate::{FlowKey, FlowState, Role, SeqNumber};

/// How long Near waits beyond the time in which Far tells a client that its server is silent.
const NEAR_PATIENCE: Duration = Duration::from_secs(5);
/// The maximum segment size of a server that does not say (RFC 9293 §3.7.1).
pub(crate) const SEGMENT_SIZE_DEFAULT: u16 = 536;

/// What the client said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// The number of its SYN.
    pub isn: SeqNumber,
    /// Its last window, as written.
    pub window: u16,
    /// The clock in its SYN, which every copy of the SYN-ACK echoes.
    pub clock: Option<u32>,
    /// Its last timestamps: its clock, and the echo of ours.
    pub timestamps: Option<(u32, u32)>,
}

/// What the SYN-ACK said that is not the server's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spoof {
    /// S' and T'.
    pub cookie: Cookie,
    /// Window scales, SACK, congestion marks.
    pub offer: Offer,
    /// Whether T' was part of it.
    pub timestamps: bool,
    /// Its maximum segment size; `None`: another box said it.
    pub segment_size: Option<u16>,
    /// Its window: how much may be early.
    pub window: u16,
    /// The time to live that the server's packets have here.
    pub hop_limit: u8,
}

/// What the server's SYN-ACK said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Real {
    /// Sr.
    pub isn: SeqNumber,
    /// T.
    pub timestamp: Option<u32>,
    /// Its window scale.
    pub scale: Option<u8>,
    /// Its maximum segment size.
    pub segment_size: u16,
    /// Its window, which is never scaled in a SYN-ACK.
    pub window: u16,
    /// Whether it takes selective acknowledgements.
    pub sack: bool,
    /// Whether it answers congestion marks.
    pub ecn: bool,
}

/// Whether data goes along with the SYN (RFC 7413).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FastOpen {
    /// No.
    Off,
    /// It may: the SYN waits for it until this moment.
    Waiting(Instant),
    /// So many bytes went.
    Sent(u16),
}

/// What has happened how often, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The client's SYN arrived.
    pub born: Instant,
    /// The last SYN left for the server.
    pub syn_at: Instant,
    /// SYNs that left for the server since the client answered, and the first.
    pub syns: u8,
    /// SYN-ACKs sent again by themselves.
    pub syn_acks: u8,
    /// When this handshake wants attention: where it stands among the alarms.
    pub due: Option<Instant>,
}

/// A handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub key: FlowKey,
    pub state: FlowState,
    /// The SYN as it left for the server, with a complete checksum: the pattern of all that is sent.
    pub syn: Box<[u8]>,
    /// The VLAN tag that the driver holds.
    pub tag: Option<u16>,
    pub client: Client,
    /// `None` at Far until the client's first segment shows what Near said.
    pub spoof: Option<Spoof>,
    pub real: Option<Real>,
    pub hold: Option<Box<Hold>>,
    pub clock: Clock,
    pub fast_open: FastOpen,
    /// A router said that the server cannot be reached, and that this may change.
    pub doubtful: bool,
}

impl Handshake {
    /// Takes a step that is legal here.
    pub(crate) fn step(&mut self, step: FlowStep) {
        let next = self.state.after(step);
        debug_assert!(next.is_some(), "{step:?} in {:?}", self.state);
        self.state = next.unwrap_or(self.state);
    }

    /// S', once it is known.
    pub(crate) fn spoofed(&self) -> Option<SeqNumber> {
        self.spoof.map(|spoof| spoof.cookie.isn)
    }

    /// The number of the first byte that the client sends.
    pub(crate) fn first_byte(&self) -> SeqNumber {
        self.client.isn + 1
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> u32 {
        self.hold.as_ref().map_or(0, |hold| hold.len())
    }

    /// Bytes that are held and were not sent on.
    pub(crate) fn waiting(&self) -> u32 {
        self.hold.as_ref().map_or(0, |hold| hold.waiting())
    }

    /// Bytes of memory for early data.
    pub(crate) fn pooled(&self) -> usize {
        self.hold.as_ref().map_or(0, |hold| hold.memory())
    }

    /// When it wants attention next.
    pub(crate) fn deadline(&self, role: Role) -> Option<Instant> {
        let clock = &self.clock;
        let end = match self.state {
            FlowState::HalfOpen | FlowState::AwaitClient => clock.born + ANSWER_TIMEOUT,
            FlowState::AwaitServer => clock.born + Self::patience(role),
            // What the server's window did not take in this time comes again from the client.
            FlowState::Established => clock.born + CONNECT_TIMEOUT,
            FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering
            | FlowState::Aborted
            | FlowState::Bypass => return None,
        };
        let again = match self.state {
            FlowState::HalfOpen | FlowState::AwaitClient => self.next_syn_ack(role),
            FlowState::AwaitServer => self.next_syn(),
            FlowState::Established
            | FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering
            | FlowState::Aborted
            | FlowState::Bypass => None,
        };
        let waits = match self.fast_open {
            FastOpen::Waiting(until) => Some(until),
            FastOpen::Off | FastOpen::Sent(_) => None,
        };
        [Some(end), again, waits].into_iter().flatten().min()
    }

    /// How long the server may be silent.
    pub(crate) fn patience(role: Role) -> Duration {
        match role {
            Role::Near => CONNECT_TIMEOUT + NEAR_PATIENCE,
            Role::Far | Role::Single | Role::TfoUpgrade => CONNECT_TIMEOUT,
        }
    }

    /// When the SYN is sent again by itself, while the server is silent.
    pub(crate) fn next_syn(&self) -> Option<Instant> {
        let clock = &self.clock;
        let silent = self.real.is_none() && clock.syns < SYN_TRIES_MAX;
        silent.then(|| clock.syn_at + backoff(clock.syns))
    }

    /// When the SYN-ACK is sent again by itself: after 1, 3 and 7 s. At 15 s it is over. Far never sends one: Near
    /// said it.
    pub(crate) fn next_syn_ack(&self, role: Role) -> Option<Instant> {
        let clock = &self.clock;
        let waited = (1u32 << (clock.syn_acks + 1)) - 1;
        let may = role.spoofs() && self.spoof.is_some() && clock.syn_acks + 1 < SYN_ACK_TRIES_MAX;
        may.then(|| clock.born + backoff(1) * waited)
    }

    /// What is around everything that is sent to the server.
    pub(crate) fn envelope(&self) -> Option<Envelope> {
        let layout = Layout::of(&self.syn).ok()?;
        Some(Envelope::of(&self.syn, &layout))
    }

    /// The SYN-ACK that the client gets, the same each time.
    pub(crate) fn syn_ack(&self) -> Option<Vec<u8>> {
        let spoof = self.spoof?;
        let size = spoof.segment_size.unwrap_or(SEGMENT_SIZE_DEFAULT);
        let mut options = TcpOptionList::new().maximum_segment_size(size);
        if spoof.offer.sack {
            options = options.sack_permitted();
        }
        if let Some(clock) = self.client.clock.filter(|_| spoof.timestamps) {
            options = options.timestamps(spoof.cookie.timestamp, clock);
        }
        if spoof.offer.client_scale.is_some() {
            options = options.no_operation().window_scale(spoof.offer.server_scale);
        }
        let ecn = if spoof.offer.ecn { TcpFlags::ECE } else { TcpFlags::NONE };
        self.client_frame(Segment {
            source_port: 0,
            destination_port: 0,
            seq: spoof.cookie.isn.0,
            ack: self.first_byte().0,
            flags: TcpFlags::SYN | TcpFlags::ACK | ecn,
            window: spoof.window,
            options,
            payload: &[],
        })
    }

    /// A RST to a client that acknowledged our SYN-ACK: it stands where the client expects the next byte. It
    /// acknowledges what is held, in the words of one who has seen it and will not have it.
    pub(crate) fn reset_to_client(&self) -> Option<Vec<u8>> {
        let ack = self.hold.as_ref().map_or(self.first_byte(), |hold| hold.contiguous());
        let seq = self.spoofed()? + 1;
        self.client_frame(Segment { flags: TcpFlags::RST | TcpFlags::ACK, ..bare(seq, ack) })
    }

    /// The RST that answers a client's segment with a wrong acknowledgement (RFC 9293 §3.10.7.4).
    pub(crate) fn reset_client_at(&self, seq: SeqNumber) -> Option<Vec<u8>> {
        self.client_frame(Segment { flags: TcpFlags::RST, ..bare(seq, SeqNumber(0)) })
    }

    /// A RST to the server.
    pub(crate) fn reset_server_at(&self, seq: SeqNumber) -> Option<Vec<u8>> {
        self.server_frame(Segment { flags: TcpFlags::RST, ..bare(seq, SeqNumber(0)) })
    }

    /// A segment of the client's with the server's numbers: the acknowledgement that ends the handshake, or
    /// held data.
    pub(crate) fn to_server(
        &self,
        seq: SeqNumber,
        flags: TcpFlags,
        urgent: Option<SeqNumber>,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let real = self.real?;
        let beyond = urgent.filter(|urgent| urgent.after(seq) && !payload.is_empty());
        let pointer = beyond.map_or(0, |urgent| (urgent - seq).min(0xffff) as u16);
        let flags = if beyond.is_some() { flags | TcpFlags::URG } else { flags };
        let frame = self.server_frame(Segment {
            flags,
            window: self.window_for_server(),
            options: self.options_for_server(real),
            payload,
            ..bare(seq, real.isn + 1)
        })?;
        Some(with_urgent(frame, pointer))
    }

    /// The client's acknowledgement of our SYN-ACK once more, in its own numbers: Near repeats it for Far.
    pub(crate) fn answer_again(&self) -> Option<Vec<u8>> {
        let spoof = self.spoof?;
        let clocks = self.client.timestamps.filter(|_| spoof.timestamps);
        let options = clocks.map_or(TcpOptionList::new(), |(value, _)| {
            TcpOptionList::new().no_operation().no_operation().timestamps(value, spoof.cookie.timestamp)
        });
        self.server_frame(Segment {
            flags: TcpFlags::ACK,
            window: self.client.window,
            options,
            ..bare(self.first_byte(), spoof.cookie.isn + 1)
        })
    }

    /// Bytes of options in what [`Handshake::to_server`] makes.
    pub(crate) fn option_len(&self) -> usize {
        self.real.map_or(0, |real| self.options_for_server(real).as_slice().len())
    }

    fn options_for_server(&self, real: Real) -> TcpOptionList {
        match (self.client.timestamps, real.timestamp) {
            // Two no-operations first, as most stacks write it: the option is aligned then.
            (Some((value, _)), Some(echo)) => {
                TcpOptionList::new().no_operation().no_operation().timestamps(value, echo)
            }
            (Some(_) | None, Some(_) | None) => TcpOptionList::new(),
        }
    }

    /// The client's window as the server is to read it.
    pub(crate) fn window_for_server(&self) -> u16 {
        let client_scale = self.spoof.and_then(|spoof| spoof.offer.client_scale);
        match (client_scale, self.real.and_then(|real| real.scale)) {
            (Some(scale), None) => (u32::from(self.client.window) << scale).min(0xffff) as u16,
            (Some(_) | None, Some(_) | None) => self.client.window,
        }
    }

    pub(crate) fn server_frame(&self, segment: Segment<'_>) -> Option<Vec<u8>> {
        let (client, server) = (self.key.client().port(), self.key.server().port());
        let segment = Segment { source_port: client, destination_port: server, ..segment };
        let mut frame = Vec::with_capacity(128 + segment.payload.len());
        self.envelope()?.write(&mut frame, &segment);
        Some(frame)
    }

    pub(crate) fn client_frame(&self, segment: Segment<'_>) -> Option<Vec<u8>> {
        let (client, server) = (self.key.client().port(), self.key.server().port());
        let segment = Segment { source_port: server, destination_port: client, ..segment };
        let spoof = self.spoof;
        let envelope = Envelope {
            hop_limit: spoof.map_or(64, |spoof| spoof.hop_limit),
            traffic_class: 0,
            flow_label: spoof.map_or(0, |spoof| spoof.cookie.isn.0 & 0xf_ffff),
            ..self.envelope()?.reversed()
        };
        let mut frame = Vec::with_capacity(128);
        envelope.write(&mut frame, &segment);
        Some(frame)
    }
}

/// A segment without ports, options and data.
pub(crate) fn bare(seq: SeqNumber, ack: SeqNumber) -> Segment<'static> {
    Segment {
        source_port: 0,
        destination_port: 0,
        seq: seq.0,
        ack: ack.0,
        flags: TcpFlags::NONE,
        window: 0,
        options: TcpOptionList::new(),
        payload: &[],
    }
}

/// Sets the urgent pointer of a frame that was just written, which has none.
fn with_urgent(mut frame: Vec<u8>, pointer: u16) -> Vec<u8> {
    if pointer != 0
        && let Ok(layout) = Layout::of(&frame)
        && let Ok(mut view) = layout.tcp_mut(&mut frame)
    {
        let sum = gimlet_wire::Sum::from_checksum(view.checksum()).replace(0, pointer);
        view.as_mut_slice()[18..20].copy_from_slice(&pointer.to_be_bytes());
        view.set_checksum(sum.finish());
    }
    frame
}

/// The moment until which a SYN waits for data.
pub(crate) fn fast_open_until(now: Instant) -> Instant {
    now + FAST_OPEN_WAIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_and_its_names_take_less_than_half_a_kilobyte_with_a_usual_syn() {
        let names = 2 * core::mem::size_of::<(Instant, FlowKey)>();
        let syn = 14 + 20 + 40;
        assert!(core::mem::size_of::<Handshake>() + names + syn < 512);
    }
}
