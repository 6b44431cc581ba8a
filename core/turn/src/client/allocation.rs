//! The allocation's life: asked for, refreshed, lost, asked for again.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::Instant;
use gimlet_stun::{
    AddressFamily, Class, Message, MessageWriter, Method, Retransmission, TransactionId, error_code,
};

use super::requests::{Ask, REQUESTS_MAX, Request, RequestId};
use super::{Client, Families, PERMISSIONS_PER_REQUEST_MAX, Transport};
use crate::error::PeerError;
use crate::event::{Allocated, ClientEvent, Failure};
use crate::state::{AllocationState, AllocationStep};
use crate::timer::Timer;

/// How often servers may send us on (RFC 8489 §10 only forbids going in circles).
pub(super) const HOPS_MAX: usize = 3;

/// How often a busy server (486, 508) is asked before that is final.
const BUSY_MAX: u8 = 3;

/// How long to wait before a busy server is asked again; doubled each time.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// How often a server that holds a strange allocation for our flow (437) is told to end it.
const CLEAR_MAX: u8 = 2;

/// The lifetime of an allocation whose answer names none (RFC 8656 §3.2).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(600);

/// How long before its end an allocation is refreshed at the latest: a ladder of retransmissions
/// takes 39.5 s. Half of the lifetime, if that is shorter.
const REFRESH_MARGIN: Duration = Duration::from_secs(60);

/// Wait at least this long between two Refreshes, whatever lifetime the server gives.
const REFRESH_MIN: Duration = Duration::from_secs(1);

/// How soon a peer that found no room among the requests, or a Refresh that the server could not
/// handle, is tried again.
const SOON: Duration = Duration::from_secs(1);

/// UDP (RFC 8656 §18.8).
const UDP: u8 = 17;

/// What we have, or want.
#[derive(Clone, Debug)]
pub(super) struct Allocation {
    pub(super) state: AllocationState,
    pub(super) families: Families,
    relayed_v4: Option<SocketAddr>,
    relayed_v6: Option<SocketAddr>,
    pub(super) mapped: Option<SocketAddr>,
    expires: Instant,
    /// How often the server was busy, in a row.
    busy: u8,
    /// How often a strange allocation was in the way, in a row.
    cleared: u8,
    /// What the server may have refused because it does not know us: asked again once it says that it
    /// does. At most [`REQUESTS_MAX`].
    doubted: Vec<Ask>,
}

impl Allocation {
    pub(super) const fn new() -> Self {
        Self {
            state: AllocationState::Idle,
            families: Families::V4,
            relayed_v4: None,
            relayed_v6: None,
            mapped: None,
            expires: Instant::ZERO,
            busy: 0,
            cleared: 0,
            doubted: Vec::new(),
        }
    }

    pub(super) fn relayed(&self, family: AddressFamily) -> Option<SocketAddr> {
        let address = match family {
            AddressFamily::V4 => self.relayed_v4,
            AddressFamily::V6 => self.relayed_v6,
        };
        address.filter(|_| self.state.is_allocated())
    }

    /// Whether `peer` can be reached from what we have; unknown before there is anything.
    pub(super) fn serves(&self, peer: IpAddr) -> Result<(), PeerError> {
        let family = if peer.is_ipv4() { AddressFamily::V4 } else { AddressFamily::V6 };
        if self.state.is_allocated() && self.relayed(family).is_none() {
            return Err(PeerError::Family);
        }
        Ok(())
    }
}

impl Client {
    /// Asks for an allocation, if the graph lets us.
    pub(super) fn ask_allocation(&mut self, now: Instant) {
        if self.step(AllocationStep::Ask) {
            self.begin(now, Ask::Allocate);
        }
    }

    /// Begins a request that was never asked before.
    pub(super) fn begin(&mut self, now: Instant, ask: Ask) {
        self.begin_again(now, ask, 0, false);
    }

