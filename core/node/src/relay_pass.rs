//! What a public node tells a peer that may use its relay.
//!
//! The pass travels over the authenticated link, so that nobody else has it. It names the peer for a limited
//! time, and it holds what the relay would have challenged the peer with: the first Allocate is signed and
//! costs one round trip (RFC 8656 §7 needs two).

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::PeerId;
use gimlet_turn::{Challenge, Families, LongTerm, PeerPolicy};
use serde::{Deserialize, Serialize};

/// How long a pass is good. It is renewed over the link after half of that.
pub const RELAY_PASS_LIFETIME: Duration = Duration::from_secs(3_600);

/// Addresses in a pass; more are ignored.
pub(crate) const PASS_ADDRESSES_MAX: usize = 8;

/// Credentials of limited time for a relay, and what else a first request needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayPass {
    pub(crate) username: String,
    pub(crate) password: String,
    /// Seconds since the Unix epoch.
    pub(crate) expires: u64,
    /// Where the relay gives addresses, one of each family; the port means nothing. The relay itself is reached
    /// where the link leads.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) realm: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) algorithms: Vec<u8>,
    /// Whether it relays to private addresses.
    pub(crate) private: bool,
    /// Whether it relays to its own host.
    pub(crate) loopback: bool,
}

impl RelayPass {
    /// A pass for `peer`, by a relay that knows `secret`.
    pub(crate) fn issue(
        peer: PeerId,
        secret: &[u8],
        expires: u64,
        challenge: Challenge,
        policy: &PeerPolicy,
        addresses: Vec<SocketAddr>,
    ) -> Option<RelayPass> {
        let credentials = LongTerm::until(secret, expires, &peer.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let Challenge { realm, nonce, algorithms } = challenge;
        Some(RelayPass {
            username: text(credentials.username())?,
            password: text(credentials.password())?,
            expires,
            addresses,
            realm,
            nonce,
            algorithms,
            private: policy.allow_private,
            loopback: policy.allow_loopback,
        })
    }

    /// Name and password, if they can be used.
    pub(crate) fn credentials(&self) -> Option<LongTerm> {
        LongTerm::new(self.username.as_bytes(), self.password.as_bytes())
    }

    pub(crate) fn challenge(&self) -> Challenge {
        Challenge {
            realm: self.realm.clone(),
            nonce: self.nonce.clone(),
            algorithms: self.algorithms.clone(),
        }
    }

    /// Which relayed addresses are worth asking for, for somebody who reaches the relay at `reached`.
    pub(crate) fn families(&self, reached: SocketAddr) -> Families {
        let mut all = self.addresses.iter().take(PASS_ADDRESSES_MAX);
        if all.any(|address| address.is_ipv4() != reached.is_ipv4()) {
            Families::Both
        } else if reached.is_ipv4() {
            Families::V4
        } else {
            Families::V6
        }
    }

    /// Whom the relay lets through.
    pub(crate) fn policy(&self) -> PeerPolicy {
        PeerPolicy { allow_private: self.private, allow_loopback: self.loopback, denied: Vec::new() }
    }

    /// The peer in a name that [`RelayPass::issue`] made.
    pub(crate) fn peer_in(username: &[u8]) -> Option<PeerId> {
        core::str::from_utf8(username).ok()?.split_once(':')?.1.parse().ok()
    }
}

/// The password is not shown.
impl fmt::Debug for RelayPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayPass(until {}, at {:?})", self.expires, self.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{CONTROL_MESSAGE_MAX, Control};

    fn pass(addresses: &[&str]) -> RelayPass {
        let challenge =
            Challenge { realm: b"gimlet".to_vec(), nonce: vec![b'n'; 25], algorithms: vec![0; 8] };
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let policy = PeerPolicy::default();
        RelayPass::issue(PeerId([7; 32]), b"secret", 1_800_000_000, challenge, &policy, addresses).unwrap()
    }

    #[test]
    fn a_pass_names_its_peer_travels_as_a_control_message_and_keeps_its_password_out_of_logs() {
        let pass = pass(&["192.0.2.1:0", "[2001:db8::1]:0"]);
        assert_eq!(RelayPass::peer_in(pass.username.as_bytes()), Some(PeerId([7; 32])));
        assert_eq!(RelayPass::peer_in(b"alice"), None);
        let message = Control::Relay(pass.clone());
        let encoded = message.encode();
        assert!(encoded.len() <= CONTROL_MESSAGE_MAX);
        assert_eq!(Control::decode(&encoded), Some(message));
        assert!(!format!("{pass:?}").contains(&pass.password));
    }

    #[test]
    fn a_second_family_is_asked_for_where_the_relay_has_it() {
        let (v4, v6) = ("192.0.2.1:4433".parse().unwrap(), "[2001:db8::1]:4433".parse().unwrap());
        assert_eq!(pass(&["192.0.2.1:0"]).families(v4), Families::V4);
        assert_eq!(pass(&["[2001:db8::1]:0"]).families(v6), Families::V6);
        assert_eq!(pass(&["192.0.2.1:0", "[2001:db8::1]:0"]).families(v6), Families::Both);
        assert_eq!(pass(&[]).families(v4), Families::V4);
    }
}
