//! Initial sequence numbers and timestamps that two boxes agree on without a word between them.

use core::fmt;
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

use gimlet_machine::Rng;
use siphasher::sip::SipHasher13;

use crate::SeqNumber;

/// What a spoofed SYN-ACK promised and the client's SYN asked for, as far as a box must know it that saw
/// neither. It fits the ten lowest bits of the spoofed timestamp, as Linux does with its SYN cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The client's window scale; `None`: nobody scales.
    pub client_scale: Option<u8>,
    /// The window scale that the SYN-ACK gave as the server's. There if and only if the client's is.
    pub server_scale: u8,
    /// Both sides may send SACK blocks.
    pub sack: bool,
    /// Both sides answer congestion marks.
    pub ecn: bool,
}

/// Bits of an [`Offer`].
const OFFER_BITS: u32 = 10;
/// No window scale; RFC 7323 §2.3 ends at 14.
const NO_SCALE: u32 = 15;

impl Offer {
    pub(crate) fn to_bits(self) -> u32 {
        let client = self.client_scale.map_or(NO_SCALE, |scale| u32::from(scale.min(14)));
        client << 6
            | u32::from(self.server_scale.min(14)) << 2
            | u32::from(self.sack) << 1
            | u32::from(self.ecn)
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        let client = bits >> 6 & 15;
        Self {
            client_scale: (client != NO_SCALE).then_some(client as u8),
            server_scale: (bits >> 2 & 15).min(14) as u8,
            sack: bits & 2 != 0,
            ecn: bits & 1 != 0,
        }
    }
}

/// A secret shared by the boxes of one pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// The secret made of these bytes, which came from a good source.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which of the two live secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Makes cookies.
    Current,
    /// Is accepted.
    Previous,
}

/// The numbers of one spoofed SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// S', the initial sequence number.
    pub isn: SeqNumber,
    /// T', the timestamp; its lowest bits are the offer.
    pub timestamp: u32,
}

/// Makes and checks cookies. Addresses and ports go in, VLANs do not: the two boxes may stand on different ones.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    current: Secret,
    previous: Option<Secret>,
}

impl Cookies {
    /// With the shared secret, or with one of its own.
    pub(crate) fn new(shared: Option<Secret>, rng: &mut Rng) -> Self {
        Self { current: shared.unwrap_or_else(|| Secret::new(rng.bytes())), previous: None }
    }

    /// `secret` makes cookies from here on; those made with the last one are still accepted.
    pub(crate) fn rotate(&mut self, secret: Secret) {
        if secret != self.current {
            self.previous = Some(core::mem::replace(&mut self.current, secret));
        }
    }

    /// The numbers with which the SYN of this flow is answered. RFC 6528: a keyed hash of the flow; the
    /// client's own number stands in for the clock, so that two connections of one flow differ.
    pub(crate) fn make(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        isn: SeqNumber,
        offer: Offer,
    ) -> Cookie {
        Self::with(&self.current, client, server, isn, offer)
    }

    /// Whether `claimed` is S' of this flow under either secret, and which.
    pub(crate) fn check(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        isn: SeqNumber,
        offer: Offer,
        claimed: SeqNumber,
    ) -> Option<(Cookie, Generation)> {
        let live =
            [(Some(&self.current), Generation::Current), (self.previous.as_ref(), Generation::Previous)];
        live.into_iter().find_map(|(secret, generation)| {
            let cookie = Self::with(secret?, client, server, isn, offer);
            (cookie.isn == claimed).then_some((cookie, generation))
        })
    }

