//! From answers, and from their absence, to what may be claimed.

use core::net::SocketAddr;

use super::behaviour::{Filtering, Mapping};

/// How often a thing must be seen before it is claimed.
pub(super) const AGREE: u8 = 2;

/// How many rounds must be witnessed before silence is claimed. A witnessed round is one in which
/// the tested packets stayed away while both witnesses, which take the same ways, were answered. If
/// a tested packet can get through at all, it gets through at least as often as either witness; then
/// a round has the witnesses without it, rather than it, at most one time in five, whatever the loss.
/// Ten in a row are a mistake once in ten million times.
pub(super) const WITNESSED_MIN: u32 = 10;

/// What one address sees of the socket that maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) server: SocketAddr,
    pub(super) mapped: Option<SocketAddr>,
    /// OTHER-ADDRESS, if it may be used.
    pub(super) other: Option<SocketAddr>,
    /// Answers that agree.
    pub(super) answers: u8,
    /// Two answers differed: what this address says is not evidence.
    pub(super) torn: bool,
}

impl View {
    pub(super) const fn new(server: SocketAddr) -> Self {
        Self { server, mapped: None, other: None, answers: 0, torn: false }
    }

    pub(super) fn on_answer(&mut self, mapped: SocketAddr, other: Option<SocketAddr>) {
        if self.answers == 0 {
            (self.mapped, self.other) = (Some(mapped), other);
        }
        self.torn |= self.mapped != Some(mapped) || self.other != other;
        self.answers = self.answers.saturating_add(1);
    }

    /// Whether asking again would tell more.
    pub(super) const fn is_open(&self) -> bool {
        self.answers < AGREE && !self.torn
    }

    /// The mapped address, if it was seen often enough.
    pub(super) fn settled(&self) -> Option<SocketAddr> {
        self.mapped.filter(|_| self.answers >= AGREE && !self.torn)
    }
}

/// What the views say together: the mapping, and whether it depends on the endpoint.
///
/// RFC 5780 §4.3 compares three of four addresses and takes the first difference for an answer. Here
/// every pair has to fit, because a mapping that was lost in between looks like a difference too, and
/// two random ports can be the same.
pub(super) fn mapping(local: SocketAddr, views: &[View]) -> (Option<Mapping>, Option<bool>) {
    let (mut near, mut far) = (Pairs::default(), Pairs::default());
    if views.iter().any(|view| view.torn) {
        return (None, None);
    }
    let settled = || views.iter().filter_map(|view| Some((view.server, view.settled()?)));
    for (nth, (server, mapped)) in settled().enumerate() {
        for (earlier, seen) in settled().take(nth).filter(|(earlier, _)| *earlier != server) {
            let pairs = if earlier.ip() == server.ip() { &mut near } else { &mut far };
            pairs.equal |= seen == mapped;
            pairs.differ |= seen != mapped;
        }
    }
    let depends = if near.differ || far.differ { Some(true) } else { far.equal.then_some(false) };
    let mapping = match (near.equal, near.differ, far.equal, far.differ) {
        // A server on our side of the NAT sees the socket's own address too; two rarely stand there.
        (_, false, true, false) if settled().all(|(_, mapped)| mapped == local) => Some(Mapping::NoNat),
        (_, false, true, false) => Some(Mapping::EndpointIndependent),
        (true, false, false, true) => Some(Mapping::AddressDependent),
        (false, true, false, _) => Some(Mapping::AddressAndPortDependent),
        _ => None,
    };
    (mapping, depends)
}

/// What was seen among pairs of addresses.
#[derive(Clone, Copy, Debug, Default)]
struct Pairs {
    equal: bool,
    differ: bool,
}

/// A contest between packets that may stay away and witnesses that say whether they could have come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contest {
    /// Arrivals from the other address and port; for hairpinning, arrivals.
    pub(super) both: u8,
    /// Arrivals from the other port.
    pub(super) port: u8,
    /// Rounds in which the near witness was answered, and the far one: a bit for each.
    pub(super) near: u64,
    pub(super) far: u64,
    /// The server does not do what it was asked, whatever it promises.
    pub(super) void: bool,
}

impl Contest {
    /// Whether silence would mean something.
    pub(super) const fn is_witnessed(&self) -> bool {
        (self.near & self.far).count_ones() >= WITNESSED_MIN
    }

    /// RFC 5780 §4.4. `sound`: the server is known to answer from where it is asked to.
    pub(super) const fn filtering(&self, sound: bool) -> Option<Filtering> {
        if self.void {
            return None;
        }
        let silence_counts = sound && self.is_witnessed();
        match (self.both, self.port) {
            (AGREE.., _) => Some(Filtering::EndpointIndependent),
            (0, AGREE..) if silence_counts => Some(Filtering::AddressDependent),
            (0, 0) if silence_counts => Some(Filtering::AddressAndPortDependent),
            (_, _) => None,
        }
    }

    /// RFC 5780 §4.5. `sound`: no filter can be in the way.
    pub(super) const fn hairpinning(&self, sound: bool) -> Option<bool> {
        match self.both {
            AGREE.. => Some(true),
            0 if sound && self.is_witnessed() => Some(false),
            _ => None,
        }
    }
}

