//! A candidate as the envelope carries it.

use alloc::string::String;
use core::net::SocketAddr;

use crate::EnvelopeError;
use crate::fixint::{Sink, Source};

/// An ICE candidate in a [`crate::NetEnvelope::IceCandidates`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    /// Groups candidates of the same origin (RFC 8445 §5.1.1.3).
    pub foundation: String,
    /// 1 in practice.
    pub component: u32,
    /// How it is reached.
    pub protocol: TransportProtocol,
    /// RFC 8445 §5.1.2.1.
    pub priority: u32,
    /// Where it is reached.
    pub address: SocketAddr,
    /// How it was learned.
    pub candidate_type: CandidateType,
    /// The base of a reflexive candidate, the mapped address of a relayed one.
    pub related_address: Option<SocketAddr>,
    /// The server that told a reflexive candidate.
    pub stun_server: Option<SocketAddr>,
}

/// How a candidate is reached. That network knows UDP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportProtocol {
    /// Variant 0.
    Udp,
}

/// How a candidate was learned (RFC 8445 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateType {
    /// Variant 0: an address of the host itself.
    Host,
    /// Variant 1: told by a STUN server.
    ServerReflexive,
    /// Variant 2: told by a connectivity check.
    PeerReflexive,
    /// Variant 3: allocated on a relay.
    Relay,
}

impl IceCandidate {
    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, EnvelopeError> {
        Ok(Self {
            foundation: source.text()?,
            component: source.u32()?,
            protocol: TransportProtocol::read(source)?,
            priority: source.u32()?,
            address: source.address()?,
            candidate_type: CandidateType::read(source)?,
            related_address: source.option(Source::address)?,
            stun_server: source.option(Source::address)?,
        })
    }

    pub(crate) fn put(&self, sink: &mut Sink<'_>) {
        sink.text(&self.foundation);
        sink.u32(self.component);
        sink.u32(self.protocol.number());
        sink.u32(self.priority);
        sink.address(self.address);
        sink.u32(self.candidate_type.number());
        sink.option(self.related_address.as_ref(), |sink, address| sink.address(*address));
        sink.option(self.stun_server.as_ref(), |sink, address| sink.address(*address));
    }
}

impl TransportProtocol {
    const fn number(self) -> u32 {
        match self {
            Self::Udp => 0,
        }
    }

    fn read(source: &mut Source<'_>) -> Result<Self, EnvelopeError> {
        match source.u32()? {
            0 => Ok(Self::Udp),
            number => Err(EnvelopeError::UnknownVariant { of: "transport protocol", number }),
        }
    }
}

impl CandidateType {
    const fn number(self) -> u32 {
        match self {
            Self::Host => 0,
            Self::ServerReflexive => 1,
            Self::PeerReflexive => 2,
            Self::Relay => 3,
        }
    }

    fn read(source: &mut Source<'_>) -> Result<Self, EnvelopeError> {
        match source.u32()? {
            0 => Ok(Self::Host),
            1 => Ok(Self::ServerReflexive),
            2 => Ok(Self::PeerReflexive),
            3 => Ok(Self::Relay),
            number => Err(EnvelopeError::UnknownVariant { of: "candidate type", number }),
        }
    }
}
