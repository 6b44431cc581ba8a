//! Requests under way: what they ask, and when they are sent again.

use alloc::vec::Vec;
use core::net::IpAddr;

use gimlet_machine::{Arena, Id, Instant, Queue, Timers};
use gimlet_stun::{Due, Retransmission, TransactionId};

use crate::timer::Timer;

/// The most requests under way; what else there is to ask waits for one to end.
pub const REQUESTS_MAX: usize = 72;

/// Names a request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(Id<Request>);

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Relayed addresses.
    Allocate,
    /// More time.
    Refresh,
    /// The end of our allocation.
    Delete,
    /// The end of an allocation that we know nothing of.
    Clear,
    /// That these peers may send to us.
    Permissions(Vec<IpAddr>),
    /// A number for a peer.
    Channel(u16),
}

impl Ask {
    /// Whether it is about peers, not about the allocation.
    pub(crate) const fn is_of_peers(&self) -> bool {
        match self {
            Ask::Permissions(_) | Ask::Channel(_) => true,
            Ask::Allocate | Ask::Refresh | Ask::Delete | Ask::Clear => false,
        }
    }
}

/// A request under way. Its bytes are kept, so that every copy of it is the same.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) transaction: TransactionId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) retransmission: Retransmission,
    /// It carries our name and signature.
    pub(crate) signed: bool,
    /// How many 438 in a row this question has met.
    pub(crate) stale: u8,
    /// It was refused once as if it were malformed, and the server knows us.
    pub(crate) confirmed: bool,
}

/// All requests under way, and which of them are to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    under_way: Arena<Request>,
    /// Requests to be sent now, each at most once.
    outbox: Queue<RequestId>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { under_way: Arena::new(), outbox: Queue::new(REQUESTS_MAX) }
    }

    pub(crate) fn room(&self) -> usize {
        REQUESTS_MAX - self.under_way.len()
    }

    /// Begins a request, which is due at once.
    pub(crate) fn begin(&mut self, now: Instant, request: Request, timers: &mut Timers<Timer>) {
        assert!(self.under_way.len() < REQUESTS_MAX, "the caller asks for room first");
        let id = RequestId(self.under_way.insert(request));
        let expired = self.on_due(now, id, timers);
        debug_assert!(!expired, "a new request is sent at least once");
    }

    /// The request's moment has come. Says whether it was its last.
    pub(crate) fn on_due(&mut self, now: Instant, id: RequestId, timers: &mut Timers<Timer>) -> bool {
        let Some(request) = self.under_way.get_mut(id.0) else { return false };
        match request.retransmission.due(now) {
            Due::Send => {
                if !self.outbox.iter().any(|queued| *queued == id) {
                    let refused = self.outbox.push(id);
                    debug_assert!(refused.is_ok(), "the outbox holds each request at most once");
                }
            }
            Due::Expired => return true,
            Due::Nothing => {}
        }
        if let Some(at) = request.retransmission.deadline() {
            timers.set(Timer::Request(id), at);
        }
        false
    }

    pub(crate) fn find(&self, transaction: TransactionId) -> Option<(RequestId, &Request)> {
        let mut all = self.under_way.iter();
        let (id, request) = all.find(|(_, request)| request.transaction == transaction)?;
        Some((RequestId(id), request))
    }

    pub(crate) fn remove(&mut self, id: RequestId, timers: &mut Timers<Timer>) -> Option<Request> {
        timers.clear(Timer::Request(id));
        self.outbox.retain(|queued| *queued != id);
        self.under_way.remove(id.0)
    }

    /// Forgets every request.
    pub(crate) fn clear(&mut self, timers: &mut Timers<Timer>) {
        let all: Vec<RequestId> = self.under_way.iter().map(|(id, _)| RequestId(id)).collect();
        for id in all {
            self.remove(id, timers);
        }
    }

    /// The bytes of the next request to be sent.
    pub(crate) fn pop(&mut self) -> Option<&[u8]> {
        let id = self.outbox.pop()?;
        let request = self.under_way.get(id.0);
        debug_assert!(request.is_some(), "a request leaves the outbox when it is removed");
        request.map(|request| &request.bytes[..])
    }
}
