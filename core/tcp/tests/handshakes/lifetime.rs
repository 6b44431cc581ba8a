//! How long flows are known, and what outlives the translator.

use std::time::Duration;

use gimlet_machine::{Instant, Machine, Rng};
use gimlet_tcp::{
    Bypass, ESTABLISHED_IDLE, Event, FlowState, HALF_CLOSED_IDLE, Limits, Role, Slot, TIME_WAIT, Translator,
    Unknown, slots_for,
};

use crate::lab::{ACK, C, CI, FIN, Lab, RST, Ready, S, Seg, bytes, config, flow, syn, syn_ack};

/// A tick more than the time, for what is kept is coarse.
const COARSE: Duration = Duration::from_millis(600);

#[test]
fn case_68_a_flow_that_both_ends_closed_is_forgotten_after_two_minutes() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&ready.client(ACK | FIN, 0)).said_to(S);
    assert_eq!(lab.state(), Some(FlowState::ClientClosed));
    lab.hear(&ready.server(ACK | FIN, 0, 1)).said_to(C);
    assert_eq!(lab.state(), Some(FlowState::TimeWait));
    lab.until(Instant::ZERO + TIME_WAIT - COARSE)
        .hear(&ready.client(ACK, 1))
        .says(S, &ready.translated(ACK, 1));
    // That was a segment, so it is two minutes from here.
    let last = lab.now;
    lab.until(last + TIME_WAIT - COARSE);
    assert_eq!(lab.state(), Some(FlowState::TimeWait));
    lab.events();
    lab.until(last + TIME_WAIT + Duration::from_secs(20));
    assert_eq!((lab.state(), lab.events()), (None, vec![Event::Closed { flow: flow() }]));
}

/// A slot keeps twelve bits of the first SYN's number, and one in 4,096 new SYNs has the same.
#[test]
fn a_new_syn_in_time_wait_that_looks_like_a_copy_of_the_old_one_still_connects() {
    const LOOKS_LIKE_CI: u32 = 0xf55;
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&ready.client(ACK | FIN, 0)).said_to(S);
    lab.hear(&ready.server(ACK | FIN, 0, 1)).said_to(C);
    assert_eq!(lab.state(), Some(FlowState::TimeWait));
    let mut again = syn();
    again.seq = LOOKS_LIKE_CI;
    lab.at(5_000).passes(&again);
    assert_eq!(lab.counters().repeated_syns, 1, "it looks like the old one");
    let mut answer = syn_ack();
    (answer.seq, answer.ack) = (0x1234_5678, LOOKS_LIKE_CI.wrapping_add(1));
    lab.passes(&answer).passes(&Seg::of(C, ACK, LOOKS_LIKE_CI.wrapping_add(1), 0x1234_5679).data(&bytes(10)));
    assert_eq!(lab.state(), Some(FlowState::Bypass));
    // A copy of the old SYN-ACK, though, is none of the client's business.
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&ready.client(ACK | FIN, 0)).said_to(S);
    lab.hear(&ready.server(ACK | FIN, 0, 1)).said_to(C);
    lab.at(5_000).passes(&syn()).hear(&syn_ack()).quiet();
}

#[test]
fn case_69_an_idle_flow_is_forgotten_after_two_hours_and_what_comes_then_passes() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.until(Instant::ZERO + ESTABLISHED_IDLE - COARSE);
    lab.hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0));
    let last = lab.now;
    lab.until(last + ESTABLISHED_IDLE + COARSE).passes(&ready.client(ACK, 0));
    assert!(lab.counters().unknown_passed >= 1 && lab.events().contains(&Event::Closed { flow: flow() }));
    lab.until(last + ESTABLISHED_IDLE + Duration::from_secs(120));
    assert_eq!(lab.translator().flows().count(), 0);
    assert_eq!(lab.machine.poll_timeout(), None);
}

#[test]
fn a_flow_with_one_fin_is_forgotten_after_four_minutes() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&ready.server(ACK | FIN, 0, 0)).said_to(C);
    assert_eq!(lab.state(), Some(FlowState::ServerClosed));
    lab.until(Instant::ZERO + HALF_CLOSED_IDLE - COARSE).hear(&ready.client(ACK, 0)).said_to(S);
    let last = lab.now;
    lab.until(last + HALF_CLOSED_IDLE + COARSE).passes(&ready.client(ACK, 0));
}

#[test]
fn case_70_a_table_that_survives_its_process_goes_on() {
    let mut config = config(Role::Single);
    config.limits.flows = 128;
    let attach = |slots: Vec<Slot>, now, seed| {
        Translator::attach(now, Rng::from_u64(seed), config.clone(), slots).expect("slots enough")
    };
    let (first, attached) = attach(vec![Slot::EMPTY; slots_for(128)], Instant::ZERO, 1);
    assert_eq!((attached.flows, attached.discarded), (0, 0));
    let mut lab = Lab::around(first).warmed();
    let ready = lab.ready();
    lab.at(1_000).hear(&ready.server(ACK, 0, 0).data(&bytes(100))).said_to(C);

    // The process dies here. All that is left is the memory.
    let left = lab.translator().slots().to_vec();
    let (second, attached) = attach(left, Instant::from_millis(1_050), 2);
    assert_eq!((attached.flows, attached.discarded), (2, 0));
    let mut lab = Lab::around(second);
    lab.at(1_050).hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0));
    let next = ready.server(ACK, 100, 0).data(&bytes(100));
    lab.hear(&next).says(C, &ready.shifted(ACK, 100, 0).data(&bytes(100))).quiet();
    assert_eq!(lab.state(), Some(FlowState::Established));
    // A repeated SYN-ACK is known, too.
    lab.hear(&syn_ack()).said_to(S);
    lab.quiet();
}