/// Whether OTHER-ADDRESS says something usable about a server at `server`: another address and
/// another port that a host can have (RFC 5780 §7.4). One that shares the server's address would make
/// every NAT look as if it filtered nothing but ports.
pub(crate) fn is_other(server: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (server.ip(), other.ip());
    let is_broadcast = matches!(other_ip, core::net::IpAddr::V4(ip) if ip.is_broadcast());
    server.is_ipv4() == other.is_ipv4()
        && ip != other_ip
        && server.port() != other.port()
        && other.port() != 0
        && ip.is_loopback() == other_ip.is_loopback()
        && !other_ip.is_unspecified()
        && !other_ip.is_multicast()
        && !is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn judged(seen: &[(&str, u16)]) -> (Option<Mapping>, Option<bool>) {
        let views: Vec<View> = seen
            .iter()
            .map(|(server, port)| {
                let mut view = View::new(at(server));
                let mapped = SocketAddr::new(at("203.0.113.1:0").ip(), *port);
                view.on_answer(mapped, None);
                view.on_answer(mapped, None);
                view
            })
            .collect();
        mapping(at("203.0.113.1:5000"), &views)
    }

    const A1P1: &str = "192.0.2.1:3478";
    const A1P2: &str = "192.0.2.1:3479";
    const A2P1: &str = "192.0.2.2:3478";
    const A2P2: &str = "192.0.2.2:3479";

    #[test]
    fn a_mapping_is_claimed_only_if_every_pair_of_views_fits_it() {
        let four = |ports: [u16; 4]| {
            judged(&[(A1P1, ports[0]), (A1P2, ports[1]), (A2P1, ports[2]), (A2P2, ports[3])])
        };
        assert_eq!(four([5_000; 4]), (Some(Mapping::NoNat), Some(false)));
        assert_eq!(four([9; 4]), (Some(Mapping::EndpointIndependent), Some(false)));
        assert_eq!(four([9, 9, 8, 8]), (Some(Mapping::AddressDependent), Some(true)));
        assert_eq!(four([9, 8, 7, 6]), (Some(Mapping::AddressAndPortDependent), Some(true)));
        assert_eq!(four([9, 9, 9, 8]), (None, Some(true)), "lost in between");
        assert_eq!(four([9, 8, 7, 9]), (None, Some(true)), "the same by chance");
    }

    #[test]
    fn plain_servers_tell_as_much_as_their_addresses_differ() {
        assert_eq!(judged(&[]), (None, None));
        assert_eq!(judged(&[(A1P1, 9)]), (None, None));
        assert_eq!(judged(&[(A1P1, 9), (A1P2, 9)]), (None, None));
        assert_eq!(judged(&[(A1P1, 9), (A2P1, 9)]), (Some(Mapping::EndpointIndependent), Some(false)));
        assert_eq!(judged(&[(A1P1, 9), (A2P1, 8)]), (None, Some(true)));
        assert_eq!(judged(&[(A1P1, 9), (A1P2, 8)]), (Some(Mapping::AddressAndPortDependent), Some(true)));
        assert_eq!(judged(&[(A1P1, 9), (A1P1, 9)]), (None, None), "named twice");
    }

    #[test]
    fn one_answer_is_not_enough_and_two_that_differ_are_none() {
        let mut view = View::new(at(A1P1));
        view.on_answer(at("203.0.113.1:9"), None);
        assert_eq!((view.settled(), view.is_open()), (None, true));
        view.on_answer(at("203.0.113.1:8"), None);
        assert_eq!((view.settled(), view.is_open()), (None, false));
        assert_eq!(mapping(at("10.0.0.1:1"), &[view]), (None, None));
    }

    #[test]
    fn silence_counts_only_beside_witnesses() {
        let witnessed = Contest { near: 0x3ff, far: 0x3ff, ..Contest::default() };
        let alone = Contest { far: 0x1ff, ..witnessed };
        assert_eq!(witnessed.filtering(true), Some(Filtering::AddressAndPortDependent));
        assert_eq!(Contest { port: 2, ..witnessed }.filtering(true), Some(Filtering::AddressDependent));
        assert_eq!(Contest { port: 1, ..witnessed }.filtering(true), None, "one answer is a riddle");
        assert_eq!(Contest { both: 1, ..witnessed }.filtering(true), None);
        assert_eq!(Contest { both: 2, ..alone }.filtering(false), Some(Filtering::EndpointIndependent));
        assert_eq!((alone.filtering(true), witnessed.filtering(false)), (None, None));
        assert_eq!(Contest { void: true, both: 2, ..witnessed }.filtering(true), None);
        assert_eq!((witnessed.hairpinning(true), witnessed.hairpinning(false)), (Some(false), None));
        assert_eq!(
            (alone.hairpinning(true), Contest { both: 2, ..alone }.hairpinning(false)),
            (None, Some(true))
        );
    }

    #[test]
    fn case_60_another_address_is_really_another_one() {
        assert!(is_other(at(A1P1), at(A2P2)));
        for other in [
            A1P1,
            A1P2,
            A2P1,
            "0.0.0.0:3479",
            "127.0.0.1:3479",
            "224.0.0.1:3479",
            "255.255.255.255:3479",
            "192.0.2.2:0",
            "[2001:db8::1]:3479",
        ] {
            assert!(!is_other(at(A1P1), at(other)), "{other}");
        }
    }
}
