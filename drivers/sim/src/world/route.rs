//! The way of a packet: its sender's uplink, networks and NATs, its receiver's downlink.

use std::net::SocketAddr;

use gimlet_machine::{FourTuple, Instant, Machine, Transmit};

use super::World;
use crate::agenda::Due;
use crate::host::HostId;
use crate::link::{Carried, Link};
use crate::nat::{Leg, Side};
use crate::net::{INTERNET, NatId, Owner};
use crate::packet::{Hop, Protocol};
use crate::trace::{DropReason, PacketRecord, Step};

/// One direction of somebody's line.
#[derive(Clone, Copy)]
enum Line {
    HostUp(u32),
    HostDown(u32),
    NatUp(u32),
    NatDown(u32),
}

impl<M: Machine<Path = FourTuple>> World<M> {
    /// Sends the bytes in `slot`. `source` is the socket that the path's local address names, if it does.
    pub(super) fn launch(
        &mut self,
        id: HostId,
        slot: u32,
        source: Option<SocketAddr>,
        transmit: Transmit<FourTuple>,
    ) {
        let is_loopback = self.hosts[id.index()].sockets.listens(transmit.path.remote);
        self.flight.packet_mut(slot).protocol = Protocol::Udp;
        self.send(id, slot, source, is_loopback, transmit);
    }

    /// Sends the packet in `slot`, whose bytes and protocol are there.
    pub(super) fn send(
        &mut self,
        id: HostId,
        slot: u32,
        source: Option<SocketAddr>,
        is_loopback: bool,
        transmit: Transmit<FourTuple>,
    ) {
        let FourTuple { local, remote } = transmit.path;
        let realm = self.hosts[id.index()].realm(remote);
        let packet = self.flight.packet_mut(slot);
        (packet.source, packet.destination) = (source.unwrap_or(local), remote);
        (packet.ecn, packet.sender) = (transmit.ecn, id.0);
        packet.number = self.trace.counts.sent;
        self.record(slot, Step::Sent { by: id });
        if source.is_none_or(|source| source.is_ipv4() != remote.is_ipv4()) {
            self.lose(slot, DropReason::NotOurAddress);
        } else if is_loopback {
            self.flight.packet_mut(slot).hop = Hop::Host(id.0);
            self.proceed(slot, self.now);
        } else {
            self.cross(slot, Line::HostUp(id.0), Hop::Realm(realm));
        }
    }

    /// A packet has come to the next place on its way.
    pub(super) fn arrive(&mut self, slot: u32) {
        match self.flight.packet(slot).hop {
            Hop::Realm(realm) => self.route(slot, realm),
            Hop::Nat(nat) => self.translate(slot, nat, Side::Outside),
            Hop::Host(host) => self.deliver(slot, host),
        }
    }

    /// In `realm`, on the way to whoever has the address, or to the way out.
    fn route(&mut self, slot: u32, realm: u32) {
        let address = self.flight.packet(slot).destination.ip();
        match self.net.owner(realm, address) {
            Some(owner) => self.approach(slot, owner),
            None if realm == INTERNET => self.lose(slot, DropReason::NoRoute),
            None => self.translate(slot, realm - 1, Side::Inside),
        }
    }

    fn approach(&mut self, slot: u32, owner: Owner) {
        if self.net.is_cut(self.flight.packet(slot).sender, owner) {
            return self.lose(slot, DropReason::Cut);
        }
        match owner {
            Owner::Host(host) => self.cross(slot, Line::HostDown(host), Hop::Host(host)),
            Owner::Nat(nat) => self.cross(slot, Line::NatDown(nat), Hop::Nat(nat)),
        }
    }

