//! SYNs: which are answered, and with what.

use alloc::boxed::Box;
use core::net::SocketAddr;

use gimlet_machine::Instant;
use gimlet_wire::{Fragment, Network, Sum, TcpFlags, TcpOption, checksum};

use crate::config::{EARLY_DATA_MAX, EARLY_DATA_UNDER_PRESSURE};
use crate::cookie::Offer;
use crate::destination::{Profile, Warmth};
use crate::flow::slot::Slots;
use crate::handshake::{Client, Clock, FastOpen, Handshake, SEGMENT_SIZE_DEFAULT, Spoof, fast_open_until};
use crate::timer::BYPASS_IDLE;
use crate::translator::seen::{Arrival, Seen, SynOptions};
use crate::translator::{Fate, Translator};
use crate::{Bypass, Checksum, Event, FlowState, Role, SeqNumber, Side};

/// Options that a SYN offered, in the notes of a flow that is only watched.
const OFFERED_SCALE: u32 = 1;
const OFFERED_SACK: u32 = 2;
const OFFERED_TIMESTAMPS: u32 = 4;
const OFFERED_ECN: u32 = 8;
/// The SYN asked for a Fast Open cookie, which we put there.
pub(crate) const OFFERED_FAST_OPEN: u32 = 16;
/// The segment size of a server that names none or one that no link has (RFC 9293 §3.7.1): IPv4 carries 68
/// bytes at least, and all that still matters have 88 or more in their segments.
const SEGMENT_SIZE_MIN: u16 = 88;
/// The option that is nothing.
const NO_OPERATION: u8 = 1;

/// What to do with a SYN.
enum Admission {
    /// Nothing, and it is not remembered: nothing will ever be done for this destination.
    Ignore,
    /// It passes, and what follows of the flow passes too.
    Watch(Bypass),
    /// It is answered, for a server that answers like this.
    Answer(Profile),
    /// It is another box that answers.
    Follow,
}