    fn with(secret: &Secret, client: SocketAddr, server: SocketAddr, isn: SeqNumber, offer: Offer) -> Cookie {
        let mut hasher = secret.hasher();
        for side in [client, server] {
            match side.ip() {
                IpAddr::V4(ip) => hasher.write(&ip.octets()),
                IpAddr::V6(ip) => hasher.write(&ip.octets()),
            }
            hasher.write(&side.port().to_be_bytes());
        }
        hasher.write(&isn.0.to_be_bytes());
        hasher.write(&offer.to_bits().to_be_bytes());
        let hash = hasher.finish();
        let clock = (hash >> 32) as u32;
        Cookie { isn: SeqNumber(hash as u32), timestamp: clock << OFFER_BITS | offer.to_bits() }
    }
}

/// The offer that a client echoes in TSecr. Anybody can write one: it counts once the cookie made with it fits.
pub(crate) fn offer_of(timestamp: u32) -> Offer {
    Offer::from_bits(timestamp & ((1 << OFFER_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    const OFFER: Offer = Offer { client_scale: Some(10), server_scale: 7, sack: true, ecn: false };

    fn ends() -> (SocketAddr, SocketAddr) {
        ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:8080".parse().unwrap())
    }

    #[test]
    fn two_boxes_with_one_secret_agree_and_a_third_does_not() {
        let (client, server) = ends();
        let boxes = [1, 2].map(|seed| Cookies::new(Some(Secret::new([7; 16])), &mut Rng::from_u64(seed)));
        let cookie = boxes[0].make(client, server, SeqNumber(5), OFFER);
        let found = boxes[1].check(client, server, SeqNumber(5), OFFER, cookie.isn);
        assert_eq!(found, Some((cookie, Generation::Current)));
        assert_eq!(offer_of(cookie.timestamp), OFFER);
        let stranger = Cookies::new(None, &mut Rng::from_u64(1));
        assert_eq!(stranger.check(client, server, SeqNumber(5), OFFER, cookie.isn), None);
    }

    #[test]
    fn every_part_of_a_flow_changes_its_cookie() {
        let (client, server) = ends();
        let cookies = Cookies::new(None, &mut Rng::from_u64(1));
        let isn = cookies.make(client, server, SeqNumber(5), OFFER).isn;
        let other = SocketAddr::new(client.ip(), client.port() + 1);
        assert_ne!(cookies.make(other, server, SeqNumber(5), OFFER).isn, isn);
        assert_ne!(cookies.make(server, client, SeqNumber(5), OFFER).isn, isn);
        assert_ne!(cookies.make(client, server, SeqNumber(6), OFFER).isn, isn);
        assert_ne!(cookies.make(client, server, SeqNumber(5), Offer { ecn: true, ..OFFER }).isn, isn);
    }

    #[test]
    fn the_last_secret_is_accepted_and_the_one_before_it_is_not() {
        let (client, server) = ends();
        let mut cookies = Cookies::new(Some(Secret::new([1; 16])), &mut Rng::from_u64(1));
        let cookie = cookies.make(client, server, SeqNumber(5), OFFER);
        cookies.rotate(Secret::new([2; 16]));
        // Saying the same twice is no rotation.
        cookies.rotate(Secret::new([2; 16]));
        let found = cookies.check(client, server, SeqNumber(5), OFFER, cookie.isn);
        assert_eq!(found, Some((cookie, Generation::Previous)));
        cookies.rotate(Secret::new([3; 16]));
        assert_eq!(cookies.check(client, server, SeqNumber(5), OFFER, cookie.isn), None);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(alloc::format!("{:?}", Secret::new([0x41; 16])), "Secret(..)");
    }

    proptest! {
        #[test]
        fn an_offer_survives_the_timestamp(client_scale in prop::option::of(0u8..=14), server_scale in 0u8..=14,
                                           sack: bool, ecn: bool) {
            let offer = Offer { client_scale, server_scale, sack, ecn };
            prop_assert_eq!(Offer::from_bits(offer.to_bits()), offer);
        }

        #[test]
        fn noise_is_some_offer(bits: u32) {
            let offer = offer_of(bits);
            prop_assert!(offer.server_scale <= 14 && offer.client_scale.is_none_or(|scale| scale <= 14));
        }
    }
}
