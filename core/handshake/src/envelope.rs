//! The control messages of an older network, byte for byte.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::fixint::{Sink, Source};
use crate::{EnvelopeError, IceCandidate};

/// A control message. Each variant's number on the wire is its place here, from 0.
///
/// The encoding is canonical: what [`NetEnvelope::parse`] read, [`NetEnvelope::write`] writes back
/// byte for byte. Parsing allocates at most a small multiple of the bytes it was given; whoever
/// receives them sets their limit. Party numbers are 64 bits wide whatever the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEnvelope {
    /// The sender's number.
    Handshake {
        /// Its number.
        id: u64,
    },
    /// A message of the computation; opaque.
    HoneyBadger(Vec<u8>),
    /// Where the sender may be reached.
    IceCandidates {
        /// User name fragment (RFC 8445 §5.3).
        ufrag: String,
        /// Password.
        pwd: String,
        /// All of them at once; that network does not trickle.
        candidates: Vec<IceCandidate>,
    },
    /// Asks for simultaneous packets.
    PunchRequest {
        /// Echoed in the answer.
        transaction_id: u64,
        /// Where to send them.
        target_address: SocketAddr,
        /// How long to wait before. Milliseconds.
        delay_ms: u64,
    },
    /// Answers a [`NetEnvelope::PunchRequest`].
    PunchAck {
        /// The request's.
        transaction_id: u64,
        /// The answerer's wall clock. Milliseconds since 1970.
        timestamp_ms: u64,
    },
    /// A connectivity check inside a connection.
    ConnectivityCheck {
        /// Echoed in the response.
        transaction_id: u64,
        /// Whether this is the response.
        is_response: bool,
        /// Nominates the pair.
        use_candidate: bool,
        /// The sender's user name fragment.
        ufrag: String,
    },
    /// Asks for a relay to a party.
    RelayRequest {
        /// The party.
        target_party_id: u64,
    },
    /// Offers a relay.
    RelayOffer {
        /// Where it listens.
        relay_address: SocketAddr,
        /// Proves the right to use it.
        allocation_token: Vec<u8>,
        /// Whom it is for.
        for_party_id: u64,
    },
    /// A payload on its way through a relay.
    RelayedData {
        /// To whom.
        target_party_id: u64,
        /// From whom.
        source_party_id: u64,
        /// What.
        payload: Vec<u8>,
    },
    /// A sign of life.
    Heartbeat {
        /// The sender's wall clock. Milliseconds since 1970.
        timestamp_ms: u64,
    },
    /// Asks for the list of nodes.
    NodeListRequest,
    /// The nodes' public keys, sorted.
    NodeListResponse(Vec<Vec<u8>>),
    /// What the sender knows of clients and nodes, as digests.
    ClientListDigest {
        /// Of the clients' public keys.
        digest: Vec<u8>,
        /// How many clients.
        client_count: u64,
        /// Of the nodes' public keys.
        node_digest: Vec<u8>,
        /// How many nodes.
        node_count: u64,
    },
    /// The clients' public keys.
    ClientListFull(Vec<Vec<u8>>),
}