    /// At a NAT, on one of its sides.
    fn translate(&mut self, slot: u32, nat: u32, side: Side) {
        let now = self.now;
        let packet = self.flight.packet(slot);
        let leg = Leg { side, source: packet.source, destination: packet.destination };
        let gateway = &mut self.net.gateways[nat as usize];
        let outer = gateway.outer;
        let translator = match packet.protocol {
            Protocol::Udp => &mut gateway.nat,
            Protocol::Tcp => &mut gateway.tcp,
        };
        let outcome = translator.translate(now, leg);
        while let Some(event) = translator.poll_event() {
            self.trace.nat(now, NatId(nat), &event);
        }
        let leg = match outcome {
            Ok(leg) => leg,
            Err(refusal) => return self.lose(slot, DropReason::Nat(refusal)),
        };
        let packet = self.flight.packet_mut(slot);
        (packet.source, packet.destination) = (leg.source, leg.destination);
        self.record(slot, Step::Translated { by: NatId(nat) });
        match leg.side {
            Side::Outside => self.cross(slot, Line::NatUp(nat), Hop::Realm(outer)),
            // Whoever had the mapping is on the inside or gone: never a reason to go out again.
            Side::Inside => match self.net.owner(nat + 1, leg.destination.ip()) {
                Some(owner) => self.approach(slot, owner),
                None => self.lose(slot, DropReason::NoRoute),
            },
        }
    }

    fn deliver(&mut self, slot: u32, host: u32) {
        let destination: SocketAddr = self.flight.packet(slot).destination;
        let owner = &self.hosts[host as usize];
        if owner.machine.is_none() {
            return self.lose(slot, DropReason::HostDown);
        }
        if self.flight.packet(slot).protocol == Protocol::Tcp {
            self.record(slot, Step::Delivered { to: HostId(host) });
            return self.hand_over_segment(slot, HostId(host));
        }
        if !owner.sockets.listens(destination) {
            return self.lose(slot, DropReason::NoSocket);
        }
        self.record(slot, Step::Delivered { to: HostId(host) });
        self.hand_over(slot, HostId(host));
    }

    /// Over a line, to `hop`.
    fn cross(&mut self, slot: u32, line: Line, hop: Hop) {
        let now = self.now;
        let packet = self.flight.packet_mut(slot);
        packet.hop = hop;
        let (size, ecn) = (packet.size(), packet.ecn);
        match self.line_mut(line).carry(now, size, ecn) {
            Err(drop) => self.lose(slot, DropReason::Link(drop)),
            Ok(Carried { at, again, ecn }) => {
                self.flight.packet_mut(slot).ecn = ecn;
                let copy = again.map(|again| (self.flight.copy(slot), again));
                self.proceed(slot, at);
                if let Some((copy, again)) = copy {
                    self.record(copy, Step::Duplicated);
                    self.proceed(copy, again);
                }
            }
        }
    }

    /// Goes on at `at`. Without delay a packet goes on at once, except into a host: its machine may
    /// be the one that is sending.
    fn proceed(&mut self, slot: u32, at: Instant) {
        let is_host = matches!(self.flight.packet(slot).hop, Hop::Host(_));
        if at > self.now || is_host {
            self.agenda.plan(at, Due::Arrival(slot));
        } else {
            self.arrive(slot);
        }
    }

    fn line_mut(&mut self, line: Line) -> &mut Link {
        match line {
            Line::HostUp(host) => &mut self.hosts[host as usize].uplink,
            Line::HostDown(host) => &mut self.hosts[host as usize].downlink,
            Line::NatUp(nat) => &mut self.net.gateways[nat as usize].uplink,
            Line::NatDown(nat) => &mut self.net.gateways[nat as usize].downlink,
        }
    }

    fn lose(&mut self, slot: u32, why: DropReason) {
        self.record(slot, Step::Dropped { why });
        self.flight.release(slot);
    }

    fn record(&mut self, slot: u32, step: Step) {
        let packet = self.flight.packet(slot);
        self.trace.packet(&PacketRecord {
            at: self.now,
            number: packet.number,
            sender: HostId(packet.sender),
            step,
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            ecn: packet.ecn,
            bytes: &packet.bytes,
        });
    }
}
