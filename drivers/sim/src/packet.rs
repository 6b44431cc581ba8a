//! Packets under way, in slots that keep their buffers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gimlet_machine::Ecn;

/// Where a packet is going to turn up next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// In a network, where it looks for the way to its destination.
    Realm(u32),
    /// At a NAT, from the outside.
    Nat(u32),
    /// At a host.
    Host(u32),
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A datagram of some machine.
    Udp,
    /// A segment of a connection, in the simulator's own writing: [`gimlet_machine::Request::Connect`].
    Tcp,
}

/// One packet on its way.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) ecn: Ecn,
    pub(crate) hop: Hop,
    /// The host that sent it.
    pub(crate) sender: u32,
    /// The same for all copies of one packet, and for nothing else.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Packet {
    /// Bytes on the wire, headers included.
    pub(crate) fn size(&self) -> usize {
        const UDP_HEADER: usize = 8;
        let ip_header = if self.destination.is_ipv4() { 20 } else { 40 };
        let header = match self.protocol {
            Protocol::Udp => UDP_HEADER,
            // A segment is written with its header.
            Protocol::Tcp => 0,
        };
        ip_header + header + self.bytes.len()
    }
}

/// Every packet under way. A freed slot keeps its buffer, so steady traffic allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    packets: Vec<Packet>,
    free: Vec<u32>,
}

impl Flight {
    /// A slot whose buffer is empty and whose other fields are leftovers.
    pub(crate) fn take(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.packets.push(Packet {
            source: nowhere,
            destination: nowhere,
            protocol: Protocol::Udp,
            ecn: Ecn::NotEct,
            hop: Hop::Realm(0),
            sender: 0,
            number: 0,
            bytes: Vec::new(),
        });
        u32::try_from(self.packets.len() - 1).expect("fewer than 2^32 packets are under way")
    }

    /// A slot with the same packet in it.
    pub(crate) fn copy(&mut self, slot: u32) -> u32 {
        let copy = self.take();
        let [from, to] = self
            .packets
            .get_disjoint_mut([slot as usize, copy as usize])
            .expect("a slot just taken is not the one in use");
        to.bytes.extend_from_slice(&from.bytes);
        (to.source, to.destination, to.ecn) = (from.source, from.destination, from.ecn);
        (to.hop, to.sender, to.number) = (from.hop, from.sender, from.number);
        to.protocol = from.protocol;
        copy
    }

    pub(crate) fn release(&mut self, slot: u32) {
        self.packet_mut(slot).bytes.clear();
        self.free.push(slot);
    }

    pub(crate) fn packet(&self, slot: u32) -> &Packet {
        &self.packets[slot as usize]
    }

    pub(crate) fn packet_mut(&mut self, slot: u32) -> &mut Packet {
        &mut self.packets[slot as usize]
    }

    /// How many slots there are, used and free.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.packets.len()
    }

    /// How many slots are in use.
    pub(crate) fn len(&self) -> usize {
        self.packets.len() - self.free.len()
    }
}
