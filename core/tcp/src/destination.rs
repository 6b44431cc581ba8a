//! What is known about servers: how they answer a SYN, and whether they are to be answered for.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::Instant;

/// Destinations that are remembered. When there are as many, the one that was heard of least recently is
/// forgotten, and is cold when it is met again.
pub const DESTINATIONS_MAX: usize = 4_096;
/// Fast Open cookies that are remembered, one per client address and server. When there are as many, the
/// oldest is forgotten.
pub const FAST_COOKIES_MAX: usize = 4_096;
/// How long a destination stays warm after it was last seen to answer.
pub const WARM_FOR: Duration = Duration::from_secs(60);
/// How long a destination is left alone whose answers do not come by here.
pub const ASYMMETRIC_FOR: Duration = Duration::from_secs(600);
/// How long a destination is left alone that refused, or did not answer.
pub const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long no data goes along with a SYN after one of those was lost (RFC 7413 §4.1.3.1).
pub const FAST_OPEN_OFF_FOR: Duration = Duration::from_secs(3_600);
/// The longest Fast Open cookie (RFC 7413 §4.1.1).
pub const FAST_COOKIE_MAX: usize = 16;

/// How a server answers a SYN. What nobody asked it for is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its maximum segment size.
    pub segment_size: u16,
    /// Its window scale; `Some(None)`: it was asked and scales nothing.
    pub window_scale: Option<Option<u8>>,
    /// Whether it takes selective acknowledgements.
    pub sack: Option<bool>,
    /// Whether it takes timestamps.
    pub timestamps: Option<bool>,
    /// Whether it answers congestion marks.
    pub ecn: Option<bool>,
    /// Its first window, in bytes.
    pub window: u16,
    /// The time to live with which its packets come by.
    pub hop_limit: u8,
}

impl Profile {
    /// What is known after `newer` was seen: what it does not say stays.
    #[must_use]
    pub(crate) fn updated(self, newer: Profile) -> Profile {
        Profile {
            window_scale: newer.window_scale.or(self.window_scale),
            sack: newer.sack.or(self.sack),
            timestamps: newer.timestamps.or(self.timestamps),
            ecn: newer.ecn.or(self.ecn),
            ..newer
        }
    }
}

/// Why a destination is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It refused a connection, or answered none.
    Refused,
    /// It did not do what it was learned to do.
    Changed,
    /// Its answers take another way.
    Asymmetric,
}

/// Whether a SYN to a destination is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// It answered not long ago, and like this.
    Warm(Profile),
    /// It has to be learned, or learned again.
    Cold,
    /// It is left alone.
    Unfit(Unfit),
}

#[derive(Clone, Copy, Debug)]
struct Destination {
    touched: Instant,
    warm_until: Instant,
    profile: Option<Profile>,
    unfit: Option<(Unfit, Instant)>,
    /// Data goes along with SYNs again from this moment on.
    fast_open_from: Instant,
}

/// A Fast Open cookie of a server for one client address (RFC 7413 §4.1.1): never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FastCookie {
    bytes: [u8; FAST_COOKIE_MAX],
    len: u8,
}

impl FastCookie {
    /// The cookie of these bytes, if they can be one.
    pub(crate) fn new(cookie: &[u8]) -> Option<Self> {
        let mut bytes = [0; FAST_COOKIE_MAX];
        if cookie.is_empty() {
            return None;
        }
        bytes.get_mut(..cookie.len())?.copy_from_slice(cookie);
        Some(Self { bytes, len: cookie.len() as u8 })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// All that is known about servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destinations {
    known: BTreeMap<SocketAddr, Destination>,
    by_age: BTreeSet<(Instant, SocketAddr)>,
    cookies: BTreeMap<(IpAddr, SocketAddr), (Instant, FastCookie)>,
    cookies_by_age: BTreeSet<(Instant, IpAddr, SocketAddr)>,
}

impl Destinations {
    /// Whether SYNs to `server` are to be answered.
    pub(crate) fn warmth(&self, now: Instant, server: SocketAddr) -> Warmth {
        let Some(known) = self.known.get(&server) else { return Warmth::Cold };
        if let Some((why, _)) = known.unfit.filter(|(_, until)| now < *until) {
            return Warmth::Unfit(why);
        }
        known.profile.filter(|_| now < known.warm_until).map_or(Warmth::Cold, Warmth::Warm)
    }

