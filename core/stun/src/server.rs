//! The machine that says "there is where you come from" (RFC 8489 §6.3).

mod faces;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Queue, Transmit, Verdict};

use crate::client::SOFTWARE_MAX;
use crate::credentials::Credentials;
use crate::event::ServerEvent;
use crate::header::{Class, Method, TransactionId};
use crate::key::IntegrityAlgorithm;
use crate::message::Message;
use crate::writer::MessageWriter;
use crate::{attribute, error_code};

pub use faces::Faces;

/// The most answers that wait to be sent; when one more comes, the oldest goes. Its client asks
/// again.
pub const REPLIES_MAX: usize = 64;

/// The most users a server knows; the ones after that are not let in.
pub const CREDENTIALS_MAX: usize = 64;

/// The most types that UNKNOWN-ATTRIBUTES lists; a request with more learns of the others when it
/// tries again without these.
pub const UNKNOWN_MAX: usize = 8;

/// How much longer than its request an answer may be. Bytes. An answer to a forged source address
/// must not be worth the forger's while (RFC 8489 §16.1.2): with IP and UDP headers this is less
/// than doubling.
pub const REPLY_GROWTH_MAX: usize = 48;

/// What a Binding server acts on. Everything else that is comprehension-required is refused, so that
/// a client learns what this server does not do. CHANGE-REQUEST is refused by a server that has one
/// face only (RFC 5780 §7.2); PADDING and RESPONSE-PORT always are: see [`Server::with_faces`].
const UNDERSTOOD: [u16; 9] = [
    attribute::MAPPED_ADDRESS,
    attribute::USERNAME,
    attribute::ERROR_CODE,
    attribute::UNKNOWN_ATTRIBUTES,
    attribute::REALM,
    attribute::NONCE,
    attribute::PASSWORD_ALGORITHM,
    attribute::USERHASH,
    attribute::XOR_MAPPED_ADDRESS,
];

/// How a [`Server`] answers.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
    /// Who may ask; empty for everybody. At most [`CREDENTIALS_MAX`].
    pub credentials: Vec<Credentials>,
    /// Who we are: at most [`SOFTWARE_MAX`] bytes, and sent only where it does not make the answer
    /// longer than the request.
    pub software: Option<String>,
}

gimlet_machine::counters! {
    /// What a [`Server`] did not answer, and what it refused.
    pub struct ServerCounters {
        /// Not STUN, or damaged; left to others.
        not_stun,
        /// An answer to somebody's request; left to others.
        not_a_request,
        /// A method other than Binding; left to others.
        other_method,
        /// Signed, and this server has no credentials to sign the answer with; left to others.
        signed,
        /// Binding indications: keepalives, never answered (RFC 8489 §6.3.2).
        indications,
        /// From port 0, where no answer can go.
        unanswerable,
        /// Refused with 400: no user name, no signature, or a CHANGE-REQUEST that cannot be read.
        refused_bad_request,
        /// Refused with 401: unknown user or wrong signature.
        refused_unauthenticated,
        /// Refused with 420: a comprehension-required attribute that this server does not act on.
        refused_unknown_attribute,
        /// Answers dropped because [`REPLIES_MAX`] newer ones were waiting.
        evicted,
        /// Answers dropped because the lent buffer was too small.
        no_room,
    }
}

/// Answers Binding requests. It remembers nothing about anybody: an answer waits as a small record
/// and is written straight into the lent buffer.
#[derive(Clone, Debug)]
pub struct Server {
    config: ServerConfig,
    /// For NAT behaviour discovery; `None`: this server has one address, or does not do that.
    faces: Option<Faces>,
    replies: Queue<Reply>,
    counters: ServerCounters,
}

/// An answer that waits to be written.
#[derive(Clone, Copy, Debug)]
struct Reply {
    path: FourTuple,
    /// OTHER-ADDRESS, for a server with more than one face.
    other: Option<SocketAddr>,
    transaction: TransactionId,
    answer: Answer,
    /// Whose key signs it, and how.
    signer: Option<Signer>,
    /// The request had FINGERPRINT: the client shares its port, and its answer gets one too.
    fingerprint: bool,
    request_len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Signer {
    /// Where in the configuration.
    credentials: usize,
    algorithm: IntegrityAlgorithm,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Mapped,
    BadRequest,
    Unauthenticated,
    UnknownAttributes { kinds: [u16; UNKNOWN_MAX], count: usize },
}

impl Server {
    /// A server; it answers on whatever path a request arrives.
    pub fn new(mut config: ServerConfig) -> Self {
        config.credentials.truncate(CREDENTIALS_MAX);
        config.software = config.software.filter(|software| software.len() <= SOFTWARE_MAX);
        Self { config, faces: None, replies: Queue::new(REPLIES_MAX), counters: ServerCounters::default() }
    }

