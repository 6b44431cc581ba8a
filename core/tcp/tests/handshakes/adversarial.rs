//! What attackers and accidents do.

use std::net::Ipv4Addr;

use gimlet_machine::{Counters as _, Input, Instant, Machine, Rng, Verdict};
use gimlet_tcp::{Bypass, Checksum, Event, FlowKey, FlowState, LINGER, Leg, Limits, Rate, Role, Translator};
use gimlet_wire::{Envelope, Layout};

use crate::lab::{
    ACK, C, CI, CLOCK, FIN, Lab, RST, Ready, S, SR, SYN, Seg, T, bytes, config, flow, syn, syn_ack,
};

/// What is done to a frame.
type Damage = (&'static str, fn(&mut Vec<u8>));

#[test]
fn case_56_what_cannot_be_read_passes_unchanged_and_is_counted() {
    let whole = syn().frame();
    let damage: [Damage; 8] = [
        ("an option of length 0", |frame| frame[14 + 20 + 21] = 0),
        ("an option of length 1", |frame| frame[14 + 20 + 21] = 1),
        ("an option past the header", |frame| frame[14 + 20 + 21] = 40),
        ("a data offset of four words", |frame| frame[14 + 20 + 12] = 0x40),
        ("a data offset past the end", |frame| frame[14 + 20 + 12] = 0xf0),
        ("an IP header of four words", |frame| frame[14] = 0x44),
        ("an IP length past the end", |frame| frame[14 + 2] = 0xff),
        ("half a TCP header", |frame| frame.truncate(14 + 20 + 10)),
    ];
    for (what, damage) in damage {
        let mut lab = Lab::warm(Role::Single);
        let before = lab.counters().total();
        let mut frame = whole.clone();
        damage(&mut frame);
        lab.hear_frame(Leg::new(C), &frame);
        assert_eq!(lab.frame_to(S), frame, "{what}");
        lab.quiet();
        assert!(lab.counters().total() > before, "{what} was not counted");
        assert_eq!(lab.translator().half_open(), 0, "{what}");
    }
}

#[test]
fn case_56_every_bit_of_a_frame_may_be_wrong() {
    let mut rng = Rng::from_u64(56);
    for role in [Role::Single, Role::Near, Role::Far, Role::TfoUpgrade] {
        let mut lab = if role == Role::TfoUpgrade { Lab::new(role) } else { Lab::warm(role) };
        let ready = Ready { isn: 7, clock: 9 };
        let patterns = [
            syn().frame(),
            syn_ack().frame(),
            ready.client(ACK, 0).data(b"data").frame(),
            ready.server(ACK | FIN, 0, 4).data(b"data").frame(),
            Seg::of(S, RST | ACK, 0, CI + 1).frame(),
        ];
        for round in 0..3_000 {
            let mut frame = patterns[rng.below(5) as usize].clone();
            for _ in 0..rng.below(4) {
                let at = rng.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << rng.below(8);
            }
            frame.truncate(frame.len() - (rng.below(3) * rng.below(20)) as usize);
            let side = if rng.chance(500_000) { C } else { S };
            let checksum = if rng.chance(500_000) { Checksum::Partial } else { Checksum::Complete };
            let leg = Leg { checksum, gso: [0, 0, 1, 1_448][rng.below(4) as usize], ..Leg::new(side) };
            lab.hear_frame(leg, &frame).everything();
            if round % 100 == 99 {
                let at = lab.now + std::time::Duration::from_millis(700);
                while lab.machine.poll_timeout().is_some_and(|due| due.at <= at) {
                    lab.machine.handle_timeout(at);
                    lab.now = at;
                    lab.hear_frame(Leg::new(C), &[]).everything();
                }
                lab.now = at;
            }
        }
    }
}

#[test]
fn case_57_a_syn_with_a_wrong_checksum_is_not_answered_and_a_wrong_checksum_stays_wrong() {
    let mut lab = Lab::warm(Role::Single);
    let mut frame = syn().frame();
    frame[14 + 20 + 7] ^= 1;
    lab.hear_frame(Leg::new(C), &frame);
    assert_eq!((lab.frame_to(S), lab.counters().bad_checksum), (frame.clone(), 1));
    lab.quiet();
    // A partial one cannot be wrong: the frame never left its host.
    lab.hear_frame(Leg { checksum: Checksum::Partial, ..Leg::new(C) }, &frame);
    lab.frame_to(S);
    assert_eq!(lab.said_to(C).flags, SYN | ACK);

    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    let (right, mut wrong) =
        (ready.client(ACK, 0).data(b"data").frame(), ready.client(ACK, 0).data(b"data").frame());
    let last = wrong.len() - 1;
    wrong[last] ^= 0x10;
    let right = {
        lab.hear_frame(Leg::new(C), &right);
        lab.frame_to(S)
    };
    let wrong = {
        lab.hear_frame(Leg::new(C), &wrong);
        lab.frame_to(S)
    };
    assert_eq!(right[..last], wrong[..last]);
    assert!(!Layout::of(&wrong).unwrap().transport_checksum_holds(&wrong));
}

#[test]
fn a_syn_with_a_wrong_sum_over_its_ip_header_is_no_pattern_for_others() {
    let mut lab = Lab::warm(Role::Single);
    let mut frame = syn().frame();
    frame[14 + 8] ^= 1;
    lab.hear_frame(Leg { checksum: Checksum::Partial, ..Leg::new(C) }, &frame);
    assert_eq!((lab.frame_to(S), lab.counters().bad_checksum), (frame, 1));
    lab.quiet();
}

#[test]
fn early_data_with_a_wrong_checksum_is_not_sent_on_with_a_right_one() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    let mut wrong = ready.client(ACK, 0).data(b"data").frame();
    *wrong.last_mut().unwrap() ^= 1;
    lab.hear_frame(Leg::new(C), &wrong).quiet();
    assert_eq!((lab.counters().bad_checksum, lab.translator().pooled()), (1, 0));
}