    /// The server answered a SYN like this. Says whether that is news.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        server: SocketAddr,
        profile: Profile,
        warm: Duration,
    ) -> bool {
        let known = self.touch(now, server);
        let updated = known.profile.map_or(profile, |before| before.updated(profile));
        let news = known.profile != Some(updated) || known.warm_until <= now;
        (known.profile, known.warm_until) = (Some(updated), now + warm);
        news
    }

    /// The server is there: something of its came by.
    pub(crate) fn renew(&mut self, now: Instant, server: SocketAddr, warm: Duration) {
        if self.known.get(&server).is_some_and(|known| known.profile.is_some()) {
            self.touch(now, server).warm_until = now + warm;
        }
    }

    /// Leaves the server alone until `until`, and forgets how it answers.
    pub(crate) fn mark(&mut self, now: Instant, server: SocketAddr, why: Unfit, until: Instant) {
        let known = self.touch(now, server);
        known.profile = None;
        if known.unfit.is_none_or(|(_, before)| before < until) {
            known.unfit = Some((why, until));
        }
    }

    /// Forgets all about the server.
    pub(crate) fn forget(&mut self, server: SocketAddr) {
        if let Some(known) = self.known.remove(&server) {
            self.by_age.remove(&(known.touched, server));
        }
    }

    /// Keeps a Fast Open cookie.
    pub(crate) fn keep_cookie(
        &mut self,
        now: Instant,
        client: IpAddr,
        server: SocketAddr,
        cookie: FastCookie,
    ) {
        if let Some((before, _)) = self.cookies.remove(&(client, server)) {
            self.cookies_by_age.remove(&(before, client, server));
        } else if self.cookies.len() >= FAST_COOKIES_MAX
            && let Some((_, client, server)) = self.cookies_by_age.pop_first()
        {
            self.cookies.remove(&(client, server));
        }
        self.cookies.insert((client, server), (now, cookie));
        self.cookies_by_age.insert((now, client, server));
    }

    /// Whether SYNs to `server` may carry data, or ask to.
    pub(crate) fn may_fast_open(&self, now: Instant, server: SocketAddr) -> bool {
        self.known.get(&server).is_none_or(|known| known.fast_open_from <= now)
    }

    /// The cookie with which this client's data may go along with its SYN.
    pub(crate) fn cookie(&self, now: Instant, client: IpAddr, server: SocketAddr) -> Option<FastCookie> {
        let allowed = self.may_fast_open(now, server);
        self.cookies.get(&(client, server)).map(|(_, cookie)| *cookie).filter(|_| allowed)
    }

    /// Lets no data go along with SYNs for a while.
    pub(crate) fn suspend_fast_open(&mut self, now: Instant, server: SocketAddr) {
        self.touch(now, server).fast_open_from = now + FAST_OPEN_OFF_FOR;
    }

