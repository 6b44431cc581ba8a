//! Why a command failed, per verb.

use std::fmt;

/// The endpoint cannot be made from this configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The crypto provider did not take the Ed25519 secret; holds what it said.
    Identity(String),
    /// The crypto provider cannot do TLS 1.3 with Ed25519 signatures and AES-128-GCM, which QUIC's
    /// Initial packets need (RFC 9001 §5.2); holds what is missing. Hand in a complete provider.
    Provider(String),
    /// An idle timeout longer than QUIC can write (2^62 ms). Choose a shorter one.
    IdleTimeout,
}

/// No connection could be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The limit `connections_max` is reached. Close a connection, or raise the limit.
    Full,
    /// The peer id is our own.
    Ourselves,
    /// quinn-proto refused; only a defect of this crate leads here.
    Internal,
}

/// A stream verb failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The id names no connection: it was drained, or never existed.
    UnknownConnection,
    /// The handshake is not over. Wait for `Connected`.
    NotConnected,
    /// The connection ended; `Lost` says why.
    ConnectionClosed,
    /// The stream was never opened, or is already finished, reset or stopped.
    UnknownStream,
    /// A unidirectional stream carries bytes from its opener only.
    WrongDirection,
    /// The peer wants no more of this stream; holds its code. What it did not read is lost.
    Stopped(u64),
    /// The peer abandoned this stream; holds its code.
    Reset(u64),
}

/// A datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatagramError {
    /// The id names no connection: it was drained, or never existed.
    UnknownConnection,
    /// The handshake is not over. Wait for `Connected`.
    NotConnected,
    /// The connection ended; `Lost` says why.
    ConnectionClosed,
    /// The peer takes no datagrams (RFC 9221 §3). Use a stream.
    Unsupported,
    /// It does not fit a packet on this path; at most `max` bytes do. Use a stream.
    TooLarge {
        /// The largest payload that fits at present, bytes.
        max: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Identity(why) => write!(f, "the crypto provider refused the Ed25519 secret: {why}"),
            ConfigError::Provider(why) => {
                write!(
                    f,
                    "the crypto provider is incomplete ({why}); QUIC needs TLS 1.3, Ed25519, AES-128-GCM"
                )
            }
            ConfigError::IdleTimeout => f.write_str("the idle timeout is too long; choose less than 2^62 ms"),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DialError::Full => "too many connections; close one or raise `connections_max`",
            DialError::Ourselves => "this peer id is our own; dial somebody else",
            DialError::Internal => "quinn-proto refused to connect; this is a defect of gimlet-quic",
        })
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::UnknownConnection => f.write_str("no such connection; it was drained"),
            StreamError::NotConnected => f.write_str("the handshake is not over; wait for `Connected`"),
            StreamError::ConnectionClosed => f.write_str("the connection ended; `Lost` says why"),
            StreamError::UnknownStream => f.write_str("the stream is not open"),
            StreamError::WrongDirection => {
                f.write_str("a unidirectional stream carries bytes from its opener only")
            }
            StreamError::Stopped(code) => write!(f, "the peer stopped reading the stream (code {code})"),
            StreamError::Reset(code) => write!(f, "the peer abandoned the stream (code {code})"),
        }
    }
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatagramError::UnknownConnection => f.write_str("no such connection; it was drained"),
            DatagramError::NotConnected => f.write_str("the handshake is not over; wait for `Connected`"),
            DatagramError::ConnectionClosed => f.write_str("the connection ended; `Lost` says why"),
            DatagramError::Unsupported => f.write_str("the peer takes no datagrams; use a stream"),
            DatagramError::TooLarge { max } => {
                write!(f, "at most {max} bytes fit a datagram here; use a stream")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
impl std::error::Error for DialError {}
impl std::error::Error for StreamError {}
impl std::error::Error for DatagramError {}
