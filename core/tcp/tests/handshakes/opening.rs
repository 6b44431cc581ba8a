//! Handshakes that succeed.

use gimlet_tcp::{Event, FlowState, Role};
use gimlet_wire::TcpOption;

use crate::lab::{
    ACK, C, CI, CLOCK, FIN, Lab, PSH, RST, Ready, S, SR, SYN, Seg, T, bytes, flow, profile, syn, syn_ack,
    syn_ack_options, syn_options,
};

#[test]
fn case_27_a_syn_to_a_warm_destination_is_answered_and_goes_on_in_the_same_moment() {
    let mut lab = Lab::warm(Role::Single);
    let spoof = lab.opened();
    assert_eq!((spoof.flags, spoof.ack, spoof.window), (SYN | ACK, CI.wrapping_add(1), 16_384));
    assert_eq!(spoof.timestamps().map(|(_, echo)| echo), Some(CLOCK));
    assert_eq!(spoof.options.as_slice(), {
        let clock = Ready::new(&spoof).clock;
        let options = gimlet_wire::TcpOptionList::new().maximum_segment_size(1_460).sack_permitted();
        options.timestamps(clock, CLOCK).no_operation().window_scale(7).as_slice().to_vec()
    });
    assert!(matches!(&lab.events()[..], [Event::Spoofed { flow: f }] if *f == flow()));
    assert_eq!(lab.state(), Some(FlowState::HalfOpen));
    lab.quiet();
}

#[test]
fn case_28_a_syn_to_a_cold_destination_passes_and_its_answer_is_learned() {
    let mut lab = Lab::new(Role::Single);
    lab.hear(&syn()).says(S, &syn()).quiet();
    lab.hear(&syn_ack()).says(C, &syn_ack()).quiet();
    let learned = profile(&mut lab).expect("it is told");
    assert_eq!((learned.segment_size, learned.window_scale, learned.hop_limit), (1_460, Some(Some(7)), 61));
    // This connection stays what it is.
    let data = Seg::of(C, ACK, CI + 1, SR + 1).data(b"plain");
    lab.hear(&data).says(S, &data).hear(&syn()).says(S, &syn());
    // The next one is answered.
    lab.hear(&syn().port(40_001)).says(S, &syn().port(40_001));
    assert_eq!(lab.said_to(C).flags, SYN | ACK);
}

#[test]
fn case_29_early_data_follows_the_acknowledgement_in_order() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    let data = bytes(300);
    lab.hear(&ready.client(ACK, 0)).quiet();
    lab.hear(&ready.client(ACK, 200).data(&data[200..]))
        .hear(&ready.client(ACK, 0).data(&data[..200]))
        .quiet();
    assert_eq!((lab.state(), lab.counters().held), (Some(FlowState::AwaitServer), 300));
    lab.at(50).hear(&syn_ack());
    lab.says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK, 0).data(&data)).quiet();
    assert_eq!((lab.state(), lab.translator().pooled()), (Some(FlowState::Established), 0));
    let told = lab.events();
    let Some(Event::Established { early, waited, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!((*early, waited.as_millis()), (300, 50));
    // From here on both sides are translated.
    lab.hear(&ready.server(ACK, 0, 300)).says(C, &ready.shifted(ACK, 0, 300));
    lab.hear(&ready.client(ACK, 300).data(b"more"))
        .says(S, &ready.translated(ACK, 300).data(b"more"))
        .quiet();
}

#[test]
fn case_30_a_server_that_answers_first_waits_for_the_clients_acknowledgement() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&syn_ack()).quiet();
    assert_eq!(lab.state(), Some(FlowState::AwaitClient));
    lab.hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0)).quiet();
    assert_eq!(lab.state(), Some(FlowState::Established));
}

#[test]
fn case_31_data_is_an_acknowledgement_as_well() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"first")).quiet();
    lab.hear(&syn_ack()).says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK, 0).data(b"first"));
    lab.quiet();
}

#[test]
fn case_32_a_repeated_syn_is_answered_with_the_same_bytes_and_goes_on_once_in_a_while() {
    let mut lab = Lab::warm(Role::Single);
    lab.hear(&syn()).says(S, &syn());
    let first = lab.frame_to(C);
    lab.at(10).hear(&syn());
    assert_eq!(lab.frame_to(C), first);
    lab.quiet();
    // A second later the client's clock has moved on. The answer has not.
    lab.at(900).hear(&Seg::of(C, SYN, CI, 0).options(syn_options()));
    assert_eq!(lab.frame_to(C), first);
    lab.says(S, &syn()).quiet();
}

