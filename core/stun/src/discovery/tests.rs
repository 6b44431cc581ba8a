//! The machine alone, facing servers that do and do not keep their promises; case 60.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::header::Method;
use crate::message::ChangeRequest;
use crate::writer::MessageWriter;
use gimlet_testkit::Checked;

const SERVER: &str = "192.0.2.1:3478";
const OTHER: &str = "192.0.2.2:3479";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn locals() -> Vec<SocketAddr> {
    (0..6).map(|nth| SocketAddr::from(([10, 0, 0, 2], 5_000 + nth * 11))).collect()
}

/// What a NAT that keeps ports and asks nobody shows the world.
fn outside(local: SocketAddr) -> SocketAddr {
    SocketAddr::new(at("203.0.113.1:0").ip(), local.port())
}

/// A request as it left: its way, and what it asks to be answered from.
#[derive(Clone, Copy)]
struct Asked {
    path: FourTuple,
    change: ChangeRequest,
    id: crate::TransactionId,
}

impl Asked {
    /// An answer from `source` that tells `mapped` and `other`.
    fn answered(&self, source: &str, mapped: SocketAddr, other: Option<&str>) -> (FourTuple, Vec<u8>) {
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(&mut out, Class::Success, Method::BINDING, self.id);
        writer = writer.xor_mapped_address(mapped);
        if let Some(other) = other {
            writer = writer.other_address(at(other));
        }
        writer.fingerprint();
        (FourTuple::new(self.path.local, at(source)), out)
    }

    /// What a server with faces answers, through a NAT that lets everybody in.
    fn honestly(&self) -> Vec<(FourTuple, Vec<u8>)> {
        let Some(faces) = crate::Faces::new(at(SERVER), at(OTHER)) else { panic!("four faces") };
        let [a, b, c, d] = faces.addresses();
        let to = self.path.remote;
        let Some(place) = [a, b, c, d].iter().position(|face| *face == to) else { return Vec::new() };
        let turned =
            [a, b, c, d][place ^ usize::from(self.change.port) ^ usize::from(self.change.address) << 1];
        let other = [a, b, c, d][place ^ 3];
        let texts = (alloc::format!("{turned}"), alloc::format!("{other}"));
        vec![self.answered(&texts.0, outside(self.path.local), Some(&texts.1))]
    }

    fn is_plain(&self) -> bool {
        self.change == ChangeRequest::default()
    }
}

/// Runs a discovery against a world of one function, with every answer 20 ms away; how it ended, and
/// what it sent.
fn run(world: impl Fn(&Asked) -> Vec<(FourTuple, Vec<u8>)>) -> (Behaviour, DiscoveryCounters, Vec<Asked>) {
    let (mut now, config) = (Instant::ZERO, DiscoveryConfig::default());
    let discovery = Discovery::new(now, Rng::from_u64(7), config, &locals(), &[at(SERVER)]).unwrap();
    let mut discovery = Checked::new(discovery);
    let (mut flying, mut sent, mut storage) = (Vec::new(), Vec::new(), Vec::new());
    let mut finished = None;
    loop {
        while let Some(transmit) = discovery.poll_transmit(now, &mut Buf::new(&mut storage)) {
            let request = Message::parse(&storage).unwrap();
            let change = request.change_request().unwrap_or_default();
            let asked = Asked { path: transmit.path, change, id: request.transaction_id() };
            flying.extend(world(&asked).into_iter().map(|answer| (now + Duration::from_millis(20), answer)));
            sent.push(asked);
        }
        while let Some(event) = discovery.poll_event() {
            if let DiscoveryEvent::Finished(behaviour) = event {
                assert!(finished.replace(behaviour).is_none(), "it ends once");
            }
        }
        let next = [flying.first().map(|(at, _)| *at), discovery.poll_timeout().map(|deadline| deadline.at)];
        let Some(next) = next.into_iter().flatten().min() else { break };
        now = next;
        if flying.first().is_some_and(|(at, _)| *at <= now) {
            let (_, (path, mut bytes)) = flying.remove(0);
            discovery.handle_input(now, Input::new(path, &mut bytes));
        } else {
            discovery.handle_timeout(now);
        }
    }
    assert!(now < Instant::from_millis(30_000), "it ends in time: {now}");
    (finished.expect("it says how it ended"), *discovery.inner().counters(), sent)
}

