//! quinn-proto, configured.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use gimlet_machine::{Ecn, PeerId, Rng};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, ConnectionId, DatagramEvent, EcnCodepoint, Endpoint,
    EndpointConfig, NoneTokenStore, ServerConfig, TransportConfig, ValidationTokenConfig,
};

use crate::cid::{CidGenerator, CidKey};
use crate::clock::Clock;
use crate::tls::{Refusal, SERVER_NAME, Tls};
use crate::watch::{Failures, Watched};
use crate::{Config, ConfigError, DialError};

/// The only version that is spoken (RFC 9000).
pub(crate) const VERSION: u32 = 1;
/// Length of the connection id that a dialer invents for the listener: unpredictable, at least 8
/// bytes (RFC 9000 §7.2).
const FIRST_CID_LEN: usize = 16;

/// What we take in one datagram even if we never send as much ourselves: an Ethernet frame less the
/// headers of IPv4 and UDP.
const RECEIVE_MIN: u16 = 1_472;

/// quinn-proto's endpoint, what it is configured with, and the clock that it believes in.
pub(crate) struct Engine {
    pub(crate) quic: Endpoint,
    pub(crate) tls: Tls,
    pub(crate) clock: Clock,
    pub(crate) cids: CidKey,
    pub(crate) undecryptable: Failures,
    transport: Arc<TransportConfig>,
    /// The owner's limit on unacknowledged bytes of a connection.
    pub(crate) send_window_max: u64,
    /// For strangers: any identity.
    server: ServerConfig,
    rng: Rng,
}

impl Engine {
    pub(crate) fn new(rng: &Rng, config: &Config) -> Result<Self, ConfigError> {
        let clock = Clock::new(config.origin, config.unix_time_at_origin);
        let tls = Tls::new(config, clock.wall())?;
        let transport = config.transport.to_quinn()?;

        // Two keys come from the identity, not from the seed, so that they survive a restart: a
        // packet of a connection from before it is then answered by a stateless reset, and the peer
        // need not wait for its idle timeout (RFC 9000 §10.3.2).
        let cids = CidKey::new(derive(&config.identity, b"gimlet quic connection id"));
        let reset = derive::<32>(&config.identity, b"gimlet quic stateless reset");
        let generator = CidGenerator::new(rng.fork("cid"), cids.clone());
        let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)));
        endpoint
            .cid_generator(move || Box::new(generator.clone()))
            .supported_versions(vec![VERSION])
            // Half of the packets would otherwise look like STUN, TURN or DTLS (RFC 9443 §2).
            .grease_quic_bit(false)
            .rng_seed(Some(rng.fork("quinn").bytes()))
            .max_udp_payload_size(config.transport.mtu_max().max(RECEIVE_MIN))
            .expect("the MTU was clamped to what UDP carries");

        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&rng.fork("token").bytes::<32>());
        let (any_peer, _) = tls.server(None)?;
        let undecryptable = Failures::default();
        let any_peer = Watched::new(any_peer, &undecryptable);
        let mut server = ServerConfig::new(Arc::new(any_peer), Arc::new(token_key));
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        server
            .transport_config(Arc::clone(&transport))
            .validation_token_config(tokens)
            .time_source(Arc::new(clock.wall()));
        let quic = Endpoint::new(Arc::new(endpoint), Some(Arc::new(server.clone())), true, None);
        let send_window_max = u64::from(config.transport.send_window);
        let rng = rng.fork("dial");
        Ok(Self { quic, tls, clock, cids, undecryptable, transport, send_window_max, server, rng })
    }

    /// A connection as the TLS client, to `peer` and nobody else.
    pub(crate) fn connect(
        &mut self,
        now: std::time::Instant,
        peer: PeerId,
        address: SocketAddr,
    ) -> Result<(ConnectionHandle, Connection, Refusal), DialError> {
        let (tls, refusal) = self.tls.client(peer).map_err(|_| DialError::Internal)?;
        let first = ConnectionId::new(&self.rng.bytes::<FIRST_CID_LEN>());
        let mut config = ClientConfig::new(Arc::new(Watched::new(tls, &self.undecryptable)));
        config
            .transport_config(Arc::clone(&self.transport))
            .token_store(Arc::new(NoneTokenStore))
            .initial_dst_cid_provider(Arc::new(move || first))
            .version(VERSION);
        let (handle, connection) =
            self.quic.connect(now, config, address, SERVER_NAME).map_err(|_| DialError::Internal)?;
        Ok((handle, connection, refusal))
    }

    /// How to accept `peer` and nobody else. The paths are the owner's, so quinn-proto must not
    /// migrate.
    pub(crate) fn server_for(&self, peer: PeerId) -> Result<(Arc<ServerConfig>, Refusal), ConfigError> {
        let (tls, refusal) = self.tls.server(Some(peer))?;
        let mut server = self.server.clone();
        server.crypto = Arc::new(Watched::new(tls, &self.undecryptable));
        server.migration(false);
        Ok((Arc::new(server), refusal))
    }

    /// Shows quinn-proto one datagram, as if it came from `address`. A response, if that is what
    /// comes of it, is in `response`.
    pub(crate) fn decode(
        &mut self,
        now: std::time::Instant,
        address: SocketAddr,
        ecn: Ecn,
        bytes: &[u8],
        response: &mut Vec<u8>,
    ) -> Option<DatagramEvent> {
        response.clear();
        self.quic.handle(now, address, None, to_codepoint(ecn), bytes.into(), response)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// A key for one purpose.
fn derive<const N: usize>(identity: &[u8; 32], purpose: &[u8]) -> [u8; N] {
    const { assert!(N <= 32, "one block of HMAC-SHA-256") };
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, identity), purpose);
    let mut key = [0; N];
    key.copy_from_slice(&tag.as_ref()[..N]);
    key
}

fn to_codepoint(ecn: Ecn) -> Option<EcnCodepoint> {
    match ecn {
        Ecn::NotEct => None,
        Ecn::Ect0 => Some(EcnCodepoint::Ect0),
        Ecn::Ect1 => Some(EcnCodepoint::Ect1),
        Ecn::Ce => Some(EcnCodepoint::Ce),
    }
}

pub(crate) fn from_codepoint(ecn: Option<EcnCodepoint>) -> Ecn {
    match ecn {
        None => Ecn::NotEct,
        Some(EcnCodepoint::Ect0) => Ecn::Ect0,
        Some(EcnCodepoint::Ect1) => Ecn::Ect1,
        Some(EcnCodepoint::Ce) => Ecn::Ce,
    }
}
