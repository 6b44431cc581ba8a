//! Two boxes, and Fast Open.

use gimlet_tcp::{Event, FAST_OPEN_OFF_FOR, FlowState, Leg, Role, Secret, Side};
use gimlet_wire::{TcpOption, TcpOptionList};

use crate::lab::{
    ACK, C, CI, CLOCK, FIN, Lab, RST, Ready, S, SR, SYN, Seg, T, bytes, syn, syn_ack, syn_ack_options,
};

/// Near and Far, and the long way between them.
struct Pair {
    near: Lab,
    far: Lab,
}

impl Pair {
    /// Both boxes, and a destination that Near has learned. The connection that it was learned from went on.
    fn warm() -> Self {
        let mut pair = Self { near: Lab::new(Role::Near), far: Lab::new(Role::Far) };
        let other = |segment: Seg| segment.port(39_999);
        assert_eq!(pair.client(&other(syn())), [(S, other(syn()))]);
        assert_eq!(pair.server(&other(syn_ack())), [(C, other(syn_ack()))]);
        let plain = other(Seg::of(C, ACK, CI + 1, SR + 1).clocks(CLOCK, T)).data(b"plain");
        assert_eq!(pair.client(&plain), [(S, plain)]);
        pair.near.events();
        pair.far.events();
        pair
    }

    /// The client says something: what comes out, in the end, on which side.
    fn client(&mut self, segment: &Seg) -> Vec<(Side, Seg)> {
        self.near.hear(segment);
        self.settle()
    }

    fn server(&mut self, segment: &Seg) -> Vec<(Side, Seg)> {
        self.far.hear(segment);
        self.settle()
    }

    /// Carries what the boxes say until they are quiet.
    fn settle(&mut self) -> Vec<(Side, Seg)> {
        let mut out = Vec::new();
        loop {
            let (near, far) = (self.near.everything(), self.far.everything());
            if near.is_empty() && far.is_empty() {
                return out;
            }
            for (side, frame) in near {
                match side {
                    C => out.push((C, Seg::read(C, &frame))),
                    S => _ = self.far.hear_frame(Leg::new(C), &frame),
                }
            }
            for (side, frame) in far {
                match side {
                    C => _ = self.near.hear_frame(Leg::new(S), &frame),
                    S => out.push((S, Seg::read(S, &frame))),
                }
            }
        }
    }
}

fn read(side: Side, segment: &Seg) -> (Side, Seg) {
    (side, Seg::read(side, &segment.frame()))
}

