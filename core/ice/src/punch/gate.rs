//! Who may be sprayed: only a host that has shown, or is known, to want it (RFC 8445 §19.5.1).

use core::net::IpAddr;

use gimlet_machine::Queue;

/// Addresses remembered of each kind. Of those that were heard the oldest is forgotten; further ones that
/// the owner vouches for replace its oldest.
const ATTESTED_MAX: usize = 8;

/// The addresses from which the peer has proved to send, and those that the owner vouches for.
#[derive(Debug)]
pub(crate) struct Attested {
    heard: Queue<IpAddr>,
    vouched: Queue<IpAddr>,
}

impl Attested {
    pub(crate) const fn new() -> Self {
        Self { heard: Queue::new(ATTESTED_MAX), vouched: Queue::new(ATTESTED_MAX) }
    }

    /// An authenticated request came from `ip`.
    pub(crate) fn hear(&mut self, ip: IpAddr) {
        note(&mut self.heard, ip);
    }

    /// The owner knows that the peer is at `ip`.
    pub(crate) fn vouch(&mut self, ip: IpAddr) {
        note(&mut self.vouched, ip);
    }

    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        self.heard.iter().chain(self.vouched.iter()).any(|known| *known == ip)
    }
}

fn note(known: &mut Queue<IpAddr>, ip: IpAddr) {
    if !known.iter().any(|old| *old == ip) {
        known.push_evicting(ip);
    }
}

/// Whether one host elsewhere can have this address.
pub(crate) fn is_host(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn nobody_is_allowed_who_was_neither_heard_nor_vouched_for() {
        let mut attested = Attested::new();
        assert!(!attested.allows(ip(1)));
        attested.hear(ip(1));
        attested.vouch(ip(2));
        assert!(attested.allows(ip(1)) && attested.allows(ip(2)) && !attested.allows(ip(3)));
    }

    #[test]
    fn a_flood_of_addresses_takes_the_place_of_the_oldest_and_not_of_the_owners() {
        let mut attested = Attested::new();
        attested.vouch(ip(200));
        (0..100).for_each(|last| attested.hear(ip(last)));
        assert!(attested.allows(ip(99)) && attested.allows(ip(200)) && !attested.allows(ip(1)));
    }

    #[test]
    fn what_is_no_single_host_elsewhere_is_never_a_target() {
        for text in ["127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "ff02::1", "::"] {
            assert!(!is_host(text.parse().unwrap()), "{text}");
        }
        assert!(is_host(ip(1)) && is_host("2001:db8::1".parse().unwrap()));
    }
}
