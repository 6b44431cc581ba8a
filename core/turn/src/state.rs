//! Every legal transition of the three graphs of a client and of the one of a server. Nothing outside
//! this file decides what may follow what.
//!
//! ```text
//! allocation  Idle ──ask──► Allocating ──grant──► Allocated ──refresh──► Refreshing
//!                            ▲  ▲  │  │             │  ▲                   │  │
//!                            │  │  │  │             │  └─────confirm───────┘  │
//!                            │  │  │  └──clear──► Clearing                    │
//!                            │  │  └──back off──► Waiting                     │
//!                            │  └─────ask───────────┘        lose: Idle ◄─────┤
//!                            └──reconnect── Moving ◄──redirect── Allocating   │
//!                                         Released ◄──end── Deleting ◄─delete─┘
//!
//! permission  Wanted ──ask──► Requested ──grant──► Installed ⇄ Refreshing      any ──reset──► Wanted
//!
//! channel     Wanted ──ask──► Requested ──grant──► Bound ⇄ Refreshing ──release──► Cooling ──want──► Wanted
//!
//! server      Opening ──open──► Active ──close──► Closed
//! ```

use core::fmt;

/// Where the client's allocation stands (RFC 8656 §7–8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllocationState {
    /// Nothing is asked for.
    Idle,
    /// Awaits the answer to Allocate.
    Allocating,
    /// Awaits the end of an allocation that the server holds for our flow and we know nothing of.
    Clearing,
    /// Awaits the moment to ask a busy server again.
    Waiting,
    /// Awaits a connection to another server, which the owner makes.
    Moving,
    /// Holds relayed addresses.
    Allocated,
    /// Holds relayed addresses, and awaits the answer to Refresh.
    Refreshing,
    /// Awaits the answer to the Refresh that ends the allocation.
    Deleting,
    /// The owner ended it.
    Released,
    /// The server does not want us, or is not there.
    Failed,
}

/// What may happen to an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllocationStep {
    /// Allocate is sent.
    Ask,
    /// Allocate succeeded.
    Grant,
    /// 437: the server holds another allocation for this flow.
    Clear,
    /// 486 or 508: the server is full.
    BackOff,
    /// 300, and a connection has to be made first.
    Redirect,
    /// Refresh is sent.
    Refresh,
    /// Refresh succeeded.
    Confirm,
    /// 437, or the lifetime ran out: the server knows nothing of us.
    Lose,
    /// The owner wants no more.
    Delete,
    /// Nothing is left at the server.
    End,
    /// There is no way on.
    Fail,
}

impl AllocationState {
    /// All states, in the order of an allocation's usual life.
    pub const ALL: [AllocationState; 10] = [
        AllocationState::Idle,
        AllocationState::Allocating,
        AllocationState::Clearing,
        AllocationState::Waiting,
        AllocationState::Moving,
        AllocationState::Allocated,
        AllocationState::Refreshing,
        AllocationState::Deleting,
        AllocationState::Released,
        AllocationState::Failed,
    ];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: AllocationStep) -> Option<Self> {
        use AllocationState::{
            Allocated, Allocating, Clearing, Deleting, Failed, Idle, Moving, Refreshing, Released, Waiting,
        };
        match step {
            AllocationStep::Ask => match self {
                Idle | Clearing | Waiting | Moving | Released | Failed | Allocating => Some(Allocating),
                Allocated | Refreshing | Deleting => None,
            },
            AllocationStep::Grant => match self {
                Allocating => Some(Allocated),
                Idle | Clearing | Waiting | Moving | Allocated | Refreshing | Deleting | Released
                | Failed => None,
            },
            AllocationStep::Clear => match self {
                Allocating => Some(Clearing),
                Idle | Clearing | Waiting | Moving | Allocated | Refreshing | Deleting | Released
                | Failed => None,
            },
            AllocationStep::BackOff => match self {
                Allocating => Some(Waiting),
                Idle | Clearing | Waiting | Moving | Allocated | Refreshing | Deleting | Released
                | Failed => None,
            },
            AllocationStep::Redirect => match self {
                Allocating => Some(Moving),
                Idle | Clearing | Waiting | Moving | Allocated | Refreshing | Deleting | Released
                | Failed => None,
            },
            AllocationStep::Refresh => match self {
                Allocated => Some(Refreshing),
                Idle | Allocating | Clearing | Waiting | Moving | Refreshing | Deleting | Released
                | Failed => None,
            },
            AllocationStep::Confirm => match self {
                Refreshing => Some(Allocated),
                Idle | Allocating | Clearing | Waiting | Moving | Allocated | Deleting | Released
                | Failed => None,
            },
            AllocationStep::Lose => match self {
                Allocated | Refreshing => Some(Idle),
                Idle | Allocating | Clearing | Waiting | Moving | Deleting | Released | Failed => None,
            },
            AllocationStep::Delete => match self {
                Allocated | Refreshing => Some(Deleting),
                Idle | Allocating | Clearing | Waiting | Moving | Deleting | Released | Failed => None,
            },
            AllocationStep::End => match self {
                Idle | Allocating | Clearing | Waiting | Moving | Deleting | Failed => Some(Released),
                Allocated | Refreshing | Released => None,
            },
            AllocationStep::Fail => match self {
                Allocating | Clearing | Waiting | Moving | Allocated | Refreshing => Some(Failed),
                Idle | Deleting | Released | Failed => None,
            },
        }
    }

    /// Whether the server relays for us.
    pub const fn is_allocated(self) -> bool {
        match self {
            AllocationState::Allocated | AllocationState::Refreshing => true,
            AllocationState::Idle
            | AllocationState::Allocating
            | AllocationState::Clearing
            | AllocationState::Waiting
            | AllocationState::Moving
            | AllocationState::Deleting
            | AllocationState::Released
            | AllocationState::Failed => false,
        }
    }

    /// Whether an allocation is being asked for.
    pub const fn is_pending(self) -> bool {
        match self {
            AllocationState::Allocating
            | AllocationState::Clearing
            | AllocationState::Waiting
            | AllocationState::Moving => true,
            AllocationState::Idle
            | AllocationState::Allocated
            | AllocationState::Refreshing
            | AllocationState::Deleting
            | AllocationState::Released
            | AllocationState::Failed => false,
        }
    }
}

