//! Everything that can be chosen, with its default and its reason.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::crypto::CryptoProvider;

use crate::ConfigError;

/// What an endpoint is made from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The moment that stands for `Instant::ZERO`. Only differences to it are ever computed.
    pub origin: std::time::Instant,
    /// Calendar time at `origin`, since 1970. Retry tokens are stamped with it.
    pub unix_time_at_origin: Duration,
    /// Who does the cryptography. A seeded provider makes a run repeatable byte for byte.
    pub provider: Arc<CryptoProvider>,
    /// Our Ed25519 secret (RFC 8032 §5.1.5). Two endpoints with the same secret must not run at the
    /// same time: stateless resets are keyed with it.
    pub identity: [u8; 32],
    /// The application protocol (RFC 7301). Both ends must agree. Default `gimlet/1`.
    pub alpn: Vec<u8>,
    /// How much of everything there may be.
    pub limits: Limits,
    /// How connections behave.
    pub transport: Transport,
}

/// How much of everything there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of all kinds. On overflow `dial` and `expect` fail, and strangers are refused
    /// with `CONNECTION_REFUSED` (RFC 9000 §5.2.2). Each may hold `connection_window`, `send_window` and
    /// twice `datagram_buffer` bytes at worst. Default 4,096.
    pub connections_max: usize,
    /// Connections begun by strangers whose handshake is not over. On overflow the oldest is
    /// dropped without a word. Default 256.
    pub strangers_max: usize,
    /// From this many such connections on, a stranger must first show that it hears us (Retry,
    /// RFC 9000 §8.1.2), which costs it a round trip and us no memory. Default 64.
    pub retry_above: usize,
    /// Initial packets kept for a path that may yet be admitted, while somebody is expected. On
    /// overflow the oldest is dropped; QUIC sends it again. Default 8.
    pub held_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 4_096, strangers_max: 256, retry_above: 64, held_max: 8 }
    }
}

/// How connections behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transport {
    /// A connection on which nothing is heard for so long is lost. The smaller of both ends' values
    /// counts (RFC 9000 §10.1). Default 30 s.
    pub idle_timeout: Duration,
    /// A silent connection pings this often, which keeps it and the NATs on its path alive. Default
    /// 10 s: within the 15 s of RFC 8445 §11, and a third of the idle timeout, so that two pings may
    /// get lost.
    pub keep_alive: Option<Duration>,
    /// The round-trip time assumed before it is measured. RFC 9002 §6.2.2 proposes 333 ms for a
    /// peer of which nothing is known; a path that ICE has checked is known to answer, and with
    /// 100 ms a lost first packet is repeated after 300 ms, not after a second. On slower paths the
    /// first flight is sent twice. Default 100 ms.
    pub initial_rtt: Duration,
    /// The largest UDP payload to look for by path MTU discovery (RFC 8899). Default 1,452: Ethernet
    /// less the headers of IPv6 and UDP. From 1,200 to 65,507.
    pub mtu_max: u16,
    /// Streams of each kind that the peer may have open at a time; it waits for more. Default 256.
    pub streams_max: u32,
    /// Bytes that the peer may send on one stream ahead of what was read; it waits for more.
    /// Default 8 MiB: 1 GB/s over 8 ms, 80 MB/s over 100 ms.
    pub stream_window: u32,
    /// The same over all streams of a connection. Default 32 MiB.
    pub connection_window: u32,
    /// Bytes accepted for sending that are not acknowledged yet, over all streams of a connection;
    /// `write` takes no more. Short paths get less: what 500 MB/s need. Default 16 MiB.
    pub send_window: u32,
    /// Bytes of unreliable datagrams waiting in each direction. Arriving ones push out the oldest;
    /// `send_datagram` says "not now". Default 1 MiB.
    pub datagram_buffer: u32,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: Some(Duration::from_secs(10)),
            initial_rtt: Duration::from_millis(100),
            mtu_max: 1_452,
            streams_max: 256,
            stream_window: 8 << 20,
            connection_window: 32 << 20,
            send_window: 16 << 20,
            datagram_buffer: 1 << 20,
        }
    }
}

impl Config {
    /// Defaults for everything that has one.
    pub fn new(
        origin: std::time::Instant,
        unix_time_at_origin: Duration,
        provider: Arc<CryptoProvider>,
        identity: [u8; 32],
    ) -> Self {
        Self {
            origin,
            unix_time_at_origin,
            provider,
            identity,
            alpn: b"gimlet/1".to_vec(),
            limits: Limits::default(),
            transport: Transport::default(),
        }
    }
}

impl fmt::Debug for Config {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("unix_time_at_origin", &self.unix_time_at_origin)
            .field("alpn", &String::from_utf8_lossy(&self.alpn))
            .field("limits", &self.limits)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// The same in quinn-proto's words.
    pub(crate) fn to_quinn(self) -> Result<Arc<TransportConfig>, ConfigError> {
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| ConfigError::IdleTimeout)?;
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(self.mtu_max());
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.keep_alive)
            .initial_rtt(self.initial_rtt)
            .mtu_discovery_config(Some(mtu))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(self.streams_max))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(u64::from(self.send_window))
            .datagram_receive_buffer_size(Some(self.datagram_buffer as usize))
            .datagram_send_buffer_size(self.datagram_buffer as usize);
        Ok(Arc::new(transport))
    }

    /// The largest datagram that a connection writes, bytes.
    pub(crate) fn mtu_max(self) -> u16 {
        self.mtu_max.clamp(1_200, gimlet_machine::DATAGRAM_MAX as u16)
    }
}
