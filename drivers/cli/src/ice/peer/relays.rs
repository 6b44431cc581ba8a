//! Relays of `gimlet ice-peer`: an allocation on each TURN server, and whom it lets through.

use std::net::{IpAddr, SocketAddr};

use gimlet_ice::Candidate;
use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict};
use gimlet_stun::AddressFamily;
use gimlet_turn::{Client, ClientConfig, ClientEvent, Families, LongTerm, WRAP_MAX};

use super::PATIENCE;

/// A TURN server, and who we are to it.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Name and password.
    pub(crate) credentials: LongTerm,
}

/// What a relay has to say.
#[derive(Debug)]
pub(super) enum News {
    /// It gave us the first, and saw us at the second.
    Candidates(Box<Candidate>, Option<Box<Candidate>>),
    /// It will not.
    Failed(String),
}

/// One client for each server and the first socket that can reach it.
#[derive(Debug)]
pub(super) struct Relays(Vec<Client>);

impl Relays {
    pub(super) fn new(now: Instant, rng: &Rng, sockets: &[SocketAddr], relays: &[Relay]) -> Self {
        let mut clients = Vec::new();
        for (nth, relay) in relays.iter().enumerate() {
            let Some(local) = sockets.iter().find(|socket| socket.is_ipv4() == relay.address.is_ipv4())
            else {
                continue;
            };
            let flow = FourTuple::new(*local, relay.address);
            if clients.iter().any(|client: &Client| client.relay() == flow) {
                continue;
            }
            let (rto, rc, rm) = PATIENCE;
            let config = ClientConfig { rto, rc, rm, ..ClientConfig::default() };
            let rng = rng.fork_nth("turn", nth as u64);
            let mut client = Client::new(rng, flow, relay.credentials.clone(), config);
            let families = if local.is_ipv4() { Families::V4 } else { Families::V6 };
            let asked = client.allocate(now, families);
            debug_assert!(asked.is_ok(), "a new client has no allocation");
            clients.push(client);
        }
        Self(clients)
    }

    /// Whether one may still give us an address.
    pub(super) fn is_pending(&self) -> bool {
        self.0.iter().any(|client| client.state().is_pending())
    }

    /// Lets datagrams of `peer` through, as far as there is room.
    pub(super) fn permit(&mut self, now: Instant, peer: IpAddr) {
        for client in &mut self.0 {
            // A relay of the other family, or a full one, is of no use to this peer.
            let _ = client.permit(now, peer);
        }
    }

    /// Spends four bytes on each datagram to `peer`, not forty. Without a channel they go all the same.
    pub(super) fn bind(&mut self, now: Instant, relay: FourTuple, peer: SocketAddr) {
        if let Some(client) = self.on(relay) {
            let _ = client.bind_channel(now, peer);
        }
    }

    /// Gives every allocation back.
    pub(super) fn release(&mut self, now: Instant) {
        for client in &mut self.0 {
            client.release(now);
        }
    }

    pub(super) fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<Path> {
        let Input { path, ecn, bytes } = input;
        let Some(client) = self.on(path) else { return Verdict::NotMine };
        client.handle_input(now, Input { path: Path::Direct(path), ecn, bytes })
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for client in &mut self.0 {
            client.handle_timeout(now);
        }
    }

    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.0.iter_mut().find_map(|client| {
            while let Some(event) = client.poll_event() {
                if let Some(news) = news(client, &event) {
                    return Some(news);
                }
            }
            None
        })
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let sent = self.0.iter_mut().find_map(|client| client.poll_transmit(now, out))?;
        Some(Transmit { path: sent.path.on_wire(), ecn: sent.ecn, segment: sent.segment })
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earliest(self.0.iter().map(Machine::poll_timeout))
    }

    /// A loan of `out` that leaves room for a relay's header.
    pub(super) fn leave_room<'b>(&self, out: &'b mut Buf<'_>) -> Buf<'b> {
        if self.0.is_empty() {
            return out.reborrow();
        }
        let limit = out.remaining().saturating_sub(WRAP_MAX);
        Buf::new(out.vec()).with_limit(limit)
    }

    /// Turns what was written for `transmit.path` into what leaves. `None`: it cannot leave, and `out` is empty.
    pub(super) fn put_on_wire(
        &mut self,
        now: Instant,
        transmit: Transmit<Path>,
        out: &mut Buf<'_>,
    ) -> Option<Transmit<FourTuple>> {
        let wrapped = if transmit.path.is_direct() {
            Some(transmit)
        } else {
            self.on(transmit.path.on_wire()).and_then(|client| client.wrap(now, transmit, out).ok())
        };
        if wrapped.is_none() {
            out.truncate(0);
        }
        let Transmit { path, ecn, segment } = wrapped?;
        Some(Transmit { path: path.on_wire(), ecn, segment })
    }

    fn on(&mut self, flow: FourTuple) -> Option<&mut Client> {
        self.0.iter_mut().find(|client| client.relay() == flow)
    }
}

fn news(client: &Client, event: &ClientEvent) -> Option<News> {
    let flow = client.relay();
    match event {
        ClientEvent::Allocated(allocated) => {
            let family = AddressFamily::of(flow.remote);
            let address = client.relayed(family)?;
            let mapped = allocated.mapped;
            // Without a NAT on the way, the host candidate says it all.
            let reflexive = (mapped != flow.local)
                .then(|| Box::new(Candidate::server_reflexive(mapped, flow.local, Some(flow.remote))));
            Some(News::Candidates(Box::new(Candidate::relayed(address, flow, Some(mapped))), reflexive))
        }
        ClientEvent::Failed { cause } => Some(News::Failed(format!("{}: {cause}", flow.remote))),
        // Peers that a relay refuses are reached otherwise or not at all; the agent finds out.
        ClientEvent::Expired
        | ClientEvent::Released
        | ClientEvent::Redirected { .. }
        | ClientEvent::PermissionInstalled { .. }
        | ClientEvent::PermissionRefused { .. }
        | ClientEvent::ChannelBound { .. }
        | ClientEvent::ChannelRefused { .. }
        | ClientEvent::Received { .. }
        | ClientEvent::PeerUnreachable { .. } => None,
    }
}