/// A SYN from another client.
fn from(source: Ipv4Addr, port: u16) -> Vec<u8> {
    let syn = Seg { ports: (port, 8_080), ..syn() };
    syn.frame_in(&Envelope { source: source.into(), ..syn.envelope() })
}

#[test]
fn case_58_a_million_syns_from_anywhere_take_no_more_than_there_is() {
    let mut config = config(Role::Single);
    config.limits = Limits { flows: 4_096, half_open: 1_000, ..Limits::default() };
    let mut lab = Lab::with(config.clone()).warmed();
    let ready = lab.ready();
    // Without the laws, for speed.
    let mut flooded = Translator::new(Instant::ZERO, Rng::from_u64(1), config).expect("a good configuration");
    let hear = |flooded: &mut Translator, side, frame: &mut Vec<u8>| {
        let verdict = flooded.handle_input(Instant::ZERO, Input::new(Leg::new(side), frame));
        let mut out = Vec::new();
        let mut answers = 0;
        while flooded.poll_transmit(Instant::ZERO, &mut gimlet_machine::Buf::new(&mut out)).is_some() {
            answers += 1;
        }
        while flooded.poll_event().is_some() {}
        (verdict, answers)
    };
    let learned = syn().port(39_999);
    hear(&mut flooded, C, &mut learned.frame());
    hear(&mut flooded, S, &mut syn_ack().port(39_999).frame());
    let (mut rng, mut most, mut answered) = (Rng::from_u64(58), 0, 0);
    for nth in 0..1_000_000 {
        let mut frame = from(Ipv4Addr::from_bits(rng.u32() | 1 << 31), rng.u32() as u16);
        let before = frame.clone();
        let (verdict, answers) = hear(&mut flooded, C, &mut frame);
        assert!(matches!(verdict, Verdict::Pass { .. }), "a SYN is never dropped");
        assert!(answers == 1 || frame == before, "what is not answered is not touched");
        answered += answers;
        if nth % 10_000 == 0 {
            most = most.max(flooded.memory());
        }
    }
    assert_eq!((answered, flooded.half_open()), (1_000, 1_000));
    assert!(flooded.flows().count() <= 4_096 && most < 4 << 20, "{most} bytes");
    let counters = flooded.counters();
    assert_eq!(counters.overload + counters.quiet + counters.rate_limited, 999_000);
    // Whoever was here before does not notice.
    lab.hear(&ready.client(ACK, 0).data(b"x")).says(S, &ready.translated(ACK, 0).data(b"x"));
}

#[test]
fn case_59_a_source_that_floods_gets_its_share_and_the_rest_passes() {
    let mut config = config(Role::Single);
    config.limits.rate = Rate { burst: 50, per_second: 10 };
    let mut lab = Lab::with(config).warmed();
    let mut answered = 0;
    for n in 0..20_000_u32 {
        let source = Ipv4Addr::new(10, 0, 0, (n % 250) as u8 + 3);
        lab.hear_frame(Leg::new(C), &from(source, (n / 250) as u16 + 1));
        answered += lab.everything().iter().filter(|(side, _)| *side == C).count();
    }
    assert_eq!(answered, 50);
    let counters = lab.counters();
    assert_eq!((counters.spoofed, counters.spoofed + counters.rate_limited + counters.quiet), (50, 20_000));
}

