//! Handshakes that fail, or that do not concern us.

use gimlet_tcp::{Bypass, Cause, Event, FlowState, Role};
use gimlet_wire::{Envelope, TcpFlags, TcpOption, TcpOptionList};

use crate::lab::{
    ACK, C, CI, CLOCK, FIN, Lab, PSH, RST, Ready, S, SR, SYN, Seg, T, bytes, flow, syn, syn_ack, syn_options,
};

#[test]
fn case_36_a_refusal_reaches_the_client_at_the_number_that_it_expects() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(&bytes(10))).quiet();
    lab.events();
    lab.at(50).hear(&Seg::of(S, RST | ACK, 0, CI.wrapping_add(1)));
    let reset = lab.said_to(C);
    assert_eq!((reset.flags, reset.seq), (RST | ACK, ready.isn.wrapping_add(1)));
    assert_eq!(reset.ack, CI.wrapping_add(11));
    lab.quiet();
    assert_eq!((lab.state(), lab.translator().pooled()), (Some(FlowState::Aborted), 0));
    assert_eq!(lab.events(), [Event::Aborted { flow: flow(), cause: Cause::Refused }]);
    // Whoever goes on is told again.
    lab.hear(&ready.client(ACK, 10).data(b"?"));
    assert_eq!((lab.said_to(C).flags, lab.state()), (RST, Some(FlowState::Aborted)));
    // The next client finds out for itself.
    lab.hear(&syn().port(40_001)).says(S, &syn().port(40_001)).quiet();
    assert_eq!(lab.counters().unfit, 1);
}

#[test]
fn case_37_a_rst_that_answers_nothing_is_dropped() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&Seg::of(S, RST, 0, 0xdead_beef)).hear(&Seg::of(S, RST | ACK, 0, 0xdead_beef)).quiet();
    lab.hear(&Seg::of(S, RST, SR + 1, 0)).quiet();
    assert_eq!(lab.counters().blind_resets, 3);
    lab.hear(&syn_ack()).hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0)).quiet();
}

/// An ICMP error of this type and code from a router before the server, about the SYN with this number.
fn unreachable(code: u8, seq: u32) -> Vec<u8> {
    let quoted = Seg { seq, ..syn() }.frame();
    let mut frame = Vec::new();
    let envelope = Envelope { source: [192, 0, 2, 1].into(), ..syn_ack().envelope() };
    envelope.write_packet_too_big(&mut frame, 0, &quoted[14..]);
    let layout = gimlet_wire::Layout::of(&frame).unwrap();
    let at = layout.transport_range().start;
    (frame[at], frame[at + 1]) = (3, code);
    frame[at + 2..at + 4].fill(0);
    let sum = gimlet_wire::checksum(&frame[layout.transport_range()]);
    frame[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn case_38_a_hard_icmp_error_about_the_syn_ends_the_attempt_and_a_soft_one_is_remembered() {
    let leg = gimlet_tcp::Leg::new(S);
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"x"));
    // Somebody guesses.
    lab.hear_frame(leg, &unreachable(3, CI + 1)).quiet();
    lab.hear_frame(leg, &unreachable(3, CI));
    assert_eq!((lab.said_to(C).flags, lab.state()), (RST | ACK, Some(FlowState::Aborted)));
    lab.quiet();
    assert_eq!(lab.counters().quotes_implausible, 1);

    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(b"x")).hear_frame(leg, &unreachable(1, CI)).quiet();
    lab.events();
    for millis in [1_000, 3_000, 7_000, 15_000] {
        lab.at(millis).said_to(S);
    }
    assert_eq!(lab.at(30_000).said_to(C).flags, RST | ACK);
    let aborted = Event::Aborted { flow: flow(), cause: Cause::ServerUnreachable };
    assert!(lab.events().contains(&aborted));
}

#[test]
fn case_44_a_client_that_gives_up_takes_its_data_with_it() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(&bytes(10)));
    lab.hear(&Seg::of(C, RST, CI.wrapping_add(20_000), 0)).quiet();
    lab.hear(&Seg::of(C, RST, CI.wrapping_add(11), 0));
    let reset = lab.said_to(S);
    assert_eq!((reset.flags, reset.seq), (RST, CI.wrapping_add(11)));
    assert_eq!((lab.translator().pooled(), lab.counters().blind_resets), (0, 1));
    // The server's answer, which was on its way, is not for anybody.
    lab.quiet().hear(&syn_ack());
    assert_eq!((lab.said_to(S).flags, lab.translator().half_open()), (RST, 0));
    lab.quiet();
}

