//! A server: each connection asks for a number of bytes of the pattern, gets them, and is closed by us.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::pattern::Pattern;

/// Bytes that ask: the number wanted, and its complement so that garbage is seen.
pub(super) const REQUEST: usize = 16;
/// Bytes that leave in one call.
const CHUNK: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to listen, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeArgs {
    /// The first port
    #[arg(long)]
    pub port: u16,
    /// How many ports from there on
    #[arg(long, default_value_t = 1)]
    pub ports: u16,
    /// Connections at a time, per port
    #[arg(long, default_value_t = 8)]
    pub workers: usize,
    /// Congestion control
    #[arg(long, default_value = "cubic")]
    pub congestion: String,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    let pattern = Arc::new(Pattern::new());
    let mut workers = Vec::new();
    for port in args.port..args.port + args.ports {
        let listener = listen(port, &args.congestion)?;
        for _ in 0..args.workers {
            let (listener, pattern) = (listener.try_clone()?, pattern.clone());
            workers.push(thread::spawn(move || serve(&listener, &pattern)));
        }
    }
    super::ready();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

fn listen(port: u16, congestion: &str) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_congestion(congestion.as_bytes())?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener, pattern: &Pattern) -> io::Result<()> {
    loop {
        // What a client does wrong ends its connection only.
        let _ = listener.accept().and_then(|(connection, _)| answer(connection, pattern));
    }
}

fn answer(mut connection: TcpStream, pattern: &Pattern) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; REQUEST];
    connection.read_exact(&mut request)?;
    let wanted = wanted(request).ok_or(io::ErrorKind::InvalidData)?;
    let mut at = 0;
    while at < wanted {
        let most = usize::try_from(wanted - at).map_or(CHUNK, |rest| rest.min(CHUNK));
        at += connection.write(pattern.from(at, most))? as u64;
    }
    Ok(())
}

/// A request for `bytes`.
pub(super) fn request(bytes: u64) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[..8].copy_from_slice(&bytes.to_be_bytes());
    request[8..].copy_from_slice(&(!bytes).to_be_bytes());
    request
}

fn wanted(request: [u8; REQUEST]) -> Option<u64> {
    let [wanted, check] =
        [0, 8].map(|at| request[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes)));
    wanted.filter(|wanted| check == Some(!wanted))
}
