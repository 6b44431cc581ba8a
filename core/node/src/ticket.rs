//! Tickets: how a public node is named to people who have never met it.

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;
use gimlet_machine::PeerId;
use serde::{Deserialize, Serialize};

use crate::identity::{Identity, Purpose, SIGNATURE_LEN, verify};

/// Addresses in one ticket; more are refused when it is made and when it is read.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Length of a ticket's text; longer input is refused before it is decoded. Characters.
pub const TICKET_TEXT_MAX: usize = 1_024;

const PREFIX: &str = "gimlet1";
const VERSION: u8 = 1;

/// The name of a public node: who it is, where it listens, until when this is promised, signed by
/// the node itself. Written as `gimlet1` and base32, so it survives chat programs and telephones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    content: Content,
    signature: [u8; SIGNATURE_LEN],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    version: u8,
    peer: [u8; 32],
    /// Seconds since the Unix epoch.
    expires: u64,
    addresses: Vec<SocketAddr>,
}

/// Why a text is not a usable ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// It does not start with `gimlet1`, or what follows is not base32 of the right shape.
    NotATicket,
    /// It was made by another version of the format.
    Version(u8),
    /// It was altered: the signature does not match the content.
    Tampered,
    /// It names no address, or more than [`TICKET_ADDRESSES_MAX`].
    Addresses,
    /// Its time has passed (seconds since the Unix epoch).
    Expired {
        /// When it ended.
        at: u64,
    },
}

impl Ticket {
    /// Signs a ticket for the node `identity`, reachable at `addresses`, good until `expires`
    /// (seconds since the Unix epoch).
    pub fn issue(identity: &Identity, addresses: &[SocketAddr], expires: u64) -> Result<Ticket, TicketError> {
        if addresses.is_empty() || addresses.len() > TICKET_ADDRESSES_MAX {
            return Err(TicketError::Addresses);
        }
        let peer = identity.peer_id().0;
        let content = Content { version: VERSION, peer, expires, addresses: addresses.to_vec() };
        let signature = identity.sign(Purpose::Ticket, &content.encode());
        Ok(Ticket { content, signature })
    }

    /// The node it names.
    pub fn peer(&self) -> PeerId {
        PeerId(self.content.peer)
    }

    /// Where that node listens, best first.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.content.addresses
    }

    /// The end of its validity, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        self.content.expires
    }

    /// Refuses a ticket whose time has passed. `unix_seconds` is the reader's clock.
    pub fn check(&self, unix_seconds: u64) -> Result<(), TicketError> {
        let at = self.content.expires;
        if unix_seconds >= at { Err(TicketError::Expired { at }) } else { Ok(()) }
    }
}

impl Content {
    fn encode(&self) -> Vec<u8> {
        // Serialising plain values into memory has no failure of its own.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.content.encode();
        bytes.extend_from_slice(&self.signature);
        let mut text = BASE32_NOPAD.encode(&bytes);
        text.make_ascii_lowercase();
        write!(f, "{PREFIX}{text}")
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads and verifies a ticket; whether it is still valid is [`Ticket::check`]. Surrounding
    /// white space and upper case are forgiven.
    fn from_str(text: &str) -> Result<Ticket, TicketError> {
        let text = text.trim().to_ascii_lowercase();
        let body = text.strip_prefix(PREFIX).filter(|_| text.len() <= TICKET_TEXT_MAX);
        let body = body.ok_or(TicketError::NotATicket)?.to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| TicketError::NotATicket)?;
        let (content, signature) = bytes.split_last_chunk().ok_or(TicketError::NotATicket)?;
        match content.first() {
            Some(&VERSION) => {}
            Some(&other) => return Err(TicketError::Version(other)),
            None => return Err(TicketError::NotATicket),
        }
        let (decoded, rest) =
            postcard::take_from_bytes::<Content>(content).map_err(|_| TicketError::NotATicket)?;
        if !rest.is_empty() {
            return Err(TicketError::NotATicket);
        }
        if decoded.addresses.is_empty() || decoded.addresses.len() > TICKET_ADDRESSES_MAX {
            return Err(TicketError::Addresses);
        }
        if !verify(PeerId(decoded.peer), Purpose::Ticket, content, signature) {
            return Err(TicketError::Tampered);
        }
        // One ticket has one text: an encoding that does not come back the same is refused.
        if decoded.encode() != content {
            return Err(TicketError::NotATicket);
        }
        Ok(Ticket { content: decoded, signature: *signature })
    }
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TicketError::NotATicket => {
                f.write_str("not a ticket: it should start with gimlet1 and be copied whole")
            }
            TicketError::Version(version) => {
                write!(f, "a ticket of format {version}, and this program reads format {VERSION}: update it")
            }
            TicketError::Tampered => f.write_str("the ticket was altered: ask its owner for it again"),
            TicketError::Addresses => write!(f, "a ticket names 1 to {TICKET_ADDRESSES_MAX} addresses"),
            TicketError::Expired { at } => {
                write!(f, "the ticket expired at Unix time {at}: ask its owner for a new one")
            }
        }
    }
}

impl core::error::Error for TicketError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        let addresses = ["203.0.113.7:4433".parse().unwrap(), "[2001:db8::7]:4433".parse().unwrap()];
        Ticket::issue(&Identity::from_secret([7; 32]), &addresses, 1_800_000_000).unwrap()
    }

    #[test]
    fn a_ticket_survives_being_written_down() {
        let text = ticket().to_string();
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(format!("  {}\n", text.to_uppercase()).parse(), Ok(ticket()));
    }

    #[test]
    fn an_expired_ticket_says_when_it_ended() {
        assert_eq!(ticket().check(1_799_999_999), Ok(()));
        assert_eq!(ticket().check(1_800_000_000), Err(TicketError::Expired { at: 1_800_000_000 }));
    }

    #[test]
    fn every_altered_character_is_noticed() {
        let text = ticket().to_string();
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'a' { b'b' } else { b'a' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(altered.parse::<Ticket>().is_err(), "position {at}");
        }
    }

    #[test]
    fn a_later_format_is_named_and_not_guessed_at() {
        let mut later = ticket();
        later.content.version = 9;
        assert_eq!(later.to_string().parse::<Ticket>(), Err(TicketError::Version(9)));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(gimlet1)?[a-z2-7]{0,300}") {
            let _ = text.parse::<Ticket>();
        }
    }
}