impl NetEnvelope {
    /// Reads an envelope; also says how many bytes it was. Bytes after it are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<(NetEnvelope, usize), EnvelopeError> {
        let mut source = Source::new(bytes);
        let envelope = Self::read(&mut source)?;
        Ok((envelope, source.position()))
    }

    fn read(source: &mut Source<'_>) -> Result<NetEnvelope, EnvelopeError> {
        Ok(match source.u32()? {
            0 => Self::Handshake { id: source.u64()? },
            1 => Self::HoneyBadger(source.bytes()?),
            2 => Self::IceCandidates {
                ufrag: source.text()?,
                pwd: source.text()?,
                candidates: source.list(IceCandidate::read)?,
            },
            3 => Self::PunchRequest {
                transaction_id: source.u64()?,
                target_address: source.address()?,
                delay_ms: source.u64()?,
            },
            4 => Self::PunchAck { transaction_id: source.u64()?, timestamp_ms: source.u64()? },
            5 => Self::ConnectivityCheck {
                transaction_id: source.u64()?,
                is_response: source.flag()?,
                use_candidate: source.flag()?,
                ufrag: source.text()?,
            },
            6 => Self::RelayRequest { target_party_id: source.u64()? },
            7 => Self::RelayOffer {
                relay_address: source.address()?,
                allocation_token: source.bytes()?,
                for_party_id: source.u64()?,
            },
            8 => Self::RelayedData {
                target_party_id: source.u64()?,
                source_party_id: source.u64()?,
                payload: source.bytes()?,
            },
            9 => Self::Heartbeat { timestamp_ms: source.u64()? },
            10 => Self::NodeListRequest,
            11 => Self::NodeListResponse(source.list(Source::bytes)?),
            12 => Self::ClientListDigest {
                digest: source.bytes()?,
                client_count: source.u64()?,
                node_digest: source.bytes()?,
                node_count: source.u64()?,
            },
            13 => Self::ClientListFull(source.list(Source::bytes)?),
            number => return Err(EnvelopeError::UnknownVariant { of: "envelope", number }),
        })
    }

    /// The variant's number on the wire.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Handshake { .. } => 0,
            Self::HoneyBadger(_) => 1,
            Self::IceCandidates { .. } => 2,
            Self::PunchRequest { .. } => 3,
            Self::PunchAck { .. } => 4,
            Self::ConnectivityCheck { .. } => 5,
            Self::RelayRequest { .. } => 6,
            Self::RelayOffer { .. } => 7,
            Self::RelayedData { .. } => 8,
            Self::Heartbeat { .. } => 9,
            Self::NodeListRequest => 10,
            Self::NodeListResponse(_) => 11,
            Self::ClientListDigest { .. } => 12,
            Self::ClientListFull(_) => 13,
        }
    }

    /// Appends the envelope to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut sink = Sink::new(out);
        sink.u32(self.number());
        self.put(&mut sink);
    }

    fn put(&self, sink: &mut Sink<'_>) {
        match self {
            Self::Handshake { id: number }
            | Self::RelayRequest { target_party_id: number }
            | Self::Heartbeat { timestamp_ms: number } => sink.u64(*number),
            Self::HoneyBadger(payload) => sink.bytes(payload),
            Self::IceCandidates { ufrag, pwd, candidates } => {
                sink.text(ufrag);
                sink.text(pwd);
                sink.list(candidates, |sink, candidate| candidate.put(sink));
            }
            Self::PunchRequest { transaction_id, target_address, delay_ms } => {
                sink.u64(*transaction_id);
                sink.address(*target_address);
                sink.u64(*delay_ms);
            }
            Self::PunchAck { transaction_id, timestamp_ms } => {
                sink.u64(*transaction_id);
                sink.u64(*timestamp_ms);
            }
            Self::ConnectivityCheck { transaction_id, is_response, use_candidate, ufrag } => {
                sink.u64(*transaction_id);
                sink.flag(*is_response);
                sink.flag(*use_candidate);
                sink.text(ufrag);
            }
            Self::RelayOffer { relay_address, allocation_token, for_party_id } => {
                sink.address(*relay_address);
                sink.bytes(allocation_token);
                sink.u64(*for_party_id);
            }
            Self::RelayedData { target_party_id, source_party_id, payload } => {
                sink.u64(*target_party_id);
                sink.u64(*source_party_id);
                sink.bytes(payload);
            }
            Self::NodeListRequest => {}
            Self::NodeListResponse(keys) | Self::ClientListFull(keys) => {
                sink.list(keys, |sink, key| sink.bytes(key));
            }
            Self::ClientListDigest { digest, client_count, node_digest, node_count } => {
                sink.bytes(digest);
                sink.u64(*client_count);
                sink.bytes(node_digest);
                sink.u64(*node_count);
            }
        }
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