    /// Begins a request with what the server wants to hear by now; `stale` counts its 438.
    pub(super) fn begin_again(&mut self, now: Instant, ask: Ask, stale: u8, confirmed: bool) {
        let transaction = TransactionId::random(&mut self.rng);
        let mut bytes = Vec::with_capacity(256);
        let signed = self.conversation.seal(self.write(&ask, transaction, &mut bytes));
        let retransmission = match self.config.transport {
            Transport::Datagram => Retransmission::new(now, self.config.rto, self.config.rc, self.config.rm),
            Transport::Stream => Retransmission::reliable(now),
        };
        let request = Request { ask, transaction, bytes, retransmission, signed, stale, confirmed };
        self.requests.begin(now, request, &mut self.timers);
    }

    fn write<'b>(&self, ask: &Ask, id: TransactionId, out: &'b mut Vec<u8>) -> MessageWriter<'b> {
        let method = match ask {
            Ask::Allocate => Method::ALLOCATE,
            Ask::Refresh | Ask::Delete | Ask::Clear => Method::REFRESH,
            Ask::Permissions(_) => Method::CREATE_PERMISSION,
            Ask::Channel(_) => Method::CHANNEL_BIND,
        };
        let writer = MessageWriter::new(out, Class::Request, method, id);
        let writer = match (ask, self.config.lifetime) {
            (Ask::Delete | Ask::Clear, _) => writer.lifetime(Duration::ZERO),
            (Ask::Allocate | Ask::Refresh, Some(lifetime)) => writer.lifetime(lifetime),
            (Ask::Allocate | Ask::Refresh, None) | (Ask::Permissions(_) | Ask::Channel(_), _) => writer,
        };
        match ask {
            Ask::Allocate => {
                let writer = writer.requested_transport(UDP);
                match self.allocation.families {
                    Families::V4 => writer,
                    Families::V6 => writer.requested_address_family(AddressFamily::V6),
                    Families::Both => writer.additional_address_family(AddressFamily::V6),
                }
            }
            Ask::Refresh | Ask::Delete | Ask::Clear => writer,
            Ask::Permissions(peers) => {
                let peers = peers.iter().map(|peer| SocketAddr::new(*peer, 0));
                peers.fold(writer, MessageWriter::xor_peer_address)
            }
            Ask::Channel(number) => {
                let channel = self.peers.channel(*number);
                debug_assert!(channel.is_some(), "a channel is asked for while it is there");
                let writer = writer.channel_number(*number);
                match channel {
                    Some(channel) => writer.xor_peer_address(channel.peer),
                    None => writer,
                }
            }
        }
    }

    /// Allocate succeeded (RFC 8656 §7.3).
    pub(super) fn on_granted(&mut self, now: Instant, message: &Message<'_>) {
        let relayed = |family| {
            let mut all = message.xor_relayed_addresses().flatten();
            all.find(|address| AddressFamily::of(*address) == family)
        };
        let (relayed_v4, relayed_v6) = (relayed(AddressFamily::V4), relayed(AddressFamily::V6));
        let mapped = message.xor_mapped_address();
        let (Some(mapped), true) = (mapped, relayed_v4.is_some() || relayed_v6.is_some()) else {
            return self.fail(Failure::Incomplete);
        };
        if !self.step(AllocationStep::Grant) {
            return;
        }
        let lifetime = message.lifetime().unwrap_or(LIFETIME_DEFAULT);
        let refused = message.address_error_code().map(|(family, error)| (family, error.code));
        self.allocation = Allocation {
            relayed_v4,
            relayed_v6,
            mapped: Some(mapped),
            busy: 0,
            cleared: 0,
            ..self.allocation.clone()
        };
        self.prolong(now, lifetime);
        let allocated = Allocated { relayed_v4, relayed_v6, mapped, lifetime, refused };
        self.tell(ClientEvent::Allocated(allocated));
    }

    /// Refresh succeeded (RFC 8656 §8).
    pub(super) fn on_refreshed(&mut self, now: Instant, message: &Message<'_>) {
        if self.step(AllocationStep::Confirm) {
            self.prolong(now, message.lifetime().unwrap_or(LIFETIME_DEFAULT));
            self.ask_doubted(now);
        }
    }

    /// Whether a refusal as if the request were malformed (400) may mean something else. coturn answers
    /// so on a flow that it has no allocation for, where RFC 8656 §5 wants 437: a flow that a NAT has
    /// moved looks like this. It answers Refresh as it should, so a Refresh tells which of both it is.
    /// Beyond [`REQUESTS_MAX`] remembered, a refusal counts as it is.
    pub(super) fn can_doubt(&self, ask: &Ask) -> bool {
        ask.is_of_peers() && self.allocation.doubted.len() < REQUESTS_MAX
    }

    /// Asks with a Refresh, and remembers what to ask again.
    pub(super) fn doubt(&mut self, now: Instant, ask: Ask) {
        self.allocation.doubted.push(ask);
        self.refresh(now);
    }

    /// The server knows us: what it refused, it may refuse again. What finds no room waits for the next
    /// Refresh.
    fn ask_doubted(&mut self, now: Instant) {
        for ask in core::mem::take(&mut self.allocation.doubted) {
            if self.requests.room() == 0 {
                self.allocation.doubted.push(ask);
            } else if self.is_wanted(&ask) {
                self.begin_again(now, ask, 0, true);
            }
        }
    }

    fn prolong(&mut self, now: Instant, lifetime: Duration) {
        let lifetime = lifetime.max(REFRESH_MIN * 2);
        let margin = REFRESH_MARGIN.min(lifetime / 2);
        let wait = lifetime.saturating_sub(margin).min(self.config.keepalive.unwrap_or(Duration::MAX));
        self.allocation.expires = now + lifetime;
        self.timers.set(Timer::Expire, self.allocation.expires);
        self.timers.set(Timer::Refresh, now + wait.max(REFRESH_MIN));
    }

    pub(super) fn refresh(&mut self, now: Instant) {
        if self.requests.room() == 0 {
            self.timers.set(Timer::Refresh, now + SOON);
        } else if self.step(AllocationStep::Refresh) {
            self.begin(now, Ask::Refresh);
        }
    }

    /// The server could not refresh just then; the allocation lasts until its time is over.
    fn refresh_later(&mut self, now: Instant) {
        if self.step(AllocationStep::Confirm) {
            self.timers.set(Timer::Refresh, now + 10 * SOON);
            self.ask_doubted(now);
        }
    }

    /// The server knows nothing of us: everything is asked for again (RFC 8656 §8, §10.3, §12.3).
    pub(super) fn on_lost(&mut self, now: Instant) {
        if !self.step(AllocationStep::Lose) {
            return;
        }
        self.start_over();
        self.tell(ClientEvent::Expired);
        self.ask_allocation(now);
    }

    pub(super) fn on_moved(&mut self, now: Instant) {
        self.start_over();
        self.allocation.busy = 0;
        match self.allocation.state {
            AllocationState::Idle | AllocationState::Released => {}
            AllocationState::Deleting => self.on_released(),
            AllocationState::Allocated | AllocationState::Refreshing => {
                self.step(AllocationStep::Lose);
                self.tell(ClientEvent::Expired);
                self.ask_allocation(now);
            }
            AllocationState::Allocating
            | AllocationState::Clearing
            | AllocationState::Waiting
            | AllocationState::Moving
            | AllocationState::Failed => self.ask_allocation(now),
        }
    }

    pub(super) fn on_disconnected(&mut self) {
        self.start_over();
        self.allocation.busy = 0;
        match self.allocation.state {
            AllocationState::Idle
            | AllocationState::Released
            | AllocationState::Failed
            | AllocationState::Moving => return,
            AllocationState::Deleting => return self.on_released(),
            AllocationState::Allocated | AllocationState::Refreshing => {
                self.step(AllocationStep::Lose);
                self.tell(ClientEvent::Expired);
            }
            AllocationState::Allocating | AllocationState::Clearing | AllocationState::Waiting => {}
        }
        // It is wanted as before, and awaits a connection.
        self.step(AllocationStep::Ask);
        self.step(AllocationStep::Redirect);
    }

    /// Forgets what was under way; peers are wanted again.
    fn start_over(&mut self) {
        self.requests.clear(&mut self.timers);
        self.allocation.doubted.clear();
        for timer in [Timer::Refresh, Timer::Expire, Timer::Peers, Timer::Retry] {
            self.timers.clear(timer);
        }
        self.peers.reset();
    }

    pub(super) fn fail(&mut self, cause: Failure) {
        if self.step(AllocationStep::Fail) {
            self.start_over();
            self.allocation.busy = 0;
            self.allocation.cleared = 0;
            self.tell(ClientEvent::Failed { cause });
        }
    }

    pub(super) fn on_released(&mut self) {
        if self.step(AllocationStep::End) {
            self.start_over();
            self.tell(ClientEvent::Released);
        }
    }

    /// 300: another server (RFC 8489 §10).
    pub(super) fn on_redirected(&mut self, now: Instant, message: &Message<'_>) {
        let here = self.flow.relay.remote;
        let Some(server) = message.alternate_server() else { return self.fail(Failure::Incomplete) };
        let circle = server == here || self.flow.visited.contains(&server);
        if circle || self.flow.visited.len() >= HOPS_MAX || server.is_ipv4() != here.is_ipv4() {
            return self.fail(Failure::Redirects);
        }
        self.flow.visited.push(here);
        self.conversation.forget();
        self.tell(ClientEvent::Redirected { server });
        match self.config.transport {
            Transport::Datagram => {
                self.flow.relay.remote = server;
                self.ask_allocation(now);
            }
            Transport::Stream => {
                self.step(AllocationStep::Redirect);
            }
        }
    }

    /// Allocate was refused (RFC 8656 §7.4).
    pub(super) fn on_allocate_refused(&mut self, now: Instant, code: u16) {
        let Allocation { families, busy, cleared, .. } = self.allocation;
        match code {
            error_code::ALLOCATION_MISMATCH if cleared < CLEAR_MAX => {
                self.allocation.cleared += 1;
                if self.step(AllocationStep::Clear) {
                    self.begin(now, Ask::Clear);
                }
            }
            error_code::ADDRESS_FAMILY_NOT_SUPPORTED if families == Families::Both => {
                self.allocation.families = Families::V4;
                self.ask_allocation(now);
            }
            error_code::ALLOCATION_QUOTA_REACHED | error_code::INSUFFICIENT_CAPACITY
                if busy + 1 < BUSY_MAX =>
            {
                self.allocation.busy += 1;
                if self.step(AllocationStep::BackOff) {
                    self.timers.set(Timer::Retry, now + BUSY_WAIT * (1 << busy));
                }
            }
            code => self.fail(Failure::Refused { code }),
        }
    }

    /// Refresh was refused for another reason than 437.
    pub(super) fn on_refresh_refused(&mut self, now: Instant, code: u16) {
        if (500..600).contains(&code) {
            self.refresh_later(now);
        } else {
            self.fail(Failure::Refused { code });
        }
    }

    pub(super) fn on_request_due(&mut self, now: Instant, id: RequestId) {
        if !self.requests.on_due(now, id, &mut self.timers) {
            return;
        }
        let Some(request) = self.requests.remove(id, &mut self.timers) else { return };
        match request.ask {
            Ask::Delete => self.on_released(),
            // Nobody answered one of them: nobody answers any.
            Ask::Allocate | Ask::Refresh | Ask::Clear | Ask::Permissions(_) | Ask::Channel(_) => {
                self.fail(Failure::TimedOut);
            }
        }
    }

    /// Sends every permission and channel that is wanted or due, as far as there is room.
    pub(super) fn ask_peers(&mut self, now: Instant) {
        while self.requests.room() > 1 {
            let peers = self.peers.ask_permissions(now, PERMISSIONS_PER_REQUEST_MAX);
            if peers.is_empty() {
                break;
            }
            self.begin(now, Ask::Permissions(peers));
        }
        while self.requests.room() > 1 {
            let Some(number) = self.peers.ask_channel(now) else { break };
            self.begin(now, Ask::Channel(number));
        }
        self.arm_peers(now);
    }

    pub(super) fn on_peers_due(&mut self, now: Instant) {
        self.peers.expire(now);
        if self.allocation.state.is_allocated() {
            self.ask_peers(now);
        }
        self.arm_peers(now);
    }

    pub(super) fn arm_peers(&mut self, now: Instant) {
        match self.peers.deadline() {
            Some(at) => self.timers.set(Timer::Peers, at.max(now + SOON)),
            None => self.timers.clear(Timer::Peers),
        }
    }
}
