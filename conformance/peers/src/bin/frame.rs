//! Length-prefixed messages out of a stream that arrives in chunks of 1,200 bytes; beside tokio-util.

use bytes::{Bytes, BytesMut};
use gimlet_frame::{Decoder, MESSAGE_MAX_DEFAULT};
use gimlet_peers::Table;
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

/// What a QUIC packet carries, roughly.
const CHUNK: usize = 1_200;
/// How much of a stream one call decodes.
const STREAM: usize = 1 << 20;

fn main() {
    let mut table = Table::new("Framing, per message decoded, stream in chunks of 1,200 bytes");
    for (work, size) in [("64 B", 64), ("1 KiB", 1 << 10), ("64 KiB", 1 << 16)] {
        let count = (STREAM / (size + 4)) as u64;
        let stream = stream(size, count);
        let chunks: Vec<Bytes> = (0..stream.len())
            .step_by(CHUNK)
            .map(|at| stream.slice(at..stream.len().min(at + CHUNK)))
            .collect();
        let ours = chunks.clone();
        let mut decoder = Decoder::new(MESSAGE_MAX_DEFAULT);
        table.row(work, "gimlet, owned", count, move || {
            let mut found = 0;
            for chunk in &ours {
                decoder.push(chunk.clone());
                while let Some(message) = decoder.poll() {
                    found += message.expect("valid").len();
                }
            }
            assert_eq!(found as u64, size as u64 * count);
        });
        let ours = chunks.clone();
        let mut decoder = Decoder::new(MESSAGE_MAX_DEFAULT);
        table.row(work, "gimlet, borrowed", count, move || {
            let mut found = 0;
            for chunk in &ours {
                decoder.push(chunk.clone());
                while let Some(message) = decoder.poll_slice() {
                    found += message.expect("valid").len();
                }
            }
            assert_eq!(found as u64, size as u64 * count);
        });
        let mut codec = LengthDelimitedCodec::builder().max_frame_length(MESSAGE_MAX_DEFAULT).new_codec();
        let mut buffer = BytesMut::new();
        table.row(work, "tokio-util", count, move || {
            let mut found = 0;
            for chunk in &chunks {
                buffer.extend_from_slice(chunk);
                while let Some(message) = codec.decode(&mut buffer).expect("valid") {
                    found += message.len();
                }
            }
            assert_eq!(found as u64, size as u64 * count);
        });
    }
    table.run();
}

fn stream(size: usize, count: u64) -> Bytes {
    let mut stream = Vec::new();
    for _ in 0..count {
        stream.extend_from_slice(&(size as u32).to_be_bytes());
        stream.resize(stream.len() + size, 0x5a);
    }
    stream.into()
}
