//! Requests and their answers: who asks, and what they hear.

use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{Ecn, FourTuple, Instant};
use gimlet_stun::{
    AddressFamily, Class, Message, MessageWriter, Method, TransactionId, attribute, error_code,
};

use super::allocation::{Allocation, Leg};
use super::gate::{OFFERED, Signer, Stranger};
use super::{AllocationId, Server};

/// The most types that UNKNOWN-ATTRIBUTES lists; a request with more learns of the others when it
/// tries again without these.
const UNKNOWN_MAX: usize = 8;

/// How much longer than its request an answer to a stranger may be, the realm left out. Bytes. With IP
/// and UDP headers this is about doubling, which is not worth a forger's while.
pub(super) const CHALLENGE_GROWTH_MAX: usize = 64;

/// What this server acts on. DONT-FRAGMENT is refused with 420: a machine cannot set the bit
/// (RFC 8656 §7.2 allows it).
const UNDERSTOOD: [u16; 13] = [
    attribute::USERNAME,
    attribute::USERHASH,
    attribute::REALM,
    attribute::NONCE,
    attribute::PASSWORD_ALGORITHM,
    attribute::REQUESTED_TRANSPORT,
    attribute::REQUESTED_ADDRESS_FAMILY,
    attribute::LIFETIME,
    attribute::EVEN_PORT,
    attribute::RESERVATION_TOKEN,
    attribute::CHANNEL_NUMBER,
    attribute::XOR_PEER_ADDRESS,
    attribute::DATA,
];

/// What a request wants to hear, whatever it hears.
#[derive(Clone, Copy, Debug)]
struct Answer {
    path: FourTuple,
    method: Method,
    transaction: TransactionId,
}

impl Server {
    pub(super) fn on_request(&mut self, now: Instant, path: FourTuple, request: &Message<'_>) {
        if path.remote.port() == 0 {
            self.counters.unanswerable += 1;
            return;
        }
        let id = self.clients.get(&path).copied();
        let known = id.and_then(|id| self.allocations.get(id)).map(|allocation| &allocation.signer);
        let unix = self.unix_time(now);
        let signer = match self.gate.authenticate(now, unix, path, request, known) {
            Ok(signer) => signer,
            Err(stranger) => return self.challenge(now, path, request, stranger),
        };
        let (mut unknown, mut count) = ([0; UNKNOWN_MAX], 0);
        for (place, kind) in unknown.iter_mut().zip(request.required_outside(&UNDERSTOOD)) {
            (*place, count) = (kind, count + 1);
        }
        let answer = Answer::to(path, request);
        if count > 0 {
            self.refuse(&answer, &signer, error_code::UNKNOWN_ATTRIBUTE, &unknown[..count]);
            return;
        }
        let done = match request.method() {
            Method::ALLOCATE => self.on_allocate(now, path, request, &signer, id),
            Method::REFRESH => self.on_refresh(now, request, &signer, id),
            Method::CREATE_PERMISSION => self.on_create_permission(now, request, &signer, id),
            _ => self.on_channel_bind(now, request, &signer, id),
        };
        if let Err(code) = done {
            self.refuse(&answer, &signer, code, &[]);
        }
    }

    /// What a stranger hears (RFC 8489 §9.2.4), if it is not asking too often.
    fn challenge(&mut self, now: Instant, path: FourTuple, request: &Message<'_>, stranger: Stranger) {
        if !self.gate.may_answer(now, path.remote.ip()) {
            self.counters.rationed += 1;
            return;
        }
        self.counters.challenged += 1;
        let answer = Answer::to(path, request);
        let (gate, nonce) = (&self.gate, self.gate.nonce(now, path));
        let kept = self.outbox.push(path, Ecn::NotEct, |out| {
            let code = match stranger {
                Stranger::BadRequest => error_code::BAD_REQUEST,
                Stranger::Unauthenticated => error_code::UNAUTHENTICATED,
                Stranger::StaleNonce => error_code::STALE_NONCE,
            };
            // No reason phrase: what strangers hear is short.
            let mut writer = answer.writer(out, Class::Error).error_code(code, "");
            if stranger != Stranger::BadRequest {
                writer = writer.realm(gate.realm()).nonce(&nonce).password_algorithms(&OFFERED);
            }
            writer.fingerprint_if(request.has_fingerprint());
            debug_assert!(
                out.len() <= request.as_bytes().len() + gate.realm().len() + CHALLENGE_GROWTH_MAX,
                "a stranger hears more than it said"
            );
        });
        self.counters.overflow += u64::from(!kept);
    }

