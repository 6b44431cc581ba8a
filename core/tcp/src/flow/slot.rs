//! What is kept of a flow: one cache line, plain data.

use core::fmt;

use gimlet_machine::Instant;

use crate::flow::key::FlowKey;
use crate::rewrite::{Strip, Translation, Windows};

/// One flow in a table that may outlive its process: 64 bytes without pointers, on a cache line of their own. Any
/// bits are a slot; the table finds out which of them mean something.
///
/// ```text
///   word 0,1  client address       2,3  server address
///   word 4    ports (32)           network: family and VLANs (32)
///   word 5    D (32)               O (32)
///   word 6    last seen (32)       mark (28)  state (4)             <- changes while a flow lives, in one store
///   word 7    check (24)  segment size (16)  windows (8, 8)  strip (8)
/// ```
///
/// Everything but word 6 is written once. The check covers it and the secret and generation of the table, so a
/// slot that was being written when its process died, or that another table left behind, is not taken for a
/// flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Slot([u64; 8]);

/// Memory for a table: the driver lends it, so that it can be memory that survives the driver.
pub trait Slots: AsRef<[Slot]> + AsMut<[Slot]> {}

impl<T: AsRef<[Slot]> + AsMut<[Slot]>> Slots for T {}

/// Bits by which nanoseconds are shifted to make ticks: a tick is a little more than a quarter of a second, and 32
/// bits of them are 36 years.
const TICK_SHIFT: u32 = 28;

/// A coarse moment, by which slots know when they were last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    /// The tick that `now` lies in.
    #[inline]
    pub(crate) fn of(now: Instant) -> Self {
        Self((now.as_nanos() >> TICK_SHIFT) as u32)
    }

    /// The moment at which it began.
    pub(crate) fn start(self) -> Instant {
        Instant::from_nanos(u64::from(self.0) << TICK_SHIFT)
    }
}

impl Slot {
    /// No flow.
    pub const EMPTY: Self = Self([0; 8]);

    /// A slot of these words, whatever they mean.
    pub const fn from_words(words: [u64; 8]) -> Self {
        Self(words)
    }

    /// The words as they are.
    pub const fn words(&self) -> &[u64; 8] {
        &self.0
    }
}

/// What a table keeps of a flow, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) key: FlowKey,
    pub(crate) translation: Translation,
    /// The server's maximum segment size, if the client was promised a larger one; else 0.
    pub(crate) segment_size: u16,
    /// The state's number.
    pub(crate) state: u8,
    /// Whatever the translator wants to remember.
    pub(crate) mark: u32,
    pub(crate) seen: Tick,
}

impl Slot {
    /// The slot of `flow`, sealed by `seal`, which gives the check for the words that stay.
    pub(crate) fn of(flow: &Flow, seal: impl FnOnce(&Slot) -> u32) -> Self {
        let Flow { key, translation: t, segment_size, state, mark, seen } = flow;
        let windows = u16::from_be_bytes([t.windows.to_client.cast_unsigned(), t.windows.to_server]);
        let mut slot = Self([
            (key.client >> 64) as u64,
            key.client as u64,
            (key.server >> 64) as u64,
            key.server as u64,
            join(key.ports, key.network),
            join(t.delta, t.clock),
            join(seen.0, (*mark << STATE_BITS) | u32::from(*state)),
            (u64::from(*segment_size) << 24) | (u64::from(windows) << 8) | u64::from(t.strip.bits()),
        ]);
        // Never 0: that is how an empty slot is known.
        let check = (seal(&slot) & CHECK).max(1);
        slot.0[7] |= u64::from(check) << CHECK_SHIFT;
        slot
    }

