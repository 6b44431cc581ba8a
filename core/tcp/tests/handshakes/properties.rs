//! What holds whatever the order in which things happen.

use gimlet_tcp::{FlowState, Role};
use gimlet_wire::TcpFlags;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use crate::lab::{ACK, CI, FIN, Lab, Ready, S, SR, SYN, Seg, bytes, syn, syn_ack};

/// Bytes that the client sends.
const STREAM: usize = 6_000;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A copy of the client's SYN arrives.
    Syn,
    /// A copy of its acknowledgement.
    Answer,
    /// A part of its stream: where it begins, how long it is.
    Part(usize, usize),
    /// A copy of the server's SYN-ACK, with this window.
    Accept(u16),
    /// The server acknowledges all up to here, and opens its window.
    Acknowledge(usize),
    /// So many milliseconds pass.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => any::<()>().prop_map(|()| Step::Syn),
        2 => any::<()>().prop_map(|()| Step::Answer),
        6 => (0..STREAM, 1usize..1_400).prop_map(|(at, len)| Step::Part(at, len)),
        2 => (500u16..=65_000).prop_map(Step::Accept),
        2 => (0..STREAM).prop_map(Step::Acknowledge),
        1 => (0u64..1_500).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    /// In whatever order segments arrive and however often: the server sees only bytes that the client sent, at
    /// their places, in its own space, and none before it has spoken. The client is answered with the same
    /// SYN-ACK each time, and is told of nothing that the server has not said.
    #[test]
    fn early_bytes_arrive_at_their_places_and_never_before_the_server_has_spoken(
        far: bool, steps in steps(),
    ) {
        let stream = bytes(STREAM);
        let (mut lab, ready) = if far { at_far() } else { at_single() };
        let (mut spoken, mut answer): (bool, Option<Vec<u8>>) = (false, None);
        for step in steps {
            match step {
                Step::Syn => drop(lab.hear(&syn())),
                Step::Answer => drop(lab.hear(&ready.client(ACK, 0))),
                Step::Part(at, len) => {
                    let end = (at + len).min(STREAM);
                    let part = ready.client(ACK, at as u32).data(&stream[at..end]);
                    lab.hear(&if end == STREAM { Seg { flags: part.flags | FIN, ..part } } else { part });
                }
                Step::Accept(window) => {
                    spoken = true;
                    lab.hear(&syn_ack().window(window));
                }
                Step::Acknowledge(upto) if lab.state() == Some(FlowState::Established) => {
                    lab.hear(&ready.server(ACK, 0, upto as u32));
                }
                Step::Acknowledge(_) => {}
                Step::Wait(millis) => {
                    let at = lab.now + std::time::Duration::from_millis(millis);
                    while let Some(due) = gimlet_machine::Machine::poll_timeout(&lab.machine)
                        .filter(|due| due.at <= at)
                    {
                        lab.now = lab.now.max(due.at);
                        gimlet_machine::Machine::handle_timeout(&mut lab.machine, lab.now);
                        lab.drain();
                    }
                    lab.now = at;
                }
            }
            for (side, frame) in lab.everything() {
                let said = Seg::read(side, &frame);
                if side == S {
                    prop_assert!(said.flags == SYN || spoken, "{said:?}");
                    if said.flags == SYN {
                        prop_assert_eq!(said.seq, CI);
                        continue;
                    }
                    prop_assert_eq!(said.ack, SR + 1);
                    let at = said.seq.wrapping_sub(CI + 1) as usize;
                    prop_assert_eq!(&said.payload[..], &stream[at..at + said.payload.len()]);
                    let ends = at + said.payload.len() == STREAM;
                    prop_assert!(ends || !said.flags.contains(FIN), "{said:?}");
                } else if said.flags == SYN | ACK && said.seq == ready.isn {
                    let first = answer.get_or_insert_with(|| frame.clone());
                    prop_assert_eq!(&*first, &frame);
                } else if said.flags.contains(SYN) {
                    // Far cannot know whether Near stands between it and the client.
                    prop_assert!(far && said.seq == SR, "{said:?}");
                } else {
                    prop_assert!(!said.flags.contains(TcpFlags::RST), "{said:?}");
                    prop_assert_eq!(said.seq, ready.isn.wrapping_add(1));
                    prop_assert!(spoken);
                }
            }
            prop_assert!(lab.translator().pooled() <= 16_384 + 1_024);
        }
    }

    /// The same inputs at the same times make the same frames.
    #[test]
    fn what_happened_can_be_played_again(far: bool, steps in steps()) {
        let play = || {
            let (mut lab, ready) = if far { at_far() } else { at_single() };
            let mut said = Vec::new();
            for step in &steps {
                match step {
                    Step::Syn => drop(lab.hear(&syn())),
                    Step::Answer | Step::Acknowledge(_) | Step::Wait(_) => drop(lab.hear(&ready.client(ACK, 0))),
                    Step::Part(at, len) => drop(lab.hear(&ready.client(ACK, *at as u32).data(&bytes(*len)))),
                    Step::Accept(window) => drop(lab.hear(&syn_ack().window(*window))),
                }
                said.extend(lab.everything());
            }
            (said, lab.events(), lab.counters())
        };
        prop_assert_eq!(play(), play());
    }
}

fn at_single() -> (Lab, Ready) {
    let mut lab = Lab::warm(Role::Single);
    let ready = Ready::new(&lab.opened());
    (lab, ready)
}

/// Far, with a client that Near has answered and whose SYN has just come by.
fn at_far() -> (Lab, Ready) {
    let mut near = Lab::warm(Role::Near);
    let ready = Ready::new(&near.opened());
    let mut far = Lab::new(Role::Far);
    far.hear(&syn()).says(S, &syn());
    (far, ready)
}
