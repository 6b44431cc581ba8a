//! A stream of frames, cut anywhere.
//!
//! Input: the limit (2 bytes), 14 cuts (1 byte each, used in turn), then the stream.

use gimlet_frame::{Bytes, Decoder, Encoder, FrameError, PREFIX_LEN};

use crate::Seed;
use crate::tape::Tape;
use crate::target::bounded;

/// How many bytes of the input are cuts.
const CUTS: usize = 14;

/// However a stream is cut, the decoder finds what a naive reading of the whole finds, holds no more
/// than arrived, and the encoder writes the same stream back.
pub fn frame(data: &[u8]) {
    check(data, |chunk| chunk);
}

/// Loses the last byte of every chunk of 7 bytes.
pub(crate) fn planted(data: &[u8]) {
    check(data, |chunk| if chunk.len() == 7 { &chunk[..6] } else { chunk });
}

fn check(data: &[u8], deliver: impl Fn(&[u8]) -> &[u8]) {
    let mut tape = Tape::new(bounded(data));
    let max = usize::from(tape.u16());
    let cuts: Vec<usize> = tape.take(CUTS).iter().map(|cut| usize::from(*cut) + 1).collect();
    let stream = tape.take(usize::MAX);
    let expected = read_at_once(stream, max);
    if cuts.is_empty() {
        return;
    }
    for lent in [false, true] {
        let mut decoder = Decoder::new(max);
        let (mut received, mut error, mut arrived, mut rest) = (Vec::new(), None, 0, stream);
        for cut in cuts.iter().cycle() {
            let (chunk, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            arrived += chunk.len();
            decoder.push(Bytes::copy_from_slice(deliver(chunk)));
            assert!(decoder.buffered() <= arrived, "more is buffered than arrived");
            // Odd cuts are not polled: chunks pile up behind the one being read.
            if cut % 2 == 0 || rest.is_empty() {
                error = drain(&mut decoder, lent, &mut received);
            }
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(received, expected.messages, "cut into {cuts:?}");
        assert_eq!(error, expected.error);
        assert_eq!(decoder.end().err(), expected.end);
        if let Some(FrameError::Desynchronised { .. }) = error {
            assert_eq!(decoder.buffered(), 0, "a dead decoder holds nothing");
            assert_eq!(decoder.counters().over_long, 1);
            assert_eq!(decoder.counters().discarded_bytes as usize, stream.len() - expected.read);
        }
    }
    write_back(&expected, stream, &cuts);
}

/// Polls until nothing or an error comes.
fn drain(decoder: &mut Decoder, lent: bool, received: &mut Vec<Vec<u8>>) -> Option<FrameError> {
    loop {
        let message =
            if lent { decoder.poll_slice()?.map(Vec::from) } else { decoder.poll()?.map(Vec::from) };
        match message {
            Ok(message) => received.push(message),
            Err(error) => return Some(error),
        }
    }
}

/// What a stream means.
struct Reading {
    messages: Vec<Vec<u8>>,
    /// What polling ends with.
    error: Option<FrameError>,
    /// What the end of the stream would be.
    end: Option<FrameError>,
    /// How far it was read: to the end of the last message, or of the length that was too much.
    read: usize,
}

/// The naive reading of a whole stream.
fn read_at_once(stream: &[u8], max: usize) -> Reading {
    let mut reading = Reading { messages: Vec::new(), error: None, end: None, read: 0 };
    loop {
        let rest = &stream[reading.read..];
        if rest.is_empty() {
            return reading;
        }
        reading.end = Some(FrameError::Truncated { have: rest.len() });
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX_LEN>() else { return reading };
        let length = u32::from_be_bytes(*prefix);
        if length as usize > max {
            reading.read += PREFIX_LEN;
            reading.error = Some(FrameError::Desynchronised { claimed: length, max: max as u32 });
            reading.end = reading.error;
            return reading;
        }
        let Some(message) = rest.get(..length as usize) else { return reading };
        reading.messages.push(message.to_vec());
        reading.read += PREFIX_LEN + message.len();
        reading.end = None;
    }
}

/// The encoder's chunks, taken in any portions, are the stream that was read.
fn write_back(reading: &Reading, stream: &[u8], cuts: &[usize]) {
    let mut encoder = Encoder::new(usize::from(u16::MAX));
    let mut written = Vec::new();
    for (message, cut) in reading.messages.iter().zip(cuts.iter().cycle()) {
        if cut % 3 == 0 {
            encoder.push_owned(Bytes::from(message.clone())).expect("within the limit");
        } else {
            encoder.push(message).expect("within the limit");
        }
        if cut % 5 == 0 {
            take_some(&mut encoder, *cut, &mut written);
        }
    }
    while encoder.pending() > 0 {
        take_some(&mut encoder, cuts[0], &mut written);
    }
    let whole: usize = reading.messages.iter().map(|message| PREFIX_LEN + message.len()).sum();
    assert_eq!(written, stream[..whole]);
}

/// A stream that takes at most `most` bytes of one chunk.
fn take_some(encoder: &mut Encoder, most: usize, written: &mut Vec<u8>) {
    let before = encoder.pending();
    let mut chunk = encoder.take();
    assert_eq!(chunk.is_empty(), before == 0, "an empty chunk means that nothing is pending");
    let taken = chunk.split_to(most.min(chunk.len()));
    written.extend_from_slice(&taken);
    encoder.put_back(chunk);
    assert_eq!(encoder.pending(), before - taken.len(), "pending counts what was not taken");
}

/// Streams that show each thing a stream can do.
pub(crate) fn seeds() -> Vec<Seed> {
    let stream = |max: u16, cuts: [u8; CUTS], messages: &[&[u8]], tail: &[u8]| {
        let frames = messages
            .iter()
            .flat_map(|message| [&gimlet_frame::prefix(message.len() as u32)[..], message].concat());
        let head = max.to_be_bytes().into_iter().chain(cuts);
        head.chain(frames).chain(tail.iter().copied()).collect()
    };
    let sevens = [6; CUTS];
    let mixed = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 7];
    vec![
        ("small_messages", stream(100, sevens, &[b"bore", b"", b"a hole", &[7; 99]], b"")),
        ("over_long", stream(20, mixed, &[b"fine"], b"\0\0\0\x15twenty-one bytes here")),
        ("claims_all_sends_three", stream(u16::MAX, sevens, &[], b"\0\0\xff\xffabc")),
        ("half_a_length", stream(9, [0; CUTS], &[b"one"], b"\0\0\0")),
        ("large_payload", stream(u16::MAX, [255; CUTS], &[b"before", &[1; 9_000], b"after"], b"")),
        ("single_bytes", stream(300, [0; CUTS], &[&[3; 250], b"", b""], b"")),
        ("large_in_small_cuts", stream(5_000, mixed, &[&[4; 4_100], &[5; 127], &[6; 128]], b"")),
    ]
}
