//! Relays: what is configured, refused, asked for and given back.

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Session};
use gimlet_testkit::Checked;

use crate::hostile_tests::config;
use crate::{ConfigError, Node, TURN_SERVERS_MAX, TurnServer, TurnTransport};

fn server(address: &str, username: &str) -> TurnServer {
    let transport = TurnTransport::Udp;
    let (username, password) = (username.into(), "secret".into());
    TurnServer { address: address.parse().unwrap(), transport, username, password }
}

fn node(servers: Vec<TurnServer>) -> Result<Node, ConfigError> {
    let mut config = config(3, "198.51.100.7:5000");
    config.local_addresses.push("198.51.100.7:5001".parse().unwrap());
    config.turn_servers = servers;
    Node::new(Instant::ZERO, config)
}

/// What a drained node has sent.
fn sent(node: &mut Checked<Node>, now: Instant) -> Vec<(FourTuple, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        while node.poll_event().is_some() {}
        let mut bytes = Vec::new();
        let Some(transmit) = node.poll_transmit(now, &mut Buf::new(&mut bytes)) else { return all };
        all.push((transmit.path, bytes));
    }
}

#[test]
fn too_many_relays_and_unusable_names_are_refused_by_name() {
    let many: Vec<_> = (0..=TURN_SERVERS_MAX).map(|n| server(&format!("192.0.2.{n}:3478"), "me")).collect();
    assert!(matches!(node(many), Err(ConfigError::TooManyTurnServers(5))));
    let nameless = server("192.0.2.1:3478", "");
    let refused = ConfigError::TurnCredentials(nameless.address);
    assert!(matches!(node(vec![nameless]), Err(error) if error == refused));
}

#[test]
fn a_password_is_not_shown() {
    let shown = format!("{:?}", server("192.0.2.1:3478", "me"));
    assert!(shown.contains("192.0.2.1:3478") && shown.contains("me"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn an_address_is_asked_for_at_birth_once_per_relay_from_a_socket_that_can_reach_it() {
    let relay = || server("192.0.2.1:3478", "me");
    let elsewhere = server("[2001:db8::1]:3478", "me");
    let mut node = Checked::new(node(vec![relay(), elsewhere, relay()]).unwrap());
    let asked = sent(&mut node, Instant::ZERO);
    let flow = FourTuple::new("198.51.100.7:5000".parse().unwrap(), "192.0.2.1:3478".parse().unwrap());
    assert_eq!(asked.iter().map(|(path, _)| *path).collect::<Vec<_>>(), [flow]);
    assert_eq!(node.inner().usage().allocations, 1);
}

#[test]
fn a_relay_that_never_answers_is_given_up_and_a_closed_node_is_quiet() {
    let mut node = Checked::new(node(vec![server("192.0.2.1:3478", "me")]).unwrap());
    let mut now = Instant::ZERO;
    sent(&mut node, now);
    while let Some(deadline) = node.poll_timeout() {
        now = deadline.at;
        node.handle_timeout(now);
        sent(&mut node, now);
    }
    assert!(now >= Instant::from_millis(30_000), "a whole ladder of retransmissions: {now}");
    assert_eq!(node.inner().usage().allocations, 0);
    node.command(now, |node| node.close_all(now));
    sent(&mut node, now);
    assert!(node.inner().is_closed());
}

#[test]
fn what_a_relay_did_not_pass_is_treated_like_anything_else_from_that_address() {
    let mut node = Checked::new(node(vec![server("192.0.2.1:3478", "me")]).unwrap());
    let asked = sent(&mut node, Instant::ZERO);
    let (flow, _) = asked[0];
    // ChannelData on a channel that was never bound.
    let mut bytes = [0x40, 0x00, 0x00, 0x04, 1, 2, 3, 4];
    node.handle_input(Instant::ZERO, Input::new(flow, &mut bytes));
    assert_eq!(node.inner().counters().unknown_path, 1);
}