#[test]
fn case_45_two_ends_that_open_at_once_get_one_connection() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&Seg::of(S, SYN, SR, 0)).quiet();
    assert_eq!(lab.counters().simultaneous, 1);
    lab.hear(&syn_ack()).hear(&ready.client(ACK, 0)).says(S, &ready.translated(ACK, 0)).quiet();
}

#[test]
fn case_46_a_client_that_begins_anew_gets_a_new_answer_and_its_old_data_is_gone() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(&bytes(1_000))).quiet();
    let again = Seg { seq: 5, ..syn() };
    lab.hear(&again).says(S, &again);
    let second = lab.said_to(C);
    assert_eq!((second.ack, second.flags), (6, SYN | ACK));
    assert_ne!(second.seq, ready.isn);
    assert_eq!((lab.translator().pooled(), lab.translator().half_open()), (0, 1));
    // The server answers the old one.
    lab.hear(&syn_ack());
    assert_eq!((lab.said_to(S).flags, lab.state()), (RST, Some(FlowState::HalfOpen)));
    lab.quiet();
}

#[test]
fn case_47_a_client_that_lost_everything_is_sorted_out_by_the_server() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    let again = Seg { seq: 5, ..syn() };
    lab.hear(&again).says(S, &again).quiet();
    // The server challenges, the client denies (RFC 5961 section 4).
    lab.hear(&ready.server(ACK, 0, 0)).says(C, &ready.shifted(ACK, 0, 0));
    let denial = Seg::of(C, RST, CI + 1, 0);
    lab.hear(&denial).says(S, &denial).quiet();
    assert_eq!(lab.state(), Some(FlowState::Lingering));

    // Or the server accepts: then the two have agreed without us.
    let mut lab = Lab::warm(Role::Single);
    lab.ready();
    lab.hear(&again).says(S, &again).quiet();
    let accepted = Seg { seq: 0x777_7777, ack: 6, ..syn_ack() };
    lab.hear(&accepted).says(C, &accepted).quiet();
    assert_eq!(lab.state(), Some(FlowState::Bypass));
    let data = Seg::of(C, ACK, 6, 0x777_7778).data(b"as it is");
    lab.hear(&data).says(S, &data).quiet();
}

#[test]
fn case_47_a_late_copy_of_a_syn_ends_nothing_whatever_state_the_flow_is_in() {
    for ending in [&[][..], &[RST], &[ACK | FIN], &[ACK | FIN, RST]] {
        let mut lab = Lab::warm(Role::Single);
        let ready = lab.ready();
        for flags in ending {
            lab.hear(&ready.client(*flags, 0)).said_to(S);
        }
        let state = lab.state();
        lab.passes(&syn());
        assert_eq!(lab.state(), state, "{ending:?}");
        lab.hear(&ready.server(ACK, 0, 0)).says(C, &ready.shifted(ACK, 0, 0)).quiet();
    }
}

#[test]
fn case_47_a_forged_syn_and_a_forged_syn_ack_do_not_end_a_flow_whose_server_goes_on() {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    let forged = Seg { seq: 5, ..syn() };
    lab.passes(&forged);
    lab.hear(&ready.server(ACK, 0, 0)).says(C, &ready.shifted(ACK, 0, 0));
    lab.hear(&Seg { seq: 0x777_7777, ack: 6, ..syn_ack() }).quiet();
    assert_eq!(lab.state(), Some(FlowState::Established));
    lab.hear(&ready.server(ACK, 0, 0)).says(C, &ready.shifted(ACK, 0, 0)).quiet();
}

#[test]
fn case_49_a_wrong_acknowledgement_close_to_ours_is_answered_with_a_rst_and_nothing_is_held() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    let wrong = Seg { ack: ready.isn.wrapping_add(2), ..ready.client(ACK, 0) };
    lab.hear(&wrong.data(&bytes(500)));
    let reset = lab.said_to(C);
    assert_eq!((reset.flags, reset.seq), (RST, ready.isn.wrapping_add(2)));
    assert_eq!((lab.state(), lab.translator().pooled()), (Some(FlowState::HalfOpen), 0));
    lab.quiet();
}