#[test]
fn case_33_a_lost_syn_is_sent_again_and_silence_ends_after_thirty_seconds() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(&bytes(100))).quiet();
    for millis in [1_000, 3_000, 7_000, 15_000] {
        lab.at(millis).says(S, &syn());
    }
    lab.at(29_999).quiet();
    assert!(lab.translator().pooled() > 0);
    let reset = lab.at(30_000).said_to(C);
    assert_eq!((reset.flags, reset.seq), (RST | ACK, ready.isn.wrapping_add(1)));
    assert_eq!(reset.ack, CI.wrapping_add(101));
    lab.quiet();
    assert_eq!((lab.translator().pooled(), lab.state()), (0, Some(FlowState::Aborted)));
}

#[test]
fn case_34_the_first_syn_ack_counts_and_the_second_is_absorbed() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"x"));
    lab.at(1_000).says(S, &syn()).hear(&syn_ack());
    lab.says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK, 0).data(b"x"));
    lab.hear(&syn_ack()).said_to(S);
    lab.quiet();
    assert_eq!(lab.counters().repeated_syn_acks, 1);
    lab.hear(&ready.server(ACK, 0, 1)).says(C, &ready.shifted(ACK, 0, 1)).quiet();
}

#[test]
fn case_35_a_server_that_lost_the_acknowledgement_gets_it_again_to_the_bit() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    let again = syn_ack().options(syn_ack_options(7));
    lab.at(1_000).hear(&again);
    let ack = lab.said_to(S);
    assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, CI.wrapping_add(1), SR + 1));
    assert_eq!(ack.timestamps(), Some((CLOCK, T)));
    assert!(ack.window <= 502 && ack.window > 400, "{}", ack.window);
    lab.quiet().hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0)).quiet();
}

#[test]
fn case_35_a_forged_rst_does_not_keep_the_acknowledgement_from_the_server() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&Seg::of(C, RST, 12_345, 0)).said_to(S);
    assert_eq!(lab.state(), Some(FlowState::Lingering));
    lab.hear(&syn_ack());
    assert_eq!((lab.said_to(S).ack, lab.state()), (SR + 1, Some(FlowState::Established)));
    // A SYN-ACK with another number is nobody's.
    lab.hear(&Seg { seq: 0x777, ..syn_ack() }).quiet();
    lab.hear(&ready.client(ACK | FIN, 0)).said_to(S);
    lab.hear(&syn_ack());
    assert_eq!(lab.said_to(S).flags, ACK);
    lab.quiet();
}

#[test]
fn case_39_a_syn_ack_for_something_else_is_answered_with_a_rst_and_the_flow_stays() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&Seg { ack: 0x1234_5678, ..syn_ack() });
    let reset = lab.said_to(S);
    assert_eq!((reset.flags, reset.seq), (RST, 0x1234_5678));
    lab.quiet().hear(&syn_ack()).hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0)).quiet();
}

#[test]
fn case_40_a_challenge_from_an_old_connection_is_answered_with_a_rst_and_the_syn_comes_again() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"x")).hear(&Seg::of(S, ACK, 777, 5_000));
    let reset = lab.said_to(S);
    assert_eq!((reset.flags, reset.seq), (RST, 5_000));
    lab.quiet().at(1_000).says(S, &syn()).hear(&syn_ack());
    lab.says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK, 0).data(b"x")).quiet();
}

#[test]
fn case_41_the_low_bits_of_the_servers_clock_come_back_unchanged() {
    for clock in [0x3e8, 0xffff_ffc5, 0, 0x8000_003f] {
        let mut lab = Lab::warm(Role::Single);
        let ready = Ready::new(&lab.opened());
        lab.hear(&ready.client(ACK, 0).data(b"x"));
        let options = gimlet_wire::TcpOptionList::new().maximum_segment_size(1_460).sack_permitted();
        lab.hear(&syn_ack().options(options.timestamps(clock, CLOCK).no_operation().window_scale(7)));
        assert_eq!(lab.said_to(S).timestamps(), Some((CLOCK + 1, clock)));
        assert_eq!(lab.said_to(S).timestamps(), Some((CLOCK + 1, clock)));
    }
}

#[test]
fn case_42_a_server_that_speaks_first_is_acknowledged_at_once_and_translated_once() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0)).quiet().hear(&syn_ack());
    lab.says(S, &ready.translated(ACK, 0)).quiet();
    lab.hear(&ready.server(ACK, 0, 0).data(b"220 hello"));
    lab.says(C, &ready.shifted(ACK, 0, 0).data(b"220 hello")).quiet();
}

