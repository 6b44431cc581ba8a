//! The machine that relays (RFC 8656 §5–§12).

mod allocation;
mod answers;
mod gate;
mod grants;
mod meter;
mod outbox;
mod policy;
mod relaying;
#[cfg(test)]
mod tests;
mod users;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{
    Arena, Buf, Deadline, Ecn, FourTuple, Id, Input, Instant, Machine, Queue, Rng, SeededMap, Timers,
    Transmit, Verdict,
};
use gimlet_stun::{AddressFamily, Class, Message, Method};

use crate::credentials::{Challenge, LongTerm};
use crate::event::ServerEvent;
use crate::timer::Expiry;
use allocation::{Allocation, Leg};
use gate::Gate;
use outbox::Outbox;
use users::Users;

pub use gate::{NONCE_LIFETIME, STRANGERS_PER_SECOND};
pub use outbox::{OUTBOX_BYTES_MAX, OUTBOX_MAX};
pub use policy::{DENIED_MAX, PeerPolicy};

/// The most named users; the ones after that are not let in. Secrets serve any number.
pub const USERS_MAX: usize = 1024;

/// The most secrets: one in use, and the ones before it while users still hold passwords made from
/// them. The ones after that are ignored.
pub const SECRETS_MAX: usize = 4;

/// The longest realm; a longer one is cut. Bytes. It travels in every challenge to a stranger.
pub const REALM_MAX: usize = 127;

/// How long the owner may take to open a socket before the client hears 508.
pub const OPEN_WAIT: Duration = Duration::from_secs(5);

/// How much of a server its users may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Allocations in all. One more is refused with 508.
    pub allocations_max: usize,
    /// Allocations of one user. One more is refused with 486.
    pub per_user_max: usize,
    /// Allocations from one address. One more is refused with 486.
    pub per_address_max: usize,
    /// Permissions of one allocation. A request for more is refused with 508.
    pub permissions_max: usize,
    /// Channels of one allocation. One more is refused with 508.
    pub channels_max: usize,
    /// The longest lifetime that is given; a request for more gets this.
    pub lifetime_max: Duration,
    /// Bytes that one allocation relays in a second, both directions together; a second's worth may come at
    /// once. Beyond: dropped, which slows senders down as a full line would. `u64::MAX`: no limit.
    pub bytes_per_second_max: u64,
}

impl Default for ServerLimits {
    /// 1024 allocations, 16 for one user, 64 from one address (which a NAT may share), each with 64
    /// permissions and 64 channels, for an hour at a time, as fast as it comes.
    fn default() -> Self {
        Self {
            allocations_max: 1024,
            per_user_max: 16,
            per_address_max: 64,
            permissions_max: 64,
            channels_max: 64,
            lifetime_max: Duration::from_secs(3600),
            bytes_per_second_max: u64::MAX,
        }
    }
}

/// How a [`Server`] serves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// What the users' passwords belong to, at most [`REALM_MAX`] bytes.
    pub realm: String,
    /// Users with names, at most [`USERS_MAX`].
    pub users: Vec<LongTerm>,
    /// Secrets from which passwords of limited time are made ([`LongTerm::until`]), newest first, at
    /// most [`SECRETS_MAX`].
    pub secrets: Vec<Vec<u8>>,
    /// What [`Instant::ZERO`] is in seconds since 1970-01-01: decides when such passwords end.
    pub unix_time_at_zero: Duration,
    /// Which families can be relayed.
    pub families: Vec<AddressFamily>,
    /// Whom to relay to.
    pub peers: PeerPolicy,
    /// How much anybody may have.
    pub limits: ServerLimits,
}

impl Default for ServerConfig {
    /// IPv4, peers that everybody can reach, and no users: nobody is let in.
    fn default() -> Self {
        Self {
            realm: String::from("gimlet"),
            users: Vec::new(),
            secrets: Vec::new(),
            unix_time_at_zero: Duration::ZERO,
            families: alloc::vec![AddressFamily::V4],
            peers: PeerPolicy::default(),
            limits: ServerLimits::default(),
        }
    }
}

/// Names an allocation of a server.
pub(crate) type AllocationId = Id<Allocation>;

/// Names a socket that the owner opens for one client. It outlives the socket harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId {
    allocation: AllocationId,
    family: AddressFamily,
}