    /// A server for NAT behaviour discovery (RFC 5780 §6): it answers a CHANGE-REQUEST from the face
    /// that was asked for, and says in every answer what its other address is. At an address that is
    /// no face it is an ordinary server.
    ///
    /// It is of no more use to a forger than an ordinary one: an answer goes where its request came
    /// from, once, and is within [`REPLY_GROWTH_MAX`] of it. That is why it refuses, with 420,
    /// RESPONSE-PORT, which sends answers to ports that asked for nothing (RFC 5780 §7.5, §9), and
    /// PADDING, which asks for a datagram of the largest size (§7.6).
    pub fn with_faces(config: ServerConfig, faces: Faces) -> Self {
        Self { faces: Some(faces), ..Self::new(config) }
    }

    /// What was not answered, and what was refused.
    pub const fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    fn on_request(&mut self, path: FourTuple, request: &Message<'_>) -> Verdict<FourTuple> {
        if self.config.credentials.is_empty() && request.has_integrity() {
            // On a shared port this is a connectivity check for an agent that is gone or not there
            // yet. An answer we cannot sign would be dropped anyway.
            self.counters.signed += 1;
            return Verdict::NotMine;
        }
        if path.remote.port() == 0 {
            self.counters.unanswerable += 1;
            return Verdict::Consumed;
        }
        // RFC 8489 §6.3: the credentials first, the attributes after, so that a stranger learns
        // nothing about what this server understands.
        let other = self.faces.and_then(|faces| faces.opposite(path.local));
        let (signer, answer) = match self.authenticate(request) {
            Ok(signer) => (signer, self.carry_out(request, other.is_some())),
            Err(refusal) => (None, refusal),
        };
        let reply = Reply {
            path: self.answering(path, request, &answer),
            other,
            transaction: request.transaction_id(),
            answer,
            signer,
            fingerprint: request.has_fingerprint(),
            request_len: request.as_bytes().len(),
        };
        self.counters.evicted += u64::from(self.replies.push_evicting(reply).is_some());
        Verdict::Consumed
    }

    /// RFC 8489 §9.1.3, in its order. Refusals are not signed.
    fn authenticate(&mut self, request: &Message<'_>) -> Result<Option<Signer>, Answer> {
        if self.config.credentials.is_empty() {
            return Ok(None);
        }
        let (Some(username), Some(algorithm)) = (request.username(), request.integrity_algorithm()) else {
            self.counters.refused_bad_request += 1;
            return Err(Answer::BadRequest);
        };
        let known = self.config.credentials.iter().position(|known| known.username() == username);
        let authentic =
            |credentials: &usize| request.verify(self.config.credentials[*credentials].key()).is_ok();
        let Some(credentials) = known.filter(authentic) else {
            self.counters.refused_unauthenticated += 1;
            return Err(Answer::Unauthenticated);
        };
        Ok(Some(Signer { credentials, algorithm }))
    }

    /// RFC 8489 §6.3.1. `is_face`: the request arrived where CHANGE-REQUEST is understood.
    fn carry_out(&mut self, request: &Message<'_>, is_face: bool) -> Answer {
        let (mut kinds, mut count) = ([0; UNKNOWN_MAX], 0);
        let refused = |kind: &u16| !(is_face && *kind == attribute::CHANGE_REQUEST);
        for (place, kind) in kinds.iter_mut().zip(request.required_outside(&UNDERSTOOD).filter(refused)) {
            (*place, count) = (kind, count + 1);
        }
        if count == 0 && is_face && is_change_unreadable(request) {
            self.counters.refused_bad_request += 1;
            return Answer::BadRequest;
        }
        if count == 0 {
            return Answer::Mapped;
        }
        self.counters.refused_unknown_attribute += 1;
        Answer::UnknownAttributes { kinds, count }
    }

