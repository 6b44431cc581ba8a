//! What may be answered for: destinations, clients, rates.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;

use gimlet_machine::{Instant, Rng, SeededMap};

/// Entries of the list of destinations.
pub const ALLOWED_MAX: usize = 1_024;
/// Source networks whose rate is watched at a time. When there are as many, SYNs from others pass untouched.
pub const SOURCES_MAX: usize = 16_384;
/// Never answered for, whatever the list says: BGP checks time to live and signatures (RFC 5082).
pub const PORT_BGP: u16 = 179;

/// A block of addresses. An IPv4 block holds IPv4 addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    address: IpAddr,
    prefix: u8,
}

impl Block {
    /// The addresses that share the first `prefix` bits with `address`; `None` if it has not that many.
    pub const fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if prefix <= bits { Some(Self { address, prefix }) } else { None }
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = ours.to_bits() ^ theirs.to_bits();
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = ours.to_bits() ^ theirs.to_bits();
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Destinations that may be answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Servers.
    pub servers: Block,
    /// Their ports.
    pub ports: RangeInclusive<u16>,
    /// Whether what a client says first may reach the server twice. Only then does it go along with a SYN
    /// (RFC 7413 §2.1).
    pub idempotent: bool,
}

/// How many SYNs of one source network (/24, or /64 of IPv6) are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// And then per second.
    pub per_second: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { burst: 1_000, per_second: 500 }
    }
}

/// The lists.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    allowed: Vec<Allow>,
    clients: Vec<Block>,
}

impl Policy {
    pub(crate) fn new(allowed: Vec<Allow>, clients: Vec<Block>) -> Self {
        Self { allowed, clients }
    }

    /// Adds to the list; says whether there was room.
    pub(crate) fn allow(&mut self, more: Allow) -> bool {
        let room = self.allowed.len() < ALLOWED_MAX;
        if room && !self.allowed.contains(&more) {
            self.allowed.push(more);
        }
        room
    }

    /// The entry that allows to answer `client` for `server`.
    pub(crate) fn permits(&self, client: IpAddr, server: SocketAddr) -> Option<&Allow> {
        let known = self.clients.is_empty() || self.clients.iter().any(|block| block.contains(client));
        self.serves(server).filter(|_| known)
    }

    /// The entry that `server` is in.
    pub(crate) fn serves(&self, server: SocketAddr) -> Option<&Allow> {
        let fits =
            |allow: &&Allow| allow.ports.contains(&server.port()) && allow.servers.contains(server.ip());
        self.allowed.iter().find(fits).filter(|_| server.port() != PORT_BGP)
    }
}

/// Token buckets, one per source network.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: Rate,
    buckets: SeededMap<u128, Bucket>,
    /// When empty ones were last looked for.
    cleaned: Instant,
}

#[derive(Debug)]
struct Bucket {
    /// In thousandths.
    tokens: u64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant, rate: Rate) {
        let gained = now.since(self.filled).as_millis() as u64;
        let tokens = self.tokens.saturating_add(gained.saturating_mul(u64::from(rate.per_second)));
        self.tokens = tokens.min(u64::from(rate.burst) * 1_000);
        // What is left of a millisecond counts the next time.
        self.filled = self.filled.max(self.filled + Duration::from_millis(gained));
    }
}

impl Limiter {
    pub(crate) fn new(rate: Rate, rng: &mut Rng) -> Self {
        Self { rate, buckets: SeededMap::new(rng), cleaned: Instant::ZERO }
    }

    /// Whether one more SYN of `client` may be answered; counts it if so.
    pub(crate) fn admit(&mut self, now: Instant, client: IpAddr) -> bool {
        let (source, rate) = (network(client), self.rate);
        if !self.buckets.contains(&source) {
            self.make_room(now);
            if self.buckets.len() >= SOURCES_MAX {
                return false;
            }
            self.buckets.insert(source, Bucket { tokens: u64::from(rate.burst) * 1_000, filled: now });
        }
        let Some(bucket) = self.buckets.get_mut(&source) else { return false };
        bucket.fill(now, rate);
        let admitted = bucket.tokens >= 1_000;
        bucket.tokens -= if admitted { 1_000 } else { 0 };
        admitted
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.buckets.len() * core::mem::size_of::<(u128, Bucket)>()
    }

