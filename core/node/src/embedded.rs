//! The relay that a public node is: a TURN server (RFC 8656) on the node's own sockets.
//!
//! Its users are the peers that are connected to us. Each is handed a pass over its link; nobody else can ask for
//! anything, because there are no other users. For each allocation the driver opens one socket.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use gimlet_handshake::Capabilities;
use gimlet_machine::{
    Answer, Buf, Deadline, FourTuple, Input, Instant, Machine, Path, PeerId, Rng, SocketId, Transmit, Verdict,
};
use gimlet_stun::{AddressFamily, is_stun};
use gimlet_turn::{PeerPolicy, RelayId, Server, ServerConfig, ServerCounters, ServerEvent};

use crate::config::{Config, RelayConfig};
use crate::control::Control;
use crate::error::ConfigError;
use crate::event::Progress;
use crate::node::Node;
use crate::relay_pass::{RELAY_PASS_LIFETIME, RelayPass};
use crate::requests::{Owner, Requests};
use crate::timer::Timer;

/// The relay, and what it has of the driver.
#[derive(Debug)]
pub(crate) struct Embedded {
    config: RelayConfig,
    server: Server,
    /// Makes passwords. It lives as long as the node: whoever has a pass of an earlier one is handed another.
    secret: [u8; 32],
    sockets: BTreeMap<RelayId, SocketId>,
    /// Where sockets are bound and what clients are told, one of each family.
    bases: Vec<Base>,
    /// The node has closed; nobody is served any more.
    closed: bool,
}

/// Where relayed addresses of one family are.
#[derive(Clone, Copy, Debug)]
struct Base {
    local: IpAddr,
    /// In place of the local one, if that is not what others see.
    advertised: Option<IpAddr>,
}

/// What a node relays for others at a moment.
#[derive(Clone, Copy, Debug)]
pub struct RelayReport<'a> {
    /// Clients that have a relayed address, or are about to.
    pub allocations: usize,
    /// What was relayed, refused and dropped since the node was born.
    pub counters: &'a ServerCounters,
}

impl Embedded {
    /// The relay of `config`, if it is to be one.
    pub(crate) fn new(rng: &Rng, config: &Config) -> Result<Option<Embedded>, ConfigError> {
        let Some(relay) = config.relay.clone() else { return Ok(None) };
        if !config.public {
            return Err(ConfigError::RelayNotPublic);
        }
        let bases = bases(&config.local_addresses, &relay.advertised);
        if bases.is_empty() {
            return Err(ConfigError::RelayWithoutAddress);
        }
        let mut rng = rng.fork("relay");
        let secret: [u8; 32] = rng.bytes();
        // Our own host is nobody's peer: what listens there may trust packets from its own address.
        let own = config.local_addresses.iter().map(SocketAddr::ip).chain(relay.advertised.iter().copied());
        let own = own.map(|ip| SocketAddr::new(ip, 0));
        let denied = relay.peers.denied.iter().copied().chain(own).collect();
        let server = Server::new(
            rng.fork("server"),
            ServerConfig {
                secrets: vec![secret.to_vec()],
                unix_time_at_zero: config.outside.unix_time_at_origin,
                families: bases
                    .iter()
                    .map(|base| AddressFamily::of(SocketAddr::new(base.local, 0)))
                    .collect(),
                peers: PeerPolicy { denied, ..relay.peers },
                limits: relay.limits,
                ..ServerConfig::default()
            },
        );
        Ok(Some(Embedded { config: relay, server, secret, sockets: BTreeMap::new(), bases, closed: false }))
    }

    /// Whether a datagram may be the relay's: it came through a relayed address, is STUN, or looks like
    /// ChannelData from a client. QUIC's short headers look like that too (RFC 9443 §2), and are left to others
    /// by the server if no channel has that number.
    fn may_take(&self, input: &Input<'_, FourTuple>) -> bool {
        let Input { path, bytes, .. } = input;
        let framed = match bytes.first() {
            Some(0x40..=0x4f) => self.server.is_client(*path),
            Some(_) | None => is_stun(bytes),
        };
        !self.closed && (framed || self.server.is_relay(path.local))
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        if self.may_take(&input) { self.server.handle_input(now, input) } else { Verdict::NotMine }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        self.server.poll_transmit(now, out)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.server.poll_timeout()
    }

