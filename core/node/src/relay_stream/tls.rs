//! TLS to a relay (RFC 8656 §3.1, RFC 7065): bytes in, bytes out, and an authority to trust.
//!
//! TLS 1.3, and 1.2 (RFC 8489 §6.2.3) because relays that are widely installed speak nothing newer.

use core::fmt;
use core::time::Duration;
use std::io::Read as _;
use std::sync::Arc;

use gimlet_machine::{CloseReason, Instant};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

use crate::config::Outside;

/// How the certificate of a relay is checked.
#[derive(Clone, Debug)]
pub struct TurnTls {
    /// The name that it has to be for: the host of a `turns:` URI, a domain name or an IP address.
    pub server_name: String,
    /// Who may have signed it.
    pub roots: Arc<RootCertStore>,
}

/// The same, with a name that is one.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    name: ServerName<'static>,
    roots: Arc<RootCertStore>,
}

/// Why there is no connection to a relay that is spoken to over TCP or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFailure {
    /// The driver's reason.
    Connection(CloseReason),
    /// It did not stand within [`RELAY_OPEN_MAX`](crate::RELAY_OPEN_MAX).
    TimedOut,
    /// The certificate is signed by nobody we trust.
    UnknownIssuer,
    /// The certificate is for another name.
    WrongName,
    /// The certificate has ended, or has not begun.
    OutOfDate,
    /// The certificate is unusable for another reason.
    BadCertificate,
    /// What is spoken there is not TLS 1.2 or 1.3, or the relay refused ours.
    Tls,
}

impl StreamFailure {
    /// Whether the next connection would end alike.
    pub(crate) const fn is_final(self) -> bool {
        match self {
            StreamFailure::Connection(CloseReason::Unsupported)
            | StreamFailure::UnknownIssuer
            | StreamFailure::WrongName
            | StreamFailure::OutOfDate
            | StreamFailure::BadCertificate => true,
            StreamFailure::Connection(
                CloseReason::TooMany
                | CloseReason::AddressUnavailable
                | CloseReason::Refused
                | CloseReason::Unreachable
                | CloseReason::Ended
                | CloseReason::Reset
                | CloseReason::Failed,
            )
            | StreamFailure::TimedOut
            | StreamFailure::Tls => false,
        }
    }
}

impl fmt::Display for StreamFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamFailure::Connection(why) => return write!(f, "no connection: {why}"),
            StreamFailure::TimedOut => {
                "no connection in time: is the relay's address right, does the network let it through?"
            }
            StreamFailure::UnknownIssuer => {
                "nobody we trust has signed its certificate: name the authority that did, or something between us and \
                 the relay reads along"
            }
            StreamFailure::WrongName => {
                "its certificate is for another name: name the relay as its certificate does"
            }
            StreamFailure::OutOfDate => {
                "its certificate has ended or not begun: renew it there, or set the clock here"
            }
            StreamFailure::BadCertificate => "its certificate is unusable: the relay needs another",
            StreamFailure::Tls => {
                "it does not speak TLS 1.2 or 1.3 there: is the port right, or is it one for plain TCP?"
            }
        })
    }
}

impl core::error::Error for StreamFailure {}

impl From<&Error> for StreamFailure {
    fn from(error: &Error) -> Self {
        let Error::InvalidCertificate(error) = error else { return StreamFailure::Tls };
        match error {
            CertificateError::UnknownIssuer => StreamFailure::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                StreamFailure::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => StreamFailure::OutOfDate,
            // Reasons of a library, which may come to have more.
            _ => StreamFailure::BadCertificate,
        }
    }
}

impl Trust {
    /// `None`: the name is none.
    pub(crate) fn new(tls: &TurnTls) -> Option<Self> {
        let name = ServerName::try_from(tls.server_name.clone()).ok()?;
        Some(Self { name, roots: Arc::clone(&tls.roots) })
    }

    /// Begins a session. Each has a configuration of its own, because the configuration is what knows the time.
    pub(crate) fn session(&self, now: Instant, outside: &Outside) -> Result<ClientConnection, StreamFailure> {
        let clock = Stopped(outside.unix_time_at_origin.saturating_add(now.since(Instant::ZERO)));
        let config = ClientConfig::builder_with_details(Arc::clone(&outside.provider), Arc::new(clock))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| StreamFailure::from(&error))?;
        let mut config = config.with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth();
        config.resumption = Resumption::disabled();
        ClientConnection::new(Arc::new(config), self.name.clone()).map_err(|error| (&error).into())
    }
}

/// The moment at which a session began: that is when its certificate has to be good.
#[derive(Debug)]
struct Stopped(Duration);

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

/// Takes in what arrived and appends what it says to `plain`. After an error nothing more can be said.
pub(crate) fn decrypt(
    tls: &mut ClientConnection,
    mut bytes: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), StreamFailure> {
    while !bytes.is_empty() {
        let taken = tls.read_tls(&mut bytes);
        let state = tls.process_new_packets().map_err(|error| StreamFailure::from(&error))?;
        let readable = state.plaintext_bytes_to_read();
        let from = plain.len();
        plain.resize(from + readable, 0);
        if tls.reader().read_exact(&mut plain[from..]).is_err() {
            plain.truncate(from);
        }
        if state.peer_has_closed() {
            return Err(StreamFailure::Connection(CloseReason::Ended));
        }
        if !matches!(taken, Ok(1..)) {
            // Its buffers are emptied on every turn, so that this is a record longer than TLS allows.
            return Err(StreamFailure::Tls);
        }
    }
    Ok(())
}

/// Appends what the session has to say.
pub(crate) fn flush(tls: &mut ClientConnection, out: &mut Vec<u8>) {
    while tls.wants_write() {
        if !matches!(tls.write_tls(out), Ok(1..)) {
            return;
        }
    }
}
