use super::*;
use alloc::vec;
use alloc::vec::Vec;

use crate::{Encoder, MESSAGE_MAX_DEFAULT, PREFIX_LEN};
use gimlet_machine::Counters as _;
use proptest::prelude::*;

fn frame(message: &[u8]) -> Vec<u8> {
    [&crate::prefix(message.len() as u32), message].concat()
}

fn drain(decoder: &mut Decoder) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| decoder.poll()).map(|message| message.unwrap().to_vec()).collect()
}

#[test]
fn a_whole_message_is_a_slice_of_its_chunk() {
    let chunk = Bytes::from([frame(b"one"), frame(b"two")].concat());
    let mut decoder = Decoder::new(10);
    decoder.push(chunk.clone());
    assert_eq!(decoder.poll().unwrap().unwrap().as_ptr(), chunk[4..].as_ptr());
    assert_eq!(decoder.poll().unwrap().unwrap().as_ptr(), chunk[11..].as_ptr());
    assert_eq!(decoder.poll(), None);
}

#[test]
fn a_read_chunk_is_let_go() {
    let chunk = Bytes::from([frame(b"one"), frame(b"unfinished")[..6].to_vec()].concat());
    let mut decoder = Decoder::new(10);
    decoder.push(chunk.clone());
    drop(decoder.poll());
    assert!(!chunk.is_unique());
    assert_eq!(decoder.poll(), None);
    assert!(chunk.is_unique(), "the tail was copied and the chunk released");
    assert_eq!(decoder.buffered(), 2);
}

#[test]
fn a_claim_holds_no_more_than_what_arrived() {
    let mut decoder = Decoder::new(MESSAGE_MAX_DEFAULT);
    let mut arrived = PREFIX_LEN;
    decoder.push(Bytes::copy_from_slice(&crate::prefix(MESSAGE_MAX_DEFAULT as u32)));
    for piece in [3, 1, 1_000, 3_000, 100_000] {
        decoder.push(Bytes::from(vec![0; piece]));
        arrived += piece;
        assert_eq!(decoder.poll(), None);
        assert!(decoder.partial.capacity() <= 2 * arrived + FIRST, "after {arrived} bytes");
        assert_eq!(decoder.buffered(), arrived - PREFIX_LEN);
    }
}

#[test]
fn a_decoder_that_is_not_polled_holds_tiny_chunks_cheaply() {
    let mut decoder = Decoder::new(100);
    (0..10_000).for_each(|_| decoder.push(Bytes::from_static(&[0])));
    assert_eq!((decoder.buffered(), drain(&mut decoder).len()), (10_000, 2_500));
}

#[test]
fn an_over_long_length_stops_the_decoder_for_good_and_is_counted() {
    let mut decoder = Decoder::new(9);
    decoder.push(Bytes::from([frame(b"fine"), frame(&[0; 10]), frame(b"lost")].concat()));
    decoder.push(Bytes::from(frame(b"lost")));
    assert_eq!(decoder.poll(), Some(Ok("fine".into())));
    let error = FrameError::Desynchronised { claimed: 10, max: 9 };
    assert_eq!((decoder.poll(), decoder.poll()), (Some(Err(error)), Some(Err(error))));
    decoder.push(Bytes::from_static(b"more"));
    assert_eq!(decoder.poll_slice(), Some(Err(error)));
    assert_eq!(decoder.end(), Err(error));
    let counted: Vec<_> = decoder.counters().each().collect();
    assert_eq!(counted, [("over_long", 1), ("discarded_bytes", 10 + 8 + 8 + 4)]);
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn a_stream_may_end_only_between_messages() {
    let whole = frame(b"ab");
    for cut in 0..=whole.len() {
        let mut decoder = Decoder::new(9);
        decoder.push(Bytes::copy_from_slice(&whole[..cut]));
        while decoder.poll().is_some() {}
        let expected =
            if cut == 0 || cut == whole.len() { Ok(()) } else { Err(FrameError::Truncated { have: cut }) };
        assert_eq!(decoder.end(), expected, "cut at {cut}");
    }
}

#[test]
fn a_big_lent_buffer_is_released_when_the_stream_goes_quiet() {
    let message = vec![5; 4 * RETAINED_MAX];
    let mut decoder = Decoder::new(message.len());
    for chunk in frame(&message).chunks(1_200) {
        decoder.push(Bytes::copy_from_slice(chunk));
        if let Some(received) = decoder.poll_slice() {
            assert_eq!(received, Ok(&message[..]));
        }
    }
    assert_eq!(decoder.poll_slice(), None);
    assert!(decoder.partial.capacity() <= RETAINED_MAX);
}

#[test]
fn a_message_in_single_bytes_is_copied_a_bounded_number_of_times() {
    let message = vec![9; 300_000];
    let mut decoder = Decoder::new(message.len());
    let (mut growths, mut capacity, mut received) = (0, 0, None);
    for byte in frame(&message) {
        decoder.push(Bytes::from(vec![byte]));
        received = decoder.poll();
        if decoder.partial.capacity() > capacity {
            (growths, capacity) = (growths + 1, decoder.partial.capacity());
        }
    }
    assert_eq!(received, Some(Ok(Bytes::from(message))));
    assert!(growths <= 10, "{growths} growths: the buffer doubles");
}

/// Messages of telling sizes: empty, tiny, around a chunk, large.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![Just(0), 1..5usize, 60..70usize, 1_190..1_210usize, 8_000..9_000usize];
    let message =
        (len, any::<u8>()).prop_map(|(len, first)| (0..len).map(|i| first.wrapping_add(i as u8)).collect());
    proptest::collection::vec(message, 0..12)
}

proptest! {
    #[test]
    fn any_cut_of_any_messages_decodes_to_the_same_messages(
        messages in messages(),
        cuts in proptest::collection::vec(1..3_000usize, 1..40),
        poll_between in any::<bool>(),
        slices in any::<bool>(),
    ) {
        let mut encoder = Encoder::new(MESSAGE_MAX_DEFAULT);
        for message in &messages {
            encoder.push(message).unwrap();
        }
        let (mut wire, mut received) = (Vec::new(), Vec::new());
        while encoder.pending() > 0 {
            wire.extend_from_slice(&encoder.take());
        }
        prop_assert_eq!(&wire, &messages.iter().flat_map(|message| frame(message)).collect::<Vec<_>>());
        let (mut decoder, mut rest) = (Decoder::new(MESSAGE_MAX_DEFAULT), &wire[..]);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            decoder.push(Bytes::copy_from_slice(now));
            rest = later;
            if poll_between || rest.is_empty() {
                if slices {
                    while let Some(message) = decoder.poll_slice() {
                        received.push(message.unwrap().to_vec());
                    }
                } else {
                    received.extend(drain(&mut decoder));
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, messages);
        prop_assert_eq!((decoder.end(), decoder.buffered()), (Ok(()), 0));
    }

    #[test]
    fn memory_follows_the_bytes_that_arrived(
        claim in 0..1_000_000usize,
        pieces in proptest::collection::vec(0..2_000usize, 0..60),
    ) {
        let mut decoder = Decoder::new(1_000_000);
        decoder.push(Bytes::copy_from_slice(&crate::prefix(claim as u32)));
        let mut arrived = 0;
        for piece in pieces {
            let piece = piece.min(claim - arrived);
            decoder.push(Bytes::from(vec![1; piece]));
            arrived += piece;
            while decoder.poll().is_some() {}
            prop_assert!(decoder.partial.capacity() <= 2 * arrived + FIRST);
            if arrived == claim {
                break;
            }
        }
    }
}
