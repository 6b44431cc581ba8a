//! What authentic requests get (RFC 8656 §7.2, §8.2, §10.2, §12.2). `Err` is the error code to refuse
//! with.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::{FourTuple, Instant};
use gimlet_stun::{AddressFamily, Message, attribute, error_code};

use super::allocation::{Allocation, Leg};
use super::gate::Signer;
use super::meter::Meter;
use super::{AllocationId, EVENTS_EACH, OPEN_WAIT, RelayId, Server};
use crate::event::ServerEvent;
use crate::state::{ServedState, ServedStep};
use crate::timer::Expiry;

/// The lifetime of an allocation unless the client asks for more (RFC 8656 §3.2).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(600);

/// UDP (RFC 8656 §18.8).
const UDP: u8 = 17;

/// The numbers that a channel may have (RFC 8656 §12).
const NUMBERS: core::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// What a request came to: nothing more to say, or the code to refuse it with.
pub(super) type Granted = Result<(), u16>;

impl Server {
    /// RFC 8656 §7.2, in its order.
    pub(super) fn on_allocate(
        &mut self,
        now: Instant,
        path: FourTuple,
        request: &Message<'_>,
        signer: &Signer,
        existing: Option<AllocationId>,
    ) -> Granted {
        if let Some((id, allocation)) = existing.and_then(|id| Some((id, self.allocations.get(id)?))) {
            if allocation.transaction != request.transaction_id() {
                return Err(error_code::ALLOCATION_MISMATCH);
            }
            match allocation.state {
                ServedState::Active => self.grant(id),
                ServedState::Opening | ServedState::Closed => self.counters.repeated += 1,
            }
            return Ok(());
        }
        match request.requested_transport() {
            None => return Err(error_code::BAD_REQUEST),
            Some(UDP) => {}
            Some(_) => return Err(error_code::UNSUPPORTED_TRANSPORT_PROTOCOL),
        }
        let even = even_port(request)?;
        let legs = self.legs(request)?;
        self.admit(path, signer)?;
        let lifetime = self.lifetime(request);
        let expires = now + OPEN_WAIT;
        let transaction = request.transaction_id();
        let mut allocation =
            Allocation::new(path, signer.clone(), transaction, lifetime, expires, legs, even);
        allocation.meter = Meter::new(now, self.config.limits.bytes_per_second_max);
        let id = self.allocations.insert(allocation);
        self.clients.insert(path, id);
        self.timers.set(Expiry(id), expires);
        for (family, leg) in [(AddressFamily::V4, legs.0), (AddressFamily::V6, legs.1)] {
            if leg == Leg::Opening {
                let id = RelayId { allocation: id, family };
                self.tell(ServerEvent::OpenRelay { id, client: path, family, even });
            }
        }
        Ok(())
    }

    /// Which addresses are asked for, and which of them can be.
    fn legs(&self, request: &Message<'_>) -> Result<(Leg, Leg), u16> {
        let requested = request.attribute(attribute::REQUESTED_ADDRESS_FAMILY).is_some();
        let additional = request.attribute(attribute::ADDITIONAL_ADDRESS_FAMILY).is_some();
        let leg = |family| {
            let served = self.config.families.contains(&family);
            if served { Leg::Opening } else { Leg::Refused(error_code::ADDRESS_FAMILY_NOT_SUPPORTED) }
        };
        let legs = match (requested, additional) {
            (true, true) => return Err(error_code::BAD_REQUEST),
            (true, false) => match request.requested_address_family() {
                Some(AddressFamily::V4) => (leg(AddressFamily::V4), Leg::Unwanted),
                Some(AddressFamily::V6) => (Leg::Unwanted, leg(AddressFamily::V6)),
                None => return Err(error_code::ADDRESS_FAMILY_NOT_SUPPORTED),
            },
            // RFC 8656 §7.2: the additional family can only be IPv6.
            (false, true) if request.additional_address_family() != Some(AddressFamily::V6) => {
                return Err(error_code::BAD_REQUEST);
            }
            (false, true) => (leg(AddressFamily::V4), leg(AddressFamily::V6)),
            (false, false) => (leg(AddressFamily::V4), Leg::Unwanted),
        };
        match legs {
            (Leg::Opening, _) | (_, Leg::Opening) => Ok(legs),
            _ => Err(error_code::ADDRESS_FAMILY_NOT_SUPPORTED),
        }
    }

