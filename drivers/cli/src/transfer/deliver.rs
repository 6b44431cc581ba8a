//! Sending over a connection.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gimlet_machine::Direction;
use gimlet_node::Node;
use gimlet_tokio::{Connection, ReceiveHalf, SendHalf};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fault::Fault;
use super::inbox::Inbox;
use super::note::{self, Breach, Digest, Held, Offer, Opening, Outcome, Purpose, Reply};
use super::pace::{Pace, STALL_MAX};
use super::part::hash_start;
use super::sender::{Sender, SenderEvent};
use super::source::Source;

/// Read and hashed at a time. Bytes.
const BLOCK: usize = 256 << 10;

/// Blocks that are read ahead of the network; more would only be memory.
const BLOCKS_AHEAD: usize = 8;

/// The longest piece read from a stream at once. Bytes.
const READ_MAX: usize = 64 << 10;

/// How long a broken stream may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A file that arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// What the receiver called it.
    pub(crate) name: String,
    pub(crate) sha256: Digest,
    /// Where the sender began: what had arrived in an earlier attempt.
    pub(crate) resumed_at: u64,
}

/// Sends one file and waits until the receiver has stored it and found the hash to match.
pub(crate) async fn file(
    connection: &Connection<Node>,
    source: Source,
    offer: Offer,
    pace: &Arc<Pace>,
) -> Result<Delivered, Fault> {
    tokio::select! {
        delivered = converse(connection, source, offer, pace) => delivered,
        () = pace.stalled() => Err(Fault::Stalled),
    }
}

async fn converse(
    connection: &Connection<Node>,
    source: Source,
    offer: Offer,
    pace: &Arc<Pace>,
) -> Result<Delivered, Fault> {
    let (mut outgoing, mut incoming) = connection.open(Direction::Bidirectional).await?.split();
    let size = offer.size;
    let (mut sender, opening) = Sender::offer(offer);
    outgoing.write_all(&opening).await?;
    let held = match next(&mut sender, &mut incoming).await? {
        SenderEvent::Holds(held) => held,
        SenderEvent::Refused(refusal) => return Err(Fault::Refused(refusal)),
        SenderEvent::Ended(_) => return Err(Breach::Malformed.into()),
    };
    let (source, hasher, at) = tokio::task::spawn_blocking(move || compare(source, held)).await??;
    outgoing.write_all(&sender.start(at)).await?;
    pace.set(at);

    let (blocks, mut ready) = mpsc::channel(BLOCKS_AHEAD);
    let reading = tokio::task::spawn_blocking(move || read_blocks(source, hasher, size - at, &blocks));
    let writing = async {
        while let Some(block) = ready.recv().await {
            outgoing.write_all(&block).await?;
            pace.add(block.len() as u64);
        }
        Ok::<(), Fault>(())
    };
    let written = tokio::select! {
        written = writing => written,
        early = next(&mut sender, &mut incoming) => return Err(unexpected(early?)),
    };
    if let Err(fault) = written {
        // The receiver may have said why before it stopped listening.
        let words = timeout(LAST_WORDS, next(&mut sender, &mut incoming)).await;
        return Err(words.ok().and_then(Result::ok).map_or(fault, unexpected));
    }
    let sha256 = reading.await??;
    sender.sent(size - at);
    outgoing.write_all(&sender.trailer(sha256)).await?;
    match next(&mut sender, &mut incoming).await? {
        SenderEvent::Ended(Outcome::Stored { name }) => Ok(Delivered { name, sha256, resumed_at: at }),
        other => Err(unexpected(other)),
    }
}

/// An event that means failure wherever it comes after the start.
fn unexpected(event: SenderEvent) -> Fault {
    match event {
        SenderEvent::Ended(Outcome::Failed(trouble)) => Fault::Failed(trouble),
        SenderEvent::Refused(refusal) => Fault::Refused(refusal),
        SenderEvent::Ended(Outcome::Stored { .. }) | SenderEvent::Holds(_) => {
            Fault::Breach(Breach::Malformed)
        }
    }
}

