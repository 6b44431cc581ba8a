//! The `candidate-attribute` line (RFC 8839 §5.1, RFC 6544 §4.5).

use alloc::boxed::Box;
use alloc::string::ToString;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::{FromStr, SplitAsciiWhitespace};

use super::{Base, Candidate, CandidateKind, Guise, TcpType, Transport};
use crate::foundation::is_ice_chars;
use crate::{CANDIDATE_LINE_MAX, CandidateError, MdnsName, UFRAG_MAX};

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { foundation, component, priority, address, kind, .. } = self;
        let transport = match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp(_) => "TCP",
        };
        let (ip, port) = (address.ip(), address.port());
        write!(f, "candidate:{foundation} {component} {transport} {priority} ")?;
        match self.guise.as_deref() {
            Some(Guise::Named(name)) => write!(f, "{name}")?,
            // Rather nobody's address than one that is to be hidden.
            Some(Guise::Nameless) => write!(f, "{}", nobody(ip))?,
            Some(Guise::Unrelated) | None => write!(f, "{ip}")?,
        }
        write!(f, " {port} typ {kind}")?;
        if let Some(related) = self.related {
            let (ip, port) = match self.guise.as_deref() {
                Some(Guise::Unrelated) => (nobody(related.ip()), DISCARD),
                Some(Guise::Named(_) | Guise::Nameless) | None => (related.ip(), related.port()),
            };
            write!(f, " raddr {ip} rport {port}")?;
        }
        match self.transport {
            Transport::Udp => {}
            Transport::Tcp(TcpType::Active) => f.write_str(" tcptype active")?,
            Transport::Tcp(TcpType::Passive) => f.write_str(" tcptype passive")?,
            Transport::Tcp(TcpType::SimultaneousOpen) => f.write_str(" tcptype so")?,
        }
        match &self.ufrag {
            Some(ufrag) => write!(f, " ufrag {ufrag}"),
            None => Ok(()),
        }
    }
}

/// The port in place of one that is not told (draft-ietf-mmusic-mdns-ice-candidates, RFC 8839 §5.1).
const DISCARD: u16 = 9;