#[test]
fn case_60_what_overruns_the_promised_window_is_dropped_and_memory_comes_back() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    let data = bytes(20_000);
    for (nth, part) in data.chunks(1_000).enumerate() {
        lab.hear(&ready.client(ACK, nth as u32 * 1_000).data(part)).quiet();
    }
    let counters = lab.counters();
    // Segments that begin beyond the window are out of it, the one across its edge is cut.
    assert_eq!((counters.held, counters.refused, counters.out_of_window), (16_384, 616, 3));
    assert!((16_384..17_000).contains(&lab.translator().pooled()), "{}", lab.translator().pooled());
    lab.hear(&Seg::of(C, RST, CI.wrapping_add(1), 0)).said_to(S);
    assert_eq!(lab.translator().pooled(), 0);
}

#[test]
fn the_pool_is_shared_and_a_full_one_promises_less_and_then_nothing() {
    let mut config = config(Role::Single);
    config.limits.pool = 64 << 10;
    let mut lab = Lab::with(config).warmed();
    let mut windows = Vec::new();
    for port in 1..=8 {
        lab.hear(&syn().port(port)).said_to(S);
        let Some((C, spoof)) = lab.everything().pop() else { break };
        let spoof = Seg::read(C, &spoof);
        windows.push(spoof.window);
        let data = bytes(usize::from(spoof.window));
        lab.hear(&Ready::new(&spoof).client(ACK, 0).port(port).data(&data)).quiet();
    }
    assert_eq!(windows, [16_384, 16_384, 4_096, 4_096, 4_096, 4_096]);
    assert!(lab.translator().pooled() <= 64 << 10);
    assert_eq!(lab.counters().overload, 1);
    // Nobody is served now, and nobody is when the handshakes are over, until no copy of a SYN is about.
    for _ in 0..200 {
        lab.everything();
        let at = lab.now + std::time::Duration::from_millis(500);
        while lab.machine.poll_timeout().is_some_and(|due| due.at <= at) {
            lab.machine.handle_timeout(at);
            lab.now = at;
            lab.hear_frame(Leg::new(C), &[]).everything();
        }
        lab.now = at;
    }
    assert_eq!((lab.translator().pooled(), lab.translator().half_open()), (0, 0));
}

#[test]
fn case_61_the_first_copy_of_a_held_byte_stays() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"GET /good")).hear(&ready.client(ACK, 0).data(b"GET /evil"));
    assert_eq!((lab.counters().conflicting, lab.counters().held_again), (4, 5));
    lab.hear(&syn_ack()).says(S, &ready.translated(ACK, 0));
    assert_eq!(lab.said_to(S).payload, b"GET /good");
}

#[test]
fn case_62_guessed_rsts_are_judged_by_the_end_that_they_are_for() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    for guess in [1, 0x4000_0000, 0x8000_0000] {
        lab.hear(&Seg::of(S, RST, guess, 0))
            .says(C, &Seg::of(S, RST, guess.wrapping_sub(SR).wrapping_add(ready.isn), 0));
    }
    assert_eq!(lab.state(), Some(FlowState::Lingering));
    // The client challenges, the server answers: alive.
    lab.hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0));
    assert_eq!(lab.state(), Some(FlowState::Established));
    lab.at(LINGER.as_millis() as u64 * 3)
        .hear(&ready.server(ACK, 0, 0))
        .says(C, &ready.shifted(ACK, 0, 0))
        .quiet();
}

#[test]
fn case_62_a_forged_rst_does_not_end_an_idle_flow_unless_room_is_short() {
    let forged = Seg::of(S, RST, 0x4000_0000, 0);
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&forged).said_to(C);
    // Nobody has anything to say for an hour.
    lab.at(3_600_000).hear(&ready.server(ACK, 0, 0)).says(C, &ready.shifted(ACK, 0, 0)).quiet();

    let mut config = config(Role::Single);
    config.limits.flows = 4;
    let mut lab = Lab::with(config).warmed();
    let ready = lab.ready();
    lab.hear(&forged).said_to(C);
    lab.at(LINGER.as_millis() as u64 + 600).passes(&ready.server(ACK, 0, 0));
}

