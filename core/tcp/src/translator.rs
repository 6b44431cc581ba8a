//! The machine: frames in, frames out.
//!
//! Every frame takes one of three ways. Segments of established flows are rewritten and pass: parse, look up,
//! rewrite. Segments of a handshake are looked at one by one, against the table in [`crate::FlowState`]'s file.
//! Everything else passes as it is.

pub(crate) mod admit;
pub(crate) mod alarm;
pub(crate) mod client;
pub(crate) mod fast_open;
pub(crate) mod flow;
pub(crate) mod join;
pub(crate) mod quote;
pub(crate) mod seen;
pub(crate) mod server;
pub(crate) mod stranger;

use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Queue, Rng, Transmit, Verdict};
use gimlet_wire::{Fragment, Layout, Malformed, MalformedTcp, TcpFlags, Transport};

use crate::config::Config;
use crate::cookie::Cookies;
use crate::destination::Destinations;
use crate::event::EVENTS_MAX;
use crate::flow::slot::Tick;
use crate::flow::table::Table;
use crate::handshake::Handshake;
use crate::handshake::pending::Handshakes;
use crate::policy::{Limiter, Policy};
use crate::state::FlowState;
use crate::timer::sweep;
use crate::translator::seen::{Arrival, Seen};
use crate::{
    Allow, AllowError, Attached, ConfigError, Counters, Event, FlowKey, FlowReport, Leg, Secret, Side, Slot,
    Slots, slots_for,
};

/// Frames that wait to be sent. The driver drains them after each input, so only what one input or
/// one timeout causes is ever here. What does not fit is dropped and counted: TCP sends again.
pub const OUTBOX_MAX: usize = 512;
/// So many frames wait before no further timer is served. It is, once they left.
const OUTBOX_LOW: usize = 64;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on to the other side.
    Pass,
    /// It ends here.
    Consumed,
}

/// Moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    started: Instant,
    /// The latest moment that anybody named.
    now: Instant,
    /// When the next look at a part of the table is due; `None` while it is empty.
    sweep: Option<Instant>,
    /// Where that look begins.
    cursor: usize,
    /// Until then no SYN is answered, because one that passed could not be remembered.
    quiet_until: Instant,
    draining: bool,
    /// Which client was told last that its segments are too large.
    told: Option<(FlowKey, Instant)>,
}

/// A translator: one machine per pair of interfaces.
#[derive(Debug)]
pub struct Translator<S: Slots = Vec<Slot>> {
    config: Config,
    policy: Policy,
    limiter: Limiter,
    cookies: Cookies,
    destinations: Destinations,
    flows: Table<S>,
    /// Flows in the table that are not touched. They get a quarter of it at most.
    bypassed: usize,
    handshakes: Handshakes,
    outbox: Queue<(Leg, Vec<u8>)>,
    events: Queue<Event>,
    counters: Counters,
    moments: Moments,
}

impl Translator {
    /// A translator with a table of its own, that ends with it.
    pub fn new(now: Instant, rng: Rng, config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let slots = alloc::vec![Slot::EMPTY; slots_for(config.limits.flows)];
        Self::attach(now, rng, config, slots).map(|(translator, _)| translator)
    }
}

impl<S: Slots> Translator<S> {
    /// A translator with a table in `slots`, of which there are [`slots_for`] the flows it may have at least. The
    /// flows that another translator left there go on, if it had the same `now` or an earlier one; what is not
    /// whole is discarded.
    #[allow(clippy::needless_pass_by_value, reason = "a machine owns its generator")]
    pub fn attach(now: Instant, rng: Rng, config: Config, slots: S) -> Result<(Self, Attached), ConfigError> {
        config.check()?;
        let given = slots.as_ref().len();
        let (flows, attached) = Table::attach(slots, rng.fork("table"), Tick::of(now))
            .filter(|(table, _)| table.limit() >= config.limits.flows)
            .ok_or(ConfigError::Slots(given))?;
        let bypass = FlowState::Bypass as u8;
        let bypassed = flows.iter().filter(|slot| slot.state() == bypass).count();
        let moments = Moments {
            started: now,
            now,
            sweep: (flows.len() > 0).then(|| now + sweep(given).1),
            cursor: 0,
            quiet_until: Instant::ZERO,
            draining: false,
            told: None,
        };
        let mut keys = rng.fork("keys");
        let translator = Self {
            policy: Policy::new(config.allowed.clone(), config.clients.clone()),
            limiter: Limiter::new(config.limits.rate, &mut keys),
            cookies: Cookies::new(config.secret, &mut keys),
            destinations: Destinations::default(),
            flows,
            bypassed,
            handshakes: Handshakes::new(config.role, &mut keys),
            outbox: Queue::new(OUTBOX_MAX),
            events: Queue::new(EVENTS_MAX),
            counters: Counters { slots_discarded: attached.discarded as u64, ..Counters::default() },
            moments,
            config,
        };
        Ok((translator, attached))
    }