/// The unspecified address of the family of `ip`.
const fn nobody(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl FromStr for Candidate {
    type Err = CandidateError;

    /// Reads the attribute's value, with or without a leading `a=`. Names and types may be in either
    /// case; unknown extensions are skipped.
    fn from_str(line: &str) -> Result<Self, CandidateError> {
        match Line::read(line)? {
            Line::Addressed(candidate) => Ok(candidate),
            Line::Named(name, _) => Err(CandidateError::UnresolvedName(name.to_string().into())),
        }
    }
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A candidate.
    Addressed(Candidate),
    /// A candidate without an address yet, and its name.
    Named(MdnsName, Candidate),
}

impl Line {
    /// Reads the attribute's value, as [`Candidate`] does, or with an mDNS name in place of the address.
    pub(crate) fn read(line: &str) -> Result<Line, CandidateError> {
        if line.len() > CANDIDATE_LINE_MAX {
            return Err(CandidateError::TooLong);
        }
        if line.contains(['\r', '\n', '\0']) {
            return Err(CandidateError::Syntax("line"));
        }
        let line = line.strip_prefix("a=").unwrap_or(line);
        let (name, value) = line.split_once(':').ok_or(CandidateError::Syntax("candidate:"))?;
        if !name.eq_ignore_ascii_case("candidate") {
            return Err(CandidateError::Syntax("candidate:"));
        }
        let mut fields = value.split_ascii_whitespace();
        let mut candidate = read_fields(&mut fields)?;
        read_extensions(&mut candidate, &mut fields)?;
        Ok(match candidate.mdns_name() {
            Some(name) => Line::Named(*name, candidate),
            None => Line::Addressed(candidate),
        })
    }
}

/// The seven fields that every candidate has.
fn read_fields(fields: &mut SplitAsciiWhitespace<'_>) -> Result<Candidate, CandidateError> {
    let foundation = word(fields, "foundation")?.parse()?;
    let component = number(word(fields, "component")?, 256).ok_or(CandidateError::Syntax("component"))?;
    let transport = word(fields, "transport")?;
    let priority =
        number(word(fields, "priority")?, (1 << 31) - 1).ok_or(CandidateError::Syntax("priority"))?;
    let (ip, guise) = address(word(fields, "address")?)?;
    let port = port(word(fields, "port")?)?;
    if !word(fields, "typ")?.eq_ignore_ascii_case("typ") {
        return Err(CandidateError::Syntax("typ"));
    }
    let kind = kind(word(fields, "type")?)?;
    let transport = match transport {
        udp if udp.eq_ignore_ascii_case("udp") => Transport::Udp,
        // Until a tcptype says otherwise (RFC 6544 §4.5 makes it mandatory).
        tcp if tcp.eq_ignore_ascii_case("tcp") => Transport::Tcp(TcpType::Active),
        _ => return Err(CandidateError::UnknownTransport),
    };
    Ok(Candidate {
        foundation,
        component: component as u16,
        transport,
        priority,
        address: SocketAddr::new(ip, port),
        kind,
        related: None,
        ufrag: None,
        base: Base::Own,
        guise,
    })
}

/// What may follow, as pairs of a name and a value.
fn read_extensions(
    candidate: &mut Candidate,
    fields: &mut SplitAsciiWhitespace<'_>,
) -> Result<(), CandidateError> {
    let (mut related_ip, mut related_port, mut tcp_type) = (None, None, None);
    while let Some(name) = fields.next() {
        let value = word(fields, "extension")?;
        match name {
            name if name.eq_ignore_ascii_case("raddr") => {
                // A name here is somebody's privacy (RFC 8835 §5.3), not an error.
                related_ip = value.parse::<IpAddr>().ok();
            }
            name if name.eq_ignore_ascii_case("rport") => related_port = Some(port(value)?),
            name if name.eq_ignore_ascii_case("tcptype") => tcp_type = Some(read_tcp_type(value)?),
            name if name.eq_ignore_ascii_case("ufrag") => {
                if value.len() > UFRAG_MAX || !is_ice_chars(value) {
                    return Err(CandidateError::Syntax("ufrag"));
                }
                candidate.ufrag = Some(Box::from(value));
            }
            _ => {}
        }
    }
    candidate.related = related_ip.zip(related_port).map(|(ip, port)| SocketAddr::new(ip, port));
    match candidate.transport {
        Transport::Udp => Ok(()),
        Transport::Tcp(_) => {
            candidate.transport = Transport::Tcp(tcp_type.ok_or(CandidateError::Syntax("tcptype"))?);
            Ok(())
        }
    }
}

fn word<'a>(fields: &mut SplitAsciiWhitespace<'a>, what: &'static str) -> Result<&'a str, CandidateError> {
    fields.next().ok_or(CandidateError::Syntax(what))
}

/// A decimal number from 1 to `max`: digits only, no sign.
fn number(text: &str, max: u32) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok()?;
    (digits && (1..=max).contains(&number)).then_some(number)
}

fn port(text: &str) -> Result<u16, CandidateError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(CandidateError::Syntax("port"))
}

/// An address, or a name for one.
fn address(text: &str) -> Result<(IpAddr, Option<Box<Guise>>), CandidateError> {
    if let Ok(ip) = text.parse() {
        return Ok((ip, None));
    }
    // A zone means something on the sender's host only (RFC 4007 §11.2).
    if text.contains('%') {
        return Err(CandidateError::Syntax("address"));
    }
    let named = text.contains(|letter: char| letter.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if !named {
        return Err(CandidateError::Syntax("address"));
    }
    let name = text.parse()?;
    Ok((IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(Box::new(Guise::Named(name)))))
}

fn kind(text: &str) -> Result<CandidateKind, CandidateError> {
    let kinds = [
        CandidateKind::Host,
        CandidateKind::ServerReflexive,
        CandidateKind::PeerReflexive,
        CandidateKind::Relayed,
    ];
    let mut matching = kinds.into_iter().filter(|kind| text.eq_ignore_ascii_case(kind.name()));
    matching.next().ok_or(CandidateError::UnknownKind)
}

fn read_tcp_type(text: &str) -> Result<TcpType, CandidateError> {
    match text {
        active if active.eq_ignore_ascii_case("active") => Ok(TcpType::Active),
        passive if passive.eq_ignore_ascii_case("passive") => Ok(TcpType::Passive),
        so if so.eq_ignore_ascii_case("so") => Ok(TcpType::SimultaneousOpen),
        _ => Err(CandidateError::Syntax("tcptype")),
    }
}
