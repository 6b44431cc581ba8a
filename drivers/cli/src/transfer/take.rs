//! Receiving what a peer opened a stream for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gimlet_machine::PeerId;
use gimlet_node::Node;
use gimlet_tokio::{ReceiveHalf, SendHalf, Stream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::fault::Fault;
use super::note::{Breach, Digest, Held, Offer, Outcome, Purpose, Refusal, Trouble, VERSION};
use super::pace::{Pace, STALL_MAX};
use super::part::{Folder, Part};
use super::receiver::{Receiver, ReceiverEvent};

/// Length of a message; a longer one is refused. Bytes.
pub(crate) const MESSAGE_MAX: usize = 64 << 10;

/// How long a peer may take to say what it opened a stream for.
const OPENING_WAIT: Duration = Duration::from_secs(30);

/// How long the sender of a failed transfer may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(10);

/// Collected before it is written to the disk. Bytes.
const BLOCK: usize = 256 << 10;

/// Blocks that wait for the disk; beyond, the network waits, too.
const BLOCKS_WAITING: usize = 8;

/// The longest piece read from a stream at once. Bytes.
const READ_MAX: usize = 1 << 20;

/// What we want from peers.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    /// Where files go; `None`: no files.
    pub(crate) folder: Option<Folder>,
    /// Bytes per file at most.
    pub(crate) size_max: u64,
    pub(crate) messages: bool,
    /// How many pipes are still wanted.
    pub(crate) pipes: Arc<Semaphore>,
}

/// What came of a stream.
pub(crate) enum Taken {
    /// A file, whole.
    File(TakenFile),
    /// A text.
    Message(String),
    /// A pipe.
    Pipe(Box<TakenPipe>),
}

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakenFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) resumed_at: u64,
    pub(crate) sha256: Digest,
}

/// Both halves of a pipe, and what has been read of it already.
pub(crate) struct TakenPipe {
    pub(crate) outgoing: SendHalf<Node>,
    pub(crate) incoming: ReceiveHalf<Node>,
    pub(crate) receiver: Receiver,
}

/// One stream, its two halves and what we understand of it.
struct Conversation {
    outgoing: SendHalf<Node>,
    incoming: ReceiveHalf<Node>,
    receiver: Receiver,
}

/// Takes what `peer` opened `stream` for. `on_file` is told when a file begins; what it returns is
/// kept until the end.
pub(crate) async fn stream<B>(
    stream: Stream<Node>,
    peer: PeerId,
    welcome: &Welcome,
    on_file: impl FnOnce(&Offer, &Arc<Pace>) -> B,
) -> Result<Taken, Fault> {
    let (outgoing, incoming) = stream.split();
    let mut talk = Conversation { outgoing, incoming, receiver: Receiver::new() };
    let opened = timeout(OPENING_WAIT, talk.next()).await.unwrap_or(Err(Fault::Stalled));
    let result = match opened {
        Ok(Some(ReceiverEvent::Opened(purpose))) => match welcome.refusal(&purpose) {
            Some(refusal) => talk.decline(refusal).await,
            None => match purpose {
                Purpose::File(offer) => talk.file(peer, welcome, offer, on_file).await.map(Taken::File),
                Purpose::Message => talk.message().await.map(Taken::Message),
                Purpose::Pipe => return talk.pipe().await.map(|pipe| Taken::Pipe(Box::new(pipe))),
            },
        },
        Ok(_) => Err(Fault::Breach(Breach::CutOff)),
        Err(fault) => Err(fault),
    };
    if let Err(Fault::Breach(breach)) = &result {
        talk.complain(*breach).await;
    }
    result
}

impl Welcome {
    fn refusal(&self, purpose: &Purpose) -> Option<Refusal> {
        match purpose {
            Purpose::File(_) if self.folder.is_none() => Some(Refusal::NoFiles),
            Purpose::File(offer) if offer.size > self.size_max => {
                Some(Refusal::TooLarge { max: self.size_max })
            }
            Purpose::Message if !self.messages => Some(Refusal::NoMessages),
            Purpose::Pipe => match self.pipes.try_acquire() {
                Ok(place) => {
                    place.forget();
                    None
                }
                Err(_) => Some(Refusal::NoPipe),
            },
            Purpose::File(_) | Purpose::Message => None,
        }
    }

