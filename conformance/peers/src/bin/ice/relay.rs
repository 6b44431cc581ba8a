//! A datagram through a relay.

use std::net::SocketAddr;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine as _, Path, Rng, Transmit};
use gimlet_peers::Table;
use gimlet_turn::{Client, ClientConfig, Families, LongTerm, Server, ServerConfig, ServerEvent};

/// What QUIC puts into a datagram.
const PAYLOAD: usize = 1_200;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A client with a channel to `peer`, and its server.
fn bound(peer: SocketAddr) -> (Client, Server, SocketAddr) {
    let now = Instant::ZERO;
    let alice = LongTerm::new(b"alice", b"her password").expect("short enough");
    let flow = FourTuple::new(address("198.51.100.7:61000"), address("192.0.2.1:3478"));
    let relayed = address("192.0.2.1:50000");
    let mut client = Client::new(Rng::from_u64(1), flow, alice.clone(), ClientConfig::default());
    let config = ServerConfig { users: vec![alice], ..ServerConfig::default() };
    let mut server = Server::new(Rng::from_u64(2), config);
    client.allocate(now, Families::V4).expect("the first");
    client.bind_channel(now, peer).expect("the first");
    let mut bytes = Vec::new();
    while client.channel(now, peer).is_none() {
        while client.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
            server.handle_input(now, Input::new(flow.flipped(), &mut bytes));
        }
        while let Some(event) = server.poll_event() {
            if let ServerEvent::OpenRelay { id, .. } = event {
                server.relay_opened(now, id, relayed, relayed);
            }
        }
        while server.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
            client.handle_input(now, Input::new(Path::Direct(flow), &mut bytes));
        }
        while client.poll_event().is_some() {}
    }
    while server.poll_event().is_some() {}
    (client, server, relayed)
}

pub(crate) fn rows(table: &mut Table) {
    const PEER: &str = "203.0.113.5:9";
    let (now, peer) = (Instant::ZERO, address(PEER));

    let (mut client, ..) = bound(peer);
    let (mut out, payload) = (Vec::with_capacity(PAYLOAD + 64), [7; PAYLOAD]);
    let path = Path::Relayed { relay: client.relay(), peer };
    table.row("client: 1,200 bytes copied, wrapped for the channel", "gimlet", 1, move || {
        let mut out = Buf::new(&mut out);
        out.put(&payload);
        client.wrap(now, Transmit::new(path), &mut out).expect("bound")
    });

    let (client, ..) = bound(peer);
    table.row("client: the channel's header alone, for 4 bytes of headroom", "gimlet", 1, move || {
        client.channel_header(now, peer, PAYLOAD).expect("bound")
    });

    let (mut client, mut server, relayed) = bound(peer);
    let (flow, mut data) = (client.relay(), Vec::with_capacity(PAYLOAD + 64));
    let mut inward = Buf::new(&mut data);
    inward.put(&[7; PAYLOAD]);
    let path = Path::Relayed { relay: flow, peer };
    client.wrap(now, Transmit::new(path), &mut inward).expect("bound");
    table.row("server: ChannelData of 1,200 bytes to the peer", "gimlet", 1, move || {
        server.handle_input(now, Input::new(flow.flipped(), &mut data))
    });

    let (mut client, mut server, _) = bound(peer);
    let (flow, mut data, mut out) = (client.relay(), [7; PAYLOAD], Vec::with_capacity(PAYLOAD + 64));
    table.row("server: 1,200 bytes of the peer to the client", "gimlet", 1, move || {
        server.handle_input(now, Input::new(FourTuple::new(relayed, peer), &mut data));
        server.poll_transmit(now, &mut Buf::new(&mut out)).expect("relayed")
    });

    let number = client.channel(now, peer).expect("bound");
    let mut data = [&number.to_be_bytes()[..], &(PAYLOAD as u16).to_be_bytes(), &[7; PAYLOAD]].concat();
    table.row("client: ChannelData of 1,200 bytes taken out", "gimlet", 1, move || {
        client.handle_input(now, Input::new(Path::Direct(flow), &mut data))
    });
}