    pub(crate) fn allocations(&self) -> usize {
        self.server.allocations()
    }

    /// The next thing that the relay has to say, once what concerns sockets is done.
    fn poll_event(&mut self, now: Instant, requests: &mut Requests) -> Option<ServerEvent> {
        let event = self.server.poll_event()?;
        match &event {
            ServerEvent::OpenRelay { id, client, family, .. } => {
                let reached = client.local.ip();
                let usual = self.base(*family).map(|base| base.local);
                let local =
                    Some(reached).filter(|ip| of_family(*ip, *family) && !ip.is_unspecified()).or(usual);
                let socket = local.and_then(|ip| requests.bind(Owner::Relay(*id), SocketAddr::new(ip, 0)));
                match socket {
                    Some(socket) => _ = self.sockets.insert(*id, socket),
                    None => self.server.relay_failed(now, *id),
                }
            }
            ServerEvent::CloseRelay { id, .. } => {
                if let Some(socket) = self.sockets.remove(id) {
                    requests.close(socket);
                }
            }
            ServerEvent::Allocated { .. } | ServerEvent::Released { .. } => {}
        }
        Some(event)
    }

    /// What became of the socket for `relay`.
    fn on_answer(&mut self, now: Instant, relay: RelayId, answer: &Answer<'_>) {
        match *answer {
            Answer::Bound { local, .. } => {
                let advertised = self.base(AddressFamily::of(local)).and_then(|base| base.advertised);
                let public = SocketAddr::new(advertised.unwrap_or(local.ip()), local.port());
                self.server.relay_opened(now, relay, local, public);
            }
            Answer::Closed { .. } => {
                self.sockets.remove(&relay);
                // It was open, or never opened; the server knows which.
                self.server.relay_gone(now, relay);
            }
            // Connections are none of a relay's business, so none was asked for.
            Answer::Connected { .. } | Answer::Received { .. } | Answer::Written { .. } => {}
        }
    }

    fn base(&self, family: AddressFamily) -> Option<&Base> {
        self.bases.iter().find(|base| of_family(base.local, family))
    }

    /// A pass for `peer`, which reaches us on `path`.
    fn pass(&self, now: Instant, unix: u64, peer: PeerId, path: FourTuple) -> Option<RelayPass> {
        if self.closed || !self.config.allow.admits(peer) {
            return None;
        }
        let challenge = self.server.challenge_on(now, path);
        let addresses =
            self.bases.iter().map(|base| SocketAddr::new(base.advertised.unwrap_or(base.local), 0));
        let (expires, policy) = (unix + RELAY_PASS_LIFETIME.as_secs(), &self.config.peers);
        RelayPass::issue(peer, &self.secret, expires, challenge, policy, addresses.collect())
    }

    /// Ends everything.
    fn close(&mut self) {
        if !core::mem::replace(&mut self.closed, true) {
            self.server.close_all();
        }
    }
}

fn of_family(ip: IpAddr, family: AddressFamily) -> bool {
    AddressFamily::of(SocketAddr::new(ip, 0)) == family
}

/// The first usable address of each family: one that is known, or that something is advertised for.
fn bases(locals: &[SocketAddr], advertised: &[IpAddr]) -> Vec<Base> {
    let family = |is_ipv4: bool| {
        let advertised = advertised.iter().copied().find(|ip| ip.is_ipv4() == is_ipv4);
        let mut fits = locals.iter().map(SocketAddr::ip).filter(|ip| ip.is_ipv4() == is_ipv4);
        let local = fits.find(|ip| advertised.is_some() || !ip.is_unspecified())?;
        Some(Base { local, advertised })
    };
    [true, false].into_iter().filter_map(family).collect()
}