impl<S: Slots> Translator<S> {
    /// A SYN from the client's side, of a flow that nobody knows.
    pub(crate) fn on_opening(&mut self, now: Instant, arrival: &mut Arrival<'_>, seen: &Seen) -> Fate {
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return Fate::Pass };
        let options = SynOptions::of(&view);
        let offered = offered(&options, seen.flags);
        match self.admit(now, arrival, seen, &options) {
            Admission::Ignore => Fate::Pass,
            Admission::Watch(why) => self.watch(now, arrival, seen, offered, why),
            Admission::Follow => {
                self.follow(now, arrival, seen, &options);
                Fate::Pass
            }
            Admission::Answer(profile) => self.spoof(now, arrival, seen, &options, profile),
        }
    }

    fn admit(&mut self, now: Instant, arrival: &Arrival<'_>, seen: &Seen, options: &SynOptions) -> Admission {
        let (client, server) = (arrival.key.client(), arrival.key.server());
        if self.policy.permits(client.ip(), server).is_none() {
            self.counters.not_allowed += 1;
            return Admission::Ignore;
        }
        // Near is the one who drains: what it has answered, Far follows.
        if self.moments.draining && self.config.role.spoofs() {
            self.counters.draining += 1;
            return Admission::Watch(Bypass::Draining);
        }
        if arrival.layout.fragment != Fragment::Whole {
            self.counters.fragments += 1;
            return Admission::Watch(Bypass::Options);
        }
        let odd = TcpFlags::URG | TcpFlags::PSH;
        if options.strange || arrival.layout.options || !seen.payload.is_empty() || seen.flags.intersects(odd)
        {
            self.counters.unusual += 1;
            return Admission::Watch(Bypass::Options);
        }
        // A SYN with a wrong checksum does not say what it seems to, and the server will not answer it.
        if !checksum_holds(arrival) {
            self.counters.bad_checksum += 1;
            return Admission::Ignore;
        }
        if now < self.moments.quiet_until && self.config.role.spoofs() {
            self.counters.quiet += 1;
            return Admission::Watch(Bypass::Overload);
        }
        self.admit_by_destination(now, client, server, options)
    }

    fn admit_by_destination(
        &mut self,
        now: Instant,
        client: SocketAddr,
        server: SocketAddr,
        options: &SynOptions,
    ) -> Admission {
        let full = self.is_full();
        self.counters.overload += u64::from(full);
        match (self.config.role.spoofs(), full) {
            (false, false) => return Admission::Follow,
            // If Near answered, the client's first segment tells.
            (false, true) => return Admission::Ignore,
            (true, true) => return Admission::Watch(Bypass::Overload),
            (true, false) => {}
        }
        let profile = match self.destinations.warmth(now, server) {
            Warmth::Warm(profile) if knows(&profile, options) => profile,
            Warmth::Warm(_) | Warmth::Cold => {
                self.counters.cold += 1;
                return Admission::Watch(Bypass::Cold);
            }
            Warmth::Unfit(_) => {
                self.counters.unfit += 1;
                return Admission::Watch(Bypass::Unfit);
            }
        };
        if self.config.role == Role::TfoUpgrade && !self.has_cookie(now, client, server) {
            // Without a cookie nothing would be gained: the data waits for the server either way.
            self.counters.cold += 1;
            return Admission::Watch(Bypass::Cold);
        }
        if !self.limiter.admit(now, client.ip()) {
            self.counters.rate_limited += 1;
            return Admission::Watch(Bypass::Overload);
        }
        Admission::Answer(profile)
    }

    /// Whether there is no room for one more handshake, and the flow and the early data that it becomes.
    pub(crate) fn is_full(&self) -> bool {
        let limits = &self.config.limits;
        let flows = self.flows.len() + self.handshakes.len();
        self.handshakes.len() >= limits.half_open
            || flows >= limits.flows.min(self.flows.limit())
            || self.handshakes.pooled() >= limits.pool / 4 * 3
    }

    /// Lets a SYN pass and remembers that: a copy of it that comes late must not be answered.
    fn watch(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        offered: u32,
        why: Bypass,
    ) -> Fate {
        let asks = why == Bypass::Cold && self.asks_for_cookie(now, arrival);
        let offered = if asks { offered | OFFERED_FAST_OPEN } else { offered };
        let room = self.bypassed < self.config.limits.flows.min(self.flows.limit()) / 4;
        if room && self.keep_bare(now, arrival.key, FlowState::Bypass, (seen.seq.0, offered)) {
            self.tell(Event::Bypassed { flow: arrival.key, why });
        } else {
            // Whoever cannot be remembered could be mistaken later. So nobody is answered for as long as a
            // copy could come.
            self.moments.quiet_until = now + BYPASS_IDLE;
        }
        if asks { self.pass_with_request(arrival) } else { Fate::Pass }
    }

    /// Answers a SYN, and lets what remains of it pass.
    fn spoof(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        options: &SynOptions,
        profile: Profile,
    ) -> Fate {
        let spoof = self.offer(arrival, seen, options, profile);
        let keep_ecn = spoof.offer.ecn;
        edit_syn(arrival, |option| match option {
            TcpOption::WindowScale(_) => spoof.offer.client_scale.is_some(),
            TcpOption::SackPermitted => spoof.offer.sack,
            TcpOption::Timestamps { .. } => spoof.timestamps,
            TcpOption::EndOfList
            | TcpOption::NoOperation
            | TcpOption::MaximumSegmentSize(_)
            | TcpOption::Sack(_)
            | TcpOption::FastOpen(_)
            | TcpOption::Md5
            | TcpOption::Ao
            | TcpOption::Mptcp
            | TcpOption::Other { .. } => true,
        });
        clear_ecn(arrival, keep_ecn);
        let mut handshake = begin(now, arrival, seen, options, Some(spoof));
        let upgrade = self.config.role == Role::TfoUpgrade;
        if upgrade {
            handshake.fast_open = FastOpen::Waiting(fast_open_until(now));
        }
        let syn_ack = handshake.syn_ack();
        self.send(Side::Client, arrival.leg.tag, syn_ack);
        self.handshakes.put(handshake);
        self.counters.spoofed += 1;
        self.tell(Event::Spoofed { flow: arrival.key });
        if upgrade { Fate::Consumed } else { Fate::Pass }
    }

    /// What the SYN-ACK says: nothing that the client did not ask for, nothing that the server was not seen to
    /// do.
    fn offer(&self, arrival: &Arrival<'_>, seen: &Seen, options: &SynOptions, profile: Profile) -> Spoof {
        let scale = options.scale.zip(profile.window_scale.flatten());
        let offer = Offer {
            client_scale: scale.map(|(client, _)| client),
            // As much as the server's own, so that windows need not be scaled.
            server_scale: scale.map_or(0, |(_, server)| server),
            sack: options.sack && profile.sack == Some(true),
            ecn: asks_for_ecn(seen.flags) && profile.ecn == Some(true),
        };
        let (client, server) = (arrival.key.client(), arrival.key.server());
        let limits = &self.config.limits;
        let promise = if self.handshakes.pooled() >= limits.pool / 2 {
            limits.early_data.min(EARLY_DATA_UNDER_PRESSURE)
        } else {
            limits.early_data.min(EARLY_DATA_MAX)
        };
        Spoof {
            cookie: self.cookies.make(client, server, seen.seq, offer),
            offer,
            timestamps: options.timestamps.is_some() && profile.timestamps == Some(true),
            segment_size: Some(profile.segment_size),
            window: promise.min(profile.window),
            hop_limit: profile.hop_limit,
        }
    }

    /// Remembers a SYN that another box may have answered.
    fn follow(&mut self, now: Instant, arrival: &Arrival<'_>, seen: &Seen, options: &SynOptions) {
        self.handshakes.put(begin(now, arrival, seen, options, None));
    }

    /// A server answered a SYN that passed.
    pub(crate) fn learn_from_bypass(
        &mut self,
        now: Instant,
        place: usize,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
    ) {
        let notes = self.flows.slot(place).translation();
        let answers = seen.ack == SeqNumber(notes.delta) + 1 && checksum_holds(arrival);
        if !answers || !self.config.role.spoofs() {
            return;
        }
        if notes.clock & OFFERED_FAST_OPEN != 0 {
            self.harvest(now, arrival);
        }
        self.learn(now, arrival, seen, notes.clock);
    }

    /// Learns how a server answers, from its SYN-ACK to a SYN that offered these things.
    pub(crate) fn learn(&mut self, now: Instant, arrival: &Arrival<'_>, seen: &Seen, offered: u32) {
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return };
        let options = SynOptions::of(&view);
        let known = |bit: u32, value: bool| (offered & bit != 0).then_some(value);
        let profile = Profile {
            segment_size: segment_size(&options),
            window_scale: (offered & OFFERED_SCALE != 0).then_some(options.scale),
            sack: known(OFFERED_SACK, options.sack),
            timestamps: known(OFFERED_TIMESTAMPS, options.timestamps.is_some()),
            ecn: known(OFFERED_ECN, accepts_ecn(seen.flags)),
            window: seen.window,
            hop_limit: arrival.layout.hop_limit(arrival.frame),
        };
        let server = arrival.key.server();
        let permitted = self.policy.permits(arrival.key.client().ip(), server).is_some();
        if permitted && self.destinations.learn(now, server, profile, self.config.warm_for) {
            self.counters.learned += 1;
            self.tell(Event::Learned { destination: server, profile });
        }
    }
}

