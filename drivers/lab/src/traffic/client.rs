//! The client.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use socket2::{Domain, Protocol, Socket, Type};

use super::{CHUNK, Content, GREETING, Head};

/// `MSG_FASTOPEN`: connect, and send in the SYN (RFC 7413).
const FAST_OPEN: i32 = 0x2000_0000;

/// How to connect, and what to ask for.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where the server is.
    pub server: SocketAddr,
    /// Bytes to send, besides the head.
    pub up: u64,
    /// Bytes to ask for.
    pub down: u64,
    /// Wait for a greeting before sending anything.
    pub is_greeted: bool,
    /// Send the first bytes in the SYN, if the server gave this host a cookie.
    pub fast_open: bool,
    /// Which congestion control; the system's own if none.
    pub congestion: Option<String>,
    /// How long connecting may take, and each wait for bytes after.
    pub limit: Duration,
}

/// What became of one connection. Times count from the call of `connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When `connect` returned; there is none with [`Client::fast_open`].
    pub connect: Option<Duration>,
    /// When the first byte of the server arrived.
    pub first: Option<Duration>,
    /// When it was over.
    pub total: Duration,
    /// Bytes received of those that were asked for.
    pub received: u64,
    /// Bytes that were not what they should have been, in either direction.
    pub corrupt: u64,
    /// What ended it, if that was not the end.
    pub error: Option<String>,
}

impl Client {
    /// One that asks for a thousand bytes.
    pub fn new(server: SocketAddr) -> Self {
        let (up, down, limit) = (0, 1_000, Duration::from_secs(30));
        Self { server, up, down, is_greeted: false, fast_open: false, congestion: None, limit }
    }

    /// Connects once. `number` decides which bytes are exchanged.
    pub fn measure(&self, number: u64) -> Sample {
        let (begun, mut sample) = (Instant::now(), Sample::default());
        if let Err(error) = self.exchange(Head { number, up: self.up, down: self.down }, begun, &mut sample) {
            sample.error = Some(named(&error));
        }
        sample.total = begun.elapsed();
        sample
    }

    fn exchange(&self, head: Head, begun: Instant, sample: &mut Sample) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(congestion) = &self.congestion {
            socket.set_tcp_congestion(congestion.as_bytes())?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(self.limit))?;
        socket.set_write_timeout(Some(self.limit))?;
        let mut content = Content::up(head);
        // The head and the first bytes are one request, as programs make them.
        let mut request = [&head.write()[..], content.next(CHUNK)].concat();
        if self.fast_open {
            let sent = socket.send_to_with_flags(&request, &self.server.into(), FAST_OPEN)?;
            request.drain(..sent);
        } else {
            socket.connect_timeout(&self.server.into(), self.limit)?;
            sample.connect = Some(begun.elapsed());
        }
        let mut stream = TcpStream::from(socket);
        if self.is_greeted {
            let mut greeting = [0; GREETING.len()];
            stream.read_exact(&mut greeting[..1])?;
            sample.first = Some(begun.elapsed());
            stream.read_exact(&mut greeting[1..])?;
            sample.corrupt += differences(&greeting, GREETING);
        }
        stream.write_all(&request)?;
        let mut sent = Sha256::new();
        let mut again = Content::up(head);
        sent.update(again.next(CHUNK));
        loop {
            let chunk = content.next(CHUNK);
            if chunk.is_empty() {
                break;
            }
            stream.write_all(chunk)?;
            sent.update(chunk);
        }
        receive(&mut stream, head, begun, &sent.finalize(), sample)
    }
}

/// Reads the answer and compares it with what it should be.
fn receive(
    stream: &mut TcpStream,
    head: Head,
    begun: Instant,
    sent: &[u8],
    sample: &mut Sample,
) -> io::Result<()> {
    let mut hash = [0; 32];
    stream.read_exact(&mut hash[..1])?;
    sample.first.get_or_insert(begun.elapsed());
    stream.read_exact(&mut hash[1..])?;
    sample.corrupt += differences(&hash, sent);
    let (mut expected, mut bytes) = (Content::down(head), vec![0; CHUNK]);
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        sample.received += count as u64;
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let wanted = expected.next(rest.len());
            // Past the end, whatever comes is surplus.
            let compared = if wanted.is_empty() { rest.len() } else { wanted.len() };
            sample.corrupt += differences(&rest[..compared], wanted);
            rest = &rest[compared..];
        }
    }
    if sample.received == head.down { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// How many bytes are not as they should be, missing ones and surplus ones among them.
fn differences(got: &[u8], wanted: &[u8]) -> u64 {
    let wrong = got.iter().zip(wanted).filter(|(got, wanted)| got != wanted).count();
    (wrong + got.len().abs_diff(wanted.len())) as u64
}

/// The error as people know it.
fn named(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        kind => kind.to_string(),
    }
}
