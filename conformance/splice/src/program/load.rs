//! A client: connections at a steady rate, each compared with the pattern.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::pattern::Pattern;
use super::serve::request;

/// How long a step of a connection may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that are read in one call.
const CHUNK: usize = 256 << 10;

/// How many connections, where to, and how fast.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// The server
    #[arg(long)]
    pub to: Ipv4Addr,
    /// Its first port
    #[arg(long)]
    pub port: u16,
    /// How many ports from there on, used in turn
    #[arg(long, default_value_t = 1)]
    pub ports: u16,
    /// Connections in all
    #[arg(long, default_value_t = 1)]
    pub connections: u64,
    /// Connections that begin per second; 0: as soon as a worker is free
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Bytes that each asks for
    #[arg(long)]
    pub bytes: u64,
    /// Connections at a time
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Congestion control
    #[arg(long, default_value = "cubic")]
    pub congestion: String,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Connections that got every byte, and every byte right.
    pub done: u64,
    /// Connections that failed, by what happened.
    pub failed: BTreeMap<String, u64>,
    /// Bytes that were not what they should be.
    pub wrong: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first connection's beginning to the last one's end.
    pub seconds: f64,
    /// Until `connect` returned, in microseconds.
    pub connect: Quantiles,
    /// From the beginning of `connect` to the first byte, in microseconds.
    pub first_byte: Quantiles,
    /// From the beginning of `connect` to the end, in microseconds.
    pub whole: Quantiles,
}

impl Summary {
    /// How many connections failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Where values lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half are below.
    pub p50: u64,
    /// One in a hundred is above.
    pub p99: u64,
    /// None is above.
    pub max: u64,
}

impl Quantiles {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let nth = |share: usize| values.get((values.len() * share / 100).min(values.len().saturating_sub(1)));
        let [p50, p99, max] = [50, 99, 100].map(|share| nth(share).copied().unwrap_or(0));
        Self { p50, p99, max }
    }
}

pub(super) fn run(args: &LoadArgs) -> Result<(), Box<dyn Error>> {
    let (pattern, next, begun) = (Pattern::new(), AtomicU64::new(0), Instant::now());
    super::ready();
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..args.workers).map(|_| scope.spawn(|| work(args, &pattern, &next, begun))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally);
    }
    let mut summary = all.summary;
    summary.seconds = begun.elapsed().as_secs_f64();
    let [connect, first_byte, whole] = all.times.map(Quantiles::of);
    println!("{}", serde_json::to_string(&Summary { connect, first_byte, whole, ..summary })?);
    Ok(())
}

/// What one worker saw.
#[derive(Default)]
struct Tally {
    summary: Summary,
    /// To the connection, to the first byte, to the end.
    times: [Vec<u64>; 3],
}

impl Tally {
    fn add(&mut self, other: Tally) {
        let Summary { done, failed, wrong, bytes, .. } = other.summary;
        self.summary.done += done;
        self.summary.wrong += wrong;
        self.summary.bytes += bytes;
        for (why, count) in failed {
            *self.summary.failed.entry(why).or_default() += count;
        }
        for (all, more) in self.times.iter_mut().zip(other.times) {
            all.extend(more);
        }
    }
}

fn work(args: &LoadArgs, pattern: &Pattern, next: &AtomicU64, begun: Instant) -> Tally {
    let (mut tally, mut storage) = (Tally::default(), vec![0; CHUNK]);
    loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        if nth >= args.connections {
            return tally;
        }
        let due = (nth * 1_000_000_000).checked_div(args.rate).map(Duration::from_nanos);
        thread::sleep(due.unwrap_or_default().saturating_sub(begun.elapsed()));
        let port = args.port + (nth % u64::from(args.ports.max(1))) as u16;
        let to = SocketAddr::from((args.to, port));
        match fetch(args, to, pattern, &mut storage, &mut tally) {
            Ok(()) => tally.summary.done += 1,
            Err(error) => *tally.summary.failed.entry(format!("{:?}", error.kind())).or_default() += 1,
        }
    }
}

fn fetch(
    args: &LoadArgs,
    to: SocketAddr,
    pattern: &Pattern,
    storage: &mut [u8],
    tally: &mut Tally,
) -> io::Result<()> {
    let begun = Instant::now();
    let micros = || begun.elapsed().as_micros() as u64;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_congestion(args.congestion.as_bytes())?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let connected = micros();
    let mut connection: TcpStream = socket.into();
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(&request(args.bytes))?;
    let (mut at, mut wrong, mut first_byte) = (0, 0, None);
    loop {
        let count = connection.read(storage)?;
        if count == 0 {
            break;
        }
        first_byte.get_or_insert_with(micros);
        wrong += pattern.wrong(at, &storage[..count]);
        at += count as u64;
        tally.summary.bytes += count as u64;
    }
    tally.summary.wrong += wrong;
    if at != args.bytes || wrong > 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for (times, value) in tally.times.iter_mut().zip([connected, first_byte.unwrap_or(0), micros()]) {
        times.push(value);
    }
    Ok(())
}
