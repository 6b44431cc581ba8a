//! Why a command was refused.

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;
use core::net::SocketAddr;

/// A candidate was not understood or not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateError {
    /// The line is longer than [`crate::CANDIDATE_LINE_MAX`].
    TooLong,
    /// This field is missing or malformed (RFC 8839 §5.1).
    Syntax(&'static str),
    /// A transport that this library does not know. Ignore the candidate (RFC 8839 §5.1).
    UnknownTransport,
    /// A candidate type that this library does not know. Ignore the candidate (RFC 8839 §5.1).
    UnknownKind,
    /// The address is a host name. Where it is an mDNS candidate's, give the line to
    /// [`crate::Agent::add_remote_line`]; resolve others and add the candidate again with the address, or ignore it.
    UnresolvedName(Box<str>),
    /// The agent checks UDP candidates, and TCP ones if it was told so ([`crate::Transports::UdpAndTcp`]), but for
    /// simultaneous-open ones.
    UnsupportedTransport,
    /// Nobody, or everybody, is at this address.
    Unusable(SocketAddr),
    /// A local candidate that is not a host's must say from where it sends: make it with
    /// [`crate::Candidate::server_reflexive`] or [`crate::Candidate::relayed`].
    NoBase,
    /// The agent runs one component and the candidate is for another.
    OtherComponent(u16),
    /// The candidate belongs to another generation of the peer's credentials (RFC 8838 §9).
    OtherGeneration,
    /// As many names as [`crate::MDNS_QUERIES_MAX`] wait already, or as many as [`crate::Limits`] allows in one
    /// generation were asked for.
    TooManyNames,
    /// There are already as many candidates of this type as [`crate::Limits`] allows.
    TooMany,
    /// The end of candidates was declared on this side (RFC 8838 §13).
    AfterEnd,
    /// The agent is closed.
    Closed,
}

impl fmt::Display for CandidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CandidateError::TooLong => f.write_str("the candidate line is too long: ignore it"),
            CandidateError::Syntax(field) => {
                write!(f, "the candidate line is malformed at `{field}`: ignore it")
            }
            CandidateError::UnknownTransport => {
                f.write_str("the candidate's transport is unknown: ignore the candidate")
            }
            CandidateError::UnknownKind => {
                f.write_str("the candidate's type is unknown: ignore the candidate")
            }
            CandidateError::UnresolvedName(name) => {
                write!(f, "the candidate's address is the name `{name}`: resolve it and add the result")
            }
            CandidateError::UnsupportedTransport => f.write_str(
                "TCP is not in use, or not opened simultaneously: set `Config::transports`, or ignore it",
            ),
            CandidateError::Unusable(address) => {
                write!(f, "{address} cannot be a candidate: it needs a unicast address and a port")
            }
            CandidateError::NoBase => {
                f.write_str("the local candidate has no base: make it from the socket or the relay it uses")
            }
            CandidateError::OtherComponent(component) => {
                write!(f, "the agent does not run component {component}: use one agent per component")
            }
            CandidateError::OtherGeneration => {
                f.write_str("the candidate belongs to other credentials than the peer's current ones")
            }
            CandidateError::TooMany => {
                f.write_str("too many candidates of this type: raise `Limits` or offer fewer addresses")
            }
            CandidateError::TooManyNames => {
                f.write_str("too many candidates with names: wait for the others, or signal addresses")
            }
            CandidateError::AfterEnd => {
                f.write_str("the end of candidates was already declared: restart the agent to add more")
            }
            CandidateError::Closed => f.write_str("the agent is closed"),
        }
    }
}

impl Error for CandidateError {}

/// The peer's credentials were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsError {
    /// The username fragment is not 4 to 256 `ice-char`s.
    Ufrag,
    /// The password is not 22 to 256 `ice-char`s.
    Password,
    /// Other credentials are in place; changing them is an ICE restart (RFC 8445 §9), which begins with
    /// [`crate::Agent::restart`].
    AlreadySet,
    /// The agent is closed.
    Closed,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredentialsError::Ufrag => "the username fragment must be 4 to 256 letters, digits, `+` or `/`",
            CredentialsError::Password => "the password must be 22 to 256 letters, digits, `+` or `/`",
            CredentialsError::AlreadySet => "the peer's credentials are already set: restart the agent first",
            CredentialsError::Closed => "the agent is closed",
        })
    }
}

impl Error for CredentialsError {}
