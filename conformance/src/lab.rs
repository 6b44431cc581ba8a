//! Hosts and NATs of a real kernel, as network namespaces.
//!
//! ```text
//!              198.51.100.0/24
//!    public ───────────────────┐
//!                              │
//!    a ── 10.1.0.0/24 ── nat-a ┼ internet (routes, no address translation)
//!                   192.0.2.2  │
//!    b ── 10.2.0.0/24 ── nat-b ┘
//!                   203.0.113.2
//! ```
//!
//! The public networks are the three documentation ranges of RFC 5737, over IPv6 that of RFC 3849; nothing
//! in a lab has a route to the outside. A host with [`Nat::None`] sits on its public network itself, one
//! behind [`Nat::Carrier`] has two boxes before it. Everything a [`Lab`] makes goes away with it, also
//! when a test panics; what a killed test left behind is removed by the next one.
//!
//! Over IPv6 the kind that homes really have is [`Nat::Firewall`]: RFC 6092 asks for a filter and nobody
//! for translation. The kernel translates IPv6 as readily, and some carriers and clouds do (NAT66), so
//! the other kinds exist over IPv6 too, with the same rules.

mod host;
mod nat;
mod net;
mod netns;
mod process;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

pub use gimlet_lab::Missing;
pub use host::Host;
pub use nat::{BLOCK, CARRIER_PORTS, Nat};
pub use net::Family;
pub use netns::Namespace;
pub use process::Process;

use host::Builder;

/// Two hosts, each behind a NAT of its own, and a public host.
#[derive(Debug)]
pub struct Lab {
    /// On the internet, at two addresses.
    pub public: Host,
    /// The public host's other address.
    pub public_other: IpAddr,
    /// Behind the first NAT.
    pub a: Host,
    /// Behind the second NAT.
    pub b: Host,
    // Last, because all links end in it.
    _internet: Namespace,
}

impl Lab {
    /// Whether a lab can be made here. Asked once; the first call also removes what a killed process
    /// left behind.
    pub fn available() -> Result<(), Missing> {
        gimlet_lab::available()
    }

    /// Builds the hosts, NATs and links of an IPv4 lab. Call [`Lab::available`] first.
    ///
    /// # Panics
    ///
    /// If a step fails, with the command and its output.
    pub fn new(nat_a: Nat, nat_b: Nat) -> Self {
        Lab::over(Family::V4, nat_a, nat_b)
    }

    /// The same over either protocol.
    ///
    /// # Panics
    ///
    /// As [`Lab::new`].
    pub fn over(family: Family, nat_a: Nat, nat_b: Nat) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let prefix = gimlet_lab::name_of(&LABS.fetch_add(1, Ordering::Relaxed).to_string());
        let internet = Namespace::new(&format!("{prefix}-internet"));
        internet.forward();
        let builder = Builder::new(prefix, family, &internet);
        let (public, public_other) = builder.public();
        let a = builder.behind("a", nat_a, net::side_a(family));
        let b = builder.behind("b", nat_b, net::side_b(family));
        Lab { public, public_other, a, b, _internet: internet }
    }
}
