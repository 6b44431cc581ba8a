use super::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

fn client_hello(provider: Arc<CryptoProvider>) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("gimlet.example").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn equal_seeds_say_hello_in_equal_bytes_and_others_do_not() {
    let hello = |seed| client_hello(seeded_provider(Rng::from_u64(seed)));
    assert_eq!(hello(1), hello(1));
    assert_ne!(hello(1), hello(2));
}

#[test]
fn the_unseeded_provider_would_fail_that_test() {
    let hello = || client_hello(Arc::new(aws_lc_rs::default_provider()));
    assert_ne!(hello(), hello());
}

#[test]
fn both_sides_agree_with_the_x25519_of_aws_lc_rs() {
    let provider = seeded_provider(Rng::from_u64(3));
    for _ in 0..32 {
        let ours = provider.kx_groups[0].start().unwrap();
        let theirs = aws_lc_rs::kx_group::X25519.start().unwrap();
        let (our_key, their_key) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
        let ours = ours.complete(&their_key).unwrap();
        let theirs = theirs.complete(&our_key).unwrap();
        assert_eq!(ours.secret_bytes(), theirs.secret_bytes());
    }
}

#[test]
fn key_shares_of_low_order_or_wrong_length_are_refused() {
    let provider = seeded_provider(Rng::from_u64(3));
    let complete = |key: &[u8]| provider.kx_groups[0].start().unwrap().complete(key).map(|_| ());
    let invalid = Err(Error::from(PeerMisbehaved::InvalidKeyShare));
    assert_eq!(complete(&[0; 32]), invalid);
    assert_eq!(complete(&[9; 31]), invalid);
    assert_eq!(complete(&[9; 32]), Ok(()));
}