    /// Begins no new flows. Those that there are go on until they end.
    pub fn drain(&mut self, now: Instant) {
        self.advance(now);
        self.moments.draining = true;
    }

    /// Makes cookies with `secret` from here on. Those made with the last one are accepted until the next
    /// rotation. Far learns a new secret before Near does.
    pub fn rotate_secret(&mut self, now: Instant, secret: Secret) {
        self.advance(now);
        self.cookies.rotate(secret);
    }

    /// Forgets how `destination` answers. The next SYN to it passes, and its answer is learned.
    pub fn forget(&mut self, now: Instant, destination: SocketAddr) {
        self.advance(now);
        self.destinations.forget(destination);
    }

    /// Allows more destinations.
    pub fn allow(&mut self, now: Instant, more: Allow) -> Result<(), AllowError> {
        self.advance(now);
        if self.policy.allow(more) { Ok(()) } else { Err(AllowError::TooMany) }
    }

    /// What became of everything.
    pub fn counters(&self) -> Counters {
        let (table_reseeded, flows_lost) = (self.flows.reseeds(), self.flows.lost());
        Counters { table_reseeded, flows_lost, ..self.counters }
    }

    /// Fetches what `handle_input` will want to know about `frame`, and changes nothing. A driver that holds
    /// several frames calls this for all of them before it hands in the first: with many flows the memory is
    /// what takes time, and it answers several questions in the time of one.
    #[inline]
    pub fn foresee(&self, leg: Leg, frame: &[u8]) {
        if let Some(layout) = Layout::plain_v4(frame) {
            self.fetch(leg, frame, &layout);
        } else if let Some(layout) = Layout::plain_v6(frame) {
            self.fetch(leg, frame, &layout);
        }
    }

    #[allow(clippy::inline_always)] // As `translate`.
    #[inline(always)]
    fn fetch(&self, leg: Leg, frame: &[u8], layout: &Layout) {
        if let Ok(view) = layout.tcp(frame) {
            let addresses = layout.wide_addresses(frame);
            let key = FlowKey::untagged(layout.network, addresses, view.ports(), leg.side);
            // Nobody needs the answer, but somebody has to ask for it, or nothing is read.
            core::hint::black_box(self.flows.peek(&key));
        }
    }

    /// Handshakes under way.
    pub fn half_open(&self) -> usize {
        self.handshakes.len()
    }

    /// Whether nothing is left to do but to pass frames: what [`Translator::drain`] leads to.
    pub fn is_idle(&self) -> bool {
        self.flows.len() == self.bypassed && self.handshakes.len() == 0
    }

    /// Bytes of early data that are held, as memory.
    pub fn pooled(&self) -> usize {
        self.handshakes.pooled()
    }

    /// Bytes of memory, about: the table as a whole, and what there is of everything else.
    pub fn memory(&self) -> usize {
        let table = self.flows.slots() * core::mem::size_of::<Slot>();
        let queued: usize = self.outbox.iter().map(|(_, frame)| frame.capacity()).sum();
        table + self.handshakes.memory() + self.destinations.memory() + self.limiter.memory() + queued
    }

    /// The table, as it would be left behind.
    pub fn slots(&self) -> &[Slot] {
        self.flows.as_slice()
    }