    /// Whether there is one more for this user, from this address.
    fn admit(&self, path: FourTuple, signer: &Signer) -> Granted {
        let limits = &self.config.limits;
        let ip = path.remote.ip().to_canonical();
        let (mut user, mut address) = (0, 0);
        for (_, other) in self.allocations.iter() {
            user += usize::from(other.signer.user() == signer.user());
            address += usize::from(other.client.remote.ip().to_canonical() == ip);
        }
        if user >= limits.per_user_max || address >= limits.per_address_max {
            return Err(error_code::ALLOCATION_QUOTA_REACHED);
        }
        // An owner that does not listen to events gets no more clients.
        let unheard = self.events.len() + EVENTS_EACH * (self.allocations.len() + 1);
        let heard = unheard <= EVENTS_EACH * limits.allocations_max;
        if self.allocations.len() >= limits.allocations_max || !heard {
            return Err(error_code::INSUFFICIENT_CAPACITY);
        }
        Ok(())
    }

    fn lifetime(&self, request: &Message<'_>) -> Duration {
        let asked = request.lifetime().unwrap_or(LIFETIME_DEFAULT);
        asked.max(LIFETIME_DEFAULT).min(self.config.limits.lifetime_max.max(LIFETIME_DEFAULT))
    }

    /// A socket is there, or will never be.
    pub(super) fn on_leg_settled(&mut self, now: Instant, id: AllocationId) {
        let Some(allocation) = self.allocations.get_mut(id) else { return };
        if allocation.v4 == Leg::Opening || allocation.v6 == Leg::Opening {
            return;
        }
        if allocation.open_legs().next().is_none() {
            self.refuse_allocation(id, error_code::INSUFFICIENT_CAPACITY);
            self.close(id);
            return;
        }
        if allocation.step(ServedStep::Open) {
            allocation.expires = now + allocation.lifetime;
            self.timers.set(Expiry(id), allocation.expires);
            let (client, username) = (allocation.client, allocation.signer.username.clone());
            self.counters.allocated += 1;
            self.grant(id);
            self.tell(ServerEvent::Allocated { client, username });
        }
    }

    pub(super) fn on_expired(&mut self, now: Instant, id: AllocationId) {
        let Some(allocation) = self.allocations.get_mut(id) else { return };
        debug_assert!(allocation.expires <= now, "the timer is set to the end");
        if allocation.state == ServedState::Opening {
            // The owner did not answer about one socket or both; what is there has to do.
            for leg in [&mut allocation.v4, &mut allocation.v6] {
                if *leg == Leg::Opening {
                    *leg = Leg::Refused(error_code::INSUFFICIENT_CAPACITY);
                }
            }
            return self.on_leg_settled(now, id);
        }
        self.close(id);
    }

    /// Ends an allocation, whatever its state.
    pub(super) fn close(&mut self, id: AllocationId) {
        self.timers.clear(Expiry(id));
        let Some(mut allocation) = self.allocations.remove(id) else { return };
        let was = allocation.state;
        let closed = allocation.step(ServedStep::Close);
        debug_assert!(closed, "what is closed is not in the table");
        self.clients.remove(&allocation.client);
        for (family, local, public) in allocation.open_legs() {
            self.relays.remove(&local);
            self.publics.remove(&public);
            self.tell(ServerEvent::CloseRelay { id: RelayId { allocation: id, family }, local });
        }
        if was == ServedState::Active {
            let Allocation { client, meter, signer, .. } = allocation;
            self.tell(ServerEvent::Released { client, username: signer.username, relayed: meter.relayed });
        }
    }

