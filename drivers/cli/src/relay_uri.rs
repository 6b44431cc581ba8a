//! Where a TURN server is and how it is spoken to: `HOST:PORT`, or a URI (RFC 7065).

use std::str::FromStr;

/// Of TURN over UDP and TCP (RFC 7065 §3.2).
const PORT_DEFAULT: u16 = 3478;
/// Of TURN over TLS.
const TLS_PORT_DEFAULT: u16 = 5349;

/// How the server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
    Tls,
}

/// A TURN server by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelayUri {
    /// A domain name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) over: Over,
}

impl RelayUri {
    /// As the system's resolver wants it.
    pub(crate) fn host_and_port(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl FromStr for RelayUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let after = |scheme: &str| {
            let (head, rest) = text.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        let (rest, secure) = match (after("turns:"), after("turn:")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => {
                let (host, port) = split(text)?;
                let port = port.ok_or("name the port, too, such as relay.example:3478")?;
                return Ok(Self { host, port, over: Over::Udp });
            }
        };
        let (place, transport) = match rest.split_once("?transport=") {
            Some((place, transport)) => (place, Some(transport.to_ascii_lowercase())),
            None => (rest, None),
        };
        let over = match (secure, transport.as_deref()) {
            (false, None | Some("udp")) => Over::Udp,
            (false, Some("tcp")) => Over::Tcp,
            (true, None | Some("tcp")) => Over::Tls,
            (true, Some("udp")) => return Err("DTLS is not spoken: leave out ?transport=udp, for TLS".into()),
            (_, Some(other)) => return Err(format!("the transport `{other}` is neither udp nor tcp")),
        };
        let (host, port) = split(place)?;
        let port = port.unwrap_or(if secure { TLS_PORT_DEFAULT } else { PORT_DEFAULT });
        Ok(Self { host, port, over })
    }
}

/// The host, and the port if there is one. An IPv6 address is in brackets.
fn split(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
        Some(None) => return Err("a bracket is not closed".into()),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let odd = |letter: char| letter.is_whitespace() || "/?#@".contains(letter);
    if host.is_empty() || host.contains(odd) {
        return Err(format!("`{host}` is no host: write HOST:PORT, or turns:HOST"));
    }
    let port = port.map(|port| port.parse().map_err(|_| format!("`{port}` is no port")));
    Ok((host.to_owned(), port.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, u16, Over) {
        let RelayUri { host, port, over } = text.parse().unwrap();
        (host, port, over)
    }

    #[test]
    fn a_host_with_a_port_means_udp_and_uris_say_what_they_mean() {
        let row = |host: &str, port, over| (host.to_owned(), port, over);
        assert_eq!(read("relay.example:3478"), row("relay.example", 3478, Over::Udp));
        assert_eq!(read("[2001:db8::1]:3478"), row("2001:db8::1", 3478, Over::Udp));
        assert_eq!(read("turn:relay.example"), row("relay.example", 3478, Over::Udp));
        assert_eq!(read("TURN:relay.example:80?transport=TCP"), row("relay.example", 80, Over::Tcp));
        assert_eq!(read("turns:relay.example:443"), row("relay.example", 443, Over::Tls));
        assert_eq!(read("turns:[2001:db8::1]"), row("2001:db8::1", 5349, Over::Tls));
        assert_eq!(read("turns:192.0.2.1?transport=tcp"), row("192.0.2.1", 5349, Over::Tls));
        let named: RelayUri = "turns:[2001:db8::1]:443".parse().unwrap();
        assert_eq!(named.host_and_port(), "[2001:db8::1]:443");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, reason) in [
            ("relay.example", "name the port"),
            ("turns:relay.example?transport=udp", "DTLS"),
            ("turn:relay.example?transport=sctp", "neither udp nor tcp"),
            ("turn://relay.example", "is no host"),
            ("turn:relay.example:http", "is no port"),
            ("turn:[2001:db8::1", "bracket"),
            ("turn:", "is no host"),
            ("", "is no host"),
            ("turn:me@relay.example", "is no host"),
        ] {
            let refused = text.parse::<RelayUri>().unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
