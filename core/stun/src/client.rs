//! The machine that asks "where do I come from?" (RFC 8489 §6.2).

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{
    Arena, Buf, Deadline, FourTuple, Id, Input, Instant, Machine, Queue, Rng, Timers, Transmit, Verdict,
};

use crate::credentials::Credentials;
use crate::error::RequestError;
use crate::event::{ClientEvent, Failure};
use crate::header::{Class, Method, TransactionId};
use crate::message::Message;
use crate::state::{Due, RC_DEFAULT, RM_DEFAULT, RTO_DEFAULT, Retransmission};
use crate::timer::Timer;
use crate::writer::MessageWriter;

/// The most requests under way, counted together with the answers that nobody has polled yet; one
/// more is refused with [`RequestError::TooMany`].
pub const REQUESTS_MAX: usize = 32;

/// The longest SOFTWARE that is sent; a longer one is left out. Bytes.
pub const SOFTWARE_MAX: usize = 127;

/// How a [`Client`] asks.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The first wait before a request is sent again.
    pub rto: Duration,
    /// How often a request is sent at most.
    pub rc: u32,
    /// How many `rto` to listen after the last send.
    pub rm: u32,
    /// Signs requests, and rejects answers that are not signed with the same key.
    pub credentials: Option<Credentials>,
    /// Who we are, for the server's log: at most [`SOFTWARE_MAX`] bytes.
    pub software: Option<String>,
    /// Whether to append FINGERPRINT. Needed where the port is shared with other protocols.
    pub fingerprint: bool,
}

impl Default for ClientConfig {
    /// The timers of RFC 8489 §6.2.1, no credentials, FINGERPRINT.
    fn default() -> Self {
        Self {
            rto: RTO_DEFAULT,
            rc: RC_DEFAULT,
            rm: RM_DEFAULT,
            credentials: None,
            software: None,
            fingerprint: true,
        }
    }
}

/// Names a request of a [`Client`]. It outlives the request harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Id<Request>);

gimlet_machine::counters! {
    /// What a [`Client`] did not use.
    pub struct ClientCounters {
        /// Not STUN, or damaged; left to others.
        not_stun,
        /// A request or an indication; left to others.
        not_an_answer,
        /// Answers no request under way: late, a duplicate, or somebody else's. Left to others.
        unknown_transaction,
        /// Answers our request from where it did not go, or at another of our addresses.
        wrong_path,
        /// Answers our request with no signature, or a wrong one.
        unauthentic,
        /// A send for which the lent buffer was too small; the next retransmission tries again.
        no_room,
    }
}

/// Sends Binding requests and tells what came back.
///
/// An answer counts only if it comes from where the request went and to where it left from
/// (RFC 8489 §6.3.3 leaves that open; without it anybody who sees a transaction id can answer from
/// anywhere). Retransmissions are the same bytes, and whichever copy is answered first settles the
/// request.
#[derive(Clone, Debug)]
pub struct Client {
    rng: Rng,
    config: ClientConfig,
    requests: Arena<Request>,
    timers: Timers<Timer>,
    /// Requests to be sent now, each at most once.
    outbox: Queue<RequestId>,
    events: Queue<ClientEvent>,
    counters: ClientCounters,
}

/// A request under way. Its bytes are not kept: they follow from the transaction id and the
/// configuration.
#[derive(Clone, Debug)]
struct Request {
    transaction: TransactionId,
    path: FourTuple,
    retransmission: Retransmission,
    /// When the first copy left; `None` before.
    left: Option<Instant>,
    /// Waits in the outbox.
    queued: bool,
    /// Somebody answered without the right signature.
    forged: bool,
}

impl Client {
    /// A client with nothing to ask yet.
    pub fn new(rng: Rng, config: ClientConfig) -> Self {
        Self {
            rng,
            config,
            requests: Arena::new(),
            timers: Timers::new(),
            outbox: Queue::new(REQUESTS_MAX),
            events: Queue::new(REQUESTS_MAX),
            counters: ClientCounters::default(),
        }
    }

    /// Asks the server at `path.remote`, from `path.local`, for our address.
    pub fn binding(&mut self, now: Instant, path: FourTuple) -> Result<RequestId, RequestError> {
        if self.requests.len() + self.events.len() >= REQUESTS_MAX {
            return Err(RequestError::TooMany);
        }
        let ClientConfig { rto, rc, rm, .. } = self.config;
        let id = RequestId(self.requests.insert(Request {
            transaction: TransactionId::random(&mut self.rng),
            path,
            retransmission: Retransmission::new(now, rto, rc, rm),
            left: None,
            queued: false,
            forged: false,
        }));
        self.on_due(now, id);
        Ok(id)
    }

