//! One machine between two interfaces.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant as Moment};

use gimlet_machine::{Counters, Instant, Machine};
use gimlet_raw::{Bump, BumpCounters, Clock, Leg, Owner, Port, PortError, Receive, Waker};
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::line::millis;
use crate::report::Report;

/// How often a machine that is asked to stop is asked whether it has.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// A machine that can stand between two interfaces.
pub(crate) trait Carried: Machine<Path = Leg> {
    /// What it is called.
    fn role(&self) -> &'static str;
    /// Fetches what it will look up for a frame that it is about to hear.
    fn foresee(&self, leg: Leg, frame: &[u8]) {
        let _ = (leg, frame);
    }
    /// Begins nothing new from here on.
    fn drain(&mut self, now: Instant) {
        let _ = now;
    }
    /// Whether it may go away without anybody noticing.
    fn is_idle(&self) -> bool {
        true
    }
    /// What it wants to say about an event.
    fn tell(&self, event: Self::Event, report: &Report) {
        let _ = (event, report);
    }
    /// It will carry nothing more, and has nothing more to say.
    fn end(&mut self, now: Instant, report: &Report) {
        let _ = (now, report);
    }
    /// What it counted.
    fn counted(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}

/// The two interfaces, and how to listen to them.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Interfaces {
    /// The interface towards the clients
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) client: String,
    /// The interface towards the servers
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) server: String,
    /// How frames are received: by copy, for the shortest delay, or in shared memory, for the most frames
    #[arg(long, value_enum, default_value_t = How::Batch)]
    pub(crate) receive: How,
}

/// See [`Receive`].
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Batch,
    Ring,
}

impl Interfaces {
    /// Opens both.
    pub(crate) fn open(&self) -> Result<Bump, Failure> {
        if self.client == self.server {
            return Err(Failure::new(Exit::Usage, "the client's and the server's interface are the same")
                .remedy("name two: frames that enter by one leave by the other"));
        }
        let receive = match self.receive {
            How::Batch => Receive::Batch,
            How::Ring => Receive::Ring,
        };
        let port = |name: &str| Port::open(name, receive).map_err(|error| refusal(&error));
        Bump::new(port(&self.client)?, port(&self.server)?)
            .map_err(|error| Failure::local("make a bell for the loop", &error))
    }
}

fn refusal(error: &PortError) -> Failure {
    let failure = Failure::new(Exit::Local, error);
    match error {
        PortError::NotPermitted(_) => failure.remedy("run it with sudo, or grant CAP_NET_RAW to the program"),
        PortError::NoSuchInterface(_) | PortError::NotEthernet(_) | PortError::Refused { .. } => failure,
    }
}

/// The summary.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    role: &'static str,
    seconds: f64,
    client: BTreeMap<&'static str, u64>,
    server: BTreeMap<&'static str, u64>,
    undescribed: u64,
    unplaced: u64,
    counters: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended after {:.1} s", self.role, self.seconds)?;
        for (side, counters) in
            [("client", &self.client), ("server", &self.server), ("machine", &self.counters)]
        {
            let told: Vec<String> =
                counters.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} {n}")).collect();
            let told = if told.is_empty() { "nothing".to_owned() } else { told.join(", ") };
            write!(f, "\n  {side:<8} {told}")?;
        }
        Ok(())
    }
}

/// Carries frames until the user stops it: the first request drains, the second does not wait for that.
pub(crate) fn carry<M: Carried>(mut bump: Bump, machine: &mut M, report: &Report) -> Result<(), Failure> {
    let asked = Arc::new(AtomicU32::new(0));
    listen(bump.waker(), asked.clone()).map_err(|error| Failure::local("listen for signals", &error))?;
    let begun = Moment::now();
    report.json(&json!({ "event": "ready", "role": machine.role() }));
    report.text(&format!("{} ready", machine.role()));
    let mut desk = Desk { report, asked, drained: false };
    bump.run(machine, &mut desk).map_err(|error| Failure::local("carry frames", &error))?;
    machine.end(Clock.now(), report);
    let BumpCounters { client, server, undescribed, unplaced } = bump.counters();
    report.done(&Done {
        event: "done",
        ok: true,
        role: machine.role(),
        seconds: millis(begun.elapsed()) / 1_000.0,
        client: client.each().collect(),
        server: server.each().collect(),
        undescribed,
        unplaced,
        counters: machine.counted(),
    });
    Ok(())
}

/// Listens to the machine and to the user.
struct Desk<'a> {
    report: &'a Report,
    /// How often the user has asked to stop.
    asked: Arc<AtomicU32>,
    drained: bool,
}

impl<M: Carried> Owner<M> for Desk<'_> {
    fn event(&mut self, machine: &mut M, _now: Instant, event: M::Event) {
        machine.tell(event, self.report);
    }

    fn foresee(&self, machine: &M, leg: Leg, frame: &[u8]) {
        machine.foresee(leg, frame);
    }

    fn woken(&mut self, machine: &mut M, now: Instant, counters: BumpCounters) -> ControlFlow<()> {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == 0 {
            return ControlFlow::Continue(());
        }
        if !self.drained {
            self.drained = true;
            machine.drain(now);
            self.report.json(&json!({ "event": "draining", "counters": told(&counters) }));
        }
        if asked > 1 || machine.is_idle() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn told(counters: &BumpCounters) -> Value {
    let side = |counters: &gimlet_raw::PortCounters| counters.each().collect::<BTreeMap<_, _>>();
    json!({ "client": side(&counters.client), "server": side(&counters.server) })
}

/// Counts requests to stop, and rings for each and then again and again until the process ends.
fn listen(waker: Waker, asked: Arc<AtomicU32>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupts = {
        let _inside = runtime.enter();
        Interrupts::listen()?
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    () = interrupts.next() => { asked.fetch_add(1, Ordering::Relaxed); }
                    () = tokio::time::sleep(DRAIN_LOOK), if asked.load(Ordering::Relaxed) > 0 => {}
                }
                waker.wake();
            }
        });
    })?;
    Ok(())
}