#[test]
fn a_server_that_keeps_its_promises_is_believed() {
    let (seen, counters, _) = run(Asked::honestly);
    assert_eq!(seen.mapping, Some(Mapping::EndpointIndependent));
    assert_eq!(seen.filtering, Some(Filtering::EndpointIndependent));
    assert_eq!(seen.hairpinning, Some(false));
    assert_eq!(seen.port_model, Some(PortModel::Preserving));
    // Answers to what a step asked once more before it had heard enough come after its end.
    let unused = DiscoveryCounters { unknown_transaction: 0, ..counters };
    assert_eq!(unused, DiscoveryCounters::default());
}

#[test]
fn silence_where_the_witness_speaks_is_a_filter() {
    let waiter = locals()[1];
    let (seen, _, _) = run(|asked| {
        let is_let_in = asked.path.local != waiter || asked.is_plain();
        if is_let_in { asked.honestly() } else { Vec::new() }
    });
    assert_eq!(seen.filtering, Some(Filtering::AddressAndPortDependent));
    let (seen, _, _) = run(|asked| {
        let is_let_in = asked.path.local != waiter || !asked.change.address;
        if is_let_in { asked.honestly() } else { Vec::new() }
    });
    assert_eq!(seen.filtering, Some(Filtering::AddressDependent));
}

#[test]
fn case_60_an_other_address_on_the_servers_own_is_rejected_and_never_asked() {
    let other = "192.0.2.1:3479";
    let (seen, counters, sent) =
        run(|asked| vec![asked.answered(SERVER, outside(asked.path.local), Some(other))]);
    assert_eq!((seen.mapping, seen.filtering), (None, None));
    assert!(counters.false_other_address > 0);
    assert!(sent.iter().all(|asked| asked.path.remote != at(other) && asked.is_plain()));
}

#[test]
fn case_60_an_answer_from_where_it_was_not_asked_for_is_no_answer() {
    // The server promises another address and answers everything from its own.
    let (seen, counters, _) = run(|asked| {
        if asked.is_plain() {
            return asked.honestly();
        }
        vec![asked.answered(SERVER, outside(asked.path.local), Some(OTHER))]
    });
    assert_eq!((seen.mapping, seen.filtering), (Some(Mapping::EndpointIndependent), None));
    assert!(counters.wrong_path > 0);
    // A third party that sees the requests answers from somewhere else.
    let waiter = locals()[1];
    let (seen, counters, _) = run(|asked| {
        if asked.is_plain() || asked.path.local != waiter {
            return asked.honestly();
        }
        vec![asked.answered("192.0.2.99:3479", outside(asked.path.local), Some(OTHER))]
    });
    assert_eq!(seen.filtering, Some(Filtering::AddressAndPortDependent));
    assert!(counters.wrong_path > 0);
}

#[test]
fn case_60_a_server_that_refuses_or_ignores_change_request_leaves_filtering_unknown() {
    let (seen, counters, _) = run(|asked| {
        if asked.is_plain() {
            return asked.honestly();
        }
        let mut out = Vec::new();
        MessageWriter::new(&mut out, Class::Error, Method::BINDING, asked.id)
            .error_code(crate::error_code::UNKNOWN_ATTRIBUTE, "no")
            .fingerprint();
        vec![(asked.path, out)]
    });
    assert_eq!((seen.mapping, seen.filtering), (Some(Mapping::EndpointIndependent), None));
    assert!(counters.refused > 0);
    // Its faces are all there, and a request for a change is met with silence.
    let (seen, _, _) = run(|asked| if asked.is_plain() { asked.honestly() } else { Vec::new() });
    assert_eq!((seen.mapping, seen.filtering), (Some(Mapping::EndpointIndependent), None));
}

#[test]
fn two_answers_that_differ_are_no_evidence() {
    let (seen, _, _) = run(|asked| {
        let port = 1_024 + u16::from(asked.id.0[0]) * 64 + u16::from(asked.id.0[1]);
        let mapped = SocketAddr::new(outside(asked.path.local).ip(), port);
        vec![asked.answered(SERVER, mapped, None)]
    });
    assert_eq!((seen.mapping, seen.endpoint_dependent, seen.filtering), (None, None, None));
}

