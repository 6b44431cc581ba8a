//! The machine that has a server relay for it (RFC 8656 §5–§12).

mod allocation;
mod answers;
mod conversation;
mod input;
mod peers;
mod requests;
#[cfg(test)]
mod tests;
mod wrap;

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::{
    Buf, Deadline, FourTuple, Input, Instant, Machine, Path, Queue, Rng, Timers, Transmit, Verdict,
};
use gimlet_stun::{AddressFamily, Framer, RC_DEFAULT, RM_DEFAULT, RTO_DEFAULT};

use crate::credentials::{Challenge, LongTerm};
use crate::error::{AllocateError, PeerError};
use crate::event::{ClientEvent, Failure};
use crate::state::{AllocationState, AllocationStep};
use crate::timer::Timer;
use allocation::Allocation;
use conversation::Conversation;
use peers::Peers;
use requests::Requests;

pub use conversation::ALGORITHMS_MAX;
pub use peers::{
    CHANNEL_COOL_DOWN, CHANNEL_LIFETIME, CHANNEL_REFRESH, CHANNELS_MAX, PERMISSION_LIFETIME,
    PERMISSION_REFRESH, PERMISSIONS_MAX,
};
pub use requests::REQUESTS_MAX;
pub(crate) use requests::RequestId;
pub use wrap::WRAP_MAX;

/// The most events that wait; when one more comes, the oldest goes and is counted.
pub const EVENTS_MAX: usize = 256;

/// The most datagrams from a stream that wait as events; one more is dropped and counted, as UDP
/// would.
pub const RECEIVED_MAX: usize = 128;

/// The most peers in one CreatePermission, so that it fits every path with its signature; the others
/// get another.
pub const PERMISSIONS_PER_REQUEST_MAX: usize = 16;

/// How often the server is asked whether it still knows us. A NAT that has forgotten the flow, or
/// given it another port, is found out within this time (RFC 8656 §8 would let 10 minutes pass).
pub const KEEPALIVE_DEFAULT: Duration = Duration::from_secs(25);

/// How bytes travel to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// UDP: requests are repeated until they are answered.
    #[default]
    Datagram,
    /// TCP or TLS: the owner has the connection. What the client writes is the next piece of the
    /// stream, and what it hears may be cut anywhere.
    Stream,
}

/// What kind of relayed addresses is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// An IPv4 address.
    V4,
    /// An IPv6 address (RFC 8656 §7.1, REQUESTED-ADDRESS-FAMILY).
    V6,
    /// One of each, or the one that the server has (RFC 8656 §7.1, ADDITIONAL-ADDRESS-FAMILY).
    Both,
}

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How bytes travel to the server.
    pub transport: Transport,
    /// The first wait before a request is sent again.
    pub rto: Duration,
    /// How often a request is sent at most.
    pub rc: u32,
    /// How many `rto` to listen after the last send.
    pub rm: u32,
    /// The lifetime to ask for; `None` leaves it to the server.
    pub lifetime: Option<Duration>,
    /// How often to refresh at least; `None`: only when the lifetime demands it.
    pub keepalive: Option<Duration>,
}

impl Default for ClientConfig {
    /// UDP, the timers of RFC 8489 §6.2.1, the server's lifetime, [`KEEPALIVE_DEFAULT`].
    fn default() -> Self {
        Self {
            transport: Transport::Datagram,
            rto: RTO_DEFAULT,
            rc: RC_DEFAULT,
            rm: RM_DEFAULT,
            lifetime: None,
            keepalive: Some(KEEPALIVE_DEFAULT),
        }
    }
}

gimlet_machine::counters! {
    /// What a [`Client`] did not use.
    pub struct ClientCounters {
        /// From elsewhere than the server, or to another of our addresses; left to others.
        not_from_server,
        /// From the server and neither STUN nor ChannelData, or damaged; left to others.
        not_turn,
        /// Requests, and indications that are not Data; left to others.
        not_an_answer,
        /// Answers no request under way: late, a duplicate, or somebody else's. Left to others.
        unknown_transaction,
        /// Answers our request with no signature, a weaker or a wrong one (RFC 8489 §9.2.5).
        unauthentic,
        /// ChannelData with a number that is not bound, or shorter than it says (RFC 8656 §12.6). Left to
        /// others, because QUIC from the server's host looks like it.
        unknown_channel,
        /// Data from a peer that was not permitted (RFC 8656 §11.4).
        unpermitted,
        /// Data indications without peer or data, or with an attribute that must be understood.
        incomplete,
        /// Relayed datagrams from a stream dropped because [`RECEIVED_MAX`] waited.
        received_overflow,
        /// Events dropped because [`EVENTS_MAX`] newer ones waited.
        events_overflow,
        /// A send for which the lent buffer was too small; the next retransmission tries again.
        no_room,
    }
}