impl Node {
    /// What we relay for others; `None`: this node is no relay.
    pub fn relay(&self) -> Option<RelayReport<'_>> {
        let embedded = self.children.embedded.as_ref()?;
        Some(RelayReport { allocations: embedded.allocations(), counters: embedded.server.counters() })
    }

    /// Does what the relay asks for; whether it asked for anything.
    pub(crate) fn settle_relay(&mut self, now: Instant) -> bool {
        let mut busy = false;
        let is_over = self.has_said_goodbye();
        if let Some(embedded) = self.children.embedded.as_mut().filter(|_| is_over) {
            embedded.close();
        }
        while let Some(embedded) = &mut self.children.embedded
            && let Some(event) = embedded.poll_event(now, &mut self.out.requests)
        {
            busy = true;
            self.on_served(&event);
        }
        busy
    }

    fn on_served(&mut self, event: &ServerEvent) {
        let (client, username, step) = match event {
            ServerEvent::Allocated { client, username } => {
                (client.remote, username, Progress::Relaying { client: client.remote })
            }
            ServerEvent::Released { client, username, relayed: (to_peers, from_peers) } => {
                let (to_peers, from_peers) = (*to_peers, *from_peers);
                (client.remote, username, Progress::Relayed { client: client.remote, to_peers, from_peers })
            }
            ServerEvent::OpenRelay { .. } | ServerEvent::CloseRelay { .. } => return,
        };
        let peer = RelayPass::peer_in(username);
        debug_assert!(peer.is_some(), "only peers have passes: {client}");
        if let Some(peer) = peer {
            self.progress(peer, step);
        }
    }

    /// What became of a request of the relay.
    pub(crate) fn on_relay_answer(&mut self, now: Instant, relay: RelayId, answer: &Answer<'_>) {
        if let Some(embedded) = &mut self.children.embedded {
            embedded.on_answer(now, relay, answer);
        }
    }

    /// Tells `peer` how to use our relay, and again before that ends. A peer that does not take part in
    /// introductions has no use for it.
    pub(crate) fn hand_out_pass(&mut self, now: Instant, peer: PeerId) {
        let unix = self.unix_seconds(now);
        let Some(embedded) = &self.children.embedded else { return };
        let link = self.peers.get(&peer).and_then(|entry| entry.open_link());
        let takes = |capabilities: Capabilities| capabilities.contains(Capabilities::INTRODUCTION);
        let Some(link) = link.filter(|link| link.hello().is_some_and(|hello| takes(hello.capabilities())))
        else {
            return;
        };
        let Some(Path::Direct(path)) = self.children.quic.path(link.connection) else { return };
        if let Some(pass) = embedded.pass(now, unix, peer, path) {
            self.send_control(now, peer, &Control::Relay(pass));
            self.timers.set(Timer::Pass(peer), now + RELAY_PASS_LIFETIME / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(locals: &[&str], advertised: &[&str]) -> Vec<(String, Option<String>)> {
        let locals: Vec<SocketAddr> = locals.iter().map(|text| text.parse().unwrap()).collect();
        let advertised: Vec<IpAddr> = advertised.iter().map(|text| text.parse().unwrap()).collect();
        let all = bases(&locals, &advertised).into_iter();
        all.map(|base| (base.local.to_string(), base.advertised.map(|ip| ip.to_string()))).collect()
    }

    #[test]
    fn one_base_of_each_family_and_a_wildcard_needs_to_be_told_what_others_see() {
        let row = |local: &str, advertised: Option<&str>| (local.to_owned(), advertised.map(str::to_owned));
        let both = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"];
        assert_eq!(found(&both, &[]), [row("192.0.2.1", None), row("2001:db8::1", None)]);
        assert_eq!(found(&["0.0.0.0:1"], &[]), []);
        assert_eq!(found(&["0.0.0.0:1"], &["203.0.113.7"]), [row("0.0.0.0", Some("203.0.113.7"))]);
        assert_eq!(found(&["10.0.0.5:1"], &["203.0.113.7"]), [row("10.0.0.5", Some("203.0.113.7"))]);
    }
}
