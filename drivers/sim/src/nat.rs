//! A network address translator, as RFC 4787 describes them.

mod behaviour;
mod config;
mod ports;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Queue, Rng, Transmit, Verdict};

pub use behaviour::{
    EARLY_INBOUND_LIFETIME, EarlyInbound, Egress, Expiry, Filtering, Firewall, Mapping, NatKind, NotANatKind,
    PORT_FIRST, PortAllocation, TablePolicy,
};
pub use config::NatConfig;
use ports::Ports;
use table::{Scope, Table};

/// Places that early packets hold at one time ([`EarlyInbound::TakesTuple`]). Beyond it, further
/// early packets take none.
pub const EARLY_MAX: usize = 4_096;

/// Events that wait to be polled. Beyond it the oldest is dropped and counted.
pub const NAT_EVENTS_MAX: usize = 1_024;

/// A side of the NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where the private addresses are.
    Inside,
    /// Where the NAT's own addresses are.
    Outside,
}

/// A packet's addresses, on one side of the NAT: the NAT's idea of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leg {
    /// Where the packet comes in, or goes out.
    pub side: Side,
    /// From.
    pub source: SocketAddr,
    /// To.
    pub destination: SocketAddr,
}

/// Why a packet does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// From outside, to an endpoint that nobody inside has.
    NoMapping,
    /// From outside, from somebody who may not ([`Filtering`]).
    Filtered,
    /// From inside, to a new destination, and no port is free.
    NoPort,
    /// From inside, to a new destination, and the table is full ([`TablePolicy::RefuseNew`]).
    TableFull,
    /// From inside to an outside endpoint of this very NAT, which does not do that.
    NoHairpin,
    /// From inside, to a port that nothing is let out to ([`Firewall`]).
    Firewall,
    /// Of an address family that this NAT does not translate.
    WrongFamily,
}

gimlet_machine::counters! {
    /// What the NAT did not let through, and what it forgot.
    pub struct NatCounters {
        /// See [`Refusal::NoMapping`].
        no_mapping,
        /// See [`Refusal::Filtered`].
        filtered,
        /// See [`Refusal::NoPort`].
        no_port,
        /// See [`Refusal::TableFull`].
        table_full,
        /// See [`Refusal::NoHairpin`].
        no_hairpin,
        /// See [`Refusal::Firewall`].
        firewall,
        /// See [`Refusal::WrongFamily`].
        wrong_family,
        /// Mappings that gave way to newer ones ([`TablePolicy::EvictIdlest`]).
        evicted,
        /// Flows that were moved to another port because an early packet held theirs.
        moved,
        /// Early packets that took no place because [`EARLY_MAX`] were held.
        early_ignored,
        /// Events that nobody polled in time ([`NAT_EVENTS_MAX`]).
        events_dropped,
    }
}

/// What happened to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatEvent {
    /// A mapping was made.
    Mapped {
        /// Who.
        inside: SocketAddr,
        /// Who that is to the outside.
        outside: SocketAddr,
        /// The first destination.
        remote: SocketAddr,
    },
    /// A mapping was made for one destination only, because a packet from there had come early.
    Moved {
        /// Who.
        inside: SocketAddr,
        /// Who that is, to `remote` alone.
        outside: SocketAddr,
        /// The destination.
        remote: SocketAddr,
    },
    /// A mapping was unused for too long.
    Expired {
        /// Who.
        inside: SocketAddr,
        /// Who that was to the outside.
        outside: SocketAddr,
    },
    /// A mapping gave way to a newer one.
    Evicted {
        /// Who.
        inside: SocketAddr,
        /// Who that was to the outside.
        outside: SocketAddr,
    },
}

/// Places taken by early packets: outside endpoint and remote endpoint, and until when.
type Early = BTreeMap<(SocketAddr, SocketAddr), Instant>;

fn is_held(early: &Early, now: Instant, outside: SocketAddr, remote: SocketAddr) -> bool {
    early.get(&(outside, remote)).is_some_and(|until| *until > now)
}

/// A NAT. It rewrites addresses, never bytes: a packet comes in on a [`Leg`] and leaves, in the same
/// buffer, on another ([`Verdict::Pass`]).
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    /// The half of the firewall that is meant for what it translates.
    egress: Egress,
    table: Table,
    ports: Ports,
    early: Early,
    events: Queue<NatEvent>,
    counters: NatCounters,
}