    /// Forgets a request: nothing more is sent for it and no event will tell of it. Says whether it
    /// was still under way.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        self.remove(id).is_some()
    }

    /// How many requests are under way.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// What was not used.
    pub const fn counters(&self) -> &ClientCounters {
        &self.counters
    }

    /// The request's moment has come, whichever it is.
    fn on_due(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.requests.get_mut(id.0) else { return };
        match request.retransmission.due(now) {
            Due::Send if request.queued => {}
            Due::Send => {
                request.queued = true;
                let refused = self.outbox.push(id);
                debug_assert!(refused.is_ok(), "the outbox holds each request at most once");
            }
            Due::Expired => {
                let cause = if request.forged { Failure::Unauthentic } else { Failure::TimedOut };
                return self.fail(id, cause);
            }
            Due::Nothing => {}
        }
        self.arm(id);
    }

    /// Sets the request's one timer to what it waits for next.
    fn arm(&mut self, id: RequestId) {
        self.disarm(id);
        let Some(request) = self.requests.get(id.0) else { return };
        let Some(at) = request.retransmission.deadline() else { return };
        let sending = request.retransmission.is_sending();
        self.timers.set(if sending { Timer::Retransmit(id) } else { Timer::GiveUp(id) }, at);
    }

    fn disarm(&mut self, id: RequestId) {
        self.timers.clear(Timer::Retransmit(id));
        self.timers.clear(Timer::GiveUp(id));
    }

    fn on_answer(&mut self, now: Instant, path: FourTuple, message: &Message<'_>) -> Verdict<FourTuple> {
        let transaction = message.transaction_id();
        let found = self.requests.iter_mut().find(|(_, request)| request.transaction == transaction);
        let Some((id, request)) = found.filter(|_| message.method() == Method::BINDING) else {
            self.counters.unknown_transaction += 1;
            return Verdict::NotMine;
        };
        if request.path != path {
            self.counters.wrong_path += 1;
            return Verdict::Consumed;
        }
        // RFC 8489 §9.1.4: an answer without the right signature is dropped as if it had never
        // arrived, and the request goes on.
        if let Some(credentials) = &self.config.credentials
            && message.verify(credentials.key()).is_err()
        {
            request.forged = true;
            self.counters.unauthentic += 1;
            return Verdict::Consumed;
        }
        let once = request.retransmission.sent() == 1;
        let rtt = request.left.filter(|_| once).map(|left| now.since(left));
        match judge(message) {
            Ok(mapped) => {
                let event = ClientEvent::Answered { id: RequestId(id), path, mapped, rtt };
                self.settle(RequestId(id), event);
            }
            Err(cause) => self.fail(RequestId(id), cause),
        }
        Verdict::Consumed
    }

    fn fail(&mut self, id: RequestId, cause: Failure) {
        if let Some(path) = self.requests.get(id.0).map(|request| request.path) {
            self.settle(id, ClientEvent::Failed { id, path, cause });
        }
    }

    /// Ends a request with its one event.
    fn settle(&mut self, id: RequestId, event: ClientEvent) {
        let removed = self.remove(id);
        debug_assert!(removed.is_some(), "only a request under way is settled");
        let refused = self.events.push(event);
        debug_assert!(refused.is_ok(), "`binding` keeps room for the event of every request");
    }

    fn remove(&mut self, id: RequestId) -> Option<Request> {
        self.disarm(id);
        self.outbox.retain(|queued| *queued != id);
        self.requests.remove(id.0)
    }
}

impl Machine for Client {
    type Path = FourTuple;
    type Event = ClientEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Ok(message) = Message::parse(input.bytes) else {
            self.counters.not_stun += 1;
            return Verdict::NotMine;
        };
        match message.class() {
            Class::Success | Class::Error => self.on_answer(now, input.path, &message),
            Class::Request | Class::Indication => {
                self.counters.not_an_answer += 1;
                Verdict::NotMine
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            self.on_due(now, timer.request());
        }
    }

    fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        while let Some(id) = self.outbox.pop() {
            let Some(request) = self.requests.get_mut(id.0) else { continue };
            request.queued = false;
            if out.fill(|bytes| request.write(&self.config, bytes)) {
                request.left.get_or_insert(now);
                return Some(Transmit::new(request.path));
            }
            self.counters.no_room += 1;
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.deadline()
    }
}

impl Request {
    fn write(&self, config: &ClientConfig, out: &mut Vec<u8>) {
        let mut writer = MessageWriter::new(out, Class::Request, Method::BINDING, self.transaction);
        if let Some(software) = config.software.as_ref().filter(|software| software.len() <= SOFTWARE_MAX) {
            writer = writer.software(software);
        }
        let Some(credentials) = &config.credentials else {
            writer.fingerprint_if(config.fingerprint);
            return;
        };
        // RFC 8489 §9.1.2: both signatures, because nobody told us how old the server is.
        let signed = writer.username(credentials.username()).integrity(credentials.key());
        signed.integrity_sha256(credentials.key()).fingerprint_if(config.fingerprint);
    }
}

/// What an authentic answer says (RFC 8489 §6.3.3–6.3.4). The class decides, not the attributes: an
/// error that carries an address is an error.
fn judge(message: &Message<'_>) -> Result<SocketAddr, Failure> {
    if let Some(kind) = message.unknown_required().next() {
        return Err(Failure::UnknownAttribute { kind });
    }
    if message.class() == Class::Success {
        return message.xor_mapped_address().ok_or(Failure::Incomplete);
    }
    Err(message.error_code().map_or(Failure::Incomplete, |error| Failure::Refused { code: error.code }))
}