    /// Every flow: handshakes first, then the table.
    pub fn flows(&self) -> impl Iterator<Item = FlowReport> {
        let pending = self.handshakes.iter().map(report_of_handshake);
        // What is left of a flush belongs to a flow that the table has.
        let pending = pending.filter(|report| !report.state.is_translated());
        pending.chain(self.flows.iter().map(report_of_slot))
    }

    /// The flow to which a frame belongs that came in on `leg`, if it is known.
    pub fn flow_of(&self, leg: Leg, frame: &[u8]) -> Option<FlowReport> {
        let layout = Layout::of(frame).ok()?;
        if layout.transport != Transport::Tcp || layout.fragment == Fragment::Later {
            return None;
        }
        let ports = layout.tcp(frame).ok()?.ports();
        let key = FlowKey::of(frame, &layout, ports, leg.side, leg.tag)?;
        match self.flows.find(&key) {
            Some(place) => Some(report_of_slot(self.flows.slot(place))),
            None => self.handshakes.find(&key).map(report_of_handshake),
        }
    }

    /// Time never goes back, whatever the driver says.
    fn advance(&mut self, now: Instant) -> Instant {
        self.moments.now = self.moments.now.max(now);
        self.moments.now
    }

    #[inline]
    fn on_frame(&mut self, now: Instant, leg: Leg, frame: &mut [u8]) -> Fate {
        // The two usual shapes each on their own: their offsets are constants, and it shows.
        if let Some(layout) = Layout::plain_v4(frame)
            && self.translate(now, leg, frame, &layout)
        {
            return Fate::Pass;
        }
        if let Some(layout) = Layout::plain_v6(frame)
            && self.translate(now, leg, frame, &layout)
        {
            return Fate::Pass;
        }
        self.on_any_frame(now, leg, frame)
    }

    #[inline(never)]
    fn on_any_frame(&mut self, now: Instant, leg: Leg, frame: &mut [u8]) -> Fate {
        let layout = match Layout::of(frame) {
            Ok(layout) => layout,
            Err(Malformed::NotIp(_)) => return Fate::Pass,
            Err(
                Malformed::Truncated
                | Malformed::Tags
                | Malformed::Version
                | Malformed::HeaderLength
                | Malformed::TotalLength
                | Malformed::Extensions,
            ) => {
                self.counters.malformed += 1;
                return Fate::Pass;
            }
        };
        match layout.transport {
            Transport::Tcp if layout.fragment != Fragment::Later => self.on_segment(now, leg, frame, layout),
            Transport::Icmp | Transport::Icmpv6 => self.on_icmp(now, leg, frame, layout),
            Transport::Tcp | Transport::Udp | Transport::Other(_) => Fate::Pass,
        }
    }