/// The next event. Cancel-safe: what was read is heard at once.
async fn next(sender: &mut Sender, incoming: &mut ReceiveHalf<Node>) -> Result<SenderEvent, Fault> {
    loop {
        if let Some(event) = sender.poll()? {
            return Ok(event);
        }
        let chunk = incoming.read(READ_MAX).await?;
        sender.hear(chunk.ok_or_else(Fault::ended_early)?);
    }
}

/// Whether what the receiver has is the beginning of our file: where to begin, with the hash so far.
fn compare(mut source: Source, held: Held) -> io::Result<(Source, Sha256, u64)> {
    if held.length > 0 {
        let hasher = hash_start(&mut source, held.length)?;
        let same = Digest::from(hasher.clone().finalize()) == held.sha256;
        if same && source.stream_position()? == held.length {
            return Ok((source, hasher, held.length));
        }
    }
    source.seek(SeekFrom::Start(0))?;
    Ok((source, Sha256::new(), 0))
}

/// Reads `left` bytes, hashes them, and hands them over. Ends early when nobody wants them.
fn read_blocks(
    mut source: Source,
    mut hasher: Sha256,
    mut left: u64,
    blocks: &mpsc::Sender<Bytes>,
) -> io::Result<Digest> {
    while left > 0 {
        let mut block = vec![0; usize::try_from(left).unwrap_or(BLOCK).min(BLOCK)];
        source.read_exact(&mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the file became shorter while it was sent")
            }
            _ => error,
        })?;
        hasher.update(&block);
        left -= block.len() as u64;
        if blocks.blocking_send(block.into()).is_err() {
            break;
        }
    }
    Ok(hasher.finalize().into())
}

/// Sends one text and waits until the receiver has shown it.
pub(crate) async fn message(connection: &Connection<Node>, text: &str) -> Result<(), Fault> {
    let talk = async {
        let (mut outgoing, mut incoming, mut inbox) = open(connection, Purpose::Message).await?;
        outgoing.write_all(text.as_bytes()).await?;
        outgoing.finish().await?;
        match note::read(&next_note(&mut inbox, &mut incoming).await?)? {
            Outcome::Stored { .. } => Ok(()),
            Outcome::Failed(trouble) => Err(Fault::Failed(trouble)),
        }
    };
    timeout(STALL_MAX, talk).await.unwrap_or(Err(Fault::Stalled))
}

/// Opens a pipe. Bytes that came with the answer are returned: they are the first ones to read.
pub(crate) async fn pipe(
    connection: &Connection<Node>,
) -> Result<(SendHalf<Node>, ReceiveHalf<Node>, Inbox), Fault> {
    timeout(STALL_MAX, open(connection, Purpose::Pipe)).await.unwrap_or(Err(Fault::Stalled))
}

/// Opens a stream for bytes, and waits until the peer wants them.
async fn open(
    connection: &Connection<Node>,
    purpose: Purpose,
) -> Result<(SendHalf<Node>, ReceiveHalf<Node>, Inbox), Fault> {
    let (mut outgoing, mut incoming) = connection.open(Direction::Bidirectional).await?.split();
    outgoing.write_all(&note::write(&Opening::new(purpose))).await?;
    let mut inbox = Inbox::default();
    match note::read(&next_note(&mut inbox, &mut incoming).await?)? {
        Reply::Ready(_) => Ok((outgoing, incoming, inbox)),
        Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
    }
}

async fn next_note(inbox: &mut Inbox, incoming: &mut ReceiveHalf<Node>) -> Result<Bytes, Fault> {
    loop {
        if let Some(note) = inbox.note()? {
            return Ok(note);
        }
        inbox.push(incoming.read(READ_MAX).await?.ok_or_else(Fault::ended_early)?);
    }
}