    /// Whether there is nothing.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0[7] == 0
    }

    /// Whether the check is the one that `seal` gives.
    pub(crate) fn holds(&self, seal: impl FnOnce(&Slot) -> u32) -> bool {
        let mut bare = *self;
        bare.0[7] &= (1 << CHECK_SHIFT) - 1;
        (self.0[7] >> CHECK_SHIFT) as u32 == (seal(&bare) & CHECK).max(1)
    }

    /// Whether it is the slot of the flow named `key`.
    #[inline]
    pub(crate) const fn is(&self, key: &FlowKey) -> bool {
        let [client_upper, client, server_upper, server, ends, ..] = self.0;
        // `ends` says which family: the upper halves of IPv4 addresses are all the same.
        client == key.client as u64
            && ends == join(key.ports, key.network)
            && server == key.server as u64
            && (!key.is_v6()
                || (client_upper == (key.client >> 64) as u64 && server_upper == (key.server >> 64) as u64))
    }

    /// Which flow it is.
    pub(crate) const fn key(&self) -> FlowKey {
        let words = &self.0;
        FlowKey {
            client: (words[0] as u128) << 64 | words[1] as u128,
            server: (words[2] as u128) << 64 | words[3] as u128,
            ports: (words[4] >> 32) as u32,
            network: words[4] as u32,
        }
    }

    /// What is done to its segments.
    #[inline]
    pub(crate) const fn translation(&self) -> Translation {
        let [_, _, _, _, _, offsets, _, rest] = self.0;
        Translation {
            delta: (offsets >> 32) as u32,
            clock: offsets as u32,
            windows: Windows { to_client: ((rest >> 16) as u8).cast_signed(), to_server: (rest >> 8) as u8 },
            strip: Strip::from_bits(rest as u8),
        }
    }

    /// What is done to its segments if that is only to shift numbers: no windows, no options, no sizes.
    #[inline]
    pub(crate) const fn shifts(&self) -> Option<Translation> {
        let [_, _, _, _, _, offsets, _, rest] = self.0;
        let shifts =
            Translation { delta: (offsets >> 32) as u32, clock: offsets as u32, ..Translation::IDENTITY };
        if rest & ((1 << CHECK_SHIFT) - 1) == 0 { Some(shifts) } else { None }
    }

    /// The server's maximum segment size, if the client was promised a larger one; else 0.
    #[inline]
    pub(crate) const fn segment_size(&self) -> u16 {
        (self.0[7] >> 24) as u16
    }

    /// The state's number.
    #[inline]
    pub(crate) const fn state(&self) -> u8 {
        self.0[6] as u8 & ((1 << STATE_BITS) - 1)
    }

    /// What the translator remembered.
    #[inline]
    pub(crate) const fn mark(&self) -> u32 {
        self.0[6] as u32 >> STATE_BITS
    }

    /// When it was last touched.
    #[inline]
    pub(crate) const fn seen(&self) -> Tick {
        Tick((self.0[6] >> 32) as u32)
    }

    /// Notes that it was seen. Nothing is written twice in a tick: a cache line that is only read costs less.
    #[inline]
    pub(crate) fn touch(&mut self, tick: Tick) {
        if self.seen() != tick {
            self.0[6] = join(tick.0, self.0[6] as u32);
        }
    }

    /// Changes what may change, in one store.
    pub(crate) fn update(&mut self, state: u8, mark: u32, seen: Tick) {
        self.0[6] = join(seen.0, (mark << STATE_BITS) | u32::from(state));
    }

    /// All of it.
    pub(crate) const fn flow(&self) -> Flow {
        Flow {
            key: self.key(),
            translation: self.translation(),
            segment_size: self.segment_size(),
            state: self.state(),
            mark: self.mark(),
            seen: self.seen(),
        }
    }
}

/// Bits of a state's number.
const STATE_BITS: u32 = 4;
/// Where the check begins in the last word, and its bits.
const CHECK_SHIFT: u32 = 40;
const CHECK: u32 = 0x00ff_ffff;

const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("Slot(empty)") } else { write!(f, "Slot({:?})", self.flow()) }
    }
}
