//! STUN (RFC 8489): the message format that finds out one's address as others see it.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod address;
pub mod attribute;
mod error;
pub mod error_code;
mod fingerprint;
mod header;
mod hmac;
mod key;
mod message;
mod state;
mod writer;

pub use address::AddressFamily;
pub use attribute::Attribute;
pub use error::{IntegrityError, ParseError};
pub use error_code::ErrorCode;
pub use header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, is_stun};
pub use key::{IntegrityAlgorithm, Key, PasswordAlgorithm, userhash};
pub use message::{ATTRIBUTES_MAX, ChangeRequest, Icmp, Message};
pub use state::{Due, RC_DEFAULT, RM_DEFAULT, RTO_DEFAULT, RTO_MIN, Retransmission, TI_DEFAULT};
pub use writer::{MessageWriter, Sealed, TEXT_MAX};
