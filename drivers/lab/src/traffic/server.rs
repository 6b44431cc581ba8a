//! The server.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use sha2::{Digest as _, Sha256};
use socket2::{Domain, Protocol, Socket, Type};

use super::{CHUNK, Content, GREETING, HEAD, Head};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// A server with a thread per connection.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    greets: bool,
    address: SocketAddr,
}

impl Server {
    /// Listens at `address`; `greets`: it speaks first.
    pub fn bind(address: SocketAddr, greets: bool, congestion: Option<&str>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(congestion) = congestion {
            // Accepted connections inherit it.
            socket.set_tcp_congestion(congestion.as_bytes())?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok(Self { listener, greets, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends.
    pub fn run(self) {
        let greets = self.greets;
        for stream in self.listener.incoming().flatten() {
            // A client that goes away is its own business.
            thread::spawn(move || serve(stream, greets));
        }
    }
}

fn serve(mut stream: TcpStream, greets: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if greets {
        stream.write_all(GREETING)?;
    }
    let mut head = [0; HEAD];
    stream.read_exact(&mut head)?;
    let head = Head::read(head);
    let (mut hash, mut left, mut bytes) = (Sha256::new(), head.up, vec![0; CHUNK]);
    while left > 0 {
        let most = left.min(CHUNK as u64) as usize;
        let count = stream.read(&mut bytes[..most])?;
        if count == 0 {
            return Ok(());
        }
        hash.update(&bytes[..count]);
        left -= count as u64;
    }
    let mut content = Content::down(head);
    // The hash and the first bytes in one go: an answer begins with data.
    let mut answer = hash.finalize().to_vec();
    answer.extend_from_slice(content.next(CHUNK));
    stream.write_all(&answer)?;
    loop {
        let chunk = content.next(CHUNK);
        if chunk.is_empty() {
            return Ok(());
        }
        stream.write_all(chunk)?;
    }
}
