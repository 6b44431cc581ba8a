//! The attributes of RFC 8489.

use core::net::SocketAddr;

use gimlet_wire::Reader;

use super::Message;
use crate::error_code::{ErrorCode, valid_prefix};
use crate::key::PasswordAlgorithm;
use crate::{address, attribute};

impl<'a> Message<'a> {
    /// USERNAME (§14.3).
    pub fn username(&self) -> Option<&'a [u8]> {
        self.value(attribute::USERNAME)
    }

    /// USERHASH (§14.4): made by [`userhash`](crate::userhash).
    pub fn userhash(&self) -> Option<&'a [u8; 32]> {
        self.value(attribute::USERHASH)?.try_into().ok()
    }

    /// REALM (§14.9).
    pub fn realm(&self) -> Option<&'a [u8]> {
        self.value(attribute::REALM)
    }

    /// NONCE (§14.10).
    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.value(attribute::NONCE)
    }

    /// PASSWORD-ALGORITHMS as it stands, to be echoed byte for byte (§9.2.4, §14.11).
    pub fn password_algorithms(&self) -> Option<&'a [u8]> {
        self.value(attribute::PASSWORD_ALGORITHMS)
    }

    /// The algorithms of PASSWORD-ALGORITHMS that we know, most preferred first (§14.11).
    pub fn offered_algorithms(&self) -> impl Iterator<Item = PasswordAlgorithm> + use<'a> {
        PasswordAlgorithm::offered_in(self.password_algorithms().unwrap_or_default())
    }

    /// PASSWORD-ALGORITHM (§14.12); `None` too if it names one that we do not know.
    pub fn password_algorithm(&self) -> Option<PasswordAlgorithm> {
        let number = read_algorithm(&mut Reader::new(self.value(attribute::PASSWORD_ALGORITHM)?))?;
        PasswordAlgorithm::from_number(number)
    }

    /// XOR-MAPPED-ADDRESS (§14.2): where the request came from, as the server saw it. Falls back to
    /// [`Message::mapped_address`], which servers older than RFC 5389 send.
    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        match self.value(attribute::XOR_MAPPED_ADDRESS) {
            Some(value) => address::read_xored(value, &self.transaction_id()),
            None => self.mapped_address(),
        }
    }

    /// MAPPED-ADDRESS (§14.1).
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        address::read(self.value(attribute::MAPPED_ADDRESS)?)
    }

    /// ERROR-CODE (§14.8); `None` too if it is out of range.
    pub fn error_code(&self) -> Option<ErrorCode<'a>> {
        ErrorCode::read(self.value(attribute::ERROR_CODE)?)
    }

    /// The types that UNKNOWN-ATTRIBUTES lists (§14.13).
    pub fn unknown_attributes(&self) -> impl Iterator<Item = u16> + use<'a> {
        let mut reader = Reader::new(self.value(attribute::UNKNOWN_ATTRIBUTES).unwrap_or_default());
        core::iter::from_fn(move || reader.u16())
    }

    /// SOFTWARE (§14.14), as much of it as is UTF-8: for people only.
    pub fn software(&self) -> Option<&'a str> {
        self.value(attribute::SOFTWARE).map(valid_prefix)
    }

    /// ALTERNATE-SERVER (§14.15).
    pub fn alternate_server(&self) -> Option<SocketAddr> {
        address::read(self.value(attribute::ALTERNATE_SERVER)?)
    }

    /// ALTERNATE-DOMAIN (§14.16).
    pub fn alternate_domain(&self) -> Option<&'a str> {
        core::str::from_utf8(self.value(attribute::ALTERNATE_DOMAIN)?).ok()
    }
}

/// The number of one entry: number, length of its parameters, parameters, padding. The reserved
/// number 0 stands for an algorithm with parameters, because the two that we know have none
/// (RFC 8489 §18.5).
impl PasswordAlgorithm {
    /// The algorithms that we know in the value of a PASSWORD-ALGORITHMS attribute, most preferred first
    /// (§14.11).
    pub fn offered_in(value: &[u8]) -> impl Iterator<Item = PasswordAlgorithm> {
        let mut reader = Reader::new(value);
        core::iter::from_fn(move || read_algorithm(&mut reader)).filter_map(PasswordAlgorithm::from_number)
    }
}

fn read_algorithm(reader: &mut Reader<'_>) -> Option<u16> {
    let number = reader.u16()?;
    let parameters = usize::from(reader.u16()?);
    reader.skip(parameters.next_multiple_of(4))?;
    Some(if parameters == 0 { number } else { 0 })
}
