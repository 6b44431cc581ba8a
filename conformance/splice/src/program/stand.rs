//! What stands in the middle: a machine between two interfaces, which tells how it is doing.

use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use gimlet_lab::SERVER;
use gimlet_machine::{Counters as _, Instant, Machine, Rng};
use gimlet_raw::{Bump, BumpCounters, Clock, Forwarder, Leg, Owner, Port, Receive};
use gimlet_tcp::{Allow, Block, Config, Rate, Role, Translator};
use serde_json::{Map, Value, json};

/// How often it tells.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Between what, and what is in it.
#[derive(clap::Args, Clone, Debug)]
pub struct StandArgs {
    /// Which machine
    #[arg(value_enum)]
    pub kind: Kind,
    /// The interface towards the client
    #[arg(long)]
    pub client: String,
    /// The interface towards the server
    #[arg(long)]
    pub server: String,
    /// Receive in rings that the kernel shares
    #[arg(long)]
    pub ring: bool,
}

/// A machine.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It passes everything
    Forward,
    /// The translator in one place: it answers for the server, and translates
    Single,
}

/// Flows that the translator's table holds, at 128 bytes: those of a run and their TIME-WAITs.
const FLOWS: usize = 1 << 18;
/// SYNs that are answered of one network. All clients of the bench are in the same, and the default is for strangers.
const RATE: Rate = Rate { burst: 1 << 20, per_second: 1 << 20 };

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Forward => "forward",
            Kind::Single => "single",
        })
    }
}

pub(super) fn run(args: &StandArgs) -> Result<(), Box<dyn Error>> {
    match args.kind {
        Kind::Forward => stand(args, &mut Forwarder),
        Kind::Single => stand(args, &mut translator()?),
    }
}

/// A translator that answers for the bench's server.
fn translator() -> Result<Translator, Box<dyn Error>> {
    let now = Clock.now();
    let server = Block::new(SERVER[0].parse()?, 32).ok_or("an address has 32 bits")?;
    let mut config = Config::new(Role::Single);
    config.allowed.push(Allow { servers: server, ports: 1..=u16::MAX, idempotent: false });
    config.limits.flows = FLOWS;
    config.limits.rate = RATE;
    Ok(Translator::new(now, Rng::from_u64(now.as_nanos()), config)?)
}

fn stand<M: Told>(args: &StandArgs, machine: &mut M) -> Result<(), Box<dyn Error>> {
    let receive = if args.ring { Receive::Ring } else { Receive::Batch };
    let port = |name: &str| Port::open(name, receive);
    let mut bump = Bump::new(port(&args.client)?, port(&args.server)?)?;
    let waker = bump.waker();
    super::ready();
    thread::spawn(move || {
        loop {
            thread::sleep(TELL_EVERY);
            waker.wake();
        }
    });
    Ok(bump.run(machine, &mut Teller)?)
}

/// A machine that says how it is doing.
trait Told: Machine<Path = Leg> {
    fn tell(&self, into: &mut Map<String, Value>);
}

impl Told for Forwarder {
    fn tell(&self, _: &mut Map<String, Value>) {}
}

impl Told for Translator {
    fn tell(&self, into: &mut Map<String, Value>) {
        let counters = self.counters();
        let moved = counters.each().filter(|(_, count)| *count > 0);
        into.extend(moved.map(|(name, count)| (name.to_owned(), json!(count))));
        into.insert("half_open_now".into(), json!(self.half_open()));
        into.insert("memory_now".into(), json!(self.memory()));
    }
}

struct Teller;

impl<M: Told> Owner<M> for Teller {
    fn event(&mut self, _: &mut M, _: Instant, _: M::Event) {}

    fn woken(&mut self, machine: &mut M, _: Instant, counters: BumpCounters) -> ControlFlow<()> {
        let moved = |counters: &gimlet_raw::PortCounters| {
            let moved = counters.each().filter(|(_, count)| *count > 0);
            moved.map(|(name, count)| (name.to_owned(), json!(count))).collect::<Map<_, _>>()
        };
        let mut told = Map::new();
        told.insert("client".into(), moved(&counters.client).into());
        told.insert("server".into(), moved(&counters.server).into());
        machine.tell(&mut told);
        println!("{}", Value::from(told));
        ControlFlow::Continue(())
    }
}