/// The handshake that begins with this SYN.
pub(crate) fn begin(
    now: Instant,
    arrival: &Arrival<'_>,
    seen: &Seen,
    options: &SynOptions,
    spoof: Option<Spoof>,
) -> Handshake {
    Handshake {
        key: arrival.key,
        state: FlowState::HalfOpen,
        syn: complete(arrival),
        tag: arrival.leg.tag,
        client: Client {
            isn: seen.seq,
            window: seen.window,
            clock: options.timestamps.map(|(value, _)| value),
            timestamps: options.timestamps,
        },
        spoof,
        real: None,
        hold: None,
        clock: Clock { born: now, syn_at: now, syns: 1, syn_acks: 0, due: None },
        fast_open: FastOpen::Off,
        doubtful: false,
    }
}

/// The frame without padding, with a complete checksum.
pub(crate) fn complete(arrival: &Arrival<'_>) -> Box<[u8]> {
    let mut frame = arrival.frame[..arrival.layout.end as usize].to_vec();
    if arrival.leg.checksum == Checksum::Partial {
        let sum = arrival.layout.pseudo_header(&frame);
        if let Ok(mut view) = arrival.layout.tcp_mut(&mut frame) {
            let checksum = view.computed_checksum(sum);
            view.set_checksum(checksum);
        }
    }
    frame.into_boxed_slice()
}

