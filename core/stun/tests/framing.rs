//! Case 11: messages and ChannelData over streams.

use gimlet_stun::{
    ChannelData, Class, FRAME_MAX, Frame, Framer, FramingError, Message, MessageWriter, Method, TransactionId,
};
use proptest::prelude::*;

const ID: TransactionId = TransactionId(*b"abcdefghijkl");

/// A frame with its bytes owned, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Message(Vec<u8>),
    ChannelData(u16, Vec<u8>),
}

impl Owned {
    fn of(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Message(bytes) => Owned::Message(bytes.to_vec()),
            Frame::ChannelData(ChannelData { number, data }) => Owned::ChannelData(number, data.to_vec()),
        }
    }

    fn write(&self, stream: &mut Vec<u8>) {
        match self {
            Owned::Message(bytes) => stream.extend_from_slice(bytes),
            Owned::ChannelData(number, data) => ChannelData { number: *number, data }.write_padded(stream),
        }
    }
}

fn message(software: &str) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Request, Method::BINDING, ID).software(software).fingerprint();
    out
}

fn frames(framer: &mut Framer, mut chunk: &[u8]) -> Result<Vec<Owned>, FramingError> {
    let mut found = Vec::new();
    while let Some(frame) = framer.poll(&mut chunk)? {
        found.push(Owned::of(frame));
    }
    assert!(chunk.is_empty(), "Ok(None) means that the chunk is used up");
    Ok(found)
}

#[test]
fn case_11_a_message_split_at_every_byte_arrives_once_and_whole() {
    let bytes = message("split");
    for at in 0..=bytes.len() {
        let mut framer = Framer::new();
        let mut found = frames(&mut framer, &bytes[..at]).unwrap();
        assert_eq!(framer.held(), if at == bytes.len() { 0 } else { at });
        found.extend(frames(&mut framer, &bytes[at..]).unwrap());
        assert_eq!(found, [Owned::Message(bytes.clone())], "split at {at}");
        assert_eq!(framer.held(), 0);
    }
}

#[test]
fn case_11_two_messages_in_one_read_are_two_messages() {
    let (first, second) = (message("first"), message("the second"));
    let mut framer = Framer::new();
    let found = frames(&mut framer, &[first.clone(), second.clone()].concat()).unwrap();
    assert_eq!(found, [Owned::Message(first.clone()), Owned::Message(second)]);
    assert!(Message::parse(&first).is_ok());
}

#[test]
fn case_11_a_frame_that_is_whole_in_its_chunk_is_borrowed_from_it() {
    let bytes = message("borrowed");
    let (mut framer, mut chunk) = (Framer::new(), &bytes[..]);
    let Ok(Some(Frame::Message(found))) = framer.poll(&mut chunk) else { panic!() };
    assert_eq!(found.as_ptr(), bytes.as_ptr());
}

#[test]
fn case_11_channel_data_is_padded_on_streams_and_need_not_be_in_datagrams() {
    let channel = ChannelData { number: 0x4001, data: b"12345" };
    let (mut stream, mut datagram) = (Vec::new(), Vec::new());
    channel.write_padded(&mut stream);
    channel.write(&mut datagram);
    assert_eq!((stream.len(), datagram.len()), (12, 9));
    assert_eq!(ChannelData::parse(&datagram), Some(channel));
    assert_eq!(ChannelData::parse(&stream), Some(channel), "padding in a datagram is allowed");
    assert_eq!(frames(&mut Framer::new(), &stream).unwrap(), [Owned::ChannelData(0x4001, b"12345".to_vec())]);
    let mut framer = Framer::new();
    assert_eq!(frames(&mut framer, &datagram).unwrap(), [], "three bytes are missing");
    assert_eq!(framer.held(), 9);
}

