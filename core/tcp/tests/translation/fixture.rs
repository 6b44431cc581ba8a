//! Frames to translate, and what both ends are called.

use gimlet_tcp::{Checksum, Side, Strip, Translation, Windows};
use gimlet_wire::{Envelope, Fragment, Layout, Segment, TcpFlags, TcpOptionList, TcpView};

pub(crate) const ACK: TcpFlags = TcpFlags::ACK;
pub(crate) const D: u32 = 0xffff_ffd0;
pub(crate) const O: u32 = 0x7fff_fc18;

/// Both spaces of the worked example are joined.
pub(crate) const READY: Translation =
    Translation { delta: D, clock: O, windows: Windows::new(None, None, None), strip: Strip::NOTHING };

pub(crate) fn ready_with(windows: Windows) -> Translation {
    Translation { windows, ..READY }
}

/// The headers around a segment from `side`.
pub(crate) fn envelope(side: Side) -> Envelope {
    let from_client =
        Envelope::new([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    match side {
        Side::Client => from_client,
        Side::Server => from_client.reversed(),
    }
}

/// The same with IPv6.
pub(crate) fn envelope_v6(side: Side) -> Envelope {
    let (client, server) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    let (source, destination) = match side {
        Side::Client => (client, server),
        Side::Server => (server, client),
    };
    Envelope { source, destination, ..envelope(side) }
}

/// A segment from `side` with these numbers, windows and ports as usual.
pub(crate) fn segment(side: Side, flags: TcpFlags, seq: u32, ack: u32) -> Segment<'static> {
    let (source_port, destination_port) = match side {
        Side::Client => (40_000, 8080),
        Side::Server => (8080, 40_000),
    };
    let options = TcpOptionList::new();
    Segment { source_port, destination_port, seq, ack, flags, window: 502, options, payload: &[] }
}

pub(crate) fn frame(envelope: &Envelope, segment: &Segment<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    envelope.write(&mut frame, segment);
    frame
}

/// Translates a frame from `side`, as the translator does with every frame of a flow that it knows.
pub(crate) fn translate(translation: &Translation, side: Side, checksum: Checksum, frame: &mut [u8]) {
    let layout = Layout::of(frame).expect("a frame");
    if layout.fragment != Fragment::Later {
        translation.apply(side, checksum, &mut layout.tcp_mut(frame).expect("a segment"));
    }
}

pub(crate) fn tcp(frame: &[u8]) -> TcpView<&[u8]> {
    Layout::of(frame).unwrap().tcp(frame).unwrap()
}

/// Translates `segment` from `side`, and checks that checksum and everything else are what the other side would
/// have written itself, had it meant `expected`.
#[track_caller]
pub(crate) fn becomes(translation: &Translation, side: Side, segment: &Segment<'_>, expected: &Segment<'_>) {
    for envelope in [envelope(side), envelope_v6(side)] {
        let mut frame_ = frame(&envelope, segment);
        translate(translation, side, Checksum::Complete, &mut frame_);
        let (found, expected) = (tcp(&frame_), frame(&envelope, expected));
        let expected = tcp(&expected);
        assert_eq!(found.seq(), expected.seq(), "SEQ {:08X}", found.seq());
        assert_eq!(found.ack(), expected.ack(), "ACK {:08X}", found.ack());
        assert_eq!(found.window(), expected.window());
        assert_eq!(
            found.options().collect::<Vec<_>>(),
            expected.options().collect::<Vec<_>>(),
            "options of a header of {} bytes",
            found.header_len()
        );
        assert_eq!(found.as_slice(), expected.as_slice(), "checksum {:04X}", found.checksum());
    }
}