    pub(crate) fn no_pipes() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(0))
    }

    pub(crate) fn one_pipe() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1))
    }
}

impl Conversation {
    /// The next event; `None` at an end where one may be.
    async fn next(&mut self) -> Result<Option<ReceiverEvent>, Fault> {
        loop {
            if let Some(event) = self.receiver.poll()? {
                return Ok(Some(event));
            }
            match self.incoming.read(READ_MAX).await? {
                Some(chunk) => self.receiver.hear(chunk),
                None if self.receiver.end().is_ok() => return Ok(None),
                None => return Err(Fault::ended_early()),
            }
        }
    }

    async fn decline(&mut self, refusal: Refusal) -> Result<Taken, Fault> {
        let answer = self.receiver.refuse(refusal.clone());
        self.say_last(&answer).await;
        Err(Fault::Declined(refusal))
    }

    /// Tells the peer that it broke the protocol, if it still listens.
    async fn complain(&mut self, breach: Breach) {
        let trouble = Trouble::Breach(breach.to_string());
        let answer = match breach {
            Breach::Version(_) => self.receiver.refuse(Refusal::Version(VERSION)),
            _ if self.receiver.is_undecided() => self.receiver.refuse(Refusal::Trouble(trouble)),
            _ if self.receiver.end().is_err() => self.receiver.conclude(&Outcome::Failed(trouble)),
            _ => return,
        };
        self.say_last(&answer).await;
    }