gimlet_machine::counters! {
    /// What a [`Server`] relayed, refused and dropped.
    pub struct ServerCounters {
        /// Datagrams relayed to peers.
        to_peers,
        /// Bytes in them.
        bytes_to_peers,
        /// Datagrams relayed to clients.
        to_clients,
        /// Bytes in them.
        bytes_to_clients,
        /// Allocations that were made.
        allocated,
        /// Neither STUN nor a client's ChannelData, or damaged; left to others.
        not_turn,
        /// STUN that is none of TURN's business, Binding first of all; left to others.
        other_method,
        /// Requests of strangers that were answered: 400, 401, 438.
        challenged,
        /// Requests of strangers that were not answered: [`STRANGERS_PER_SECOND`] had been.
        rationed,
        /// Authentic requests refused.
        refused,
        /// From port 0, where no answer can go.
        unanswerable,
        /// Send indications and ChannelData from a flow without an allocation.
        no_allocation,
        /// ChannelData with a number that is not bound, or shorter than it says: left to others, because
        /// QUIC on the same flow looks like it.
        unknown_channel,
        /// Data to or from a peer without a permission.
        unpermitted,
        /// Send indications without peer or data, or with an attribute that must be understood.
        incomplete,
        /// Data to a peer that is never relayed to.
        denied_peer,
        /// Datagrams beyond [`ServerLimits::bytes_per_second_max`].
        over_rate,
        /// Requests repeated while their answer waits for the owner.
        repeated,
        /// Answers of the owner about sockets that nobody waits for.
        stale_relay,
        /// Events dropped because the owner listened to none of many newer ones.
        events_overflow,
        /// Datagrams dropped because [`OUTBOX_MAX`] or [`OUTBOX_BYTES_MAX`] waited, or because they
        /// are too long to relay.
        overflow,
        /// Datagrams dropped because the lent buffer was too small.
        no_room,
    }
}

/// Relays for clients that it knows. Clients are on one side, the sockets that the owner opens for
/// them on the other, and a path's `local` tells which side it is: the address of such a socket, or
/// any other.
///
/// A client's ChannelData and Send indications pass in place. Data from peers grows by a header, so
/// it is written out, in trains where the owner takes them.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    rng: Rng,
    gate: Gate,
    allocations: Arena<Allocation>,
    clients: SeededMap<FourTuple, AllocationId>,
    /// The allocation of each open socket.
    relays: SeededMap<SocketAddr, AllocationId>,
    /// The same by the address that clients and peers know: what one client sends to another's is handed over
    /// in place.
    publics: SeededMap<SocketAddr, AllocationId>,
    timers: Timers<Expiry>,
    outbox: Outbox,
    events: Queue<ServerEvent>,
    counters: ServerCounters,
}

impl Server {
    /// A server; it answers on whatever path a request arrives.
    pub fn new(rng: Rng, mut config: ServerConfig) -> Self {
        let mut rng = rng;
        while config.realm.len() > REALM_MAX {
            config.realm.pop();
        }
        let users = Users::new(&config);
        // Each allocation tells at most seven things in its life before the owner has to listen.
        let events = config.limits.allocations_max.saturating_mul(EVENTS_EACH);
        Self {
            gate: Gate::new(&mut rng, users),
            clients: SeededMap::new(&mut rng),
            relays: SeededMap::new(&mut rng),
            publics: SeededMap::new(&mut rng),
            config,
            rng,
            allocations: Arena::new(),
            timers: Timers::new(),
            outbox: Outbox::default(),
            events: Queue::new(events),
            counters: ServerCounters::default(),
        }
    }

    /// The socket that [`ServerEvent::OpenRelay`] asked for is open at `local`, as paths will name
    /// it; clients are told `public`, which differs behind a one-to-one NAT. A socket that nobody waits
    /// for, or not like this (another family, an odd port, an address that is taken), is to be closed.
    pub fn relay_opened(&mut self, now: Instant, id: RelayId, local: SocketAddr, public: SocketAddr) {
        let known = self.relays.contains(&local) || self.publics.contains(&public);
        let taken = known || AddressFamily::of(public) != id.family;
        let allocation = self.allocations.get_mut(id.allocation);
        let odd = allocation.as_ref().is_some_and(|it| it.even && !public.port().is_multiple_of(2));
        let Some(leg) = allocation.filter(|_| !taken && !odd).and_then(|it| it.opening(id.family)) else {
            self.tell(ServerEvent::CloseRelay { id, local });
            return self.relay_failed(now, id);
        };
        *leg = Leg::Open { local, public };
        self.relays.insert(local, id.allocation);
        self.publics.insert(public, id.allocation);
        self.on_leg_settled(now, id.allocation);
    }

