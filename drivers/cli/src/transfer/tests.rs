//! Both ends against each other, in memory.

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::note::{
    self, Breach, Digest, Held, Offer, Opening, Outcome, Purpose, Refusal, Reply, Start, Trouble,
};
use super::receiver::{Receiver, ReceiverEvent};
use super::sender::{Sender, SenderEvent};
use super::state::{ReceiveStep, Receiving, SendStep, Sending};

fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

fn offer(size: usize) -> Offer {
    Offer { name: "a".into(), size: size as u64, modified: None }
}

/// Gives `bytes` to somebody in pieces of `cut`.
fn pieces(bytes: &[u8], cut: usize) -> impl Iterator<Item = Bytes> {
    bytes.chunks(cut).map(Bytes::copy_from_slice)
}

/// A whole transfer of `file` to a receiver that has `held` already: what it has in the end, and where
/// the sender began.
fn transfer(file: &[u8], held: &[u8], cut: usize) -> (Vec<u8>, u64) {
    let (mut sender, mut to_receiver) = Sender::offer(offer(file.len()));
    let (mut receiver, mut to_sender) = (Receiver::new(), Vec::new());
    let (mut stored, mut started_at) = (held.to_vec(), 0);
    for _ in 0..8 {
        for piece in pieces(&std::mem::take(&mut to_receiver), cut) {
            receiver.hear(piece);
            while let Some(event) = receiver.poll().unwrap() {
                match event {
                    ReceiverEvent::Opened(purpose) => {
                        assert_eq!(purpose, Purpose::File(offer(file.len())));
                        let held = Held { length: held.len() as u64, sha256: digest(held) };
                        to_sender.extend(receiver.accept(held));
                    }
                    ReceiverEvent::Started { at } => {
                        stored.truncate(at as usize);
                        started_at = at;
                    }
                    ReceiverEvent::Bytes(bytes) => stored.extend_from_slice(&bytes),
                    ReceiverEvent::Complete { sha256 } => {
                        assert_eq!(sha256, digest(&stored));
                        to_sender.extend(receiver.conclude(&Outcome::Stored { name: "b".into() }));
                    }
                }
            }
        }
        for piece in pieces(&std::mem::take(&mut to_sender), cut) {
            sender.hear(piece);
            match sender.poll().unwrap() {
                None => {}
                Some(SenderEvent::Holds(held)) => {
                    let length = held.length as usize;
                    let at = if digest(&file[..length]) == held.sha256 { held.length } else { 0 };
                    to_receiver.extend(sender.start(at));
                    let rest = &file[at as usize..];
                    to_receiver.extend_from_slice(rest);
                    sender.sent(rest.len() as u64);
                    to_receiver.extend(sender.trailer(digest(file)));
                }
                Some(SenderEvent::Ended(outcome)) => {
                    assert_eq!(outcome, Outcome::Stored { name: "b".into() });
                    return (stored, started_at);
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }
    panic!("the two ends wait for each other");
}

proptest! {
    #[test]
    fn a_file_arrives_whole_however_the_stream_is_cut(
        file in proptest::collection::vec(any::<u8>(), 0..3_000),
        cut in 1usize..700,
    ) {
        prop_assert_eq!(transfer(&file, &[], cut), (file, 0));
    }

    #[test]
    fn an_interrupted_transfer_resumes_exactly_where_it_stopped(
        file in proptest::collection::vec(any::<u8>(), 1..3_000),
        at in any::<prop::sample::Index>(),
        cut in 1usize..700,
    ) {
        let at = at.index(file.len() + 1);
        prop_assert_eq!(transfer(&file, &file[..at], cut), (file, at as u64));
    }

    #[test]
    fn a_beginning_that_is_not_the_files_is_sent_again(
        file in proptest::collection::vec(any::<u8>(), 1..3_000),
        at in any::<prop::sample::Index>(),
    ) {
        let mut held = file[..=at.index(file.len())].to_vec();
        let last = held.len() - 1;
        held[last] ^= 1;
        prop_assert_eq!(transfer(&file, &held, 100), (file, 0));
    }

    #[test]
    fn hostile_bytes_are_refused_and_never_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 1usize..50,
    ) {
        let mut receiver = Receiver::new();
        for piece in pieces(&bytes, cut) {
            receiver.hear(piece);
            match receiver.poll() {
                Ok(Some(ReceiverEvent::Opened(_))) => drop(receiver.accept(Held::nothing())),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let (mut sender, _) = Sender::offer(offer(10));
        for piece in pieces(&bytes, cut) {
            sender.hear(piece);
            match sender.poll() {
                Ok(Some(SenderEvent::Holds(_))) => drop(sender.start(0)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

fn opened(purpose: Purpose) -> Receiver {
    let mut receiver = Receiver::new();
    receiver.hear(note::write(&Opening::new(purpose.clone())).into());
    assert_eq!(receiver.poll(), Ok(Some(ReceiverEvent::Opened(purpose))));
    receiver
}

#[test]
fn a_start_that_is_neither_the_beginning_nor_the_end_of_what_is_there_is_a_breach() {
    for (at, expected) in
        [(0, Ok(())), (5, Ok(())), (3, Err(Breach::WrongStart(3))), (6, Err(Breach::WrongStart(6)))]
    {
        let mut receiver = opened(Purpose::File(offer(10)));
        drop(receiver.accept(Held { length: 5, sha256: [0; 32] }));
        receiver.hear(note::write(&Start { at }).into());
        assert_eq!(receiver.poll().map(drop), expected, "{at}");
    }
}

#[test]
fn a_file_that_ends_early_is_cut_off_and_one_with_surplus_bytes_is_refused() {
    let mut receiver = opened(Purpose::File(offer(4)));
    drop(receiver.accept(Held::nothing()));
    receiver.hear(note::write(&Start { at: 0 }).into());
    receiver.hear(Bytes::from_static(b"ab"));
    while receiver.poll().unwrap().is_some() {}
    assert_eq!(receiver.end(), Err(Breach::CutOff));

    receiver.hear(Bytes::from_static(b"cd"));
    receiver.hear(Bytes::copy_from_slice(&digest(b"abcd")));
    receiver.hear(Bytes::from_static(b"!"));
    assert_eq!(receiver.poll(), Ok(Some(ReceiverEvent::Bytes(Bytes::from_static(b"cd")))));
    assert_eq!(receiver.poll(), Ok(Some(ReceiverEvent::Complete { sha256: digest(b"abcd") })));
    assert_eq!(receiver.poll(), Err(Breach::Surplus));
}

#[test]
fn a_full_disk_is_told_before_the_last_byte_and_success_is_not_believed_then() {
    for (outcome, expected) in [
        (
            Outcome::Failed(Trouble::DiskFull),
            Ok(Some(SenderEvent::Ended(Outcome::Failed(Trouble::DiskFull)))),
        ),
        (Outcome::Stored { name: "a".into() }, Err(Breach::Surplus)),
    ] {
        let (mut sender, _) = Sender::offer(offer(10));
        sender.hear(note::write(&Reply::Ready(Held::nothing())).into());
        assert!(matches!(sender.poll(), Ok(Some(SenderEvent::Holds(_)))));
        drop(sender.start(0));
        sender.hear(note::write(&outcome).into());
        assert_eq!(sender.poll(), expected);
    }
}

#[test]
fn a_receiver_that_claims_more_than_the_file_has_is_not_believed() {
    let (mut sender, _) = Sender::offer(offer(10));
    sender.hear(note::write(&Reply::Ready(Held { length: 11, sha256: [0; 32] })).into());
    assert_eq!(sender.poll(), Err(Breach::WrongStart(11)));
}

#[test]
fn a_refusal_ends_it() {
    let (mut sender, _) = Sender::offer(offer(10));
    sender.hear(note::write(&Reply::Refused(Refusal::TooLarge { max: 9 })).into());
    assert_eq!(sender.poll(), Ok(Some(SenderEvent::Refused(Refusal::TooLarge { max: 9 }))));
    sender.hear(Bytes::from_static(b"more"));
    assert_eq!(sender.poll(), Err(Breach::Surplus));
}

/// Every legal edge, so that a new one is visible in review.
#[test]
fn the_state_graphs_have_these_edges_and_no_others() {
    let sending = [
        Sending::AwaitReply,
        Sending::AwaitCompare,
        Sending::AwaitBytes { left: 2 },
        Sending::AwaitBytes { left: 0 },
        Sending::AwaitOutcome,
        Sending::Over,
    ];
    let steps = [
        SendStep::Ready,
        SendStep::Refused,
        SendStep::Start { left: 2 },
        SendStep::Sent { bytes: 2 },
        SendStep::Trailer,
        SendStep::Outcome,
    ];
    let legal: Vec<String> = edges(&sending, &steps, Sending::next);
    assert_eq!(
        legal,
        [
            "AwaitReply Ready AwaitCompare",
            "AwaitReply Refused Over",
            "AwaitCompare Start { left: 2 } AwaitBytes { left: 2 }",
            "AwaitBytes { left: 2 } Sent { bytes: 2 } AwaitBytes { left: 0 }",
            "AwaitBytes { left: 2 } Outcome Over",
            "AwaitBytes { left: 0 } Trailer AwaitOutcome",
            "AwaitBytes { left: 0 } Outcome Over",
            "AwaitOutcome Outcome Over",
        ]
    );
    let receiving = [
        Receiving::AwaitOpening,
        Receiving::AwaitDecision,
        Receiving::AwaitStart { size: 2, held: 1 },
        Receiving::AwaitBytes { left: 1 },
        Receiving::AwaitTrailer,
        Receiving::AwaitVerdict,
        Receiving::Raw,
        Receiving::Over,
    ];
    let steps = [
        ReceiveStep::Opened,
        ReceiveStep::AcceptFile { size: 2, held: 1 },
        ReceiveStep::AcceptRaw,
        ReceiveStep::Refuse,
        ReceiveStep::Start { at: 1 },
        ReceiveStep::Got { bytes: 1 },
        ReceiveStep::Trailer,
        ReceiveStep::Verdict,
    ];
    let legal: Vec<String> = edges(&receiving, &steps, Receiving::next);
    assert_eq!(
        legal,
        [
            "AwaitOpening Opened AwaitDecision",
            "AwaitOpening Refuse Over",
            "AwaitDecision AcceptFile { size: 2, held: 1 } AwaitStart { size: 2, held: 1 }",
            "AwaitDecision AcceptRaw Raw",
            "AwaitDecision Refuse Over",
            "AwaitStart { size: 2, held: 1 } Start { at: 1 } AwaitBytes { left: 1 }",
            "AwaitStart { size: 2, held: 1 } Verdict Over",
            "AwaitBytes { left: 1 } Got { bytes: 1 } AwaitTrailer",
            "AwaitBytes { left: 1 } Verdict Over",
            "AwaitTrailer Trailer AwaitVerdict",
            "AwaitTrailer Verdict Over",
            "AwaitVerdict Verdict Over",
            "Raw Verdict Over",
        ]
    );
}

fn edges<S: Copy + std::fmt::Debug, T: Copy + std::fmt::Debug>(
    states: &[S],
    steps: &[T],
    next: impl Fn(S, T) -> Option<S>,
) -> Vec<String> {
    let all = states.iter().flat_map(|state| steps.iter().map(move |step| (*state, *step)));
    all.filter_map(|(state, step)| next(state, step).map(|next| format!("{state:?} {step:?} {next:?}")))
        .collect()
}
