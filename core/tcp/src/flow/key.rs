//! What names a flow.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gimlet_wire::{Layout, Network};

use crate::Side;

/// Set in `network` for IPv6.
const V6: u32 = 1 << 31;
/// Set in a VLAN's half of `network` if there is such a tag: a tag with the identifier 0 is not no tag.
const TAGGED: u32 = 1 << 12;
/// The bits of a tag (TCI) that identify the VLAN.
const IDENTIFIER: u32 = 0xfff;

/// The two ends of a connection, and the VLAN that they are on: the same addresses in another VLAN are another
/// flow. The client is whoever is on [`Side::Client`], whatever the addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub(crate) client: u128,
    pub(crate) server: u128,
    /// The client's port in the upper half, the server's in the lower.
    pub(crate) ports: u32,
    /// Address family and VLANs.
    pub(crate) network: u32,
}

impl FlowKey {
    /// The key of a flow from addresses and ports, without VLANs. Both addresses are of one family.
    pub fn new(client: SocketAddr, server: SocketAddr) -> Self {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self {
            client: wide(client.ip()),
            server: wide(server.ip()),
            ports: (u32::from(client.port()) << 16) | u32::from(server.port()),
            network: if client.is_ipv6() { V6 } else { 0 },
        }
    }

    /// The key of the flow to which a segment belongs that came from `side`, with its source port in the upper
    /// half of `ports` and with the VLAN tag that the driver holds. `None`: it has more tags than a key.
    pub fn of(frame: &[u8], layout: &Layout, ports: u32, side: Side, tag: Option<u16>) -> Option<Self> {
        let key = Self::untagged(layout.network, layout.wide_addresses(frame), ports, side);
        let vlans = vlans(layout, tag)?;
        Some(Self { network: key.network | vlans, ..key })
    }

    /// The key of a flow that is in no VLAN, from what its segment says: source first, as above.
    // Inlined, a key stays in registers; through memory it costs more than to make it.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub(crate) fn untagged(network: Network, addresses: (u128, u128), ports: u32, side: Side) -> Self {
        let (source, destination) = addresses;
        let network = match network {
            Network::V4 => 0,
            Network::V6 => V6,
        };
        match side {
            Side::Client => Self { client: source, server: destination, ports, network },
            Side::Server => {
                Self { client: destination, server: source, ports: ports.rotate_left(16), network }
            }
        }
    }

    /// Whether the addresses are of IPv6.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        self.network & V6 != 0
    }

    /// The client's end.
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.narrow(self.client), (self.ports >> 16) as u16)
    }

    /// The server's end.
    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(self.narrow(self.server), self.ports as u16)
    }

    /// The VLANs of the flow, outermost first.
    pub fn vlans(&self) -> impl Iterator<Item = u16> + use<> {
        let network = self.network & !V6;
        [network >> 16, network & 0xffff]
            .into_iter()
            .filter_map(|half| (half & TAGGED != 0).then_some((half & IDENTIFIER) as u16))
    }

    fn narrow(&self, address: u128) -> IpAddr {
        if self.is_v6() {
            IpAddr::V6(Ipv6Addr::from_bits(address))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(address as u32))
        }
    }
}

fn vlans(layout: &Layout, tag: Option<u16>) -> Option<u32> {
    let mut all = tag.iter().chain(layout.tags()).map(|tag| TAGGED | u32::from(*tag) & IDENTIFIER);
    let (outer, inner) = (all.next().unwrap_or(0), all.next().unwrap_or(0));
    all.next().is_none().then_some((outer << 16) | inner)
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.client(), self.server())?;
        self.vlans().try_for_each(|vlan| write!(f, " vlan {vlan}"))
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