    /// The way that an answer takes: a refusal leaves from where the request arrived, and so does what
    /// a client asked for nothing else (RFC 5780 §6.1, table 2).
    fn answering(&self, path: FourTuple, request: &Message<'_>, answer: &Answer) -> FourTuple {
        match (self.faces, request.change_request()) {
            (Some(faces), Some(change)) if matches!(answer, Answer::Mapped) => {
                FourTuple { local: faces.answering(path.local, change), ..path }
            }
            (Some(_) | None, _) => path,
        }
    }
}

fn is_change_unreadable(request: &Message<'_>) -> bool {
    request.attribute(attribute::CHANGE_REQUEST).is_some() && request.change_request().is_none()
}

impl Machine for Server {
    type Path = FourTuple;
    type Event = ServerEvent;

    fn handle_input(&mut self, _now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Ok(message) = Message::parse(input.bytes) else {
            self.counters.not_stun += 1;
            return Verdict::NotMine;
        };
        match message.class() {
            Class::Success | Class::Error => {
                self.counters.not_a_request += 1;
                Verdict::NotMine
            }
            Class::Request | Class::Indication if message.method() != Method::BINDING => {
                self.counters.other_method += 1;
                Verdict::NotMine
            }
            Class::Indication => {
                self.counters.indications += 1;
                Verdict::Consumed
            }
            Class::Request => self.on_request(input.path, &message),
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_event(&mut self) -> Option<ServerEvent> {
        None
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        while let Some(reply) = self.replies.pop() {
            let write = |bytes: &mut Vec<u8>| {
                reply.write(&self.config, bytes);
                let longest = reply.request_len + REPLY_GROWTH_MAX;
                debug_assert!(bytes.len() <= longest, "the answer outgrew its request");
            };
            if out.fill(write) {
                return Some(Transmit::new(reply.path));
            }
            self.counters.no_room += 1;
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

impl Reply {
    fn write(&self, config: &ServerConfig, out: &mut Vec<u8>) {
        let mut writer = self.write_answer(out);
        if let Some(software) = &config.software {
            let len = writer.len() + 4 + software.len().next_multiple_of(4) + self.seals_len();
            if len <= self.request_len {
                writer = writer.software(software);
            }
        }
        let Some(Signer { credentials, algorithm }) = self.signer else {
            writer.fingerprint_if(self.fingerprint);
            return;
        };
        // RFC 8489 §9.1.3: signed with the request's key, in the request's way.
        let key = config.credentials[credentials].key();
        writer.integrity_with(key, algorithm).fingerprint_if(self.fingerprint);
    }

    /// RFC 5780 §7.3–7.4, each where the answer does not outgrow its request too far. OTHER-ADDRESS is
    /// first: RESPONSE-ORIGIN only repeats what the packet's source says, and has no room with IPv6.
    fn write_faces<'b>(&self, writer: MessageWriter<'b>) -> MessageWriter<'b> {
        let Some(other) = self.other else { return writer };
        let len = if other.is_ipv4() { 12 } else { 24 };
        let fits = |writer: &MessageWriter<'_>| {
            writer.len() + len + self.seals_len() <= self.request_len + REPLY_GROWTH_MAX
        };
        let writer = if fits(&writer) { writer.other_address(other) } else { writer };
        if fits(&writer) { writer.response_origin(self.path.local) } else { writer }
    }

    /// What signature and FINGERPRINT take, at most.
    const fn seals_len(&self) -> usize {
        let signature = if self.signer.is_some() { 36 } else { 0 };
        signature + if self.fingerprint { 8 } else { 0 }
    }

    fn write_answer<'b>(&self, out: &'b mut Vec<u8>) -> MessageWriter<'b> {
        let class = if matches!(self.answer, Answer::Mapped) { Class::Success } else { Class::Error };
        let writer = MessageWriter::new(out, class, Method::BINDING, self.transaction);
        match &self.answer {
            Answer::Mapped => {
                // A socket for both families sees IPv4 clients at mapped addresses (RFC 4291
                // §2.5.5.2), which mean nothing to the client.
                let remote = self.path.remote;
                let mapped = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                self.write_faces(writer.xor_mapped_address(mapped))
            }
            Answer::BadRequest => writer.error_code(error_code::BAD_REQUEST, "Bad Request"),
            Answer::Unauthenticated => writer.error_code(error_code::UNAUTHENTICATED, "Unauthenticated"),
            Answer::UnknownAttributes { kinds, count } => writer
                .error_code(error_code::UNKNOWN_ATTRIBUTE, "Unknown Attribute")
                .unknown_attributes(&kinds[..*count]),
        }
    }
}
