//! What has to happen in a cell.

use std::fmt;

use gimlet_sim::{Filtering, Mapping, direct_path_possible};

use crate::lab::Nat;

/// Whether nodes punch: guess the ports of a hard NAT (`core/ice`, the punch plan).
pub const PUNCH: bool = true;

/// The way between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From host to host.
    Direct,
    /// Through a relay.
    Relayed,
    /// There is none.
    Nothing,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Direct => "direct",
            Way::Relayed => "relayed",
            Way::Nothing => "none",
        })
    }
}

/// What may happen in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Always this.
    Surely(Way),
    /// [`Way::Direct`] with luck or time, and this otherwise: if the right side's packet is the first, if a guess
    /// hits before the file is over.
    Raced(Way),
}

impl Expected {
    /// Whether a file may have gone this way.
    pub fn admits(self, way: Way) -> bool {
        match self {
            Expected::Surely(expected) => way == expected,
            Expected::Raced(otherwise) => way == Way::Direct || way == otherwise,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Surely(way) => way.fmt(f),
            Expected::Raced(otherwise) => write!(f, "direct or {otherwise}"),
        }
    }
}

/// The way that a file takes between `a` and `b`.
///
/// Direct wherever [`direct_path_possible`] says so, or, with `punch`, where guesses surely hit in time.
/// Otherwise through the relay, if there is one.
pub fn expect(a: Nat, b: Nat, relay: bool, punch: bool) -> Expected {
    let otherwise = if relay { Way::Relayed } else { Way::Nothing };
    if is_raced(a, b) || is_raced(b, a) {
        Expected::Raced(otherwise)
    } else if direct_path_possible(a.edge(), b.edge()) {
        Expected::Surely(Way::Direct)
    } else if punch && !relay && is_one_hard(Nat::SymmetricBlock, a, b) && !opens_late(a) && !opens_late(b) {
        // 512 ports, the other side known: 16 mappings and 128 probes meet with 99 %, and a second pass follows.
        Expected::Surely(Way::Direct)
    } else if punch && (is_one_hard(Nat::SymmetricBlock, a, b) || is_one_hard(Nat::Symmetric, a, b)) {
        // A relay carries data meanwhile. All ports take ten seconds, and one punch in fifty fails.
        Expected::Raced(otherwise)
    } else {
        Expected::Surely(otherwise)
    }
}

/// Whether a packet of `other` that comes before the first of `open` takes the tuple in the open box, and
/// `other` minds the port that `open` then gets.
///
/// The oracle says that retries outlive such an entry, and so they do in the simulator. The kernel keeps
/// it for 30 s after the last copy of the packet, and copies keep coming. On a line that takes
/// no time, as a lab's, one of two packets always comes too early.
fn is_raced(open: Nat, other: Nat) -> bool {
    let other_is_known = other.edge().mapping == Mapping::EndpointIndependent;
    let minds_ports = other.edge().filtering == Filtering::AddressAndPortDependent;
    open == Nat::PortRestrictedOpen && other_is_known && minds_ports
}

/// Whether what the hard side sends takes the very tuple that the first probe to its port would need.
fn opens_late(nat: Nat) -> bool {
    nat == Nat::PortRestrictedOpen
}

/// Whether one side is `hard`, and the other's address is known beforehand.
fn is_one_hard(hard: Nat, a: Nat, b: Nat) -> bool {
    let is_known = |nat: Nat| nat.edge().mapping == Mapping::EndpointIndependent;
    (a == hard && is_known(b)) || (b == hard && is_known(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without anything, with a relay, with punching, with both.
    fn expected(a: Nat, b: Nat) -> [Expected; 4] {
        [(false, false), (true, false), (false, true), (true, true)]
            .map(|(relay, punch)| expect(a, b, relay, punch))
    }

    #[test]
    fn expectations_are_those_of_the_oracle_the_plan_and_the_race() {
        use Expected::{Raced, Surely};
        use Way::{Direct, Nothing, Relayed};
        let direct = [Surely(Direct); 4];
        let hard = [Surely(Nothing), Surely(Relayed), Surely(Nothing), Surely(Relayed)];
        let punched = [Surely(Nothing), Surely(Relayed), Surely(Direct), Raced(Relayed)];
        let sprayed = [Surely(Nothing), Surely(Relayed), Raced(Nothing), Raced(Relayed)];
        let raced = [Raced(Nothing), Raced(Relayed), Raced(Nothing), Raced(Relayed)];
        for (a, b, wanted) in [
            (Nat::None, Nat::Symmetric, direct),
            (Nat::AddressRestricted, Nat::Symmetric, direct),
            (Nat::PortRestricted, Nat::Carrier, direct),
            (Nat::PortRestricted, Nat::Symmetric, sprayed),
            (Nat::Symmetric, Nat::SymmetricBlock, hard),
            (Nat::SymmetricBlock, Nat::SymmetricBlock, hard),
            (Nat::PortRestricted, Nat::SymmetricBlock, punched),
            (Nat::Carrier, Nat::SymmetricBlock, punched),
            (Nat::PortRestrictedOpen, Nat::SymmetricBlock, sprayed),
            (Nat::PortRestrictedOpen, Nat::PortRestricted, raced),
            (Nat::PortRestrictedOpen, Nat::PortRestrictedOpen, raced),
            (Nat::PortRestrictedOpen, Nat::AddressRestricted, direct),
        ] {
            assert_eq!((expected(a, b), expected(b, a)), (wanted, wanted), "{a} and {b}");
        }
    }
}