#[test]
fn a_packet_that_comes_back_in_is_a_hairpin() {
    let turned = |asked: &Asked| {
        let target = locals().into_iter().find(|local| outside(*local) == asked.path.remote);
        let Some(target) = target else { return asked.honestly() };
        let mut out = Vec::new();
        MessageWriter::new(&mut out, Class::Request, Method::BINDING, asked.id).fingerprint();
        vec![(FourTuple::new(target, outside(asked.path.local)), out)]
    };
    let (seen, counters, _) = run(turned);
    assert_eq!((seen.hairpinning, counters.not_an_answer), (Some(true), 0));
}

#[test]
fn nobody_answers_and_the_requests_are_few() {
    let (seen, _, sent) = run(|_| Vec::new());
    assert_eq!((seen, sent.len()), (Behaviour::default(), ROUNDS_MAX as usize));
}

#[test]
fn a_server_that_answers_once_is_told_of_and_not_built_upon() {
    let first = core::cell::Cell::new(true);
    let (seen, _, _) = run(|asked| if first.take() { asked.honestly() } else { Vec::new() });
    assert_eq!(seen, Behaviour { mapped: Some(outside(locals()[0])), ..Behaviour::default() });
}

#[test]
fn what_is_not_ours_is_left_to_others_and_counted() {
    let config = DiscoveryConfig::default();
    let discovery =
        Discovery::new(Instant::ZERO, Rng::from_u64(7), config, &locals(), &[at(SERVER)]).unwrap();
    let mut discovery = Checked::new(discovery);
    let path = FourTuple::new(locals()[0], at(SERVER));
    let mut seen = Vec::new();
    for class in [Class::Success, Class::Error, Class::Request, Class::Indication] {
        let mut bytes = Vec::new();
        let id = crate::TransactionId([9; 12]);
        MessageWriter::new(&mut bytes, class, Method::BINDING, id).finish();
        seen.push(discovery.handle_input(Instant::ZERO, Input::new(path, &mut bytes)));
    }
    seen.push(discovery.handle_input(Instant::ZERO, Input::new(path, &mut b"noise".to_vec())));
    assert!(seen.iter().all(|verdict| *verdict == Verdict::NotMine));
    let counters = discovery.inner().counters();
    assert_eq!((counters.unknown_transaction, counters.not_an_answer, counters.not_stun), (2, 2, 1));
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_reason() {
    let new = |locals: &[&str], servers: &[&str]| {
        let parse = |texts: &[&str]| texts.iter().map(|text| at(text)).collect::<Vec<_>>();
        let config = DiscoveryConfig::default();
        Discovery::new(Instant::ZERO, Rng::from_u64(7), config, &parse(locals), &parse(servers)).err()
    };
    assert_eq!(new(&[], &[SERVER]), Some(DiscoveryError::NothingToAsk));
    assert_eq!(new(&["10.0.0.2:1"], &[]), Some(DiscoveryError::NothingToAsk));
    assert_eq!(new(&["0.0.0.0:1"], &[SERVER]), Some(DiscoveryError::NotOneHost));
    assert_eq!(new(&["10.0.0.2:1", "10.0.0.3:2"], &[SERVER]), Some(DiscoveryError::NotOneHost));
    assert_eq!(new(&["10.0.0.2:1", "10.0.0.2:1"], &[SERVER]), Some(DiscoveryError::NotOneHost));
    assert_eq!(new(&["10.0.0.2:1"], &["[2001:db8::1]:3478"]), Some(DiscoveryError::Unreachable));
    assert_eq!(new(&["10.0.0.2:1"], &["192.0.2.1:0"]), Some(DiscoveryError::Unreachable));
    assert_eq!(new(&["10.0.0.2:1"], &[SERVER]), None);
}

#[test]
fn a_buffer_without_room_loses_the_request_and_is_counted() {
    let config = DiscoveryConfig::default();
    let mut discovery =
        Discovery::new(Instant::ZERO, Rng::from_u64(7), config, &locals(), &[at(SERVER)]).unwrap();
    let mut storage = Vec::new();
    assert_eq!(discovery.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage).with_limit(20)), None);
    assert_eq!((storage.len(), discovery.counters().no_room), (0, 1));
}
