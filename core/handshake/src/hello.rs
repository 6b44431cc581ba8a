//! The first message each way.

use alloc::string::String;
use alloc::vec::Vec;

use gimlet_wire::{Reader, Writer};

use crate::{Capabilities, HelloError, Role};

/// The newest version that this crate speaks.
pub const VERSION: u16 = 1;

/// The oldest version that this crate still speaks.
pub const VERSION_OLDEST: u16 = 1;

/// The longest hello that is read, later versions' additions included. Bytes; a longer one is refused.
pub const HELLO_MAX: usize = 512;

/// The longest agent string. Bytes of UTF-8; a longer one is refused, in sending and in receiving.
pub const AGENT_MAX: usize = 64;

/// The first four bytes: whoever speaks something else is told so, and not that its version is odd.
const MAGIC: [u8; 4] = *b"GMLT";

/// What a node says of itself when a connection opens.
///
/// On the wire, integers big endian: the magic `GMLT`, newest and oldest version (16 bits each), role
/// (8), capabilities (64), agent length (8), agent. What follows belongs to later versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    newest: u16,
    oldest: u16,
    role: Role,
    capabilities: Capabilities,
    agent: String,
}

impl Hello {
    /// A hello of this crate's versions. `agent` names the software for people, at most
    /// [`AGENT_MAX`] bytes without control characters: `gimlet/0.1`.
    pub fn new(role: Role, capabilities: Capabilities, agent: &str) -> Result<Hello, HelloError> {
        let agent = legible(agent.as_bytes())?.into();
        Ok(Hello { newest: VERSION, oldest: VERSION_OLDEST, role, capabilities, agent })
    }

    /// The same hello, for versions `oldest..=newest` instead: to speak less than this crate can.
    pub fn with_versions(self, oldest: u16, newest: u16) -> Result<Hello, HelloError> {
        if oldest > newest {
            return Err(HelloError::Versions { oldest, newest });
        }
        Ok(Hello { newest, oldest, ..self })
    }

    /// Reads a hello; bytes after the fields known here are a later version's and are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Hello, HelloError> {
        if bytes.len() > HELLO_MAX {
            return Err(HelloError::TooLong { length: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let magic = reader.array().ok_or(HelloError::Truncated)?;
        if *magic != MAGIC {
            return Err(HelloError::NotAHello);
        }
        Self::parse_fields(&mut reader).unwrap_or(Err(HelloError::Truncated))
    }

    /// `None`: ended early.
    fn parse_fields(reader: &mut Reader<'_>) -> Option<Result<Hello, HelloError>> {
        let (newest, oldest) = (reader.u16()?, reader.u16()?);
        let role = Role::from_wire(reader.u8()?);
        let capabilities = Capabilities::from_bits(reader.u64()?);
        let length = reader.u8()?;
        let agent = reader.bytes(usize::from(length))?;
        Some(legible(agent).and_then(|agent| {
            Hello { newest, oldest, role, capabilities, agent: agent.into() }.with_versions(oldest, newest)
        }))
    }

    /// Appends the hello to `out`: at most [`HELLO_MAX`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.bytes(&MAGIC);
        writer.u16(self.newest);
        writer.u16(self.oldest);
        writer.u8(self.role.to_wire());
        writer.u64(self.capabilities.bits());
        debug_assert!(self.agent.len() <= AGENT_MAX, "checked where a hello is made");
        writer.u8(self.agent.len() as u8);
        writer.bytes(self.agent.as_bytes());
    }

    /// The newest version spoken.
    pub const fn version(&self) -> u16 {
        self.newest
    }

    /// The oldest version spoken.
    pub const fn oldest(&self) -> u16 {
        self.oldest
    }

    /// What the node is to others.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What the node can do.
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The software's name, safe to print: short, UTF-8, no control characters. Not to be believed.
    pub fn agent(&self) -> &str {
        &self.agent
    }
}

/// An agent string that cannot harm a log or a terminal.
fn legible(agent: &[u8]) -> Result<&str, HelloError> {
    if agent.len() > AGENT_MAX {
        return Err(HelloError::AgentTooLong { length: agent.len() });
    }
    let text = core::str::from_utf8(agent).map_err(|_| HelloError::AgentIllegible)?;
    if text.chars().any(char::is_control) { Err(HelloError::AgentIllegible) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn wire(hello: &Hello) -> Vec<u8> {
        let mut out = Vec::new();
        hello.write(&mut out);
        out
    }

    fn example() -> Hello {
        Hello::new(Role::Public, Capabilities::STUN, "gimlet/0.1").unwrap()
    }

    #[test]
    fn the_layout_is_this_one() {
        let expected = b"GMLT\x00\x01\x00\x01\x01\0\0\0\0\0\0\0\x08\x0agimlet/0.1";
        assert_eq!(wire(&example()), expected);
    }

    #[test]
    fn what_a_later_version_appends_is_ignored() {
        let mut bytes = wire(&example());
        bytes.extend_from_slice(b"fields of version 2");
        assert_eq!(Hello::parse(&bytes), Ok(example()));
    }

    #[test]
    fn every_truncation_is_named_so() {
        let bytes = wire(&example());
        for cut in 0..bytes.len() {
            assert_eq!(Hello::parse(&bytes[..cut]), Err(HelloError::Truncated), "cut at {cut}");
        }
    }

    #[test]
    fn each_lie_has_its_own_error() {
        let bytes = wire(&example());
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            Hello::parse(&bytes)
        };
        assert_eq!(with(0, b'g'), Err(HelloError::NotAHello));
        assert_eq!(with(7, 2), Err(HelloError::Versions { oldest: 2, newest: 1 }));
        assert_eq!(with(17, 11), Err(HelloError::Truncated));
        assert_eq!(with(18, 0xff), Err(HelloError::AgentIllegible));
        assert_eq!(with(18, 0x1b), Err(HelloError::AgentIllegible));
        let mut long = bytes.clone();
        long.resize(HELLO_MAX + 1, 0);
        assert_eq!(Hello::parse(&long), Err(HelloError::TooLong { length: HELLO_MAX + 1 }));
        assert!(Hello::parse(&long[..HELLO_MAX]).is_ok());
        let mut agent = bytes[..17].to_vec();
        agent.push(65);
        agent.extend(vec![b'a'; 65]);
        assert_eq!(Hello::parse(&agent), Err(HelloError::AgentTooLong { length: 65 }));
    }

    proptest! {
        #[test]
        fn a_hello_survives_the_wire(
            versions in any::<(u16, u16)>(),
            role in any::<u8>(),
            bits in any::<u64>(),
            agent in "[^\\p{Cc}]{0,16}",
        ) {
            let (oldest, newest) = (versions.0.min(versions.1), versions.0.max(versions.1));
            let hello = Hello::new(Role::from_wire(role), Capabilities::from_bits(bits), &agent);
            let hello = hello.and_then(|hello| hello.with_versions(oldest, newest)).unwrap();
            prop_assert_eq!(Hello::parse(&wire(&hello)), Ok(hello));
        }

        #[test]
        fn what_was_read_is_written_back_as_it_was(bytes in any::<Vec<u8>>()) {
            let bytes = [&MAGIC[..], &bytes].concat();
            if let Ok(hello) = Hello::parse(&bytes) {
                prop_assert!(bytes.starts_with(&wire(&hello)));
            }
        }
    }
}
