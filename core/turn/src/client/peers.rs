//! Whom the server lets through: permissions for addresses, channels for address and port.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::Instant;

use crate::state::{ChannelState, ChannelStep, PermissionState, PermissionStep};

/// The most permissions; one more is refused with [`PeerError::TooMany`](crate::PeerError::TooMany).
pub const PERMISSIONS_MAX: usize = 32;

/// The most channels, those that cool down included; one more is refused with
/// [`PeerError::TooMany`](crate::PeerError::TooMany).
pub const CHANNELS_MAX: usize = 32;

/// How long the server lets a peer through after CreatePermission (RFC 8656 §9).
pub const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// When a permission is asked for again: a whole ladder of retransmissions before it ends.
pub const PERMISSION_REFRESH: Duration = Duration::from_secs(240);

/// How long a number and a peer belong together after ChannelBind (RFC 8656 §12).
pub const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// When a channel is bound again: a whole ladder of retransmissions before it ends.
pub const CHANNEL_REFRESH: Duration = Duration::from_secs(540);

/// How long after the end of a binding neither its number nor its peer may be bound differently
/// (RFC 8656 §12).
pub const CHANNEL_COOL_DOWN: Duration = Duration::from_secs(300);

/// Permissions that end this soon join a CreatePermission that is sent anyway.
const BATCH_SLACK: Duration = Duration::from_secs(30);

/// The numbers that a client may pick (RFC 8656 §12).
const NUMBERS: core::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Permission {
    pub(crate) peer: IpAddr,
    pub(crate) state: PermissionState,
    /// When the server last agreed. Means something in Installed and Refreshing.
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    pub(crate) peer: SocketAddr,
    pub(crate) state: ChannelState,
    /// When the binding ends at the server unless it is prolonged; `None`: there is none.
    ends: Option<Instant>,
}

impl Channel {
    fn refresh_at(&self) -> Option<Instant> {
        self.ends.map(|ends| ends - CHANNEL_LIFETIME + CHANNEL_REFRESH)
    }

    /// Whether it is, or is to be, bound.
    pub(crate) const fn is_usable(&self) -> bool {
        match self.state {
            ChannelState::Requested | ChannelState::Bound | ChannelState::Refreshing => true,
            ChannelState::Wanted | ChannelState::Cooling => false,
        }
    }

    /// Whether the server may send on it. On a channel that was let go it does until the binding ends, for
    /// nothing can tell it not to (RFC 8656 §12), and what comes there comes nowhere else.
    pub(crate) fn may_carry(&self, now: Instant) -> bool {
        self.is_usable() || self.ends.is_some_and(|ends| ends > now)
    }
}

/// Every peer of one allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    /// How many numbers have been given out: the next one to try.
    numbered: u16,
}

impl Peers {
    pub(crate) fn permission(&self, peer: IpAddr) -> Option<&Permission> {
        self.permissions.iter().find(|permission| permission.peer == peer)
    }