    /// Says the last word and waits, within limits, until the peer has heard it: what it still sends
    /// is dropped, because its own send buffer may be all that keeps it from listening.
    async fn say_last(&mut self, words: &[u8]) {
        let farewell = async {
            if self.outgoing.write_all(words).await.is_ok() {
                let drain = async { while let Ok(Some(_)) = self.incoming.read(READ_MAX).await {} };
                // The peer hangs up once it has heard us; if it was gone before, nobody misses the words.
                let _ = tokio::join!(self.outgoing.finish(), drain);
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    async fn file<B>(
        &mut self,
        peer: PeerId,
        welcome: &Welcome,
        offer: Offer,
        on_file: impl FnOnce(&Offer, &Arc<Pace>) -> B,
    ) -> Result<TakenFile, Fault> {
        let Some(folder) = welcome.folder.clone() else { return Err(Fault::Declined(Refusal::NoFiles)) };
        let (size, wanted, pace) = (offer.size, offer.clone(), Arc::new(Pace::default()));
        let place = folder.rivals().enter(&offer, &pace).await;
        let opened = tokio::task::spawn_blocking(move || folder.part(&wanted, &peer.to_string())).await?;
        let part = match opened {
            Ok(part) => part,
            Err(error) => {
                let refusal = self.receiver.refuse(Refusal::Trouble(Trouble::from_io(&error)));
                self.say_last(&refusal).await;
                return Err(Fault::Local(error));
            }
        };
        let answer = self.receiver.accept(part.held());
        self.outgoing.write_all(&answer).await?;
        let started = timeout(STALL_MAX, self.next()).await.unwrap_or(Err(Fault::Stalled))?;
        let Some(ReceiverEvent::Started { at }) = started else { return Err(Breach::CutOff.into()) };
        pace.set(at);
        let _shown = on_file(&offer, &pace);

        let (blocks, waiting) = mpsc::channel(BLOCKS_WAITING);
        let counter = pace.clone();
        let storing = tokio::task::spawn_blocking(move || store(part, at, waiting, &counter));
        let received = tokio::select! {
            received = self.bytes(&blocks) => received,
            () = pace.stalled() => Err(Fault::Stalled),
            () = place.wanted() => Err(Fault::Superseded),
        };
        drop(blocks);
        let stored = storing.await?;
        let sha256 = match (received, &stored) {
            (Ok(Some(sha256)), Ok(_)) => sha256,
            // Whatever had arrived is on the disk.
            (Err(fault @ Fault::Breach(_)), Ok(_)) => return Err(fault),
            (Err(fault), Ok(part)) => return Err(Fault::Partial(Box::new(fault), part.path().to_owned())),
            (_, Err(_)) | (Ok(None), Ok(_)) => Digest::default(),
        };
        let finished = match stored {
            Ok(part) => {
                let ended = tokio::task::spawn_blocking(move || part.finish(&sha256)).await?;
                ended.map_err(|trouble| (trouble.clone(), local(trouble)))
            }
            Err(error) => Err((Trouble::from_io(&error), Fault::Local(error))),
        };
        match finished {
            Ok(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let outcome = self.receiver.conclude(&Outcome::Stored { name });
                self.outgoing.write_all(&outcome).await?;
                Ok(TakenFile { path, size, resumed_at: at, sha256 })
            }
            Err((trouble, fault)) => {
                let outcome = self.receiver.conclude(&Outcome::Failed(trouble));
                self.say_last(&outcome).await;
                Err(fault)
            }
        }
    }

    /// Hands the file's bytes over to the disk; the hash that they should have. `None`: the disk does
    /// not take any more.
    async fn bytes(&mut self, blocks: &mpsc::Sender<Bytes>) -> Result<Option<Digest>, Fault> {
        let mut block = BytesMut::with_capacity(BLOCK);
        let end = loop {
            match self.next().await {
                Ok(Some(ReceiverEvent::Bytes(bytes))) => block.extend_from_slice(&bytes),
                Ok(Some(ReceiverEvent::Complete { sha256 })) => break Ok(Some(sha256)),
                Ok(_) => break Err(Breach::CutOff.into()),
                Err(fault) => break Err(fault),
            }
            if block.len() >= BLOCK && blocks.send(block.split().freeze()).await.is_err() {
                return Ok(None);
            }
        };
        // Also when the connection broke: what arrived need not be sent again.
        if !block.is_empty() && blocks.send(block.freeze()).await.is_err() {
            return Ok(None);
        }
        end
    }

    async fn message(&mut self) -> Result<String, Fault> {
        let answer = self.receiver.accept(Held::nothing());
        self.outgoing.write_all(&answer).await?;
        let mut text = Vec::new();
        let collect = async {
            while let Some(event) = self.next().await? {
                let ReceiverEvent::Bytes(bytes) = event else { return Err(Breach::Malformed.into()) };
                text.extend_from_slice(&bytes);
                if text.len() > MESSAGE_MAX {
                    break;
                }
            }
            Ok::<(), Fault>(())
        };
        timeout(STALL_MAX, collect).await.unwrap_or(Err(Fault::Stalled))?;
        let text = String::from_utf8(text).ok().filter(|text| text.len() <= MESSAGE_MAX);
        let outcome = match &text {
            Some(_) => Outcome::Stored { name: String::new() },
            None => Outcome::Failed(Trouble::NotText),
        };
        let answer = self.receiver.conclude(&outcome);
        self.outgoing.write_all(&answer).await?;
        text.ok_or(Fault::Failed(Trouble::NotText))
    }

    async fn pipe(mut self) -> Result<TakenPipe, Fault> {
        let answer = self.receiver.accept(Held::nothing());
        self.outgoing.write_all(&answer).await?;
        let Conversation { outgoing, incoming, receiver } = self;
        Ok(TakenPipe { outgoing, incoming, receiver })
    }
}

/// Writes blocks to the disk until there are no more.
fn store(part: Part, at: u64, mut blocks: mpsc::Receiver<Bytes>, pace: &Pace) -> std::io::Result<Part> {
    let mut part = part.start(at)?;
    while let Some(block) = blocks.blocking_recv() {
        part.write(&block)?;
        pace.add(block.len() as u64);
    }
    Ok(part)
}

/// The same trouble as we see it, at whose disk it happened.
fn local(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::DiskFull => Fault::Local(std::io::ErrorKind::StorageFull.into()),
        Trouble::HashMismatch => Fault::HashMismatch,
        Trouble::Io(what) => Fault::Local(std::io::Error::other(what)),
        Trouble::Breach(_) | Trouble::NotText => Fault::Failed(trouble),
    }
}
