//! What stands in the middle.

use std::fmt;
use std::path::Path;
use std::process::Command;

use gimlet_lab::{INTERFACES, Process, ProcessError};

use crate::Bench;
use crate::bench::{NOBODY_MAC, written};
use crate::process::{Usage, usage};
use crate::program::Kind;

/// The processor on which a program in the middle runs, where it is measured by itself. Traffic is made on the other.
pub(crate) const MIDDLE_CORE: u32 = 1;
/// The same as a mask, for the kernel.
const MIDDLE_MASK: &str = "2";

/// Something that carries frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Between {
    /// The kernel's bridge. Frames are carried on the processor that sent them, or (`steered`) on the middle's.
    Bridge {
        /// On the middle's processor (receive packet steering).
        steered: bool,
    },
    /// The kernel's router (`ip_forward`).
    Route {
        /// See [`Between::Bridge`].
        steered: bool,
    },
    /// A program of ours.
    Ours {
        /// Which machine is in it.
        kind: Kind,
        /// Whether it receives in rings that the kernel shares.
        ring: bool,
    },
    /// A script that sniffs and sends with scapy.
    Scapy {
        /// A Python that has it.
        python: String,
    },
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = |steered: &bool| if *steered { ", on the other core" } else { "" };
        match self {
            Between::Bridge { steered } => write!(f, "kernel bridge{}", core(steered)),
            Between::Route { steered } => write!(f, "kernel ip_forward{}", core(steered)),
            Between::Ours { kind, ring } => {
                write!(f, "gimlet {kind}, {}", if *ring { "rings" } else { "batches" })
            }
            Between::Scapy { .. } => f.write_str("scapy, sniff and send"),
        }
    }
}

/// The script: what is heard on one side is said on the other.
const SCRIPT: &str = "
import sys
from scapy.all import conf, sniff
conf.verb = 0
out = conf.L2socket(iface=sys.argv[2])
print('\"ready\"', flush=True)
sniff(iface=sys.argv[1], store=False, prn=lambda frame: out.send(frame) and None)
";

/// Something that stands there now; gone when it is dropped.
#[derive(Debug)]
pub struct Standing<'a> {
    bench: &'a Bench,
    undo: &'static str,
    process: Option<Process>,
}

impl Between {
    /// Whether it can stand here.
    pub fn is_available(&self) -> bool {
        match self {
            Between::Bridge { .. } | Between::Route { .. } | Between::Ours { .. } => true,
            Between::Scapy { python } => {
                let output = Command::new(python).args(["-c", "import scapy.all"]).output();
                output.is_ok_and(|output| output.status.success())
            }
        }
    }

    /// Stands in the middle. A program is bound to a processor if `pinned`.
    pub fn stand<'a>(&self, bench: &'a Bench, pinned: bool) -> Result<Standing<'a>, ProcessError> {
        let core = pinned.then_some(MIDDLE_CORE);
        let failed =
            |error: gimlet_lab::LabError| ProcessError { why: error.to_string(), said: String::new() };
        match self {
            Between::Bridge { steered } => {
                bench.middle.batch(BRIDGE).map_err(failed)?;
                steer(bench, *steered).map_err(failed)?;
                Ok(Standing { bench, undo: UNBRIDGE, process: None })
            }
            Between::Route { steered } => {
                let nobody = written(NOBODY_MAC);
                let neighbour =
                    format!("{ROUTE}\nneigh replace 10.77.9.2 lladdr {nobody} dev {}", INTERFACES[1]);
                bench.middle.batch(&neighbour).map_err(failed)?;
                bench.middle.forward().map_err(failed)?;
                steer(bench, *steered).map_err(failed)?;
                Ok(Standing { bench, undo: UNROUTE, process: None })
            }
            Between::Ours { kind, ring } => {
                let [client, server] = INTERFACES;
                let kind = kind.to_string();
                let mut args = vec!["stand", &kind, "--client", client, "--server", server];
                args.extend(ring.then_some("--ring"));
                let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
                let process = bench.start(&bench.middle, core, &args)?;
                Ok(Standing { bench, undo: "", process: Some(process) })
            }
            Between::Scapy { python } => {
                let mut command = bench.middle.command("taskset");
                command.args(["-c", &MIDDLE_CORE.to_string(), python, "-c", SCRIPT]).args(INTERFACES);
                let mut process = Process::start("scapy", command)?;
                process.find(crate::bench::SOON, "that it is ready", |line| {
                    line.contains("ready").then_some(())
                })?;
                // It says so before it listens.
                std::thread::sleep(std::time::Duration::from_millis(500));
                Ok(Standing { bench, undo: "", process: Some(process) })
            }
        }
    }
}

const BRIDGE: &str = "link add name between type bridge\n\
    link set dev to-client master between\n\
    link set dev to-server master between\n\
    link set dev between up";
const UNBRIDGE: &str = "link delete dev between";
const ROUTE: &str = "address add 10.77.8.1/24 dev to-client\n\
    address add 10.77.9.1/24 dev to-server";
const UNROUTE: &str = "address flush dev to-client\naddress flush dev to-server";

/// Lets the kernel carry frames on the middle's processor, or where they were sent.
fn steer(bench: &Bench, steered: bool) -> Result<(), gimlet_lab::LabError> {
    let mask = if steered { MIDDLE_MASK } else { "0" };
    for interface in INTERFACES {
        let file = Path::new("/sys/class/net").join(interface).join("queues/rx-0/rps_cpus");
        let write = format!("echo {mask} > {}", file.display());
        let output = bench.middle.command("sh").args(["-ec", &write]).output();
        let is_done = output.is_ok_and(|output| output.status.success());
        if !is_done {
            return Err(gimlet_lab::LabError { step: write, answer: "the kernel does not steer".to_owned() });
        }
    }
    Ok(())
}

impl Standing<'_> {
    /// What a program has used so far; nothing is known of the kernel.
    pub fn usage(&self) -> Option<Usage> {
        self.process.as_ref().map(|process| usage(process.id()))
    }

    /// The last that a program of ours said about itself.
    pub fn counters(&mut self) -> Option<serde_json::Value> {
        let said = self.process.as_mut()?.said();
        said.lines().rev().find_map(|line| serde_json::from_str(line).ok())
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        // Dropped first, so that two never carry at once.
        self.process = None;
        if !self.undo.is_empty() {
            // A namespace that is not there any more has nothing to undo.
            let _ = self.bench.middle.batch(self.undo);
            let _ = self.bench.middle.switch("ipv4/ip_forward", 0);
            let _ = steer(self.bench, false);
        }
    }
}