/// Has one allocation on one server and keeps it: refreshed, permitted, bound, and asked for anew
/// when the server has lost it.
///
/// Input on [`Path::Direct`] from the server passes as [`Path::Relayed`] with the payload's range, in
/// place. For the way out, [`Client::wrap`] turns what another machine wrote for [`Path::Relayed`]
/// into what the server expects.
#[derive(Clone, Debug)]
pub struct Client {
    config: ClientConfig,
    rng: Rng,
    flow: Flow,
    conversation: Conversation,
    allocation: Allocation,
    peers: Peers,
    requests: Requests,
    timers: Timers<Timer>,
    events: Queue<ClientEvent>,
    counters: ClientCounters,
    /// Where the head of a Send indication is made.
    scratch: Vec<u8>,
}

/// The flow to the server, and the servers that sent us on.
#[derive(Clone, Debug)]
struct Flow {
    relay: FourTuple,
    /// Servers that answered 300, at most [`HOPS_MAX`](allocation::HOPS_MAX).
    visited: Vec<SocketAddr>,
    /// Cuts the stream; unused over datagrams.
    framer: Framer,
    /// Datagrams from the stream among the events.
    received: usize,
}

impl Client {
    /// A client of the server at `relay.remote`, from our socket at `relay.local`.
    pub fn new(rng: Rng, relay: FourTuple, credentials: LongTerm, config: ClientConfig) -> Self {
        Self {
            config,
            rng,
            flow: Flow { relay, visited: Vec::new(), framer: Framer::new(), received: 0 },
            conversation: Conversation::new(credentials),
            allocation: Allocation::new(),
            peers: Peers::default(),
            requests: Requests::new(),
            timers: Timers::new(),
            events: Queue::new(EVENTS_MAX),
            counters: ClientCounters::default(),
            scratch: Vec::new(),
        }
    }

    /// Asks for relayed addresses. Permissions and channels may be asked for at once: they follow as
    /// soon as the server has answered.
    pub fn allocate(&mut self, now: Instant, families: Families) -> Result<(), AllocateError> {
        match self.allocation.state {
            AllocationState::Idle | AllocationState::Released | AllocationState::Failed => {
                self.allocation.families = families;
                self.flow.visited.clear();
                self.ask_allocation(now);
                Ok(())
            }
            AllocationState::Allocating
            | AllocationState::Clearing
            | AllocationState::Waiting
            | AllocationState::Moving
            | AllocationState::Allocated
            | AllocationState::Refreshing
            | AllocationState::Deleting => Err(AllocateError::Busy),
        }
    }

    /// Lets datagrams from any port of `peer` through, and keeps it so. Idempotent. All permissions
    /// that are wanted at one moment share a request.
    pub fn permit(&mut self, _now: Instant, peer: IpAddr) -> Result<(), PeerError> {
        self.allocation.serves(peer)?;
        if self.peers.permit(peer) { Ok(()) } else { Err(PeerError::TooMany) }
    }

    /// Lets datagrams from `peer` through no longer than the server remembers: at most five minutes,
    /// during which they are dropped here. Its channels are let go too: renewing one would renew the
    /// permission (RFC 8656 §12.2).
    pub fn forbid(&mut self, now: Instant, peer: IpAddr) {
        self.peers.forbid(now, peer);
        self.arm_peers(now);
    }

    /// Wants a channel to `peer`, so that a datagram costs four bytes in place of about forty, and
    /// the permission that goes with it; keeps both. Returns the channel's number. Idempotent.
    /// Datagrams may be sent at once: until the channel is bound they go as Send indications.
    pub fn bind_channel(&mut self, now: Instant, peer: SocketAddr) -> Result<u16, PeerError> {
        self.permit(now, peer.ip())?;
        self.peers.bind(peer).ok_or(PeerError::TooMany)
    }

    /// Lets the channel to `peer` go; the permission stays. Its number rests until the server has
    /// forgotten it too (RFC 8656 §12).
    pub fn unbind_channel(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(number) = self.peers.channel_to(peer).map(|channel| channel.number) {
            self.peers.release(now, number);
            self.arm_peers(now);
        }
    }

