//! The words that both line protocols share.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use gimlet_ice::{Candidate, Credentials, Event};
use gimlet_machine::{DATAGRAM_MAX, Path};

/// Reads a datagram: hexadecimal digits of either case, at most [`DATAGRAM_MAX`] bytes.
pub(super) fn datagram(text: &str) -> Result<Vec<u8>, String> {
    let bytes = HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .map_err(|_| "a datagram is an even number of hexadecimal digits".to_owned())?;
    if bytes.len() > DATAGRAM_MAX {
        return Err(format!("a datagram has at most {DATAGRAM_MAX} bytes"));
    }
    Ok(bytes)
}

/// Writes a datagram.
pub(super) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Reads a candidate attribute (RFC 8839 §5.1), with or without its name: some write only what follows
/// `candidate:`.
pub(super) fn candidate(text: &str) -> Result<Candidate, String> {
    let named = text.contains(':') && text.split(':').next().is_some_and(|name| !name.contains(' '));
    let read = if named { text.parse() } else { format!("candidate:{text}").parse() };
    read.map_err(|error: gimlet_ice::CandidateError| error.to_string())
}

/// Reads a fragment and a password.
pub(super) fn credentials(ufrag: &str, pwd: &str) -> Result<Credentials, String> {
    let credentials = Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() };
    credentials.validate().map_err(|error| error.to_string())?;
    Ok(credentials)
}

/// Both ends of a path: `<local> <remote>`.
pub(super) struct Ends<'a>(pub(super) &'a Path);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.on_wire().local, self.0.peer_address())
    }
}

/// An event in words that begin with what happened.
pub(super) struct Told(pub(super) Event);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::StateChanged(state) => write!(f, "state {state}"),
            Event::PathValid { path, rtt: Some(rtt) } => {
                write!(f, "valid {} rtt={}", Ends(&path), rtt.as_micros())
            }
            Event::PathValid { path, rtt: None } => write!(f, "valid {} rtt=unknown", Ends(&path)),
            Event::PathSelected { path } => write!(f, "selected {}", Ends(&path)),
            Event::PathSuspect { path } => write!(f, "suspect {}", Ends(&path)),
            Event::ConsentExpired { path } => write!(f, "consent-expired {}", Ends(&path)),
            Event::RoleChanged(role) => write!(f, "role {role}"),
            Event::LocalPeerReflexive { address } => write!(f, "local-reflexive {address}"),
            Event::RemotePeerReflexive { address } => write!(f, "remote-reflexive {address}"),
            Event::PublishName { name, address } => write!(f, "publish {name} {address}"),
            Event::ResolveName { query, name } => write!(f, "resolve {query} {name}"),
            Event::Punch(event) => write!(f, "punch {event:?}"),
            Event::Failed { cause } => write!(f, "failed {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_may_come_with_its_name_or_without() {
        let value = "1 1 UDP 2130706431 192.0.2.1 1000 typ host";
        for text in [value.to_owned(), format!("candidate:{value}"), format!("a=candidate:{value}")] {
            assert_eq!(candidate(&text).unwrap().to_string(), format!("candidate:{value}"), "{text}");
        }
        let ipv6 = "1 1 UDP 2130706431 2001:db8::1 1000 typ host";
        assert_eq!(candidate(ipv6).unwrap().address, "[2001:db8::1]:1000".parse().unwrap());
        assert!(candidate("").is_err() && candidate("candidate:").is_err());
    }

    #[test]
    fn a_datagram_is_hexadecimal_of_either_case() {
        assert_eq!(datagram("00fFA1"), Ok(vec![0, 255, 0xa1]));
        assert_eq!(datagram(""), Ok(Vec::new()));
        assert!(["0", "0g", "00 00"].iter().all(|text| datagram(text).is_err()));
        assert!(datagram(&"00".repeat(DATAGRAM_MAX + 1)).is_err());
    }
}