#[test]
fn case_71_after_a_start_without_the_table_both_ends_are_told_if_the_owner_wants_that() {
    let ready = Ready { isn: 0x1234, clock: 5 };
    let mut config = config(Role::Single);
    config.unknown = Unknown::Reset;
    let mut lab = Lab::with(config.clone());
    lab.hear(&ready.client(ACK, 10));
    let (to_client, to_server) = (lab.said_to(C), lab.said_to(S));
    assert_eq!((to_client.flags, to_client.seq), (RST, ready.isn.wrapping_add(1)));
    assert_eq!((to_server.flags, to_server.seq), (RST, CI.wrapping_add(11)));
    lab.quiet().hear(&ready.server(ACK, 500, 11));
    lab.says(C, &ready.server(ACK, 500, 11));
    let to_server = lab.said_to(S);
    assert_eq!((to_server.flags, to_server.seq), (RST, CI.wrapping_add(12)));
    // What begins after the start is not concerned, nor what is not allowed.
    lab.passes(&syn().port(40_001)).passes(&syn_ack().port(40_001));
    lab.passes(&Seg::of(C, RST, 5, 0)).at(60_000).passes(&ready.client(ACK, 10));

    let mut lab = Lab::new(Role::Single);
    lab.passes(&ready.client(ACK, 10)).passes(&ready.server(ACK, 500, 11));
}

#[test]
fn case_72_a_draining_translator_finishes_what_it_began_and_begins_nothing() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    let other = |segment: Seg| segment.port(40_001);
    lab.hear(&other(syn())).said_to(S);
    let half = Ready::new(&lab.said_to(C));
    lab.events();
    lab.machine.command(lab.now, |translator| translator.drain(Instant::ZERO));
    lab.passes(&syn().port(40_002)).passes(&syn_ack().port(40_002));
    assert!(matches!(lab.events()[..], [Event::Bypassed { why: Bypass::Draining, .. }]));
    // A handshake under way ends well.
    lab.hear(&other(syn_ack())).hear(&other(half.client(ACK, 0))).says(S, &other(half.translated(ACK, 0)));
    lab.hear(&ready.client(ACK | FIN, 0)).said_to(S);
    lab.hear(&ready.server(ACK | FIN, 0, 1)).said_to(C);
    lab.hear(&other(half.client(RST, 0))).said_to(S);
    assert!(!lab.translator().is_idle());
    lab.until(Instant::ZERO + TIME_WAIT + Duration::from_secs(30));
    assert!(lab.translator().is_idle());
}

#[test]
fn a_translator_takes_no_configuration_that_makes_no_sense() {
    use gimlet_tcp::{AllowError, Config, ConfigError};
    let new = |config: Config| Translator::new(Instant::ZERO, Rng::from_u64(1), config).map(|_| ());
    let with = |change: fn(&mut Config)| {
        let mut config = config(Role::Near);
        change(&mut config);
        new(config)
    };
    assert_eq!(with(|config| config.secret = None), Err(ConfigError::NoSecret));
    assert_eq!(with(|config| config.allowed.clear()), Err(ConfigError::NothingAllowed));
    assert_eq!(with(|config| config.limits.flows = 0), Err(ConfigError::Flows(0)));
    assert_eq!(with(|config| config.limits.half_open = 1 << 17), Err(ConfigError::HalfOpen(1 << 17)));
    assert_eq!(
        with(|config| config.allowed = vec![config.allowed[0].clone(); 1_025]),
        Err(ConfigError::TooManyAllowed)
    );
    assert_eq!(with(|_| ()), Ok(()));
    let few =
        Translator::attach(Instant::ZERO, Rng::from_u64(1), config(Role::Single), vec![Slot::EMPTY; 64]);
    assert_eq!(few.map(|_| ()), Err(ConfigError::Slots(64)));
    let half = vec![Slot::EMPTY; slots_for(512)];
    let few = Translator::attach(Instant::ZERO, Rng::from_u64(1), config(Role::Single), half);
    assert_eq!(few.map(|_| ()), Err(ConfigError::Slots(slots_for(512))));
    let enough = Limits { flows: 100, ..Limits::default() };
    let mut config = config(Role::Single);
    (config.limits, config.allowed) = (enough, vec![config.allowed[0].clone(); 1_024]);
    let more = config.allowed[0].clone();
    let mut translator = Translator::new(Instant::ZERO, Rng::from_u64(1), config).unwrap();
    assert_eq!(translator.allow(Instant::ZERO, more), Err(AllowError::TooMany));
}
