//! How local preferences are dealt, where the owner names none: fairly between families and networks.

use core::net::IpAddr;

/// Networks that get a column of their own. Further ones share: their addresses go a round later.
const COLUMNS: u16 = 16;

/// How far one round of the deal is from the next: IPv4 and IPv6 sit side by side in every column.
const ROUND: u16 = 2 * COLUMNS;

/// The local preference of a candidate that sends from `newcomer`, beside those of its type that are there
/// (RFC 8421 §4).
///
/// It is dealt like cards. In each round every network gets one place for IPv4 and one for IPv6, so a family or
/// an interface with many addresses fills later rounds and pushes nobody back. Whatever was offered first leads:
/// the first family within a column, the first network within a round, the first address within a network.
/// Places follow from the preferences that are there and not from counts, so they stay where they are when
/// others go.
pub(crate) fn deal(newcomer: IpAddr, alike: &[(IpAddr, u16)]) -> u16 {
    let place = |preference: u16| u16::MAX - preference;
    let side = |ip: IpAddr| {
        let known = alike.iter().find(|(other, _)| other.is_ipv4() == ip.is_ipv4());
        known.map(|(_, preference)| place(*preference) % 2)
    };
    let other_side = || alike.first().map(|(_, preference)| 1 - place(*preference) % 2);
    let side = side(newcomer).or_else(other_side).unwrap_or(0);

    let column_of = |preference: u16| place(preference) % ROUND / 2;
    let family = || alike.iter().filter(|(other, _)| other.is_ipv4() == newcomer.is_ipv4());
    let near = family().find(|(other, _)| are_of_one_network(*other, newcomer));
    let taken = |column: u16| family().any(|(_, preference)| column_of(*preference) == column);
    let column = near.map(|(_, preference)| column_of(*preference));
    let column = column.or_else(|| (0..COLUMNS).find(|column| !taken(*column))).unwrap_or(COLUMNS - 1);

    let seats = (0..u16::MAX / ROUND).map(|round| u16::MAX - (round * ROUND + 2 * column + side));
    let mut free = seats.filter(|seat| alike.iter().all(|(_, preference)| preference != seat));
    free.next().unwrap_or(0)
}

/// Whether two addresses are likely of one interface. All that shows of it is the prefix: 64 bits of IPv6
/// (RFC 4291 §2.5.4) and, as a guess that is right for most small networks, 24 bits of IPv4.
fn are_of_one_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Deals to `addresses` in this order; says in which order they are preferred.
    fn preferred<'a>(addresses: &[&'a str]) -> Vec<&'a str> {
        let mut dealt: Vec<(IpAddr, u16)> = Vec::new();
        for address in addresses {
            let ip = address.parse().unwrap();
            let preference = deal(ip, &dealt);
            dealt.push((ip, preference));
        }
        let mut order: Vec<_> = addresses.iter().copied().zip(dealt).collect();
        order.sort_by_key(|(_, (_, preference))| core::cmp::Reverse(*preference));
        let preferences: Vec<_> = order.iter().map(|(_, (_, preference))| *preference).collect();
        assert!(preferences.windows(2).all(|pair| pair[0] > pair[1]), "unique: {preferences:?}");
        order.into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn the_first_address_gets_the_highest_preference_and_the_other_family_the_next() {
        assert_eq!(deal("192.0.2.1".parse().unwrap(), &[]), 65_535);
        assert_eq!(deal("2001:db8::1".parse().unwrap(), &[("192.0.2.1".parse().unwrap(), 65_535)]), 65_534);
    }

    #[test]
    fn many_addresses_of_one_family_do_not_push_the_other_back() {
        let six = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1", "192.0.2.1"];
        assert_eq!(
            preferred(&six),
            ["2001:db8::1", "192.0.2.1", "2001:db8:0:1::1", "2001:db8::2", "2001:db8::3"],
            "the latest comes second"
        );
        let four = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.2.1", "2001:db8::1"];
        assert_eq!(preferred(&four), ["10.0.0.1", "2001:db8::1", "10.0.1.1", "10.0.2.1", "10.0.0.2"]);
    }

    #[test]
    fn within_a_family_networks_take_turns_in_the_order_of_their_first_address() {
        let order = preferred(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2", "10.0.2.1"]);
        assert_eq!(order, ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.0.2", "10.0.1.2", "10.0.0.3"]);
    }

    #[test]
    fn the_place_of_an_address_that_went_is_given_to_the_next_of_its_network() {
        let [a, b, c]: [IpAddr; 3] = ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        // `a` had 65 535 and is gone: IPv6 keeps its side, and IPv4 gets the other one back.
        assert_eq!(deal(a, &[(b, 65_534)]), 65_535);
        assert_eq!(deal(c, &[(b, 65_534), (a, 65_535)]), 65_535 - ROUND);
    }

    #[test]
    fn any_number_of_addresses_and_networks_gets_unique_preferences_while_there_are_some() {
        let addresses: Vec<_> = (0..1_000_u32).map(|n| IpAddr::from((n << 8).to_be_bytes())).collect();
        let mut dealt: Vec<(IpAddr, u16)> = Vec::new();
        for ip in addresses {
            let preference = deal(ip, &dealt);
            assert!(preference > 0 && dealt.iter().all(|(_, other)| *other != preference), "{ip}");
            dealt.push((ip, preference));
        }
    }
}