#[test]
fn case_50_sack_that_the_server_does_not_take_is_taken_out() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0));
    let options = TcpOptionList::new().maximum_segment_size(1_460).timestamps(T, CLOCK).window_scale(7);
    lab.hear(&syn_ack().options(options)).said_to(S);
    let list = TcpOptionList::new().no_operation().no_operation().timestamps(CLOCK + 1, ready.clock);
    let with_sack = list.no_operation().no_operation().sack(&[(ready.isn, ready.isn.wrapping_add(9))]);
    lab.hear(&Seg { options: with_sack, ..ready.client(ACK, 0) });
    let cleaned = lab.said_to(S);
    assert_eq!(cleaned.options.as_slice().len(), with_sack.as_slice().len());
    assert!(cleaned.find(|option| matches!(option, TcpOption::Sack(_)).then_some(())).is_none());
    assert_eq!(cleaned.timestamps(), Some((CLOCK + 1, T)));
}

#[test]
fn case_50_a_server_without_the_timestamps_that_were_promised_gets_no_byte() {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    lab.hear(&ready.client(ACK, 0).data(&bytes(100)));
    lab.hear(&syn_ack().options(TcpOptionList::new().maximum_segment_size(1_460).sack_permitted()));
    let to_server = lab.said_to(S);
    assert_eq!((to_server.flags, to_server.seq, to_server.payload.len()), (RST, CI.wrapping_add(1), 0));
    assert_eq!(lab.said_to(C).flags, RST | ACK);
    lab.quiet();
    assert_eq!((lab.state(), lab.translator().pooled()), (Some(FlowState::Aborted), 0));
    lab.hear(&syn().port(40_001)).says(S, &syn().port(40_001)).quiet();
}

#[test]
fn a_server_whose_windows_could_vanish_in_what_was_promised_gets_no_byte() {
    let scaled = |scale| TcpOptionList::new().maximum_segment_size(1_460).window_scale(scale);
    for (promised, real, joins) in
        [(14, 7, false), (7, 0, true), (8, 0, false), (14, 14, true), (9, 10, true)]
    {
        let mut lab = Lab::new(Role::Single);
        let plain = |segment: Seg, scale| segment.options(scaled(scale));
        lab.hear(&plain(syn(), 10).port(39_999)).said_to(S);
        lab.hear(&plain(syn_ack(), promised).port(39_999)).said_to(C);
        lab.hear(&plain(syn(), 10)).said_to(S);
        let ready = Ready::new(&lab.said_to(C));
        lab.hear(&ready.client(ACK, 0).options(TcpOptionList::new())).hear(&plain(syn_ack(), real));
        assert_eq!(lab.said_to(S).flags, if joins { ACK } else { RST }, "{promised} and {real}");
        assert_eq!(lab.state() == Some(FlowState::Established), joins);
    }
}

#[test]
fn case_53_a_syn_that_we_cannot_answer_for_passes_and_so_does_all_of_its_flow() {
    let base = TcpOptionList::new().maximum_segment_size(1_460);
    let mut odd: Vec<Seg> = [
        base.fast_open(b""),
        base.fast_open(b"12345678"),
        base.option(19, &[0; 16]),
        base.option(29, &[1, 1, 0, 0, 0, 0]),
        base.option(30, &[0x01, 0x81]),
        base.option(69, &[0]),
        base.option(200, &[1, 2]),
    ]
    .map(|options| syn().options(options))
    .to_vec();
    odd.push(Seg { payload: b"early".to_vec(), ..syn() });
    for syn in odd {
        let mut lab = Lab::warm(Role::Single);
        lab.passes(&syn);
        assert_eq!(lab.events(), [Event::Bypassed { flow: flow(), why: Bypass::Options }]);
        assert_eq!(lab.state(), Some(FlowState::Bypass));
        lab.passes(&syn_ack()).passes(&Seg::of(C, ACK, CI + 1, SR + 1).data(b"data")).passes(&syn);
    }
}

#[test]
fn case_55_segments_that_are_no_syn_leave_nothing_behind() {
    let mut lab = Lab::warm(Role::Single);
    let before = lab.translator().flows().count();
    let xmas = FIN | PSH | TcpFlags::URG;
    for flags in [SYN | FIN, SYN | RST, TcpFlags::NONE, xmas, TcpFlags(0x1ff), FIN, SYN | ACK | FIN] {
        let segment = Seg::of(C, flags, CI, 0).options(syn_options());
        lab.passes(&segment);
    }
    assert_eq!(lab.translator().flows().count(), before);
    assert_eq!((lab.translator().half_open(), lab.counters().spoofed), (0, 0));
}
