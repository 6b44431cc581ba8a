//! An account of who may relay to whom, kept by somebody who only reads the server's post.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use gimlet_machine::{FourTuple, Instant};
use gimlet_stun::{Class, Key, Message, Method, PasswordAlgorithm, TransactionId};

/// How long what was granted lasts (RFC 8656 §9, §12).
const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);

/// The realm of the server.
pub(super) const REALM: &[u8] = b"gimlet";

/// How much longer than a stranger's request its answer may be, the realm left out: with IP and UDP headers
/// about double.
const CHALLENGE_GROWTH_MAX: usize = 64;

/// The users' names and passwords.
pub(super) const USERS: [(&[u8], &[u8]); 2] = [(b"alice", b"her password"), (b"bob", b"his password")];

const ALGORITHMS: [PasswordAlgorithm; 2] = [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256];

/// The keys of all users under all algorithms, made once.
fn keys() -> &'static [[Key; 2]; 2] {
    static KEYS: OnceLock<[[Key; 2]; 2]> = OnceLock::new();
    let key = |(name, password), algorithm| Key::long_term(name, REALM, password, algorithm);
    KEYS.get_or_init(|| USERS.map(|user| ALGORITHMS.map(|algorithm| key(user, algorithm))))
}

/// The key of a user.
pub(super) fn key(user: usize, algorithm: PasswordAlgorithm) -> &'static Key {
    &keys()[user % USERS.len()][usize::from(algorithm == PasswordAlgorithm::Sha256)]
}

/// Whether some user has signed `message`.
pub(super) fn is_signed(message: &Message<'_>) -> bool {
    message.has_integrity() && keys().iter().flatten().any(|key| message.verify(key).is_ok())
}

/// A request that the server has heard.
struct Asked {
    len: usize,
    signed: bool,
    peers: Vec<SocketAddr>,
    channel: Option<u16>,
}

/// What was asked, and what the answers have granted.
#[derive(Default)]
pub(super) struct Ledger {
    asked: BTreeMap<(FourTuple, TransactionId), Asked>,
    permissions: BTreeMap<(FourTuple, IpAddr), Instant>,
    channels: BTreeMap<(FourTuple, u16), (SocketAddr, Instant)>,
    /// Answers that nobody signed, by the address that heard them.
    challenged: BTreeMap<IpAddr, u64>,
    /// The nonce that each flow has been told last.
    pub(super) nonces: BTreeMap<FourTuple, Vec<u8>>,
}

impl Ledger {
    /// A datagram arrives at the server on the flow of a client, or of a stranger.
    pub(super) fn hears(&mut self, flow: FourTuple, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else { return };
        if message.class() == Class::Request {
            let asked = Asked {
                len: bytes.len(),
                signed: is_signed(&message),
                peers: message.xor_peer_addresses().flatten().collect(),
                channel: message.channel_number(),
            };
            // A damaged copy does not take the place of the signed request, whose answer may await a socket.
            let key = (flow, message.transaction_id());
            if asked.signed || !self.asked.get(&key).is_some_and(|known| known.signed) {
                self.asked.insert(key, asked);
            }
        }
    }

    /// The server sends something on the flow of a client, or of a stranger.
    pub(super) fn says(&mut self, now: Instant, flow: FourTuple, bytes: &[u8], strangers_per_second: u32) {
        if matches!(bytes.first(), Some(0x40..=0x4f)) {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            let bound = self.channels.get(&(flow, number)).filter(|(_, until)| *until > now);
            let (peer, _) = bound.unwrap_or_else(|| panic!("{flow}: channel {number:#x} is not bound"));
            self.assert_permitted(now, flow, *peer);
            return;
        }
        let message = Message::parse(bytes).expect("what a server sends is STUN or ChannelData");
        match (message.class(), message.method()) {
            (Class::Indication, Method::DATA) => {
                let peer = message.xor_peer_address().expect("data comes from somebody");
                self.assert_permitted(now, flow, peer);
            }
            (Class::Success | Class::Error, method) => {
                let asked = self.asked.get(&(flow, message.transaction_id()));
                let asked = asked.unwrap_or_else(|| panic!("{flow}: an answer to nothing"));
                if let Some(nonce) = message.nonce() {
                    self.nonces.insert(flow, nonce.to_vec());
                }
                if !message.has_integrity() {
                    assert_eq!(message.class(), Class::Error, "nothing is granted without a signature");
                    let longest = asked.len + REALM.len() + CHALLENGE_GROWTH_MAX;
                    assert!(bytes.len() <= longest, "{} bytes to a stranger's {}", bytes.len(), asked.len);
                    let heard = self.challenged.entry(flow.remote.ip()).or_default();
                    *heard += 1;
                    let fair = (now.as_millis() / 1_000 + 2) * u64::from(strangers_per_second);
                    assert!(*heard <= fair, "{} challenges within {now}", *heard);
                    return;
                }
                assert!(asked.signed, "{flow}: a signed answer to a request that nobody signed");
                if message.class() == Class::Error {
                    return;
                }
                // Of several addresses the first one counts, but where RFC 8656 §9.1 allows several.
                let peers = match method {
                    Method::CREATE_PERMISSION => &asked.peers[..],
                    // Binding a channel permits as well.
                    Method::CHANNEL_BIND => &asked.peers[..1],
                    _ => return,
                };
                for peer in peers {
                    self.permissions.insert((flow, peer.ip()), now + PERMISSION);
                }
                if let (Method::CHANNEL_BIND, Some(number)) = (method, asked.channel) {
                    self.channels.insert((flow, number), (peers[0], now + CHANNEL));
                }
            }
            (class, method) => panic!("{flow}: the server sends {class:?} {method:?}"),
        }
    }

    /// The client of `flow` may relay to and from `peer`.
    pub(super) fn assert_permitted(&self, now: Instant, flow: FourTuple, peer: SocketAddr) {
        let until = self.permissions.get(&(flow, peer.ip()));
        assert!(until.is_some_and(|until| *until > now), "{now}: {flow} relays to or from {peer}, {until:?}");
    }

    /// The allocation of `flow` is gone, and everything with it.
    pub(super) fn forget(&mut self, flow: FourTuple) {
        self.permissions.retain(|(of, _), _| *of != flow);
        self.channels.retain(|(of, _), _| *of != flow);
    }
}
