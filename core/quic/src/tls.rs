//! TLS 1.3 with raw public keys (RFC 7250): a certificate is the peer's Ed25519 key and nothing
//! else, and trusting it means comparing 32 bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gimlet_machine::PeerId;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::clock::WallClock;
use crate::{Config, ConfigError};

/// `SubjectPublicKeyInfo` up to the 32 bytes of an Ed25519 key (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// `OneAsymmetricKey` version 1 up to the 32 bytes of an Ed25519 secret (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The TLS library wants a name for the server; ours have none, and it is never sent.
pub(crate) const SERVER_NAME: &str = "gimlet.invalid";

/// Makes TLS configurations for one identity.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    ourselves: PeerId,
    wall: WallClock,
    alpn: Vec<u8>,
}

impl Tls {
    pub(crate) fn new(config: &Config, wall: WallClock) -> Result<Self, ConfigError> {
        let provider = Arc::clone(&config.provider);
        let refused = |why: Error| ConfigError::Identity(why.to_string());
        let secret = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], &config.identity].concat());
        let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(secret)).map_err(refused)?;
        let public = key.public_key().ok_or_else(|| ConfigError::Identity("no public key".into()))?;
        let certificate = CertificateDer::from(public.as_ref().to_vec());
        let ourselves =
            peer_of(&certificate).ok_or_else(|| ConfigError::Identity("not an Ed25519 key".into()))?;
        let key = Arc::new(CertifiedKey::new(vec![certificate], key));
        let tls = Self { provider, key, ourselves, wall, alpn: config.alpn.clone() };
        let schemes = tls.provider.signature_verification_algorithms.supported_schemes();
        if !schemes.contains(&SignatureScheme::ED25519) {
            return Err(ConfigError::Provider("no Ed25519 signatures".into()));
        }
        // Failures that depend on the provider alone show up here, not when somebody dials.
        tls.client(ourselves)?;
        tls.server(None)?;
        Ok(tls)
    }

    /// Our own id.
    pub(crate) fn ourselves(&self) -> PeerId {
        self.ourselves
    }

    /// For dialing `peer`, and nobody else.
    pub(crate) fn client(&self, peer: PeerId) -> Result<(Arc<QuicClientConfig>, Refusal), ConfigError> {
        let (pin, refusal) = self.pin(Some(peer));
        let mut config = rustls::ClientConfig::builder_with_details(
            Arc::clone(&self.provider),
            Arc::new(self.wall.clone()),
        )
        .with_protocol_versions(&[&TLS13])
        .map_err(incomplete)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.key))));
        config.alpn_protocols = vec![self.alpn.clone()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        let config = QuicClientConfig::try_from(config).map_err(incomplete)?;
        Ok((Arc::new(config), refusal))
    }

    /// For accepting `peer`, or whoever proves to hold the key it shows.
    pub(crate) fn server(
        &self,
        peer: Option<PeerId>,
    ) -> Result<(Arc<QuicServerConfig>, Refusal), ConfigError> {
        let (pin, refusal) = self.pin(peer);
        let mut config = rustls::ServerConfig::builder_with_details(
            Arc::clone(&self.provider),
            Arc::new(self.wall.clone()),
        )
        .with_protocol_versions(&[&TLS13])
        .map_err(incomplete)?
        .with_client_cert_verifier(Arc::new(pin))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.key))));
        config.alpn_protocols = vec![self.alpn.clone()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = QuicServerConfig::try_from(config).map_err(incomplete)?;
        Ok((Arc::new(config), refusal))
    }

    fn pin(&self, wanted: Option<PeerId>) -> (Pin, Refusal) {
        let refusal = Refusal::default();
        let algorithms = self.provider.signature_verification_algorithms;
        (Pin { wanted, algorithms, refusal: refusal.clone() }, refusal)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ourselves", &self.ourselves).finish_non_exhaustive()
    }
}

fn incomplete(why: impl fmt::Display) -> ConfigError {
    ConfigError::Provider(why.to_string())
}

/// The key in a 44-byte Ed25519 `SubjectPublicKeyInfo`.
pub(crate) fn peer_of(certificate: &[u8]) -> Option<PeerId> {
    certificate.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PeerId)
}

/// Whether a handshake failed because somebody else answered. Set by the verifier, read by the
/// session: the TLS library only reports a failed handshake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<AtomicBool>);

impl Refusal {
    pub(crate) fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Accepts the raw public key of one peer, or any that signs the handshake.
#[derive(Debug)]
struct Pin {
    wanted: Option<PeerId>,
    algorithms: WebPkiSupportedAlgorithms,
    refusal: Refusal,
}

impl Pin {
    fn check(&self, certificate: &[u8], rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let shown = peer_of(certificate).filter(|_| rest.is_empty()).ok_or(CertificateError::BadEncoding)?;
        if self.wanted.is_some_and(|wanted| wanted != shown) {
            self.refusal.0.store(true, Ordering::Relaxed);
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// TLS 1.2 is never offered.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("QUIC runs on TLS 1.3 only (RFC 9001 §4.2)".into()))
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pin {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::testing;

    fn tls(identity: [u8; 32]) -> Tls {
        let clock = Clock::new(testing::origin(), Duration::ZERO);
        Tls::new(&testing::config(identity), clock.wall()).unwrap()
    }

    #[test]
    fn our_id_is_the_public_key_of_our_secret() {
        // RFC 8032 §7.1, test 1.
        let secret = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let public = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
            0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        assert_eq!(tls(secret).ourselves(), PeerId(public));
    }

    #[test]
    fn a_certificate_is_44_bytes_of_ed25519_and_nothing_else() {
        let good = [&SPKI_PREFIX[..], &[9; 32]].concat();
        assert_eq!(peer_of(&good), Some(PeerId([9; 32])));
        for bad in [&good[..43], &[&good[..], &[0]].concat(), &good[1..], &[]] {
            assert_eq!(peer_of(bad), None);
        }
        let (pin, refusal) = tls([1; 32]).pin(Some(PeerId([9; 32])));
        assert!(pin.check(&good, &[]).is_ok());
        assert!(pin.check(&good, &[CertificateDer::from(good.clone())]).is_err() && !refusal.happened());
        let other = [&SPKI_PREFIX[..], &[8; 32]].concat();
        assert!(pin.check(&other, &[]).is_err() && refusal.happened());
    }

    #[test]
    fn a_provider_without_the_initial_cipher_suite_is_refused_at_once() {
        let mut config = testing::config([1; 32]);
        let mut provider = (*config.provider).clone();
        provider.cipher_suites.retain(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        config.provider = Arc::new(provider);
        let clock = Clock::new(testing::origin(), Duration::ZERO);
        assert!(matches!(Tls::new(&config, clock.wall()), Err(ConfigError::Provider(_))));
    }
}