#[test]
fn two_boxes_deliver_what_a_client_says_first_right_behind_its_syn() {
    let mut pair = Pair::warm();
    let said = pair.client(&syn());
    let [(C, spoof), (S, forwarded)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((spoof.flags, forwarded), (SYN | ACK, &Seg::read(S, &syn().frame())));
    let ready = Ready::new(spoof);
    // Nothing of this waits for anything at Near.
    assert_eq!(pair.client(&ready.client(ACK, 0)), []);
    assert_eq!(pair.client(&ready.client(ACK, 0).data(&bytes(500))), []);
    assert_eq!((pair.near.translator().pooled(), pair.far.counters().held), (0, 500));
    let expected = [&ready.translated(ACK, 0), &ready.translated(ACK, 0).data(&bytes(500))];
    assert_eq!(pair.server(&syn_ack()), expected.map(|segment| read(S, segment)));
    assert_eq!(pair.server(&ready.server(ACK, 0, 500)), [read(C, &ready.shifted(ACK, 0, 500))]);
    let established = |event: &Event| matches!(event, Event::Established { .. });
    assert!(pair.far.events().iter().any(established) && pair.near.events().iter().any(established));
    // Near has forgotten the flow, and passes it.
    assert_eq!((pair.near.translator().half_open(), pair.near.state()), (0, None));
    assert_eq!(pair.client(&ready.client(ACK | FIN, 500)), [read(S, &ready.translated(ACK | FIN, 500))]);
}

#[test]
fn a_syn_ack_that_overtakes_the_clients_answer_goes_no_further_than_near() {
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    assert_eq!(pair.server(&syn_ack()), []);
    assert_eq!(pair.far.state(), Some(FlowState::AwaitClient));
    assert_eq!(pair.client(&ready.client(ACK, 0)), [read(S, &ready.translated(ACK, 0))]);
    assert_eq!(
        pair.server(&ready.server(ACK, 0, 0).data(b"220")),
        [read(C, &ready.shifted(ACK, 0, 0).data(b"220"))]
    );
}

#[test]
fn far_finds_out_which_window_scale_near_promised_to_a_client_without_a_clock() {
    for (scale, real) in [(0, 0), (7, 3), (14, 14), (7, 0), (10, 14)] {
        let mut pair = Pair { near: Lab::new(Role::Near), far: Lab::new(Role::Far) };
        let offers = TcpOptionList::new().maximum_segment_size(1_460).window_scale(8).sack_permitted();
        let accepts = TcpOptionList::new().maximum_segment_size(1_460).window_scale(scale).sack_permitted();
        pair.client(&syn().options(offers).port(39_999));
        pair.server(&syn_ack().options(accepts).port(39_999));
        let spoof = pair.client(&syn().options(offers)).remove(0).1;
        assert_eq!(spoof.options, accepts_as_spoofed(scale));
        let bare = |segment: Seg| segment.options(TcpOptionList::new());
        let ready = Ready::new(&spoof);
        assert_eq!(pair.client(&bare(ready.client(ACK, 0).data(b"x"))), []);
        // The server may have changed in between.
        let options = TcpOptionList::new().maximum_segment_size(1_460).window_scale(real).sack_permitted();
        assert_eq!(pair.server(&syn_ack().options(options)).len(), 2);
        let window = pair.server(&bare(ready.server(ACK, 0, 1).window(1_024))).remove(0).1.window;
        assert_eq!(u32::from(window), ((1_024_u32 << real) >> scale).min(0xffff), "{scale} {real}");
    }
}

fn accepts_as_spoofed(scale: u8) -> TcpOptionList {
    let list = TcpOptionList::new().maximum_segment_size(1_460).sack_permitted().no_operation();
    TcpOptionList::new().raw(list.window_scale(scale).as_slice())
}

#[test]
fn a_refusal_reaches_the_client_across_both_boxes() {
    // The server refuses after the client's first segment.
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    pair.client(&ready.client(ACK, 0).data(b"hello"));
    let said = pair.server(&Seg::of(S, RST | ACK, 0, CI + 1));
    let [(C, reset)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((reset.flags, reset.seq), (RST | ACK, ready.isn.wrapping_add(1)));
    assert_eq!(pair.near.translator().half_open(), 0);
    assert_eq!(pair.client(&syn().port(40_001)), [(S, Seg::read(S, &syn().port(40_001).frame()))]);

    // The server refuses before it.
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    let said = pair.server(&Seg::of(S, RST | ACK, 0, CI + 1));
    let [(C, reset)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((reset.flags, reset.seq), (RST | ACK, ready.isn.wrapping_add(1)));
}

#[test]
fn a_silent_server_ends_in_a_rst_from_far() {
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    pair.client(&ready.client(ACK, 0).data(b"hello"));
    let mut resets = Vec::new();
    for millis in (500..=40_000).step_by(500) {
        let at = gimlet_machine::Instant::from_millis(millis);
        pair.far.until(at);
        resets.extend(pair.settle().into_iter().filter(|(side, _)| *side == C).map(|said| (millis, said.1)));
        pair.near.until(at);
        resets.extend(pair.settle().into_iter().filter(|(side, _)| *side == C).map(|said| (millis, said.1)));
    }
    let [(30_000, reset)] = &resets[..] else { panic!("{resets:?}") };
    assert_eq!((reset.flags, reset.seq), (RST | ACK, ready.isn.wrapping_add(1)));
    assert_eq!((pair.near.translator().half_open(), pair.far.translator().half_open()), (0, 0));
}

#[test]
fn case_47_a_client_that_lost_everything_begins_anew_across_both_boxes() {
    let mut pair = Pair::warm();
    let old = Ready::new(&pair.client(&syn())[0].1);
    pair.client(&old.client(ACK, 0).data(b"old"));
    pair.server(&syn_ack());
    pair.server(&old.server(ACK, 0, 3));
    assert_eq!(pair.far.state(), Some(FlowState::Established));
    // The client comes back with another number, and Near, which remembers nothing, answers.
    let again = Seg { seq: 0x1000, ..syn() };
    let said = pair.client(&again);
    assert_eq!(said.last(), Some(&read(S, &again)));
    let new = Ready::new(&said[0].1);
    // The server challenges, and this is of no use to anybody.
    assert_eq!(pair.server(&old.server(ACK, 0, 3)), []);
    // A stranger's SYN gets as far. But here is proof.
    let data = Seg { seq: 0x1001, ..new.client(ACK, 0) }.data(b"new");
    let said = pair.client(&data);
    let [(S, made_up)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((made_up.flags, made_up.seq, pair.far.state()), (SYN, 0x1000, Some(FlowState::AwaitServer)));
    let said = pair.server(&old.server(ACK, 0, 3));
    let [(S, reset)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((reset.flags, reset.seq), (RST, CI.wrapping_add(4)));
    for lab in [&mut pair.near, &mut pair.far] {
        lab.at(900);
    }
    pair.far.at(1_000);
    assert_eq!(pair.settle().len(), 1);
    let said = pair.server(&Seg { seq: 0x7777, ack: 0x1001, ..syn_ack() });
    assert_eq!((said.len(), said[1].1.ack, &said[1].1.payload[..]), (2, 0x7778, &b"new"[..]));
}

#[test]
fn late_copies_of_a_handshake_do_not_raise_the_dead() {
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    let (answer, end) = (ready.client(ACK, 0), ready.client(ACK | FIN, 0));
    pair.client(&answer);
    pair.server(&syn_ack());
    pair.client(&end);
    pair.server(&ready.server(ACK | FIN, 0, 1));
    assert_eq!(pair.far.state(), Some(FlowState::TimeWait));
    // The SYN again, and the answer to what Near said then.
    pair.far.hear(&syn()).says(S, &syn()).hear(&answer).says(S, &ready.translated(ACK, 0)).quiet();
    assert_eq!((pair.far.state(), pair.far.counters().syns_made_up), (Some(FlowState::TimeWait), 0));
}

#[test]
fn case_63_a_first_segment_with_a_wrong_cookie_is_dropped_and_the_real_one_counts() {
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    let forged = Seg { ack: ready.isn.wrapping_add(2), ..ready.client(ACK, 0) };
    for forged in [forged.clone(), Seg { ack: 77, ..forged.clone() }, forged.clocks(1, ready.clock ^ 4)] {
        pair.far.hear(&forged.data(b"evil")).quiet();
    }
    assert_eq!((pair.far.counters().bad_cookie, pair.far.translator().pooled()), (3, 0));
    pair.client(&ready.client(ACK, 0).data(b"good"));
    let expected = [&ready.translated(ACK, 0), &ready.translated(ACK, 0).data(b"good")];
    assert_eq!(pair.server(&syn_ack()), expected.map(|segment| read(S, segment)));
}

#[test]
fn case_76_a_syn_that_was_lost_on_the_long_way_is_made_up_from_the_cookie() {
    let mut pair = Pair::warm();
    pair.near.hear(&syn());
    let said = pair.near.everything();
    let ready = Ready::new(&Seg::read(C, &said.iter().find(|(side, _)| *side == C).unwrap().1));
    // A stranger's first segment passes, and is not looked at again.
    let stranger = Seg::of(C, ACK, 500, 600).clocks(1, 2).port(5_555);
    assert_eq!(pair.client(&stranger), [read(S, &stranger)]);
    let said = pair.client(&ready.client(ACK, 0).data(b"hello"));
    let [(S, made_up)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((made_up.flags, made_up.seq, made_up.timestamps()), (SYN, CI, Some((CLOCK + 1, 0))));
    assert_eq!(
        made_up.find(|option| match option {
            TcpOption::WindowScale(scale) => Some(scale),
            _ => None,
        }),
        Some(10)
    );
    assert!(made_up.find(|option| (option == TcpOption::SackPermitted).then_some(())).is_some());
    assert_eq!((pair.far.counters().syns_made_up, pair.far.state()), (1, Some(FlowState::AwaitServer)));
    let expected = [&ready.translated(ACK, 0), &ready.translated(ACK, 0).data(b"hello")];
    assert_eq!(pair.server(&syn_ack()), expected.map(|segment| read(S, segment)));
}

#[test]
fn case_76_a_client_without_a_clock_waits_until_near_sends_its_syn_again() {
    let offers = TcpOptionList::new().maximum_segment_size(1_460).window_scale(8).sack_permitted();
    let accepts = TcpOptionList::new().maximum_segment_size(1_460).window_scale(7).sack_permitted();
    let mut pair = Pair { near: Lab::new(Role::Near), far: Lab::new(Role::Far) };
    pair.client(&syn().options(offers).port(39_999));
    pair.server(&syn_ack().options(accepts).port(39_999));
    pair.near.hear(&syn().options(offers));
    let said = pair.near.everything();
    let ready = Ready::new(&Seg::read(C, &said[1].1));
    let data = ready.client(ACK, 0).options(TcpOptionList::new()).data(b"hello");
    // Far does not know what this is, and nor does the server. Nobody believes its answer.
    assert_eq!(pair.client(&data), [read(S, &data)]);
    assert_eq!(pair.server(&Seg::of(S, RST, ready.isn.wrapping_add(1), 0)), []);
    for lab in [&mut pair.near, &mut pair.far] {
        lab.at(1_000);
    }
    assert_eq!(pair.settle(), [read(S, &syn().options(offers))]);
    assert_eq!(pair.client(&data), []);
    let said = pair.server(&syn_ack().options(accepts));
    assert_eq!((said.len(), &said[1].1.payload[..]), (2, &b"hello"[..]));
}

#[test]
fn a_flood_of_syns_at_far_does_not_keep_out_who_can_show_a_cookie() {
    let mut config = crate::lab::config(Role::Far);
    config.limits.half_open = 50;
    let mut pair = Pair::warm();
    pair.far = Lab::with(config);
    for port in 1..200 {
        pair.far.hear(&syn().port(port)).everything();
    }
    assert_eq!((pair.far.translator().half_open(), pair.far.counters().overload), (50, 149));
    let ready = Ready::new(&pair.client(&syn())[0].1);
    assert_eq!(pair.client(&ready.client(ACK, 0).data(b"hello")).len(), 1);
    assert_eq!((pair.far.translator().half_open(), pair.server(&syn_ack()).len()), (50, 2));
}

#[test]
fn case_76_far_may_forget_a_handshake_and_learns_of_it_again() {
    for timestamps in [true, false] {
        let strip = |segment: Seg| if timestamps { segment } else { segment.options(TcpOptionList::new()) };
        let mut pair = Pair { near: Lab::new(Role::Near), far: Lab::new(Role::Far) };
        pair.client(&strip(syn()).port(39_999));
        pair.server(&strip(syn_ack()).port(39_999));
        let ready = Ready::new(&pair.client(&strip(syn()))[0].1);
        assert_eq!(pair.server(&strip(syn_ack())), []);
        // What the client says next is lost, and so is Far.
        pair.near.hear(&strip(ready.client(ACK, 0)).data(b"hello")).everything();
        pair.far = Lab::new(Role::Far);
        // A second later the server asks again, and so does the client.
        pair.near.at(1_000);
        pair.far.at(1_000);
        let _ = pair.server(&strip(syn_ack()));
        let _ = pair.server(&strip(syn_ack()));
        let _ = pair.client(&strip(ready.client(ACK, 0)).data(b"hello"));
        let said = pair.server(&strip(syn_ack()));
        assert_eq!(pair.far.state(), Some(FlowState::Established), "{timestamps}: {said:?}");
    }
}

#[test]
fn repeated_syn_acks_and_syns_do_not_chase_each_other() {
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    // The client's answer is lost on its way to Far.
    pair.near.hear(&ready.client(ACK, 0)).everything();
    assert_eq!(pair.server(&syn_ack()), [read(S, &ready.translated(ACK, 0))]);
    // Near has answered for the client. If it could not, the server would ask again, and Near would say all of it.
    let mut near = Lab::warm(Role::Near);
    let ready = Ready::new(&near.opened());
    near.hear(&ready.client(ACK, 0)).everything();
    let said = |lab: &mut Lab| lab.hear(&syn_ack()).everything().len();
    assert_eq!((said(&mut near), said(&mut near), said(&mut near)), (1, 1, 1));
    near.until(gimlet_machine::Instant::from_millis(700));
    assert_eq!((said(&mut near), said(&mut near)), (2, 1));
}

#[test]
fn far_goes_by_the_last_syn_for_near_may_have_learned_something() {
    let mut pair = Pair::warm();
    // Near was restarted between two copies of a SYN, and knows that the server takes no SACK.
    pair.far.hear(&syn()).says(S, &syn());
    let plain =
        TcpOptionList::new().maximum_segment_size(1_460).timestamps(T, CLOCK).no_operation().window_scale(7);
    pair.near = Lab::new(Role::Near);
    pair.near.hear(&syn().port(39_999)).hear(&syn_ack().port(39_999).options(plain)).everything();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    assert_eq!(pair.client(&ready.client(ACK, 0).data(b"x")), []);
    assert_eq!(pair.server(&syn_ack().options(plain)).len(), 2);
    assert_eq!((pair.far.state(), pair.far.counters().bad_cookie), (Some(FlowState::Established), 0));
}

#[test]
fn case_77_a_secret_may_change_in_the_middle_of_a_handshake() {
    let mut pair = Pair::warm();
    let ready = Ready::new(&pair.client(&syn())[0].1);
    let now = pair.far.now;
    pair.far.machine.command(now, |far| far.rotate_secret(now, Secret::new([7; 16])));
    assert_eq!(pair.client(&ready.client(ACK, 0).data(b"old")), []);
    assert_eq!(pair.server(&syn_ack()).len(), 2);
    // Near follows; Far knew before.
    pair.near.machine.command(now, |near| near.rotate_secret(now, Secret::new([7; 16])));
    let next = |segment: Seg| segment.port(40_001);
    let ready = Ready::new(&pair.client(&next(syn()))[0].1);
    assert_eq!(pair.client(&next(ready.client(ACK, 0).data(b"new"))), []);
    assert_eq!(pair.server(&next(syn_ack())).len(), 2);
    // What is older than both is nobody's.
    let ready = Ready::new(&pair.client(&next(syn()).port(40_002))[0].1);
    for secret in [8, 9] {
        pair.far.machine.command(now, |far| far.rotate_secret(now, Secret::new([secret; 16])));
    }
    pair.client(&ready.client(ACK, 0).data(b"late").port(40_002));
    assert_eq!(pair.far.counters().bad_cookie, 1);
}

const COOKIE: &[u8] = b"8 bytes!";

/// A lab beside the client that has a cookie of the server.
fn with_cookie() -> Lab {
    let mut lab = Lab::new(Role::TfoUpgrade);
    lab.hear(&syn().port(39_999)).said_to(S);
    let accepts = syn_ack_options(7).fast_open(COOKIE);
    lab.hear(&syn_ack().options(accepts).port(39_999)).said_to(C);
    lab.events();
    lab.quiet();
    lab
}

fn fast_open(segment: &Seg) -> Option<Vec<u8>> {
    segment.find(|option| match option {
        TcpOption::FastOpen(cookie) => Some(cookie.to_vec()),
        _ => None,
    })
}

#[test]
fn case_73_the_first_syn_asks_for_a_cookie_and_the_next_takes_data_along() {
    let mut lab = Lab::new(Role::TfoUpgrade);
    lab.hear(&syn().port(39_999));
    let asks = lab.said_to(S);
    assert_eq!((fast_open(&asks), asks.flags, asks.options.as_slice().len()), (Some(vec![]), SYN, 24));
    lab.quiet().hear(&syn_ack().options(syn_ack_options(7).fast_open(COOKIE)).port(39_999));
    // The client did not ask.
    assert_eq!(fast_open(&lab.said_to(C)), None);

    lab.hear(&syn());
    let ready = Ready::new(&lab.said_to(C));
    lab.quiet().hear(&ready.client(ACK, 0)).quiet();
    lab.hear(&ready.client(ACK, 0).data(&bytes(100)));
    let opens = lab.said_to(S);
    assert_eq!((opens.flags, opens.seq, &opens.payload[..]), (SYN, CI, &bytes(100)[..]));
    assert_eq!(fast_open(&opens).as_deref(), Some(COOKIE));
    lab.quiet();
    let accepts = Seg { ack: CI.wrapping_add(101), ..syn_ack() };
    lab.hear(&accepts);
    let told = lab.said_to(C);
    assert_eq!((told.flags, told.seq, told.ack), (ACK, ready.isn.wrapping_add(1), CI.wrapping_add(101)));
    assert_eq!((told.timestamps(), told.window), (Some((ready.clock, CLOCK + 1)), 65_160 >> 7));
    lab.says(S, &ready.translated(ACK, 100)).quiet();
    assert_eq!((lab.counters().fast_opened, lab.state()), (1, Some(FlowState::Established)));
    lab.hear(&ready.server(ACK, 0, 100).data(b"reply")).says(C, &ready.shifted(ACK, 0, 100).data(b"reply"));
}

#[test]
fn case_74_a_server_that_takes_no_early_data_gets_it_in_the_usual_way() {
    let mut lab = with_cookie();
    lab.hear(&syn());
    let ready = Ready::new(&lab.said_to(C));
    lab.hear(&ready.client(ACK, 0).data(&bytes(2_000))).said_to(S);
    lab.quiet().hear(&syn_ack()).says(S, &ready.translated(ACK, 0));
    let parts = [lab.said_to(S).payload, lab.said_to(S).payload].concat();
    assert_eq!((parts, lab.counters().fast_open_refused), (bytes(2_000), 1));
    lab.quiet();

    // One that takes a part of it gets the rest.
    let mut lab = with_cookie();
    lab.hear(&syn());
    let ready = Ready::new(&lab.said_to(C));
    lab.hear(&ready.client(ACK, 0).data(&bytes(2_000))).said_to(S);
    lab.hear(&Seg { ack: CI.wrapping_add(501), ..syn_ack() });
    assert_eq!(lab.said_to(C).ack, CI.wrapping_add(501));
    lab.says(S, &ready.translated(ACK, 500));
    let parts = [lab.said_to(S), lab.said_to(S)];
    assert_eq!(parts[0].seq, CI.wrapping_add(501));
    assert_eq!([parts[0].payload.clone(), parts[1].payload.clone()].concat(), &bytes(2_000)[500..]);
    lab.quiet();
}

#[test]
fn case_75_a_syn_with_data_that_is_lost_is_the_last_one_for_an_hour() {
    let mut lab = with_cookie();
    lab.hear(&syn());
    let ready = Ready::new(&lab.said_to(C));
    lab.hear(&ready.client(ACK, 0).data(b"hello"));
    assert_eq!(lab.said_to(S).payload, b"hello");
    lab.at(1_000).says(S, &syn()).quiet();
    lab.hear(&syn_ack()).says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK, 0).data(b"hello"));
    // The next SYN neither carries data nor asks for a cookie.
    lab.passes(&syn().port(40_001));
    let later = lab.now + FAST_OPEN_OFF_FOR;
    lab.until(later).passes(&syn().port(40_002)).passes(&syn_ack().port(40_002));
    lab.hear(&syn().port(40_003)).said_to(C);
    lab.quiet();
}

#[test]
fn a_syn_does_not_wait_long_for_data() {
    let mut lab = with_cookie();
    lab.hear(&syn());
    let ready = Ready::new(&lab.said_to(C));
    lab.hear(&ready.client(ACK, 0)).quiet();
    lab.at(2).quiet().at(3).says(S, &syn()).quiet();
    lab.hear(&ready.client(ACK, 0).data(b"late")).quiet().hear(&syn_ack());
    lab.says(S, &ready.translated(ACK, 0)).says(S, &ready.translated(ACK, 0).data(b"late")).quiet();
}

#[test]
fn data_goes_along_with_a_syn_only_where_it_may_arrive_twice() {
    let mut config = crate::lab::config(Role::TfoUpgrade);
    config.allowed[0].idempotent = false;
    let mut lab = Lab::with(config);
    lab.passes(&syn()).passes(&syn_ack()).passes(&syn().port(40_001));
    assert_eq!(lab.state(), Some(FlowState::Bypass));
}

#[test]
fn a_clients_answer_that_is_lost_between_the_boxes_is_repeated_when_the_server_asks() {
    let mut pair = Pair::warm();
    let said = pair.client(&syn());
    let ready = Ready::new(&said[0].1);
    // The client has nothing to say but this, and it is lost.
    pair.near.hear(&ready.client(ACK, 0));
    assert_eq!(pair.near.everything().len(), 1);
    // Far has not heard of it and lets the SYN-ACK through. Near says what the client said.
    let said = pair.server(&syn_ack());
    assert_eq!(said, [(S, read(S, &ready.translated(ACK, 0)).1)]);
    assert_eq!(pair.far.state(), Some(FlowState::Established));
}

#[test]
fn far_sends_no_syn_acks_of_its_own_and_takes_a_probe_for_an_answer() {
    let mut pair = Pair::warm();
    let said = pair.client(&syn());
    let ready = Ready::new(&said[0].1);
    pair.far.hear(&syn_ack());
    assert_eq!(pair.far.everything().len(), 1, "for Near");
    // A client that was promised no window asks for one with an octet that was acknowledged.
    let mut probe = ready.client(ACK, 0);
    probe.seq -= 1;
    pair.far.at(900).hear(&probe);
    assert_eq!(pair.far.state(), Some(FlowState::Established));
    pair.far.says(S, &ready.translated(ACK, 0));
    pair.far.at(20_000).quiet();
}

#[test]
fn a_reset_that_the_server_sends_to_what_far_let_through_ends_no_handshake() {
    let mut pair = Pair::warm();
    let said = pair.client(&syn());
    let ready = Ready::new(&said[0].1);
    let mut far = Lab::new(Role::Far);
    // The SYN is late, and so is the first segment with its proof: Far lets through what it cannot place.
    let second = ready.client(ACK, 100).data(&bytes(100));
    far.hear(&second).says(S, &second);
    // So does the server not know it, and says so with the number that the segment acknowledges.
    let mut reset = ready.shifted(RST, 0, 0);
    reset.ack = 0;
    far.hear(&reset).quiet();
    assert_eq!(far.counters().blind_resets, 1);
    // The first segment counts although it comes second: its proof is as good.
    far.hear(&ready.client(ACK, 0).data(&bytes(100)));
    assert_eq!(far.counters().syns_made_up, 1);
    // Nobody comes: after a while the server is believed.
    let mut far = Lab::new(Role::Far);
    far.hear(&second).says(S, &second);
    far.at(3_000).hear(&reset).says(C, &reset);
}

#[test]
fn a_syn_begins_a_flow_that_far_knew_nothing_about() {
    let mut pair = Pair::warm();
    let said = pair.client(&syn());
    let ready = Ready::new(&said[0].1);
    // A probe is as early as the SYN itself.
    let mut far = Lab::new(Role::Far);
    let mut probe = ready.client(ACK, 0);
    probe.seq -= 1;
    far.hear(&probe).says(S, &probe);
    far.hear(&syn()).says(S, &syn());
    assert_eq!(far.state(), Some(FlowState::HalfOpen));
}

#[test]
fn what_a_stranger_said_in_a_clients_name_does_not_keep_far_from_its_first_segment() {
    let mut pair = Pair::warm();
    let said = pair.client(&syn());
    let ready = Ready::new(&said[0].1);
    let mut far = Lab::new(Role::Far);
    let guess = Seg::of(C, ACK | FIN, 0x28e7_412e, 0xd493_044f).data(b"guess");
    far.hear(&guess).says(S, &guess);
    // The SYN is lost, and the first segment is all there is.
    far.hear(&ready.client(ACK, 0).data(&bytes(100)));
    assert_eq!(far.counters().syns_made_up, 1);
}

#[test]
fn a_damaged_syn_makes_nobody_forget_a_flow_that_is_watched() {
    let mut lab = Lab::new(Role::Single);
    lab.hear(&syn()).says(S, &syn());
    let mut damaged = syn().frame();
    damaged[14 + 20 + 7] ^= 0x40;
    lab.hear_frame(Leg::new(C), &damaged);
    lab.everything();
    lab.hear(&syn_ack()).says(C, &syn_ack());
    assert_eq!(lab.counters().learned, 1);
}

#[test]
fn a_piece_of_a_syn_ack_is_not_believed() {
    let mut lab = Lab::warm(Role::Single);
    lab.opened();
    let mut piece = syn_ack().frame();
    // More fragments follow, it says, with a right sum over the IP header.
    piece[14 + 6] = 0x20;
    piece[14 + 10..14 + 12].fill(0);
    let sum = gimlet_wire::checksum(&piece[14..34]);
    piece[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
    lab.hear_frame(Leg::new(S), &piece).quiet();
    assert_eq!((lab.counters().fragments, lab.state()), (1, Some(FlowState::HalfOpen)));
}