    /// There is no socket to be had for [`ServerEvent::OpenRelay`].
    pub fn relay_failed(&mut self, now: Instant, id: RelayId) {
        let allocation = self.allocations.get_mut(id.allocation);
        let Some(leg) = allocation.and_then(|allocation| allocation.opening(id.family)) else {
            self.counters.stale_relay += 1;
            return;
        };
        *leg = Leg::Refused(gimlet_stun::error_code::INSUFFICIENT_CAPACITY);
        self.on_leg_settled(now, id.allocation);
    }

    /// The socket that was open is open no more: the allocation ends with it, and the client learns so from its
    /// next request (RFC 8656 §3.2).
    /// For a socket that never opened this is [`Server::relay_failed`].
    pub fn relay_gone(&mut self, now: Instant, id: RelayId) {
        match self.allocations.get(id.allocation).map(|allocation| allocation.leg(id.family)) {
            Some(Leg::Open { .. }) => self.close(id.allocation),
            Some(Leg::Opening | Leg::Unwanted | Leg::Refused(_)) | None => self.relay_failed(now, id),
        }
    }

    /// Ends every allocation. Whoever asks again gets another: an owner that is done offers no more input.
    pub fn close_all(&mut self) {
        let all: Vec<AllocationId> = self.allocations.iter().map(|(id, _)| id).collect();
        for id in all {
            self.close(id);
        }
    }

    /// What a client on `path` would be challenged with at `now`, to be told to it beforehand. It is good for
    /// [`NONCE_LIFETIME`], and no secret.
    pub fn challenge_on(&self, now: Instant, path: FourTuple) -> Challenge {
        self.gate.challenge(now, path)
    }

    /// Whether whoever sends on `path` has an allocation, or is about to.
    pub fn is_client(&self, path: FourTuple) -> bool {
        self.clients.contains(&path)
    }

    /// Whether `local` is the address of a socket that was opened for a client.
    pub fn is_relay(&self, local: SocketAddr) -> bool {
        self.relays.contains(&local)
    }

    /// How many clients have an allocation, or are about to.
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    /// What was relayed, refused and dropped.
    pub const fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    fn tell(&mut self, event: ServerEvent) {
        // Allocations are refused before this can happen, unless the owner answers what was not asked.
        self.counters.events_overflow += u64::from(self.events.push_evicting(event).is_some());
    }

    fn unix_time(&self, now: Instant) -> Duration {
        self.config.unix_time_at_zero + now.since(Instant::ZERO)
    }

    fn on_message(&mut self, now: Instant, path: FourTuple, ecn: Ecn, bytes: &[u8]) -> Verdict<FourTuple> {
        let Ok(message) = Message::parse(bytes) else {
            self.counters.not_turn += 1;
            return Verdict::NotMine;
        };
        let requests = [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND];
        match message.class() {
            Class::Request if requests.contains(&message.method()) => {
                self.on_request(now, path, &message);
                Verdict::Consumed
            }
            Class::Indication if message.method() == Method::SEND => {
                match self.on_send(path, bytes, &message) {
                    Some((id, peer, range)) => self.relay(now, id, peer, (range, ecn), bytes),
                    None => Verdict::Consumed,
                }
            }
            Class::Request | Class::Indication | Class::Success | Class::Error => {
                self.counters.other_method += 1;
                Verdict::NotMine
            }
        }
    }
}

/// How many events an allocation may cause before its owner listens: two sockets asked for, one
/// allocation told, its end told, two sockets closed, and one answer that came too late.
const EVENTS_EACH: usize = 7;

impl Machine for Server {
    type Path = FourTuple;
    type Event = ServerEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        if let Some(id) = self.relays.get(&input.path.local).copied() {
            self.on_peer_data(now, id, input.path.remote, input.ecn, input.bytes);
            return Verdict::Consumed;
        }
        match input.bytes.first() {
            Some(0x40..=0x4f) => match self.on_channel_data(now, input.path, input.bytes) {
                Some((id, peer, range)) => self.relay(now, id, peer, (range, input.ecn), input.bytes),
                None => Verdict::NotMine,
            },
            Some(_) | None => self.on_message(now, input.path, input.ecn, input.bytes),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(Expiry(id)) = self.timers.pop(now) {
            self.on_expired(now, id);
        }
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop()
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        loop {
            match self.outbox.pop(out)? {
                Ok(transmit) => return Some(transmit),
                Err(()) => self.counters.no_room += 1,
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.deadline()
    }
}
