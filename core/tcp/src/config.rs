//! What an owner decides before anything moves.

use alloc::vec::Vec;
use core::time::Duration;

use crate::destination::WARM_FOR;
use crate::{ALLOWED_MAX, Allow, Block, ConfigError, Rate, Secret};

/// Established flows: a slot each, at 64 bytes, in a table that is at most half full. A SYN beyond them passes
/// untouched.
pub const FLOWS_MAX: usize = 1 << 22;
/// Handshakes under way. A SYN beyond them passes untouched.
pub const HALF_OPEN_MAX: usize = 1 << 16;
/// Early data that a client may send, in bytes: what its SYN-ACK promises at most. What is beyond it is
/// dropped, and sent again by the client.
pub const EARLY_DATA_MAX: u16 = 16_384;
/// The promise when half of the pool is used.
pub const EARLY_DATA_UNDER_PRESSURE: u16 = 4_096;
/// Early data of all clients together, in bytes. At three quarters of it, SYNs pass untouched.
pub const POOL_MAX: usize = 64 << 20;

/// What a translator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Next to clients: answers their SYNs. Another box, [`Role::Far`], does the rest.
    Near,
    /// Next to servers: holds what comes before the server has answered, and translates.
    Far,
    /// Both in one place. It saves the time between the client and itself, or between itself and the
    /// server, whichever is less: next to either, that is nothing.
    Single,
    /// Next to clients, for servers that speak Fast Open (RFC 7413): what a client says first goes along
    /// with its SYN.
    TfoUpgrade,
}

impl Role {
    /// Whether SYNs are answered.
    pub const fn spoofs(self) -> bool {
        match self {
            Role::Near | Role::Single | Role::TfoUpgrade => true,
            Role::Far => false,
        }
    }
}

/// What becomes of segments of flows that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// They pass. After a restart without the table, translated connections hang until their programs lose
    /// patience.
    #[default]
    Pass,
    /// For [`RESET_FOR`] after the start both ends are sent a RST, if the destination is allowed. Connections
    /// that were never translated are lost as well.
    Reset,
}

/// How long [`Unknown::Reset`] resets.
pub const RESET_FOR: Duration = Duration::from_secs(60);

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows, up to [`FLOWS_MAX`].
    pub flows: usize,
    /// Handshakes under way, up to [`HALF_OPEN_MAX`].
    pub half_open: usize,
    /// Early data per client, in bytes, up to [`EARLY_DATA_MAX`]. With 0 nothing is early.
    pub early_data: u16,
    /// Early data of all, in bytes, up to [`POOL_MAX`].
    pub pool: usize,
    /// SYNs per source network.
    pub rate: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 1 << 16,
            half_open: HALF_OPEN_MAX,
            early_data: EARLY_DATA_MAX,
            pool: POOL_MAX,
            rate: Rate::default(),
        }
    }
}

/// What an owner decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the translator does.
    pub role: Role,
    /// Shared by the two boxes of a pair; the others make one of their own.
    pub secret: Option<Secret>,
    /// Destinations that may be answered for.
    pub allowed: Vec<Allow>,
    /// Clients that are answered; all if it is empty.
    pub clients: Vec<Block>,
    /// How long a destination that answered is believed to be there. The first SYN to any other
    /// passes, and its answer is learned.
    pub warm_for: Duration,
    /// What becomes of segments of unknown flows.
    pub unknown: Unknown,
    /// How much of everything.
    pub limits: Limits,
}

impl Config {
    /// For `role`, with no destinations.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            secret: None,
            allowed: Vec::new(),
            clients: Vec::new(),
            warm_for: WARM_FOR,
            unknown: Unknown::Pass,
            limits: Limits::default(),
        }
    }

    /// Complains about what cannot be.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        match self.role {
            Role::Near | Role::Far if self.secret.is_none() => return Err(ConfigError::NoSecret),
            Role::Near | Role::Far | Role::Single | Role::TfoUpgrade => {}
        }
        if self.allowed.is_empty() {
            return Err(ConfigError::NothingAllowed);
        }
        if self.allowed.len() > ALLOWED_MAX {
            return Err(ConfigError::TooManyAllowed);
        }
        if !(1..=FLOWS_MAX).contains(&limits.flows) {
            return Err(ConfigError::Flows(limits.flows));
        }
        if !(1..=HALF_OPEN_MAX).contains(&limits.half_open) {
            return Err(ConfigError::HalfOpen(limits.half_open));
        }
        Ok(())
    }
}