    /// RFC 8656 §8.2.
    pub(super) fn on_refresh(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        signer: &Signer,
        id: Option<AllocationId>,
    ) -> Granted {
        let id = self.owned(signer, id)?;
        let lifetime = match request.lifetime() {
            Some(Duration::ZERO) => Duration::ZERO,
            Some(_) | None => self.lifetime(request),
        };
        let asked = request.attribute(attribute::REQUESTED_ADDRESS_FAMILY).is_some();
        let family = request.requested_address_family();
        let Some(allocation) = self.allocations.get_mut(id) else {
            return Err(error_code::ALLOCATION_MISMATCH);
        };
        let has = |family| matches!(allocation.leg(family), Leg::Open { .. });
        if asked && !family.is_some_and(has) {
            return Err(error_code::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        let path = allocation.client;
        if lifetime.is_zero() {
            self.close(id);
        } else {
            allocation.lifetime = lifetime;
            allocation.expires = now + lifetime;
            self.timers.set(Expiry(id), allocation.expires);
        }
        self.agree_lifetime(path, request, signer, lifetime);
        Ok(())
    }

    /// RFC 8656 §10.2: all peers or none.
    pub(super) fn on_create_permission(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        signer: &Signer,
        id: Option<AllocationId>,
    ) -> Granted {
        let id = self.owned(signer, id)?;
        let mut peers: Vec<IpAddr> = Vec::new();
        for peer in request.xor_peer_addresses() {
            let peer = peer.ok_or(error_code::BAD_REQUEST)?;
            self.check_peer(id, peer)?;
            peers.push(peer.ip());
        }
        peers.sort_unstable();
        peers.dedup();
        let max = self.config.limits.permissions_max;
        let Some(allocation) = self.allocations.get_mut(id).filter(|_| !peers.is_empty()) else {
            return Err(error_code::BAD_REQUEST);
        };
        if allocation.permissions_with(now, &peers) > max {
            return Err(error_code::INSUFFICIENT_CAPACITY);
        }
        for peer in peers {
            allocation.permit(now, peer);
        }
        self.agree(id, request, signer);
        Ok(())
    }

    /// RFC 8656 §12.2.
    pub(super) fn on_channel_bind(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        signer: &Signer,
        id: Option<AllocationId>,
    ) -> Granted {
        let id = self.owned(signer, id)?;
        let number = request.channel_number().filter(|number| NUMBERS.contains(number));
        let (Some(number), Some(peer)) = (number, request.xor_peer_address()) else {
            return Err(error_code::BAD_REQUEST);
        };
        self.check_peer(id, peer)?;
        if !self.publics.contains(&peer) && !self.config.peers.admits(peer) {
            return Err(error_code::FORBIDDEN);
        }
        let limits = self.config.limits;
        let Some(allocation) = self.allocations.get_mut(id) else {
            return Err(error_code::ALLOCATION_MISMATCH);
        };
        if !allocation.may_bind(now, number, peer) {
            return Err(error_code::BAD_REQUEST);
        }
        let permissions = allocation.permissions_with(now, &[peer.ip()]);
        if allocation.channels_with(number) > limits.channels_max || permissions > limits.permissions_max {
            return Err(error_code::INSUFFICIENT_CAPACITY);
        }
        allocation.bind(now, number, peer);
        allocation.permit(now, peer.ip());
        self.agree(id, request, signer);
        Ok(())
    }

    /// The allocation of this flow, if there is one that relays and this user made it (RFC 8656 §5).
    fn owned(&self, signer: &Signer, id: Option<AllocationId>) -> Result<AllocationId, u16> {
        let found = id.and_then(|id| Some((id, self.allocations.get(id)?)));
        let found = found.filter(|(_, allocation)| allocation.state == ServedState::Active);
        let (id, allocation) = found.ok_or(error_code::ALLOCATION_MISMATCH)?;
        let same = allocation.signer.user() == signer.user();
        if same { Ok(id) } else { Err(error_code::WRONG_CREDENTIALS) }
    }

    /// Whether a peer may be named at all: 443 for the wrong family, 403 for the wrong place. Where this
    /// server relays itself, other clients may be peers, wherever that is.
    fn check_peer(&self, id: AllocationId, peer: SocketAddr) -> Granted {
        let Some(allocation) = self.allocations.get(id).filter(|it| it.local_for(peer).is_some()) else {
            return Err(error_code::PEER_ADDRESS_FAMILY_MISMATCH);
        };
        let here = allocation.open_legs().any(|(_, _, public)| public.ip() == peer.ip());
        if here || self.config.peers.admits_ip(peer.ip()) { Ok(()) } else { Err(error_code::FORBIDDEN) }
    }
}

/// Whether the port has to be even (RFC 8656 §7.2). This server reserves no second port, so that a
/// request to do so cannot be met, and no token can be one that it gave.
fn even_port(request: &Message<'_>) -> Result<bool, u16> {
    let token = request.attribute(attribute::RESERVATION_TOKEN).is_some();
    let family = request.attribute(attribute::REQUESTED_ADDRESS_FAMILY).is_some();
    let even = request.attribute(attribute::EVEN_PORT).is_some();
    match (token, request.even_port()) {
        (true, _) if even || family => Err(error_code::BAD_REQUEST),
        (true, _) | (false, Some(true)) => Err(error_code::INSUFFICIENT_CAPACITY),
        (false, Some(false)) => Ok(true),
        (false, None) if even => Err(error_code::BAD_REQUEST),
        (false, None) => Ok(false),
    }
}