    /// How many destinations are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        use core::mem::size_of;
        let one = size_of::<(SocketAddr, Destination)>() + size_of::<(Instant, SocketAddr)>();
        let cookie = size_of::<(IpAddr, SocketAddr, Instant, FastCookie)>()
            + size_of::<(Instant, IpAddr, SocketAddr)>();
        self.known.len() * one + self.cookies.len() * cookie
    }

    fn touch(&mut self, now: Instant, server: SocketAddr) -> &mut Destination {
        if let Some(known) = self.known.get(&server) {
            self.by_age.remove(&(known.touched, server));
        } else if self.known.len() >= DESTINATIONS_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.known.remove(&oldest);
        }
        self.by_age.insert((now, server));
        let known = self.known.entry(server).or_insert(Destination {
            touched: now,
            warm_until: Instant::ZERO,
            profile: None,
            unfit: None,
            fast_open_from: Instant::ZERO,
        });
        known.touched = now;
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: Profile = Profile {
        segment_size: 1_460,
        window_scale: Some(Some(7)),
        sack: Some(true),
        timestamps: None,
        ecn: None,
        window: 65_535,
        hop_limit: 64,
    };

    fn server(last: u16) -> SocketAddr {
        SocketAddr::new([10, 0, (last >> 8) as u8, last as u8].into(), 80)
    }

    #[test]
    fn a_destination_is_warm_for_a_minute_after_it_was_last_seen() {
        let (mut known, at) = (Destinations::default(), Instant::from_millis);
        assert_eq!(known.warmth(at(0), server(1)), Warmth::Cold);
        assert!(known.learn(at(0), server(1), PROFILE, WARM_FOR));
        assert!(!known.learn(at(1), server(1), PROFILE, WARM_FOR));
        assert_eq!(known.warmth(at(60_000), server(1)), Warmth::Warm(PROFILE));
        known.renew(at(60_000), server(1), WARM_FOR);
        assert_eq!(known.warmth(at(60_001), server(1)), Warmth::Warm(PROFILE));
        assert_eq!(known.warmth(at(120_000), server(1)), Warmth::Cold);
        known.renew(at(120_000), server(2), WARM_FOR);
        assert_eq!((known.warmth(at(120_000), server(2)), known.len()), (Warmth::Cold, 1));
    }

    #[test]
    fn what_was_not_asked_for_stays_as_it_was_known() {
        let mut known = Destinations::default();
        known.learn(Instant::ZERO, server(1), PROFILE, WARM_FOR);
        let plain = Profile { window_scale: None, sack: Some(false), timestamps: Some(true), ..PROFILE };
        assert!(known.learn(Instant::ZERO, server(1), plain, WARM_FOR));
        let expected = Profile { sack: Some(false), timestamps: Some(true), ..PROFILE };
        assert_eq!(known.warmth(Instant::ZERO, server(1)), Warmth::Warm(expected));
    }

    #[test]
    fn an_unfit_destination_is_left_alone_and_has_to_be_learned_again() {
        let (mut known, at) = (Destinations::default(), Instant::from_millis);
        known.learn(at(0), server(1), PROFILE, WARM_FOR);
        known.mark(at(0), server(1), Unfit::Asymmetric, at(0) + ASYMMETRIC_FOR);
        known.mark(at(0), server(1), Unfit::Refused, at(0) + REFUSED_FOR);
        assert_eq!(known.warmth(at(599_999), server(1)), Warmth::Unfit(Unfit::Asymmetric));
        assert_eq!(known.warmth(at(600_000), server(1)), Warmth::Cold);
        known.forget(server(1));
        assert_eq!(known.len(), 0);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_is_oldest() {
        let mut known = Destinations::default();
        for last in 0..=DESTINATIONS_MAX as u16 {
            known.learn(Instant::from_millis(u64::from(last)), server(last), PROFILE, WARM_FOR);
        }
        assert_eq!(known.len(), DESTINATIONS_MAX);
        assert_eq!(known.warmth(Instant::ZERO, server(0)), Warmth::Cold);
        assert_eq!(known.warmth(Instant::ZERO, server(1)), Warmth::Warm(PROFILE));
        assert_eq!(known.by_age.len(), DESTINATIONS_MAX);
    }

    #[test]
    fn cookies_are_bounded_and_rest_after_a_loss() {
        let (mut known, now) = (Destinations::default(), Instant::from_millis(5));
        let cookie = FastCookie::new(b"12345678").unwrap();
        for last in 0..=FAST_COOKIES_MAX as u16 {
            known.keep_cookie(Instant::from_millis(u64::from(last)), server(last).ip(), server(1), cookie);
        }
        assert_eq!((known.cookies.len(), known.cookies_by_age.len()), (FAST_COOKIES_MAX, FAST_COOKIES_MAX));
        assert_eq!(known.cookie(now, server(0).ip(), server(1)), None);
        assert_eq!(known.cookie(now, server(1).ip(), server(1)), Some(cookie));
        known.suspend_fast_open(now, server(1));
        assert_eq!(known.cookie(now, server(1).ip(), server(1)), None);
        assert_eq!(known.cookie(now + FAST_OPEN_OFF_FOR, server(1).ip(), server(1)), Some(cookie));
        assert_eq!((FastCookie::new(&[]), FastCookie::new(&[0; 17])), (None, None));
        assert!(known.memory() > FAST_COOKIES_MAX * cookie.as_slice().len());
    }
}