    /// Gives the relayed addresses back; [`ClientEvent::Released`] follows.
    pub fn release(&mut self, now: Instant) {
        self.requests.clear(&mut self.timers);
        self.timers = Timers::new();
        self.peers = Peers::default();
        if self.step(AllocationStep::Delete) {
            self.begin(now, requests::Ask::Delete);
        } else {
            self.on_released();
        }
    }

    /// The flow to the server is another: the owner made a new connection (after
    /// [`ClientEvent::Redirected`], or because the old one broke), or our own address changed. A
    /// server knows a client by its flow alone, so this asks for an allocation again, if there was
    /// one or was to be one.
    pub fn reconnected(&mut self, now: Instant, relay: FourTuple) {
        if self.flow.relay.remote != relay.remote {
            self.conversation.forget();
        }
        self.flow.relay = relay;
        self.flow.framer = Framer::new();
        self.on_moved(now);
    }

    /// The connection to the server is gone, and with it whatever the server had for us. Nothing is asked and
    /// nothing is due until [`Client::reconnected`], which asks for an allocation again, if there was one or was
    /// to be one.
    pub fn disconnected(&mut self) {
        debug_assert_eq!(self.config.transport, Transport::Stream, "datagrams have no connection");
        self.flow.framer = Framer::new();
        self.on_disconnected();
    }

    /// New credentials, and what the server would challenge us with: requests are signed with both from here
    /// on, the first one included. An allocation stays, and is refreshed at once, so that a server which has
    /// forgotten it is found out. An error: the challenge is none, and nothing has changed.
    pub fn renew(
        &mut self,
        now: Instant,
        credentials: LongTerm,
        challenge: &Challenge,
    ) -> Result<(), Failure> {
        self.conversation.renew(credentials, challenge)?;
        if self.allocation.state == AllocationState::Allocated {
            self.refresh(now);
        }
        Ok(())
    }

    /// Where the allocation stands.
    pub const fn state(&self) -> AllocationState {
        self.allocation.state
    }

    /// The flow to the server.
    pub const fn relay(&self) -> FourTuple {
        self.flow.relay
    }

    /// Our address of this family at the server.
    pub fn relayed(&self, family: AddressFamily) -> Option<SocketAddr> {
        self.allocation.relayed(family)
    }

    /// Our own address as the server sees it.
    pub const fn mapped(&self) -> Option<SocketAddr> {
        self.allocation.mapped
    }

    /// Whether data to `peer` can be wrapped: there is an allocation, and a permission was asked for.
    pub fn is_permitted(&self, now: Instant, peer: IpAddr) -> bool {
        self.allocation.state.is_allocated() && self.peers.is_permitted(now, peer)
    }

    /// The number of a channel on which data to `peer` can go at `now`.
    pub fn channel(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        self.peers.bound(now, peer).filter(|_| self.allocation.state.is_allocated())
    }

    /// What was not used.
    pub const fn counters(&self) -> &ClientCounters {
        &self.counters
    }

    /// Moves the allocation's graph, if it can.
    fn step(&mut self, step: AllocationStep) -> bool {
        let next = self.allocation.state.after(step);
        self.allocation.state = next.unwrap_or(self.allocation.state);
        next.is_some()
    }

    fn tell(&mut self, event: ClientEvent) {
        if let Some(lost) = self.events.push_evicting(event) {
            self.flow.received -= usize::from(matches!(lost, ClientEvent::Received { .. }));
            self.counters.events_overflow += 1;
        }
    }
}

impl Machine for Client {
    type Path = Path;
    type Event = ClientEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        if input.path != Path::Direct(self.flow.relay) {
            self.counters.not_from_server += 1;
            return Verdict::NotMine;
        }
        match self.config.transport {
            Transport::Datagram => self.on_datagram(now, input.bytes),
            Transport::Stream => {
                self.on_chunk(now, input.bytes);
                Verdict::Consumed
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Request(id) => self.on_request_due(now, id),
                Timer::Refresh => self.refresh(now),
                Timer::Expire => self.on_lost(now),
                Timer::Peers => self.on_peers_due(now),
                Timer::Retry => self.ask_allocation(now),
            }
        }
    }

    fn poll_event(&mut self) -> Option<ClientEvent> {
        let event = self.events.pop();
        self.flow.received -= usize::from(matches!(event, Some(ClientEvent::Received { .. })));
        event
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        if self.allocation.state.is_allocated() && self.peers.is_wanting() {
            self.ask_peers(now);
        }
        while let Some(bytes) = self.requests.pop() {
            if out.put(bytes) {
                return Some(Transmit::new(Path::Direct(self.flow.relay)));
            }
            self.counters.no_room += 1;
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.deadline()
    }
}
