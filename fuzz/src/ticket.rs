//! Tickets, as texts that people paste.
//!
//! Input: the text; and once more the ingredients of a ticket and of one change to its text.

use std::net::SocketAddr;

use gimlet_node::{Identity, TICKET_ADDRESSES_MAX, Ticket, TicketError};

use crate::tape::Tape;
use crate::target::{Seed, bounded};

/// The secrets of everybody who ever signs a ticket here.
const SECRETS: [u8; 2] = [1, 2];

/// A ticket that is read was signed by somebody who could, has one spelling, and expires when it
/// says; one that was issued is read the same, and with any character changed it is not read.
pub fn ticket(data: &[u8]) {
    check(data, |_| {});
}

/// Changes a character on the way.
pub(crate) fn planted(data: &[u8]) {
    check(data, |text| {
        if let Some(last) = text.pop() {
            text.push(if last == 'a' { 'i' } else { 'a' });
        }
    });
}

fn check(data: &[u8], tamper: impl Fn(&mut String)) {
    let data = bounded(data);
    pasted(&String::from_utf8_lossy(data));
    issued(Tape::new(data), tamper);
}

fn pasted(text: &str) {
    match text.parse::<Ticket>() {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(ticket) => {
            let known = SECRETS.iter().any(|secret| identity(*secret).peer_id() == ticket.peer());
            assert!(known, "nobody here signed this, and nobody else's key is known");
            assert_eq!(ticket.to_string(), text.trim().to_ascii_lowercase(), "one ticket, one text");
            assert!((1..=TICKET_ADDRESSES_MAX).contains(&ticket.addresses().len()));
        }
    }
}

fn issued(mut tape: Tape<'_>, tamper: impl Fn(&mut String)) {
    let (signer, count) = (tape.u8(), usize::from(tape.u8()) % (TICKET_ADDRESSES_MAX + 2));
    let expires = u64::from(tape.u16()) << (tape.u8() % 49);
    let addresses: Vec<SocketAddr> = (0..count).map(|_| address(&mut tape)).collect();
    let ticket = Ticket::issue(&identity(SECRETS[usize::from(signer) % SECRETS.len()]), &addresses, expires);
    if !(1..=TICKET_ADDRESSES_MAX).contains(&count) {
        return assert_eq!(ticket, Err(TicketError::Addresses));
    }
    let ticket = ticket.expect("a sound ticket");
    let mut text = ticket.to_string();
    tamper(&mut text);
    assert_eq!(text.parse(), Ok(ticket.clone()));
    assert_eq!((ticket.addresses(), ticket.expires()), (&addresses[..], expires));
    assert_eq!(ticket.check(expires), Err(TicketError::Expired { at: expires }));
    assert!(expires == 0 || ticket.check(expires - 1).is_ok());
    let (at, letter) = (usize::from(tape.u16()) % text.len(), tape.u8() & 0x7f);
    let same = text.as_bytes()[at] == letter.to_ascii_lowercase();
    let at_an_end = (at == 0 || at + 1 == text.len()) && letter.is_ascii_whitespace();
    if !same && !at_an_end {
        text.replace_range(at..=at, char::from(letter).encode_utf8(&mut [0; 4]));
        assert!(text.parse::<Ticket>().is_err(), "{letter:#04x} at {at} went unnoticed");
    }
}

fn identity(secret: u8) -> Identity {
    Identity::from_secret([secret; 32])
}

fn address(tape: &mut Tape<'_>) -> SocketAddr {
    let (family, port) = (tape.u8(), tape.u16());
    let octets = tape.take(16);
    let mut ip = [0; 16];
    ip[..octets.len()].copy_from_slice(octets);
    match ip.first_chunk::<4>() {
        Some(v4) if family & 1 == 0 => SocketAddr::from((*v4, port)),
        Some(_) | None => SocketAddr::from((ip, port)),
    }
}

/// Real tickets, and texts that nearly are.
pub(crate) fn seeds() -> Vec<Seed> {
    let addresses: [SocketAddr; 2] =
        ["203.0.113.7:4433", "[2001:db8::7]:4433"].map(|address| address.parse().expect("an address"));
    let text = |secret, addresses: &[SocketAddr]| {
        Ticket::issue(&identity(secret), addresses, 1_800_000_000).expect("a sound ticket").to_string()
    };
    let (one, two) = (text(1, &addresses[..1]), text(2, &addresses));
    let other_version = format!("gimlet1ai{}", &one[9..]);
    vec![
        ("one_address", one.clone().into_bytes()),
        ("shouted_with_spaces", format!("  {}\n", two.to_uppercase()).into_bytes()),
        ("cut_short", one.as_bytes()[..one.len() - 9].to_vec()),
        ("other_version", other_version.into_bytes()),
        ("no_prefix", one.as_bytes()[7..].to_vec()),
        ("ingredients", [&[0, 3, 0x6b, 0x49, 16][..], &[1; 60]].concat()),
        ("too_many_addresses", vec![1, 9, 0, 0, 0]),
    ]
}