/// Whether a segment says what its sender wrote: the sum over the IPv4 header is right, and the segment's own. A
/// partial one says nothing, but such a frame never left its host.
pub(crate) fn checksum_holds(arrival: &Arrival<'_>) -> bool {
    let layout = &arrival.layout;
    let header = usize::from(layout.network_at)..usize::from(layout.transport_at);
    let is_addressed = match layout.network {
        Network::V4 => checksum(&arrival.frame[header]) == 0,
        Network::V6 => true,
    };
    let is_partial = arrival.leg.checksum == Checksum::Partial;
    is_addressed && (is_partial || layout.transport_checksum_holds(arrival.frame))
}

/// Makes no-operations of the options of a SYN for which `keep` does not hold.
fn edit_syn(arrival: &mut Arrival<'_>, keep: impl Fn(&TcpOption<'_>) -> bool) {
    let start = usize::from(arrival.layout.transport_at);
    loop {
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return };
        let Some((at, _)) = view.options().flatten().find(|(_, option)| !keep(option)) else { return };
        let mut sum = Sum::from_checksum(view.checksum());
        let length = usize::from(arrival.frame[start + at + 1]);
        for offset in at..at + length {
            let old = core::mem::replace(&mut arrival.frame[start + offset], NO_OPERATION);
            sum = sum.replace_u8_at(offset, old, NO_OPERATION);
        }
        store(arrival, sum);
    }
}

/// Takes the flags out of a SYN with which it asks for what was not promised. Accurate ECN (RFC 9768) is
/// never promised; what it falls back to may be.
fn clear_ecn(arrival: &mut Arrival<'_>, keep: bool) {
    let Ok(mut view) = arrival.layout.tcp_mut(arrival.frame) else { return };
    let old = view.flags();
    let classic = TcpFlags::ECE | TcpFlags::CWR;
    let new = old & !TcpFlags::AE & if keep { !TcpFlags::NONE } else { !classic };
    view.set_flags(new);
    let sum = Sum::from_checksum(view.checksum()).replace(old.0, new.0);
    if new != old {
        store(arrival, sum);
    }
}

fn store(arrival: &mut Arrival<'_>, sum: Sum) {
    if arrival.leg.checksum == Checksum::Complete
        && let Ok(mut view) = arrival.layout.tcp_mut(arrival.frame)
    {
        view.set_checksum(sum.finish());
    }
}

/// What a SYN offers, as notes.
pub(crate) fn offered(options: &SynOptions, flags: TcpFlags) -> u32 {
    let bit = |bit: u32, set: bool| if set { bit } else { 0 };
    bit(OFFERED_SCALE, options.scale.is_some())
        | bit(OFFERED_SACK, options.sack)
        | bit(OFFERED_TIMESTAMPS, options.timestamps.is_some())
        | bit(OFFERED_ECN, asks_for_ecn(flags))
}

/// Whether it is known what the server says to everything that this SYN offers. Congestion marks may stay
/// unknown: they are taken out of the SYN.
fn knows(profile: &Profile, options: &SynOptions) -> bool {
    (options.scale.is_none() || profile.window_scale.is_some())
        && (!options.sack || profile.sack.is_some())
        && (options.timestamps.is_none() || profile.timestamps.is_some())
}

/// RFC 3168 §6.1.1.
fn asks_for_ecn(flags: TcpFlags) -> bool {
    flags.contains(TcpFlags::ECE | TcpFlags::CWR)
}

/// RFC 3168 §6.1.1: ECE without CWR.
pub(crate) fn accepts_ecn(flags: TcpFlags) -> bool {
    flags.contains(TcpFlags::ECE) && !flags.intersects(TcpFlags::CWR | TcpFlags::AE)
}

/// The maximum segment size of a server.
pub(crate) fn segment_size(options: &SynOptions) -> u16 {
    options.segment_size.unwrap_or(SEGMENT_SIZE_DEFAULT).max(SEGMENT_SIZE_MIN)
}