#[test]
fn case_43_a_fin_waits_its_turn_behind_the_data() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK | FIN, 10)).hear(&ready.client(ACK, 0).data(&bytes(10))).quiet();
    lab.hear(&syn_ack()).says(S, &ready.translated(ACK, 0));
    lab.says(S, &ready.translated(ACK | FIN, 0).data(&bytes(10))).quiet();
    assert_eq!(lab.state(), Some(FlowState::ClientClosed));

    // Without data it goes alone.
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK | FIN, 0)).quiet();
    lab.hear(&syn_ack()).says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK | FIN, 0)).quiet();
}

#[test]
fn case_48_a_new_syn_after_both_ends_closed_begins_a_new_flow() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    lab.hear(&ready.client(ACK | FIN, 0)).said_to(S);
    lab.hear(&ready.server(ACK | FIN, 0, 1)).said_to(C);
    assert_eq!(lab.state(), Some(FlowState::TimeWait));
    let again = Seg { seq: 5, ..syn() };
    lab.hear(&again).says(S, &again);
    let spoof = lab.said_to(C);
    assert!(spoof.flags == SYN | ACK && spoof.ack == 6 && spoof.seq != ready.isn);
    assert_eq!(lab.state(), Some(FlowState::HalfOpen));
}

#[test]
fn case_51_early_data_is_cut_to_what_the_server_takes_and_the_client_is_told_the_size() {
    let mut lab = Lab::warm(Role::Single);
    let plain = gimlet_wire::TcpOptionList::new().maximum_segment_size(1_460);
    // Neither side uses timestamps, so that sizes are round.
    lab.hear(&syn().options(plain)).says(S, &syn().options(plain));
    let ready = Ready::new(&lab.said_to(C));
    let bare = |flags, at| Seg { options: gimlet_wire::TcpOptionList::new(), ..ready.client(flags, at) };
    lab.hear(&bare(ACK, 0).data(&bytes(1_448))).quiet();
    lab.hear(&syn_ack().options(gimlet_wire::TcpOptionList::new().maximum_segment_size(536)));
    assert_eq!(lab.said_to(S).payload.len(), 0);
    let parts: Vec<Seg> = (0..3).map(|_| lab.said_to(S)).collect();
    assert_eq!(parts.iter().map(|part| part.payload.len()).collect::<Vec<_>>(), [536, 536, 376]);
    assert_eq!(parts.iter().flat_map(|part| part.payload.clone()).collect::<Vec<_>>(), bytes(1_448));
    assert_eq!(parts[1].seq, CI.wrapping_add(537));
    lab.quiet().hear(&bare(ACK, 1_448).data(&bytes(1_460)));
    let told = lab.frame_to(C);
    let layout = gimlet_wire::Layout::of(&told).unwrap();
    let quote = gimlet_wire::IcmpQuote::of(&told, &layout).unwrap().unwrap();
    assert_eq!(quote.error, gimlet_wire::IcmpError::PacketTooBig { mtu: 576 });
    assert_eq!(quote.segment(&told).unwrap().seq, CI.wrapping_add(1_449));
    assert!(layout.transport_checksum_holds(&told));
    // The rest of the burst is dropped in silence, and what fits passes.
    lab.hear(&bare(ACK, 2_908).data(&bytes(1_460))).quiet();
    lab.hear(&bare(ACK, 1_448).data(&bytes(536)));
    assert_eq!((lab.said_to(S).payload.len(), lab.counters().too_large), (536, 2));
}

#[test]
fn case_52_no_more_goes_than_the_servers_window_takes() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    for at in [0, 1_000, 2_000] {
        lab.hear(&ready.client(ACK, at).data(&bytes(3_000)[at as usize..][..1_000]));
    }
    lab.quiet().hear(&syn_ack().window(1_000)).says(S, &ready.translated(ACK, 0));
    assert_eq!(lab.said_to(S).payload, &bytes(3_000)[..1_000]);
    lab.quiet();
    // 8 << 7 bytes from here on.
    lab.hear(&ready.server(ACK, 0, 1_000).window(8)).says(C, &ready.shifted(ACK, 0, 1_000).window(8));
    assert_eq!(lab.said_to(S).payload, &bytes(3_000)[1_000..2_024]);
    lab.quiet().hear(&ready.server(ACK, 0, 2_024)).said_to(C);
    let last = lab.said_to(S);
    assert_eq!((&last.payload[..], last.flags), (&bytes(3_000)[2_024..], ACK | PSH));
    assert_eq!((lab.translator().pooled(), lab.translator().half_open()), (0, 0));
    lab.quiet();
}