#[test]
fn case_11_channel_data_with_a_wrong_number_or_length_is_refused() {
    for datagram in [&b""[..], b"\x40\x00\x00", b"\x40\x00\x00\x01", b"\x3f\xff\x00\x00", b"\x50\x00\x00\x00"]
    {
        assert_eq!(ChannelData::parse(datagram), None, "{datagram:02x?}");
    }
    let empty = ChannelData { number: 0x4fff, data: b"" };
    assert_eq!(ChannelData::parse(b"\x4f\xff\x00\x00"), Some(empty));
}

#[test]
fn case_11_a_length_that_never_completes_holds_no_more_than_64_kib() {
    // The longest frame there is: header 4, data 65,532.
    let mut framer = Framer::new();
    let mut stream = vec![0x40, 0x00, 0xff, 0xfc];
    stream.resize(FRAME_MAX - 1, 0);
    for chunk in stream.chunks(1_000) {
        assert_eq!(frames(&mut framer, chunk).unwrap(), []);
        assert!(framer.held() < FRAME_MAX);
    }
    assert_eq!(frames(&mut framer, &[0]).unwrap(), [Owned::ChannelData(0x4000, vec![0; 65_532])]);
}

#[test]
fn case_11_a_frame_longer_than_64_kib_closes_the_connection_at_its_header() {
    let channel = (&[0x40, 0x00, 0xff, 0xfd][..], 65_540);
    let message = (&[0x00, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42][..], 65_552);
    for (header, len) in [channel, message] {
        let mut framer = Framer::new();
        assert_eq!(frames(&mut framer, header), Err(FramingError::TooLong { len }));
        assert_eq!(framer.held(), 0);
        let valid = self::message("afterwards");
        assert_eq!(frames(&mut framer, &valid), Err(FramingError::TooLong { len }), "there is no way back");
    }
}

#[test]
fn case_11_what_is_no_frame_closes_the_connection_at_the_first_byte_that_shows_it() {
    let cases: [(&[u8], usize); 5] = [
        (b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0", 8),
        (b"\x50", 1),
        (b"\x80", 1),
        (b"\xff", 1),
        (b"\x00\x01\x00\x02\x21\x12\xa4\x42", 8),
    ];
    for (bytes, shown_at) in cases {
        for chunk_len in 1..=bytes.len() {
            let mut framer = Framer::new();
            let results: Vec<_> = bytes.chunks(chunk_len).map(|chunk| frames(&mut framer, chunk)).collect();
            assert_eq!(results.last(), Some(&Err(FramingError::NotFraming)), "{bytes:02x?} by {chunk_len}");
            let fed = (results.iter().take_while(|result| result.is_ok()).count() + 1) * chunk_len;
            assert!(fed < shown_at + chunk_len, "{bytes:02x?} by {chunk_len}: noticed after {fed} bytes");
        }
    }
}

fn any_frame() -> impl Strategy<Value = Owned> {
    prop_oneof![
        "[a-z]{0,40}".prop_map(|software| Owned::Message(message(&software))),
        (0x4000u16..=0x4fff, prop::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(number, data)| Owned::ChannelData(number, data)),
    ]
}

proptest! {
    #[test]
    fn case_11_any_frames_in_any_chunks_come_out_as_they_went_in(
        sent in prop::collection::vec(any_frame(), 0..8),
        cuts in prop::collection::vec(1usize..60, 1..40),
    ) {
        let mut stream = Vec::new();
        for frame in &sent {
            frame.write(&mut stream);
        }
        let (mut framer, mut rest, mut found) = (Framer::new(), &stream[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (chunk, left) = rest.split_at(rest.len().min(*cut));
            found.extend(frames(&mut framer, chunk).unwrap());
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn case_11_hostile_streams_never_panic_and_never_hold_more_than_a_frame(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..50),
    ) {
        let mut framer = Framer::new();
        for chunk in &chunks {
            let _ = frames(&mut framer, chunk);
            prop_assert!(framer.held() <= FRAME_MAX);
        }
    }
}