impl Nat {
    /// A NAT for datagrams, with an empty table. Its dice decide random ports.
    pub fn new(rng: Rng, config: NatConfig) -> Self {
        let egress = config.firewall.udp.clone();
        Self::with(rng, config, egress)
    }

    /// The same NAT's table for connections.
    pub(crate) fn for_tcp(rng: Rng, config: &NatConfig) -> Self {
        Self::with(rng, config.for_tcp(), config.firewall.tcp.clone())
    }

    fn with(rng: Rng, config: NatConfig, egress: Egress) -> Self {
        assert!(!config.outside.is_empty(), "a NAT needs an outside address");
        let ports = Ports::new(rng, config.ports, config.outside.clone());
        Self {
            config,
            egress,
            table: Table::default(),
            ports,
            early: BTreeMap::new(),
            events: Queue::new(NAT_EVENTS_MAX),
            counters: NatCounters::default(),
        }
    }

    /// Lets out other packets from here on. Mappings live on.
    pub(crate) fn set_egress(&mut self, egress: Egress) {
        self.egress = egress;
    }

    /// Forgets every mapping, as a power cut would.
    pub fn reboot(&mut self, _now: Instant) {
        while self.table.pop_idlest().is_some() {}
        self.early.clear();
        self.ports.reboot();
    }

    /// Decides where a packet that arrives on `leg` leaves, if it does. This is
    /// [`Machine::handle_input`] for an owner who wants to know the reason.
    pub fn translate(&mut self, now: Instant, leg: Leg) -> Result<Leg, Refusal> {
        if !self.translates(leg.source) || !self.translates(leg.destination) {
            self.count(Refusal::WrongFamily);
            return Err(Refusal::WrongFamily);
        }
        self.expire(now);
        let outcome = match leg.side {
            Side::Inside => self.on_outbound(now, leg.source, leg.destination),
            Side::Outside => self.on_inbound(now, leg.source, leg.destination),
        };
        if let Err(refusal) = outcome {
            self.count(refusal);
        }
        outcome
    }

    /// To which ports it lets packets out.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// What it was built with.
    pub fn config(&self) -> &NatConfig {
        &self.config
    }

    /// What was refused and forgotten.
    pub fn counters(&self) -> &NatCounters {
        &self.counters
    }

    /// Every mapping as (inside, outside) endpoints, in the order of its slot in the table.
    pub fn mappings(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.table.iter().map(|row| (row.inside, row.outside))
    }

    /// Whether this NAT has an outside address of `address`'s family.
    pub fn translates(&self, address: SocketAddr) -> bool {
        self.ports.outside().iter().any(|outside| outside.is_ipv4() == address.is_ipv4())
    }

    fn on_outbound(&mut self, now: Instant, inside: SocketAddr, remote: SocketAddr) -> Result<Leg, Refusal> {
        if !self.egress.lets_out(remote.port()) {
            return Err(Refusal::Firewall);
        }
        let is_hairpin = self.ports.outside().contains(&remote.ip());
        if is_hairpin && !self.config.hairpin {
            return Err(Refusal::NoHairpin);
        }
        let outside = self.map(now, inside, remote)?;
        if is_hairpin {
            // RFC 4787 §6, REQ-9: the receiver sees the sender's outside endpoint.
            return self.on_inbound(now, outside, remote);
        }
        Ok(Leg { side: Side::Outside, source: outside, destination: remote })
    }

    fn on_inbound(&mut self, now: Instant, remote: SocketAddr, outside: SocketAddr) -> Result<Leg, Refusal> {
        let Some(id) = self.table.find_outside(outside) else {
            self.note_early(now, outside, remote);
            return Err(Refusal::NoMapping);
        };
        let refresh = self.config.expiry.inbound_refresh.then_some(self.config.expiry.after);
        if !self.table.use_inbound(now, id, remote, self.config.filtering, refresh) {
            self.note_early(now, outside, remote);
            return Err(Refusal::Filtered);
        }
        Ok(Leg { side: Side::Inside, source: remote, destination: self.table.row(id).inside })
    }

