//! Frames from nowhere: our own driver around a machine that only speaks.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use gimlet_lab::SERVER;
use gimlet_machine::{Buf, Deadline, Input, Instant, Machine, Rng, Transmit, Verdict};
use gimlet_raw::{Bump, BumpCounters, Clock, Leg, Owner, Port, Receive, Side};
use gimlet_wire::{Envelope, Segment, TcpFlags, TcpOptionList, checksum};

use crate::bench::{CLIENT_MAC, FLOOD_SOURCES, FLOODER_MAC, MIDDLE_MAC, NOBODY_MAC, SERVER_MAC};

/// Frames that are made before the clock is looked at again.
const BURST: u64 = 256;
/// Frames that are made up for after a pause: this part of a second's.
const CATCH_UP: u64 = 50;
/// The shortest frame of an Ethernet, bytes, without the checksum that makes it 64.
const SHORTEST: usize = 60;

/// What to send, and how much.
#[derive(clap::Args, Clone, Debug)]
pub struct GenerateArgs {
    /// What
    #[arg(value_enum)]
    pub what: What,
    /// Where to send it
    #[arg(long)]
    pub interface: String,
    /// An interface that is not used
    #[arg(long)]
    pub spare: String,
    /// Frames per second; 0: as many as there can be
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// For how long
    #[arg(long)]
    pub seconds: f64,
    /// The first of the ports to which SYNs go
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

/// What is sent.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The same frame of 64 bytes, for a bridge: to nobody's address
    Bridged,
    /// The same frame of 64 bytes, for a router
    Routed,
    /// SYNs with good checksums, each from a random address and port
    Syn,
}

/// The machine: it says what it was made to say, and hears nothing.
#[derive(Debug)]
struct Generator {
    what: What,
    rate: u64,
    port: u16,
    rng: Rng,
    frame: Vec<u8>,
    begun: Instant,
    made: u64,
    /// What should have been made and never will.
    skipped: u64,
    /// What may have been made by the moment that was looked at last.
    allowed: u64,
    due: Instant,
}

impl Generator {
    fn new(args: &GenerateArgs, now: Instant) -> Self {
        let frame = match args.what {
            What::Bridged => short(NOBODY_MAC),
            What::Routed => short(MIDDLE_MAC),
            What::Syn => Vec::new(),
        };
        let rng = Rng::from_u64(now.as_nanos());
        Self {
            what: args.what,
            rate: args.rate,
            port: args.port,
            rng,
            frame,
            begun: now,
            made: 0,
            skipped: 0,
            allowed: 0,
            due: now,
        }
    }

    /// A SYN as an ordinary host sends it, from a host that is not there.
    fn write_syn(&mut self) {
        let (network, mask) = FLOOD_SOURCES;
        let [source, seq, ports] = [0; 3].map(|_| self.rng.u32());
        let mut ethernet = [0; 12];
        ethernet[..6].copy_from_slice(&SERVER_MAC);
        ethernet[6..].copy_from_slice(&FLOODER_MAC);
        let envelope = Envelope {
            hop_limit: 57,
            ..Envelope::new(
                ethernet,
                IpAddr::V4(Ipv4Addr::from(network | source & !mask)),
                SERVER[0].parse().expect("an address"),
            )
        };
        let segment = Segment {
            source_port: (ports as u16) | 1024,
            destination_port: self.port,
            seq,
            ack: 0,
            flags: TcpFlags::SYN,
            window: 64_240,
            options: TcpOptionList::new()
                .maximum_segment_size(1_460)
                .sack_permitted()
                .timestamps(self.made as u32, 0)
                .no_operation()
                .window_scale(7),
            payload: &[],
        };
        self.frame.clear();
        envelope.write(&mut self.frame, &segment);
    }
}

impl Machine for Generator {
    type Path = Leg;
    type Event = ();

    fn handle_input(&mut self, _: Instant, _: Input<'_, Leg>) -> Verdict<Leg> {
        Verdict::Consumed
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now < self.due {
            return;
        }
        if self.rate == 0 {
            self.allowed = self.made + BURST;
            self.due = now + Duration::from_nanos(1);
        } else {
            let elapsed = now.since(self.begun).as_nanos();
            let due = (u128::from(self.rate) * elapsed / 1_000_000_000) as u64;
            // Whoever could not run for a while does not make up for it all at once.
            let behind = due.saturating_sub(self.skipped + self.made);
            self.skipped += behind.saturating_sub(self.rate / CATCH_UP);
            self.allowed = due - self.skipped;
            self.due = now + Duration::from_micros(200);
        }
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut Buf<'_>) -> Option<Transmit<Leg>> {
        if self.made >= self.allowed {
            return None;
        }
        self.made += 1;
        if self.what == What::Syn {
            self.write_syn();
        }
        out.put(&self.frame);
        Some(Transmit::new(Leg::new(Side::Server)))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline { at: self.due, why: "frames" })
    }
}

/// 64 bytes of UDP from one network to another, to the port that discards.
fn short(to: [u8; 6]) -> Vec<u8> {
    let mut frame = [&to[..], &CLIENT_MAC, &[8, 0]].concat();
    let mut header =
        vec![0x45, 0, 0, (SHORTEST - 14) as u8, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 77, 8, 2, 10, 77, 9, 2];
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    // A checksum of zero is none at all.
    frame.extend([0x80, 0, 0, 9, 0, (SHORTEST - 34) as u8, 0, 0]);
    frame.resize(SHORTEST, 0);
    frame
}

/// Ends when it is woken.
struct Quiet;

impl Owner<Generator> for Quiet {
    fn event(&mut self, _: &mut Generator, _: Instant, (): ()) {}

    fn woken(&mut self, _: &mut Generator, _: Instant, _: BumpCounters) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

pub(super) fn run(args: &GenerateArgs) -> Result<(), Box<dyn Error>> {
    let port = |name: &str| Port::open(name, Receive::Batch);
    let mut bump = Bump::new(port(&args.spare)?, port(&args.interface)?)?;
    let (waker, seconds) = (bump.waker(), Duration::try_from_secs_f64(args.seconds)?);
    let mut generator = Generator::new(args, Clock.now());
    super::ready();
    thread::spawn(move || {
        thread::sleep(seconds);
        waker.wake();
    });
    bump.run(&mut generator, &mut Quiet)?;
    let elapsed = Clock.now().since(generator.begun);
    let sent = bump.counters().server.sent;
    println!("{}", serde_json::json!({ "sent": sent, "seconds": elapsed.as_secs_f64() }));
    Ok(())
}