    pub(crate) fn channel_to(&self, peer: SocketAddr) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.peer == peer)
    }

    pub(crate) fn channel(&self, number: u16) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.number == number)
    }

    /// The number of a channel that carries data to `peer` at `now`.
    pub(crate) fn bound(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let channel = self.channel_to(peer).filter(|channel| channel.state.is_bound())?;
        channel.ends.is_some_and(|ends| ends > now).then_some(channel.number)
    }

    /// Whether the server was asked to let `peer` through, and has not let it go since.
    pub(crate) fn is_permitted(&self, now: Instant, peer: IpAddr) -> bool {
        self.permission(peer).is_some_and(|permission| match permission.state {
            PermissionState::Wanted | PermissionState::Requested => true,
            PermissionState::Installed | PermissionState::Refreshing => {
                permission.since + PERMISSION_LIFETIME > now
            }
        })
    }

    /// Wants `peer` let through. False: too many.
    pub(crate) fn permit(&mut self, peer: IpAddr) -> bool {
        if self.permission(peer).is_some() {
            return true;
        }
        let fits = self.permissions.len() < PERMISSIONS_MAX;
        if fits {
            let state = PermissionState::Wanted;
            self.permissions.push(Permission { peer, state, since: Instant::ZERO });
        }
        fits
    }

    /// The server does not let `peer` through.
    pub(crate) fn refused(&mut self, peer: IpAddr) {
        self.permissions.retain(|permission| permission.peer != peer);
    }

    pub(crate) fn forbid(&mut self, now: Instant, peer: IpAddr) {
        self.refused(peer);
        let its = self.channels.iter().filter(|channel| channel.peer.ip() == peer);
        let numbers: Vec<u16> = its.map(|channel| channel.number).collect();
        for number in numbers {
            self.release(now, number);
        }
    }

    /// Wants a number for `peer`: the one it has or had, or a fresh one. `None`: too many.
    pub(crate) fn bind(&mut self, peer: SocketAddr) -> Option<u16> {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.peer == peer) {
            // The couple stays what it was, so nothing has to cool down (RFC 8656 §12).
            channel.state = channel.state.after(ChannelStep::Want).unwrap_or(channel.state);
            return Some(channel.number);
        }
        if self.channels.len() >= CHANNELS_MAX {
            return None;
        }
        let span = NUMBERS.end() - NUMBERS.start() + 1;
        let mut tried = (0..span).map(|step| NUMBERS.start() + (self.numbered + step) % span);
        let number = tried.find(|number| self.channel(*number).is_none())?;
        self.numbered = (number - NUMBERS.start() + 1) % span;
        let state = ChannelState::Wanted;
        self.channels.push(Channel { number, peer, state, ends: None });
        Some(number)
    }

    /// Lets a channel go; its number rests as long as it has to.
    pub(crate) fn release(&mut self, now: Instant, number: u16) {
        let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == number) else { return };
        match channel.state {
            // A request that is under way may bind it as late as at this moment.
            ChannelState::Requested | ChannelState::Refreshing => channel.ends = Some(now + CHANNEL_LIFETIME),
            ChannelState::Wanted | ChannelState::Bound | ChannelState::Cooling => {}
        }
        channel.state = channel.state.after(ChannelStep::Release).unwrap_or(channel.state);
        // What the server never heard of need not rest.
        self.channels.retain(|channel| channel.number != number || channel.ends.is_some());
    }

    /// The server agreed to let `peer` through. True if it did not before.
    pub(crate) fn permitted(&mut self, now: Instant, peer: IpAddr) -> bool {
        let Some(permission) = self.permissions.iter_mut().find(|permission| permission.peer == peer) else {
            return false;
        };
        let was = permission.state;
        if let Some(state) = was.after(PermissionStep::Grant) {
            (permission.state, permission.since) = (state, now);
        }
        matches!(was, PermissionState::Wanted | PermissionState::Requested)
    }

    /// The server agreed to a number. `Some(peer)` if it had not before.
    pub(crate) fn bound_now(&mut self, now: Instant, number: u16) -> Option<SocketAddr> {
        let channel = self.channels.iter_mut().find(|channel| channel.number == number)?;
        let was = channel.state;
        let state = was.after(ChannelStep::Grant)?;
        (channel.state, channel.ends) = (state, Some(now + CHANNEL_LIFETIME));
        (was == ChannelState::Requested).then_some(channel.peer)
    }

    /// The allocation is gone and everything with it: what is wanted is wanted again.
    pub(crate) fn reset(&mut self) {
        // The next allocation has a table of its own: nothing cools down in it.
        self.channels.retain(|channel| channel.state != ChannelState::Cooling);
        for channel in &mut self.channels {
            channel.state = channel.state.after(ChannelStep::Reset).unwrap_or(ChannelState::Wanted);
            channel.ends = None;
        }
        for permission in &mut self.permissions {
            permission.state =
                permission.state.after(PermissionStep::Reset).unwrap_or(PermissionState::Wanted);
        }
    }

    /// Whether anything waits to be asked for.
    pub(crate) fn is_wanting(&self) -> bool {
        self.permissions.iter().any(|permission| permission.state == PermissionState::Wanted)
            || self.channels.iter().any(|channel| channel.state == ChannelState::Wanted)
    }

    /// Lets time pass: what ended is wanted again or gone.
    pub(crate) fn expire(&mut self, now: Instant) {
        for permission in &mut self.permissions {
            let ended = permission.state == PermissionState::Installed
                && permission.since + PERMISSION_LIFETIME <= now;
            if ended && let Some(state) = permission.state.after(PermissionStep::Reset) {
                permission.state = state;
            }
        }
        self.channels.retain(|channel| {
            channel.state != ChannelState::Cooling
                || channel.ends.is_some_and(|ends| ends + CHANNEL_COOL_DOWN > now)
        });
    }

    /// Takes the addresses for the next CreatePermission, at most `max`: the wanted ones and those
    /// that end soon.
    pub(crate) fn ask_permissions(&mut self, now: Instant, max: usize) -> Vec<IpAddr> {
        let soon = now + BATCH_SLACK;
        let mut asked = Vec::new();
        for permission in &mut self.permissions {
            let due = match permission.state {
                PermissionState::Wanted => true,
                PermissionState::Installed => permission.since + PERMISSION_REFRESH <= soon,
                PermissionState::Requested | PermissionState::Refreshing => false,
            };
            if due
                && asked.len() < max
                && let Some(state) = permission.state.after(PermissionStep::Ask)
            {
                permission.state = state;
                asked.push(permission.peer);
            }
        }
        asked
    }

    /// Takes the number for the next ChannelBind.
    pub(crate) fn ask_channel(&mut self, now: Instant) -> Option<u16> {
        let due = |channel: &&mut Channel| match channel.state {
            ChannelState::Wanted => true,
            ChannelState::Bound => channel.refresh_at().is_some_and(|at| at <= now),
            ChannelState::Requested | ChannelState::Refreshing | ChannelState::Cooling => false,
        };
        let channel = self.channels.iter_mut().find(due)?;
        channel.state = channel.state.after(ChannelStep::Ask)?;
        Some(channel.number)
    }

    /// When time next changes something here.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let permissions = self.permissions.iter().filter_map(|permission| match permission.state {
            PermissionState::Installed => Some(permission.since + PERMISSION_REFRESH),
            PermissionState::Wanted | PermissionState::Requested | PermissionState::Refreshing => None,
        });
        let channels = self.channels.iter().filter_map(|channel| match channel.state {
            ChannelState::Bound => channel.refresh_at(),
            ChannelState::Cooling => channel.ends.map(|ends| ends + CHANNEL_COOL_DOWN),
            ChannelState::Wanted | ChannelState::Requested | ChannelState::Refreshing => None,
        });
        permissions.chain(channels).min()
    }
}