    /// Finds or makes the mapping of `inside` toward `remote`, marks it used, and returns its outside
    /// endpoint.
    fn map(&mut self, now: Instant, inside: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, Refusal> {
        let Expiry { after, .. } = self.config.expiry;
        let scope = self.scope(now, inside, remote);
        let id = if let Some(id) = self.table.find(inside, scope) {
            id
        } else {
            let outside = self.allocate(now, inside, remote)?;
            self.announce_new(inside, outside, remote, scope);
            self.table.insert(inside, scope, outside, now + after)
        };
        self.table.use_outbound(now, id, remote, self.config.filtering, after);
        Ok(self.table.row(id).outside)
    }

    /// Which destinations share the mapping that serves this flow: what [`Mapping`] says, unless an
    /// early packet took the place of this very flow.
    fn scope(&mut self, now: Instant, inside: SocketAddr, remote: SocketAddr) -> Scope {
        let usual = Scope::new(self.config.mapping, remote);
        if self.early.is_empty() && self.counters.moved == 0 {
            return usual;
        }
        let alone = Scope::Endpoint(remote);
        if self.table.find(inside, alone).is_some() {
            return alone;
        }
        let would_use = match self.table.find(inside, usual) {
            Some(id) => Some(self.table.row(id).outside),
            None => self.ports.preferred(inside),
        };
        let is_held = would_use.is_some_and(|outside| is_held(&self.early, now, outside, remote));
        if is_held { alone } else { usual }
    }

    fn allocate(
        &mut self,
        now: Instant,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketAddr, Refusal> {
        if self.table.len() >= self.config.mappings_max {
            match self.config.when_full {
                TablePolicy::RefuseNew => return Err(Refusal::TableFull),
                TablePolicy::EvictIdlest => {
                    let row = self.table.pop_idlest().ok_or(Refusal::TableFull)?;
                    self.counters.evicted += 1;
                    self.announce(NatEvent::Evicted { inside: row.inside, outside: row.outside });
                }
            }
        }
        let Self { table, early, ports, .. } = self;
        ports
            .allocate(inside, |outside| table.is_taken(outside) || is_held(early, now, outside, remote))
            .ok_or(Refusal::NoPort)
    }

    fn note_early(&mut self, now: Instant, outside: SocketAddr, remote: SocketAddr) {
        match self.config.early_inbound {
            EarlyInbound::Ignored => return,
            EarlyInbound::TakesTuple => {}
        }
        if self.early.len() >= EARLY_MAX {
            self.early.retain(|_, until| *until > now);
        }
        if self.early.len() >= EARLY_MAX && !self.early.contains_key(&(outside, remote)) {
            self.counters.early_ignored += 1;
            return;
        }
        self.early.insert((outside, remote), now + EARLY_INBOUND_LIFETIME);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(row) = self.table.pop_expired(now) {
            self.announce(NatEvent::Expired { inside: row.inside, outside: row.outside });
        }
    }

    fn announce_new(&mut self, inside: SocketAddr, outside: SocketAddr, remote: SocketAddr, scope: Scope) {
        if scope == Scope::new(self.config.mapping, remote) {
            self.announce(NatEvent::Mapped { inside, outside, remote });
        } else {
            self.counters.moved += 1;
            self.announce(NatEvent::Moved { inside, outside, remote });
        }
    }

    fn announce(&mut self, event: NatEvent) {
        if self.events.push_evicting(event).is_some() {
            self.counters.events_dropped += 1;
        }
    }

    fn count(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::NoMapping => &mut self.counters.no_mapping,
            Refusal::Filtered => &mut self.counters.filtered,
            Refusal::NoPort => &mut self.counters.no_port,
            Refusal::TableFull => &mut self.counters.table_full,
            Refusal::NoHairpin => &mut self.counters.no_hairpin,
            Refusal::Firewall => &mut self.counters.firewall,
            Refusal::WrongFamily => &mut self.counters.wrong_family,
        };
        *counter += 1;
    }
}

impl Machine for Nat {
    type Path = Leg;
    type Event = NatEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Leg>) -> Verdict<Leg> {
        match self.translate(now, input.path) {
            Ok(path) => Verdict::Pass { path, range: 0..input.bytes.len() },
            Err(Refusal::WrongFamily) => Verdict::NotMine,
            Err(
                Refusal::NoMapping
                | Refusal::Filtered
                | Refusal::NoPort
                | Refusal::TableFull
                | Refusal::NoHairpin
                | Refusal::Firewall,
            ) => Verdict::Consumed,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
    }

    fn poll_event(&mut self) -> Option<NatEvent> {
        self.events.pop()
    }

    fn poll_transmit(&mut self, _now: Instant, _out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.table.next_expiry().map(|at| Deadline { at, why: "mapping expiry" })
    }
}

#[cfg(test)]
mod tests;