    /// Translates a segment of an established flow of which there is nothing else to say; whether it was one.
    // Inlined, or the offsets would be variables again. What is not for this function is looked at anew: to hand
    // over what it knows would cost every segment a trip through memory.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn translate(&mut self, now: Instant, leg: Leg, frame: &mut [u8], layout: &Layout) -> bool {
        let addresses = layout.wide_addresses(frame);
        let Ok(mut tcp) = layout.tcp_mut(frame) else { return false };
        let flags = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        if leg.tag.is_some() || tcp.flags().intersects(flags) {
            return false;
        }
        let key = FlowKey::untagged(layout.network, addresses, tcp.ports(), leg.side);
        let Some(slot) = self.flows.find_slot(&key) else { return false };
        let Some(shifts) = slot.shifts().filter(|_| flow::is_plain(slot, now)) else { return false };
        slot.touch(Tick::of(now));
        shifts.apply(leg.side, leg.checksum, &mut tcp);
        self.counters.translated += 1;
        true
    }

    fn on_segment(&mut self, now: Instant, leg: Leg, frame: &mut [u8], layout: Layout) -> Fate {
        let ports = match layout.tcp(frame) {
            Ok(view) => view.ports(),
            Err(error) => return self.unreadable(layout, error),
        };
        let Some(key) = FlowKey::of(frame, &layout, ports, leg.side, leg.tag) else { return Fate::Pass };
        let Some(place) = self.flows.find(&key) else {
            return self.on_stranger(now, &mut Arrival { leg, frame, layout, key });
        };
        let slot = self.flows.slot_mut(place);
        if flow::is_plain(slot, now)
            && slot.segment_size() == 0
            && let Ok(mut tcp) = layout.tcp_mut(frame)
            && !tcp.flags().intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
        {
            slot.touch(Tick::of(now));
            slot.translation().apply(leg.side, leg.checksum, &mut tcp);
            self.counters.translated += 1;
            return Fate::Pass;
        }
        self.on_flow(now, place, &mut Arrival { leg, frame, layout, key })
    }

    #[cold]
    fn unreadable(&mut self, layout: Layout, error: MalformedTcp) -> Fate {
        let counter = match (layout.fragment, error) {
            (Fragment::First, MalformedTcp::Truncated) => &mut self.counters.fragments,
            (Fragment::Whole | Fragment::First | Fragment::Later, _) => &mut self.counters.malformed,
        };
        *counter += 1;
        Fate::Pass
    }

    /// A segment of a flow that the table does not have.
    #[cold]
    fn on_stranger(&mut self, now: Instant, arrival: &mut Arrival<'_>) -> Fate {
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return Fate::Pass };
        let opens = arrival.leg.side == Side::Client && view.flags().contains(TcpFlags::SYN);
        if !opens && self.handshakes.len() == 0 && !self.asks_about_strangers(now, arrival.leg.side) {
            // All that Near sees of an established flow goes this way.
            self.counters.unknown_passed += 1;
            return Fate::Pass;
        }
        let seen = Seen::of(&view, &arrival.layout);
        if let Some(handshake) = self.handshakes.take(&arrival.key) {
            return self.on_handshake(now, arrival, &seen, handshake);
        }
        match arrival.leg.side {
            Side::Client if seen.is_opening() => self.on_opening(now, arrival, &seen),
            Side::Client | Side::Server => self.on_unknown(now, arrival, &seen),
        }
    }

    /// Queues a frame of our own.
    fn send(&mut self, side: Side, tag: Option<u16>, frame: Option<Vec<u8>>) -> bool {
        let Some(frame) = frame else { return false };
        let sent = self.outbox.push((Leg { tag, ..Leg::new(side) }, frame)).is_ok();
        self.counters.outbox_full += u64::from(!sent);
        sent
    }

    fn tell(&mut self, event: Event) {
        self.counters.events_lost += u64::from(self.events.push(event).is_err());
    }

    /// Serves timers that are due, as long as there is room for what they say.
    fn serve(&mut self, now: Instant) {
        while self.outbox.len() < OUTBOX_LOW
            && let Some(handshake) = self.handshakes.due(now)
        {
            self.on_alarm(now, handshake);
        }
        if self.moments.sweep.is_some_and(|due| due <= now) {
            self.sweep(now);
        }
    }
}

fn report_of_handshake(handshake: &Handshake) -> FlowReport {
    FlowReport {
        flow: handshake.key,
        state: handshake.state,
        delta: handshake.real.zip(handshake.spoofed()).map(|(real, spoofed)| spoofed - real.isn),
        held: handshake.held(),
    }
}

fn report_of_slot(slot: &Slot) -> FlowReport {
    let state = flow::state_of(slot);
    let delta = state.is_translated().then(|| slot.translation().delta);
    FlowReport { flow: slot.key(), state, delta, held: 0 }
}

impl<S: Slots> Machine for Translator<S> {
    type Path = Leg;
    type Event = Event;

    #[inline]
    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        let now = self.advance(now);
        match self.on_frame(now, input.path, input.bytes) {
            Fate::Pass => Verdict::Pass { path: input.path.across(), range: 0..input.bytes.len() },
            Fate::Consumed => Verdict::Consumed,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.serve(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        let now = self.advance(now);
        loop {
            if self.outbox.is_empty() {
                // More timers may have been due than had room.
                self.serve(now);
            }
            let (leg, frame) = self.outbox.pop()?;
            if out.put(&frame) {
                return Some(Transmit::new(leg));
            }
            self.counters.outbox_full += 1;
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let sweep = self.moments.sweep.map(|at| Deadline { at, why: "sweep" });
        Deadline::earliest([self.handshakes.deadline(), sweep])
    }
}
