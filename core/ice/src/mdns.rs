//! Names that stand for addresses (draft-ietf-mmusic-mdns-ice-candidates).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use gimlet_machine::{Instant, Rng};

use crate::{Candidate, CandidateError, MDNS_QUERIES_MAX, MDNS_TIMEOUT};

/// The longest label of a name (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;

/// What all names end in (RFC 6762 §3).
const SUFFIX: &str = ".local";

/// A multicast DNS name that stands for an address: one label and `.local`
/// (draft-ietf-mmusic-mdns-ice-candidates §3.1.1). Case does not matter, and is not kept.
///
/// ```
/// # use gimlet_ice::MdnsName;
/// # use gimlet_machine::Rng;
/// let name = MdnsName::draw(&mut Rng::from_u64(1));
/// assert_eq!(name.to_string().len(), "1f4712db-d17f-4a8b-9d1c-a2b0bb6ad3a8.local".len());
/// assert_eq!(name.to_string().parse(), Ok(name));
/// assert!("printer.example.com".parse::<MdnsName>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MdnsName {
    len: u8,
    label: [u8; LABEL_MAX],
}

impl MdnsName {
    /// A name that says nothing: a random UUID (RFC 9562 §5.4), 122 bits that nobody guesses.
    pub fn draw(rng: &mut Rng) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut uuid: [u8; 16] = rng.bytes();
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let mut name = Self { len: 0, label: [0; LABEL_MAX] };
        for (n, byte) in uuid.into_iter().enumerate() {
            if matches!(n, 4 | 6 | 8 | 10) {
                name.push(b'-');
            }
            name.push(DIGITS[usize::from(byte >> 4)]);
            name.push(DIGITS[usize::from(byte & 15)]);
        }
        name
    }

    /// The name without `.local`.
    pub fn label(&self) -> &str {
        core::str::from_utf8(&self.label[..usize::from(self.len)]).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        self.label[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

impl FromStr for MdnsName {
    type Err = CandidateError;

    /// Reads a name. One with a second dot is somebody's place in the world's DNS, and no mDNS candidate
    /// (draft §3.2.1): [`CandidateError::UnresolvedName`].
    fn from_str(text: &str) -> Result<Self, CandidateError> {
        let refused = || CandidateError::UnresolvedName(Box::from(text));
        let split = text.len().checked_sub(SUFFIX.len()).filter(|split| text.is_char_boundary(*split));
        let (label, suffix) = text.split_at(split.ok_or_else(refused)?);
        // RFC 1123 §2.1.
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let framed = label.starts_with('-') || label.ends_with('-');
        let fits = (1..=LABEL_MAX).contains(&label.len());
        if !suffix.eq_ignore_ascii_case(SUFFIX) || !plain || framed || !fits {
            return Err(refused());
        }
        let mut name = Self { len: 0, label: [0; LABEL_MAX] };
        label.bytes().for_each(|byte| name.push(byte.to_ascii_lowercase()));
        Ok(name)
    }
}

impl fmt::Display for MdnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SUFFIX}", self.label())
    }
}

impl fmt::Debug for MdnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MdnsName({self})")
    }
}

/// A question to the owner: which address has this name? No two of an agent are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MdnsQuery(u32);

impl fmt::Display for MdnsQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A candidate of the peer whose address the owner is to find.
#[derive(Debug)]
struct Pending {
    query: MdnsQuery,
    candidate: Box<Candidate>,
    expires: Instant,
}

/// The names that wait for their addresses, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pending: Vec<Pending>,
    /// In this generation.
    asked: usize,
    next: u32,
    drawn: u64,
}

/// What became of a name of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The owner is to be asked.
    New(MdnsQuery),
    /// It waits already.
    Known,
    /// Too many wait, or were asked for.
    Refused,
}

impl Names {
    /// How many names were drawn, this one included.
    pub(crate) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Lets `candidate`, which is known by name only, wait. At most `names_max` are asked for in a generation:
    /// every one is a multicast to everybody on the link.
    pub(crate) fn ask(&mut self, now: Instant, candidate: Candidate, names_max: usize) -> Asked {
        if self.pending.iter().any(|pending| pending.candidate.is_namesake_of(&candidate)) {
            return Asked::Known;
        }
        if self.pending.len() >= MDNS_QUERIES_MAX || self.asked >= names_max {
            return Asked::Refused;
        }
        let query = MdnsQuery(self.next);
        self.next = self.next.wrapping_add(1);
        self.asked += 1;
        self.pending.reserve_exact(1);
        self.pending.push(Pending { query, candidate: Box::new(candidate), expires: now + MDNS_TIMEOUT });
        Asked::New(query)
    }

    /// The candidate that waits for the answer to `query`.
    pub(crate) fn take(&mut self, query: MdnsQuery) -> Option<Candidate> {
        let place = self.pending.iter().position(|pending| pending.query == query)?;
        Some(*self.pending.remove(place).candidate)
    }

    /// Gives up what has waited too long; returns how many that were.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.expires > now);
        before - self.pending.len()
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.expires).min()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (MdnsQuery, MdnsName)> {
        self.pending.iter().filter_map(|pending| Some((pending.query, *pending.candidate.mdns_name()?)))
    }

    /// Forgets candidates that name another fragment than `ufrag`.
    pub(crate) fn remove_other_generations(&mut self, ufrag: &str) {
        self.pending.retain(|pending| pending.candidate.ufrag.as_deref().is_none_or(|named| named == ufrag));
    }

    /// A new generation, or the end.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.asked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn a_drawn_name_is_a_random_uuid() {
        let mut rng = Rng::from_u64(1);
        for _ in 0..100 {
            let name = MdnsName::draw(&mut rng).to_string();
            let uuid = name.strip_suffix(".local").unwrap();
            let groups: Vec<_> = uuid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{name}");
            assert!(uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{name}");
            assert!(&uuid[14..15] == "4" && "89ab".contains(&uuid[19..20]), "version 4, variant 10: {name}");
        }
        assert_ne!(MdnsName::draw(&mut rng), MdnsName::draw(&mut rng));
    }

    #[test]
    fn a_name_is_one_label_and_local_in_either_case() {
        let name: MdnsName = "F3A1-b.LOCAL".parse().unwrap();
        assert_eq!((name.label(), name.to_string().as_str()), ("f3a1-b", "f3a1-b.local"));
        let longest = format!("{}.local", "a".repeat(63));
        assert_eq!(longest.parse::<MdnsName>().unwrap().to_string(), longest);
        let too_long = format!("{}.local", "a".repeat(64));
        for bad in
            ["", ".local", "local", "a.b.local", "a.local.", "a.example", "-a.local", "a-.local", "ä.local"]
                .into_iter()
                .chain(["a_b.local", "ä", "aälocal", &too_long])
        {
            assert_eq!(bad.parse::<MdnsName>(), Err(CandidateError::UnresolvedName(bad.into())), "{bad:?}");
        }
    }
}