#[test]
fn case_54_congestion_marks_that_nobody_learned_are_not_asked_for() {
    let mut lab = Lab::warm(Role::Single);
    let ecn = gimlet_wire::TcpFlags::ECE | gimlet_wire::TcpFlags::CWR;
    lab.hear(&Seg { flags: SYN | ecn | gimlet_wire::TcpFlags::AE, ..syn() }).says(S, &syn());
    assert_eq!(lab.said_to(C).flags, SYN | ACK);

    // A server that is known to take them is asked.
    let mut lab = Lab::new(Role::Single);
    let asking = |port| Seg { flags: SYN | ecn, ..syn().port(port) };
    lab.hear(&asking(39_999)).says(S, &asking(39_999));
    let flags = SYN | ACK | gimlet_wire::TcpFlags::ECE;
    lab.hear(&Seg { flags, ..syn_ack().port(39_999) }).said_to(C);
    lab.hear(&asking(40_000)).says(S, &asking(40_000));
    assert_eq!(lab.said_to(C).flags, flags);
}

#[test]
fn options_that_the_server_was_seen_to_refuse_are_neither_promised_nor_asked_for() {
    let mut lab = Lab::new(Role::Single);
    let only_size = gimlet_wire::TcpOptionList::new().maximum_segment_size(1_400);
    lab.hear(&syn().port(39_999)).said_to(S);
    lab.hear(&syn_ack().port(39_999).options(only_size)).said_to(C);
    lab.hear(&syn());
    let forwarded = lab.said_to(S);
    let known = |option: TcpOption<'_>| (option != TcpOption::NoOperation).then_some(());
    let kept = gimlet_wire::TcpOptions::new(forwarded.options.as_slice(), 20).flatten();
    assert_eq!(kept.filter(|(_, option)| known(*option).is_some()).count(), 1);
    assert_eq!(forwarded.options.as_slice().len(), syn().options.as_slice().len());
    let spoof = lab.said_to(C);
    assert_eq!(spoof.options, only_size);
}

#[test]
fn what_waits_for_a_window_is_let_go_with_its_flow() {
    let waiting = || {
        let mut lab = Lab::warm(Role::Single);
        let ready = Ready::new(&lab.opened());
        lab.hear(&ready.client(ACK, 0).data(&bytes(1_400))).hear(&syn_ack().window(500)).everything();
        assert!(lab.translator().pooled() > 0);
        (lab, ready)
    };
    // By a RST.
    let (mut lab, ready) = waiting();
    lab.hear(&ready.server(RST, 0, 0)).said_to(C);
    assert_eq!((lab.translator().pooled(), lab.translator().half_open()), (0, 0));
    let again = Seg { seq: 5, ..syn() };
    lab.quiet().hear(&again).says(S, &again).said_to(C);
    // By time.
    let (mut lab, ready) = waiting();
    lab.at(30_000).quiet();
    assert_eq!((lab.translator().pooled(), lab.counters().let_go), (0, 900));
    lab.hear(&ready.server(ACK, 0, 500)).says(C, &ready.shifted(ACK, 0, 500)).quiet();
    lab.hear(&ready.client(ACK, 500).data(b"again")).says(S, &ready.translated(ACK, 500).data(b"again"));
}

#[test]
fn a_client_that_was_promised_nothing_is_told_when_it_may_send() {
    let mut config = crate::lab::config(Role::Single);
    config.limits.early_data = 0;
    let mut lab = Lab::with(config).warmed();
    let spoof = lab.opened();
    assert_eq!(spoof.window, 0);
    let ready = Ready::new(&spoof);
    // A probe while the server is silent.
    lab.hear(&ready.client(ACK, 0)).hear(&Seg { seq: CI, ..ready.client(ACK, 0) }).quiet();
    lab.hear(&syn_ack());
    let update = lab.said_to(C);
    assert_eq!((update.flags, update.seq, update.ack), (ACK, ready.isn.wrapping_add(1), CI.wrapping_add(1)));
    assert_eq!((update.window, update.timestamps()), (65_160 >> 7, Some((ready.clock, CLOCK + 1))));
    lab.says(S, &ready.translated(ACK, 0)).quiet();
}