#[test]
fn case_65_a_server_whose_answers_take_another_way_is_left_alone() {
    // Nothing of the server's comes by.
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"x")).quiet();
    for millis in [1_000, 3_000, 7_000, 15_000] {
        lab.at(millis).said_to(S);
    }
    assert_eq!(lab.at(30_000).said_to(C).flags, RST | ACK);
    // For ten minutes connections are as they are without us.
    lab.passes(&syn().port(40_001)).passes(&syn_ack().port(40_001));
    lab.at(620_000).passes(&syn().port(40_002));

    // The client heard the server first, by the other way.
    let mut lab = Lab::warm(Role::Single);
    lab.opened();
    lab.events();
    let elsewhere = Seg::of(C, ACK, CI + 1, 0x1111_1111).clocks(CLOCK + 1, T);
    lab.passes(&elsewhere).passes(&elsewhere.clone().data(b"data"));
    assert_eq!(lab.events(), [Event::Bypassed { flow: flow(), why: Bypass::Agreed }]);
    assert_eq!((lab.state(), lab.translator().half_open()), (Some(FlowState::Bypass), 0));
    lab.passes(&syn().port(40_001));
}

#[test]
fn case_66_both_directions_of_a_flow_have_one_name_so_workers_can_share_by_it() {
    let key = |segment: &Seg, leg: Leg| {
        let frame = segment.frame();
        let layout = Layout::of(&frame).unwrap();
        FlowKey::of(&frame, &layout, layout.tcp(&frame).unwrap().ports(), leg.side, leg.tag).unwrap()
    };
    let tagged = |side| Leg { tag: Some(42), ..Leg::new(side) };
    assert_eq!(key(&syn(), Leg::new(C)), key(&syn_ack(), Leg::new(S)));
    assert_eq!(key(&syn(), tagged(C)), key(&syn_ack(), tagged(S)));
    assert_ne!(key(&syn(), tagged(C)), key(&syn(), Leg::new(C)));

    // Two workers, each with its flows: one of the segments at the wrong one would not be translated.
    let mut workers = [Lab::warm(Role::Single), Lab::warm(Role::Single)];
    for port in 40_000..40_020 {
        let at = |segment: &Seg| usize::from(key(segment, Leg::new(segment.side)).client().port() % 2);
        let (syn, syn_ack) = (syn().port(port), syn_ack().port(port));
        let worker = &mut workers[at(&syn)];
        worker.hear(&syn).said_to(S);
        let ready = Ready::new(&worker.said_to(C));
        workers[at(&syn_ack)].hear(&syn_ack).quiet();
        let answer = ready.client(ACK, 0).port(port);
        workers[at(&answer)].hear(&answer).says(S, &ready.translated(ACK, 0).port(port)).quiet();
    }
}

#[test]
fn case_67_a_clock_that_goes_back_stops_nothing() {
    let mut config = config(Role::Single);
    config.warm_for = std::time::Duration::from_secs(600);
    let mut translator = Translator::new(Instant::from_millis(5_000), Rng::from_u64(1), config).unwrap();
    let at = Instant::from_millis;
    let mut hear = |now, segment: Seg| {
        let verdict = translator.handle_input(now, Input::new(Leg::new(segment.side), &mut segment.frame()));
        let (mut out, mut said) = (Vec::new(), Vec::new());
        while let Some(sent) = translator.poll_transmit(now, &mut gimlet_machine::Buf::new(&mut out)) {
            said.push(Seg::read(sent.path.side, &out));
        }
        translator.handle_timeout(now);
        let due = translator.poll_timeout().expect("something is due");
        assert!(due.at > at(5_000), "a deadline before the start");
        (verdict, said)
    };
    hear(at(9_000), syn().port(39_999));
    hear(at(1_000), syn_ack().port(39_999));
    let (_, said) = hear(Instant::ZERO, syn());
    let ready = Ready::new(&said[0]);
    hear(at(9_000), ready.client(ACK, 0).data(b"x"));
    let (_, said) = hear(at(2), syn_ack());
    assert_eq!(said.len(), 2);
    let (verdict, _) = hear(at(3), ready.server(ACK, 0, 1));
    assert!(matches!(verdict, Verdict::Pass { .. }));
    hear(Instant::FAR, ready.client(FIN | ACK, 1));
    hear(Instant::ZERO, ready.client(FIN | ACK, 1));
}

#[test]
fn early_data_in_fragments_is_left_to_the_client_to_send_again() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    let mut frame = ready.client(ACK, 0).data(&bytes(64)).frame();
    // More fragments follow.
    frame[14 + 6] = 0x20;
    lab.hear_frame(Leg::new(C), &frame).quiet();
    assert_eq!((lab.counters().refused, lab.translator().pooled()), (64, 0));
    let mut fragment = syn().port(40_001).frame();
    fragment[14 + 6] = 0x20;
    lab.hear_frame(Leg::new(C), &fragment);
    assert_eq!((lab.frame_to(S), lab.counters().fragments), (fragment, 1));
}
