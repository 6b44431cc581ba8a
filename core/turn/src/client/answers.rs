//! What answers mean.

use alloc::vec;

use gimlet_machine::Instant;
use gimlet_stun::{Class, Message, error_code};

use super::Client;
use super::peers::Channel;
use super::requests::{Ask, Request};
use crate::event::{ClientEvent, Failure};

/// How often one question may meet 438 before the server is not believed any more.
const STALE_MAX: u8 = 3;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It answers one of our requests, or pretends to.
    Ours,
    /// It answers nothing of ours.
    Unknown,
}

impl Client {
    pub(super) fn on_answer(&mut self, now: Instant, message: &Message<'_>) -> Answered {
        let Some((id, request)) = self.requests.find(message.transaction_id()) else {
            self.counters.unknown_transaction += 1;
            return Answered::Unknown;
        };
        let code = message.error_code().map(|error| error.code);
        // RFC 8489 §9.2.5: the three refusals that a server may be unable to sign are taken as they
        // come; whoever can forge them sees our packets, and could as well drop them. Everything
        // else must carry the signature that we use ourselves, or it never arrived.
        let unsigned = [error_code::BAD_REQUEST, error_code::UNAUTHENTICATED, error_code::STALE_NONCE];
        let may_be_unsigned = match message.class() {
            Class::Error => code.is_some_and(|code| unsigned.contains(&code)),
            Class::Success | Class::Request | Class::Indication => false,
        };
        let bare = request.signed && !may_be_unsigned && !self.conversation.is_authentic(message);
        // An unsigned Allocate cannot succeed: there is no signature to check.
        if bare || (!request.signed && message.class() == Class::Success) {
            self.counters.unauthentic += 1;
            return Answered::Ours;
        }
        let Some(request) = self.requests.remove(id, &mut self.timers) else { return Answered::Unknown };
        if let Some(kind) = message.unknown_required().next() {
            self.fail_or_end(&request.ask, Failure::UnknownAttribute { kind });
            return Answered::Ours;
        }
        match (message.class(), code) {
            (Class::Success, _) => self.on_success(now, request, message),
            (_, Some(code)) => self.on_refused(now, request, code, message),
            (_, None) => self.fail_or_end(&request.ask, Failure::Incomplete),
        }
        Answered::Ours
    }

    fn on_success(&mut self, now: Instant, request: Request, message: &Message<'_>) {
        match request.ask {
            Ask::Allocate => self.on_granted(now, message),
            Ask::Refresh => self.on_refreshed(now, message),
            Ask::Delete => self.on_released(),
            Ask::Clear => self.ask_allocation(now),
            Ask::Permissions(peers) => {
                for peer in peers {
                    if self.peers.permitted(now, peer) {
                        self.tell(ClientEvent::PermissionInstalled { peer });
                    }
                }
                self.arm_peers(now);
            }
            Ask::Channel(number) => {
                let peer = self.peers.channel(number).map(|channel| channel.peer);
                if let Some(peer) = self.peers.bound_now(now, number) {
                    self.tell(ClientEvent::ChannelBound { peer, number });
                }
                // RFC 8656 §12: ChannelBind installs or prolongs the permission too.
                if let Some(peer) = peer.map(|peer| peer.ip())
                    && self.peers.permitted(now, peer)
                {
                    self.tell(ClientEvent::PermissionInstalled { peer });
                }
                self.arm_peers(now);
            }
        }
    }

    fn on_refused(&mut self, now: Instant, request: Request, code: u16, message: &Message<'_>) {
        match code {
            error_code::UNAUTHENTICATED if !request.signed => self.answer_challenge(now, request, message),
            error_code::UNAUTHENTICATED => self.fail_or_end(&request.ask, Failure::BadCredentials),
            error_code::STALE_NONCE if request.stale < STALE_MAX => {
                let stale = request.stale + 1;
                self.answer_challenge(now, Request { stale, ..request }, message);
            }
            error_code::STALE_NONCE => self.fail_or_end(&request.ask, Failure::StaleNonces),
            error_code::BAD_REQUEST if !request.confirmed && self.can_doubt(&request.ask) => {
                self.doubt(now, request.ask);
            }
            code => self.on_refused_for_good(now, request.ask, code, message),
        }
    }

    /// Asks the same again with what the challenge wants to hear.
    fn answer_challenge(&mut self, now: Instant, request: Request, message: &Message<'_>) {
        match self.conversation.learn(message) {
            Ok(()) if !self.is_wanted(&request.ask) => {}
            Ok(()) => self.begin_again(now, request.ask, request.stale, request.confirmed),
            Err(cause) => self.fail_or_end(&request.ask, cause),
        }
    }

    /// Whether the owner still wants what was asked for: a channel may have been let go meanwhile.
    pub(super) fn is_wanted(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Channel(number) => self.peers.channel(*number).is_some_and(Channel::is_usable),
            Ask::Allocate | Ask::Refresh | Ask::Delete | Ask::Clear | Ask::Permissions(_) => true,
        }
    }

    /// An allocation that cannot be given back ends by itself.
    fn fail_or_end(&mut self, ask: &Ask, cause: Failure) {
        match ask {
            Ask::Delete => self.on_released(),
            Ask::Allocate | Ask::Refresh | Ask::Clear | Ask::Permissions(_) | Ask::Channel(_) => {
                self.fail(cause);
            }
        }
    }

    fn on_refused_for_good(&mut self, now: Instant, ask: Ask, code: u16, message: &Message<'_>) {
        let mismatch = code == error_code::ALLOCATION_MISMATCH;
        match ask {
            Ask::Allocate if code == error_code::TRY_ALTERNATE => self.on_redirected(now, message),
            Ask::Allocate => self.on_allocate_refused(now, code),
            Ask::Delete => self.on_released(),
            Ask::Clear if mismatch => self.ask_allocation(now),
            Ask::Clear => self.fail(Failure::Refused { code }),
            Ask::Refresh | Ask::Permissions(_) | Ask::Channel(_) if mismatch => self.on_lost(now),
            Ask::Refresh => self.on_refresh_refused(now, code),
            // One peer that the server does not like must not take the others with it.
            Ask::Permissions(peers) if peers.len() > 1 && self.requests.room() > peers.len() => {
                for peer in peers {
                    self.begin(now, Ask::Permissions(vec![peer]));
                }
            }
            Ask::Permissions(peers) => {
                for peer in peers {
                    self.peers.refused(peer);
                    self.tell(ClientEvent::PermissionRefused { peer, code });
                }
                self.arm_peers(now);
            }
            Ask::Channel(number) => {
                if let Some(peer) = self.peers.channel(number).map(|channel| channel.peer) {
                    self.peers.release(now, number);
                    self.tell(ClientEvent::ChannelRefused { peer, code });
                }
                self.arm_peers(now);
            }
        }
    }
}
