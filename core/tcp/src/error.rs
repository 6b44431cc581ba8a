//! What can be wrong with a configuration, each with its cause and what to do about it.

use core::fmt;

use crate::{ALLOWED_MAX, FLOWS_MAX, HALF_OPEN_MAX};

/// Why there is no translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Near and Far check each other's numbers with a secret, and there is none.
    NoSecret,
    /// More than [`ALLOWED_MAX`] entries.
    TooManyAllowed,
    /// Nothing is allowed, so nothing would ever be done.
    NothingAllowed,
    /// No flows, or more than [`FLOWS_MAX`].
    Flows(usize),
    /// No half-open flows, or more than [`HALF_OPEN_MAX`].
    HalfOpen(usize),
    /// The lent slots are fewer than [`slots_for`](crate::slots_for) the flows.
    Slots(usize),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NoSecret => {
                f.write_str("two boxes need a shared secret: give both the same 16 random bytes")
            }
            ConfigError::TooManyAllowed => {
                write!(f, "more than {ALLOWED_MAX} destinations: join blocks and port ranges")
            }
            ConfigError::NothingAllowed => f.write_str(
                "no destination is allowed, and everything would pass: name the servers to speed up",
            ),
            ConfigError::Flows(given) => {
                write!(f, "{given} flows: give a number from 1 to {FLOWS_MAX}")
            }
            ConfigError::HalfOpen(given) => {
                write!(f, "{given} half-open flows: give a number from 1 to {HALF_OPEN_MAX}")
            }
            ConfigError::Slots(given) => {
                write!(f, "{given} slots: lend as many as `slots_for` says")
            }
        }
    }
}

impl core::error::Error for ConfigError {}

/// Why a destination was not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowError {
    /// There are [`ALLOWED_MAX`] entries.
    TooMany,
}

impl fmt::Display for AllowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowError::TooMany => {
                write!(f, "there are {ALLOWED_MAX} entries: start anew with blocks and port ranges joined")
            }
        }
    }
}

impl core::error::Error for AllowError {}