impl fmt::Display for AllocationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AllocationState::Idle => "idle",
            AllocationState::Allocating => "allocating",
            AllocationState::Clearing => "clearing",
            AllocationState::Waiting => "waiting",
            AllocationState::Moving => "moving",
            AllocationState::Allocated => "allocated",
            AllocationState::Refreshing => "refreshing",
            AllocationState::Deleting => "deleting",
            AllocationState::Released => "released",
            AllocationState::Failed => "failed",
        })
    }
}

/// Where a permission stands (RFC 8656 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PermissionState {
    /// Awaits an allocation, or the next CreatePermission.
    Wanted,
    /// Awaits the answer to CreatePermission.
    Requested,
    /// The server lets the peer through.
    Installed,
    /// The server lets the peer through, and we await the answer that prolongs it.
    Refreshing,
}

/// What may happen to a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PermissionStep {
    /// CreatePermission is sent.
    Ask,
    /// CreatePermission, or ChannelBind to the same address, succeeded.
    Grant,
    /// The allocation, or the permission's five minutes, are gone.
    Reset,
}

impl PermissionState {
    /// All states, in the order of a permission's usual life.
    pub const ALL: [PermissionState; 4] = [
        PermissionState::Wanted,
        PermissionState::Requested,
        PermissionState::Installed,
        PermissionState::Refreshing,
    ];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: PermissionStep) -> Option<Self> {
        use PermissionState::{Installed, Refreshing, Requested, Wanted};
        match step {
            PermissionStep::Ask => match self {
                Wanted => Some(Requested),
                Installed => Some(Refreshing),
                Requested | Refreshing => None,
            },
            PermissionStep::Grant => match self {
                Wanted | Requested | Installed | Refreshing => Some(Installed),
            },
            PermissionStep::Reset => match self {
                Wanted | Requested | Installed | Refreshing => Some(Wanted),
            },
        }
    }
}

/// Where a channel stands (RFC 8656 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelState {
    /// Awaits an allocation.
    Wanted,
    /// Awaits the answer to ChannelBind.
    Requested,
    /// Number and peer belong together.
    Bound,
    /// Number and peer belong together, and we await the answer that prolongs it.
    Refreshing,
    /// Awaits the moment at which the number may name another peer (RFC 8656 §12: five minutes after
    /// the binding ended).
    Cooling,
}

/// What may happen to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelStep {
    /// The owner wants the same couple again, which is allowed at any time.
    Want,
    /// ChannelBind is sent.
    Ask,
    /// ChannelBind succeeded.
    Grant,
    /// The binding ended: the owner let go, it was refused, or its ten minutes are over.
    Release,
    /// The allocation is gone.
    Reset,
}

impl ChannelState {
    /// All states, in the order of a channel's usual life.
    pub const ALL: [ChannelState; 5] = [
        ChannelState::Wanted,
        ChannelState::Requested,
        ChannelState::Bound,
        ChannelState::Refreshing,
        ChannelState::Cooling,
    ];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: ChannelStep) -> Option<Self> {
        use ChannelState::{Bound, Cooling, Refreshing, Requested, Wanted};
        match step {
            ChannelStep::Want => match self {
                Cooling => Some(Wanted),
                Wanted | Requested | Bound | Refreshing => None,
            },
            ChannelStep::Ask => match self {
                Wanted => Some(Requested),
                Bound => Some(Refreshing),
                Requested | Refreshing | Cooling => None,
            },
            ChannelStep::Grant => match self {
                Requested | Refreshing => Some(Bound),
                Wanted | Bound | Cooling => None,
            },
            ChannelStep::Release => match self {
                Wanted | Requested | Bound | Refreshing => Some(Cooling),
                Cooling => None,
            },
            ChannelStep::Reset => match self {
                Wanted | Requested | Bound | Refreshing => Some(Wanted),
                Cooling => None,
            },
        }
    }

    /// Whether ChannelData may be sent on it.
    pub const fn is_bound(self) -> bool {
        match self {
            ChannelState::Bound | ChannelState::Refreshing => true,
            ChannelState::Wanted | ChannelState::Requested | ChannelState::Cooling => false,
        }
    }
}

/// Where an allocation of a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ServedState {
    /// Awaits the sockets that the owner was asked for.
    Opening,
    /// Relays.
    Active,
    /// Awaits nothing.
    Closed,
}

/// What may happen to an allocation of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServedStep {
    /// At least one socket is there, and no more are to come.
    Open,
    /// No socket came, the lifetime is over, or the client wants no more.
    Close,
}

impl ServedState {
    #[cfg(test)]
    const ALL: [ServedState; 3] = [ServedState::Opening, ServedState::Active, ServedState::Closed];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: ServedStep) -> Option<Self> {
        use ServedState::{Active, Closed, Opening};
        match step {
            ServedStep::Open => match self {
                Opening => Some(Active),
                Active | Closed => None,
            },
            ServedStep::Close => match self {
                Opening | Active => Some(Closed),
                Closed => None,
            },
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