    /// An authentic request hears why not.
    fn refuse(&mut self, answer: &Answer, signer: &Signer, code: u16, unknown: &[u16]) {
        self.counters.refused += 1;
        self.answer(answer, signer, Class::Error, |writer| {
            let writer = writer.error_code(code, reason(code));
            if unknown.is_empty() { writer } else { writer.unknown_attributes(unknown) }
        });
    }

    fn answer(
        &mut self,
        answer: &Answer,
        signer: &Signer,
        class: Class,
        write: impl FnOnce(MessageWriter<'_>) -> MessageWriter<'_>,
    ) {
        let kept = self.outbox.push(answer.path, Ecn::NotEct, |out| {
            let writer = write(answer.writer(out, class));
            writer.integrity_with(&signer.key, signer.integrity).finish();
        });
        self.counters.overflow += u64::from(!kept);
    }

    /// Success without anything to say.
    pub(super) fn agree(&mut self, id: AllocationId, request: &Message<'_>, signer: &Signer) {
        let Some(path) = self.allocations.get(id).map(|allocation| allocation.client) else { return };
        self.answer(&Answer::to(path, request), signer, Class::Success, |writer| writer);
    }

    /// Success of Refresh.
    pub(super) fn agree_lifetime(
        &mut self,
        path: FourTuple,
        request: &Message<'_>,
        signer: &Signer,
        lifetime: Duration,
    ) {
        let answer = Answer::to(path, request);
        self.answer(&answer, signer, Class::Success, |writer| writer.lifetime(lifetime));
    }

    /// Success of Allocate (RFC 8656 §7.2), said again when it is asked again.
    pub(super) fn grant(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.get(id) else { return };
        let Allocation { client, transaction, lifetime, .. } = *allocation;
        let answer = Answer { path: client, method: Method::ALLOCATE, transaction };
        let signer = allocation.signer.clone();
        let legs: alloc::vec::Vec<_> = allocation.open_legs().map(|(_, _, public)| public).collect();
        let refused = [AddressFamily::V4, AddressFamily::V6].into_iter().find_map(|family| match allocation
            .leg(family)
        {
            Leg::Refused(code) => Some((family, code)),
            Leg::Unwanted | Leg::Opening | Leg::Open { .. } => None,
        });
        self.answer(&answer, &signer, Class::Success, |writer| {
            let writer = legs.into_iter().fold(writer, MessageWriter::xor_relayed_address);
            let writer = writer.lifetime(lifetime);
            let mapped = SocketAddr::new(client.remote.ip().to_canonical(), client.remote.port());
            let writer = writer.xor_mapped_address(mapped);
            match refused {
                Some((family, code)) => writer.address_error_code(family, code),
                None => writer,
            }
        });
    }

    /// Allocate came to nothing after all.
    pub(super) fn refuse_allocation(&mut self, id: AllocationId, code: u16) {
        let Some(allocation) = self.allocations.get(id) else { return };
        let Allocation { client, transaction, .. } = *allocation;
        let answer = Answer { path: client, method: Method::ALLOCATE, transaction };
        let signer = allocation.signer.clone();
        self.refuse(&answer, &signer, code, &[]);
    }
}

impl Answer {
    fn to(path: FourTuple, request: &Message<'_>) -> Self {
        Self { path, method: request.method(), transaction: request.transaction_id() }
    }

    fn writer<'b>(&self, out: &'b mut alloc::vec::Vec<u8>, class: Class) -> MessageWriter<'b> {
        MessageWriter::new(out, class, self.method, self.transaction)
    }
}

/// For people who read a trace.
const fn reason(code: u16) -> &'static str {
    match code {
        error_code::BAD_REQUEST => "Bad Request",
        error_code::FORBIDDEN => "Forbidden",
        error_code::UNKNOWN_ATTRIBUTE => "Unknown Attribute",
        error_code::ALLOCATION_MISMATCH => "Allocation Mismatch",
        error_code::ADDRESS_FAMILY_NOT_SUPPORTED => "Address Family not Supported",
        error_code::WRONG_CREDENTIALS => "Wrong Credentials",
        error_code::UNSUPPORTED_TRANSPORT_PROTOCOL => "Unsupported Transport Protocol",
        error_code::PEER_ADDRESS_FAMILY_MISMATCH => "Peer Address Family Mismatch",
        error_code::ALLOCATION_QUOTA_REACHED => "Allocation Quota Reached",
        error_code::INSUFFICIENT_CAPACITY => "Insufficient Capacity",
        _ => "",
    }
}