    /// Forgets sources whose bucket is full: that is how strangers begin. Once a second at most, for it looks
    /// at all of them.
    fn make_room(&mut self, now: Instant) {
        if self.buckets.len() < SOURCES_MAX || now.since(self.cleaned) < Duration::from_secs(1) {
            return;
        }
        let rate = self.rate;
        self.buckets.retain(|_, bucket| {
            bucket.fill(now, rate);
            bucket.tokens < u64::from(rate.burst) * 1_000
        });
        self.cleaned = now;
    }
}

/// The /24 or /64 of an address, apart from all of the other kind.
fn network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => ip.to_bits() >> 64 | 1 << 127,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn block(address: &str, prefix: u8) -> Block {
        Block::new(address.parse().unwrap(), prefix).unwrap()
    }

    #[test]
    fn a_block_holds_what_shares_its_prefix() {
        assert!(block("10.1.2.3", 8).contains("10.255.0.0".parse().unwrap()));
        assert!(!block("10.1.2.3", 32).contains("10.1.2.4".parse().unwrap()));
        assert!(block("0.0.0.0", 0).contains("255.0.0.1".parse().unwrap()));
        assert!(!block("0.0.0.0", 0).contains("::1".parse().unwrap()));
        assert!(block("2001:db8::", 32).contains("2001:db8:1::".parse().unwrap()));
        assert!(!block("2001:db8::", 128).contains("2001:db8::1".parse().unwrap()));
        assert!(block("::", 0).contains("ff02::1".parse().unwrap()));
        assert_eq!(Block::new("10.0.0.0".parse().unwrap(), 33), None);
    }

    #[test]
    fn bgp_is_never_permitted_and_strangers_are_not() {
        let allow = Allow { servers: block("10.0.0.0", 8), ports: 0..=65_535, idempotent: false };
        let policy = Policy::new(vec![allow], vec![block("192.168.0.0", 16)]);
        let (client, stranger): (IpAddr, IpAddr) =
            ("192.168.1.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let server = |port| SocketAddr::new([10, 0, 0, 2].into(), port);
        assert!(policy.permits(client, server(80)).is_some());
        assert!(policy.permits(client, server(PORT_BGP)).is_none());
        assert!(policy.permits(stranger, server(80)).is_none());
        assert!(policy.permits(client, "192.0.2.1:80".parse().unwrap()).is_none());
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(Rate { burst: 3, per_second: 2 }, &mut Rng::from_u64(1));
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.1.1".parse().unwrap());
        let mut admitted =
            |millis, from| (0..5).filter(|_| limiter.admit(Instant::from_millis(millis), from)).count();
        assert_eq!((admitted(0, a), admitted(0, "10.0.0.200".parse().unwrap()), admitted(0, b)), (3, 0, 3));
        assert_eq!((admitted(499, a), admitted(500, a), admitted(3_600_000, a)), (0, 1, 3));
    }

    #[test]
    fn sources_are_bounded_and_room_comes_back() {
        let mut limiter = Limiter::new(Rate { burst: 2, per_second: 1 }, &mut Rng::from_u64(1));
        let source = |n: u32| IpAddr::from((n << 8).to_be_bytes());
        for n in 0..SOURCES_MAX as u32 {
            assert!(limiter.admit(Instant::ZERO, source(n)));
        }
        assert!(!limiter.admit(Instant::ZERO, source(1 << 20)));
        assert!(limiter.admit(Instant::from_millis(2_000), source(1 << 20)));
        assert_eq!(limiter.buckets.len(), 1);
    }
}
