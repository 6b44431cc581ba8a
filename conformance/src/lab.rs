//! Hosts and NATs of a real kernel, as network namespaces.
//!
//! ```text
//!              198.51.100.0/24
//!    public ───────────────────┐
//!                              │
//!    a ── 10.1.0.0/24 ── nat-a ┼ internet (routes, no address translation)
//!                   192.0.2.2  │
//!    b ── 10.2.0.0/24 ── nat-b ┘
//!                   203.0.113.2
//! ```
//!
//! The public networks are the three documentation ranges of RFC 5737; nothing in a lab has a route to
//! the outside. A host with [`Nat::None`] sits on its public network itself. Everything a [`Lab`] makes
//! goes away with it, also when a test panics; what a killed test left behind is removed by the next one.

mod nat;
mod netns;
mod process;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use nat::Nat;
pub use netns::Namespace;
pub use process::Process;

/// Why there can be no lab here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Namespaces belong to root.
    Root,
    /// A program is not installed.
    Tool {
        /// The program.
        name: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Everything is there, but the kernel or a container refuses.
    Refused(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Root => f.write_str("network namespaces need root"),
            Missing::Tool { name, package } => write!(f, "`{name}` is missing: apt-get install {package}"),
            Missing::Refused(answer) => write!(f, "no network namespaces here: {answer}"),
        }
    }
}

impl std::error::Error for Missing {}

/// A host in the lab.
#[derive(Debug)]
pub struct Host {
    /// Its address on its own network.
    pub address: Ipv4Addr,
    /// The address that the internet sees it at.
    pub seen_as: Ipv4Addr,
    namespace: Namespace,
}

impl Host {
    /// One of the host's own sockets.
    pub fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Starts `program` on this host; `name` is what it is called when something goes wrong.
    pub fn start(&self, name: &str, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Process {
        let mut command = self.command(program);
        command.args(args);
        Process::start(name, command)
    }
}

/// Two hosts, each behind a NAT of its own, and a public host.
#[derive(Debug)]
pub struct Lab {
    /// On the internet, at two addresses.
    pub public: Host,
    /// The public host's other address.
    pub public_other: Ipv4Addr,
    /// Behind the first NAT.
    pub a: Host,
    /// Behind the second NAT.
    pub b: Host,
    // Last, because the hosts' links end in them.
    _boxes: Vec<Namespace>,
}

impl Lab {
    /// Whether a lab can be made here. Asked once; the first call also removes what a killed process
    /// left behind.
    pub fn available() -> Result<(), Missing> {
        static ANSWER: OnceLock<Result<(), Missing>> = OnceLock::new();
        ANSWER.get_or_init(netns::available).clone()
    }

    /// Builds the hosts, NATs and links. Call [`Lab::available`] first.
    ///
    /// # Panics
    ///
    /// If a step fails, with the command and its output.
    pub fn new(nat_a: Nat, nat_b: Nat) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{}-{}", netns::prefix(), LABS.fetch_add(1, Ordering::Relaxed));
        let internet = Namespace::new(&format!("{prefix}-internet"));
        internet.forward();
        let public_other = Ipv4Addr::new(198, 51, 100, 3);
        let public = on_internet(&prefix, "public", &internet, [198, 51, 100]);
        public.namespace.ip(&["address", "add", &format!("{public_other}/24"), "dev", "eth0"]);
        let mut boxes = Vec::new();
        let mut behind = |name: &str, nat: Nat, wan: [u8; 3], lan: [u8; 3]| match nat.ruleset() {
            None => on_internet(&prefix, name, &internet, wan),
            Some(rules) => {
                let (host, translator) = behind_nat(&prefix, name, &internet, wan, lan);
                translator.nft(&rules);
                boxes.push(translator);
                host
            }
        };
        let a = behind("a", nat_a, [192, 0, 2], [10, 1, 0]);
        let b = behind("b", nat_b, [203, 0, 113], [10, 2, 0]);
        boxes.push(internet);
        Lab { public, public_other, a, b, _boxes: boxes }
    }
}

/// A host at `net`.2 whose router, at `net`.1, is the internet.
fn on_internet(prefix: &str, name: &str, internet: &Namespace, net: [u8; 3]) -> Host {
    let namespace = Namespace::new(&format!("{prefix}-{name}"));
    link(&namespace, "eth0", internet, name, net);
    let address = address(net, 2);
    Host { address, seen_as: address, namespace }
}

/// A host at `lan`.2 behind a box that is `wan`.2 on the internet.
fn behind_nat(
    prefix: &str,
    name: &str,
    internet: &Namespace,
    wan: [u8; 3],
    lan: [u8; 3],
) -> (Host, Namespace) {
    let translator = Namespace::new(&format!("{prefix}-nat-{name}"));
    let namespace = Namespace::new(&format!("{prefix}-{name}"));
    translator.forward();
    link(&translator, "wan", internet, name, wan);
    link(&namespace, "eth0", &translator, "lan", lan);
    (Host { address: address(lan, 2), seen_as: address(wan, 2), namespace }, translator)
}

/// A cable between `lower`, which gets `net`.2 and a default route, and its router, which gets `net`.1.
fn link(lower: &Namespace, lower_port: &str, router: &Namespace, router_port: &str, net: [u8; 3]) {
    let cable = ["link", "add", "name", lower_port, "type", "veth", "peer", "name", router_port];
    lower.ip(&[&cable[..], &["netns", router.name()]].concat());
    for (end, port, last) in [(lower, lower_port, 2), (router, router_port, 1)] {
        end.ip(&["address", "add", &format!("{}/24", address(net, last)), "dev", port]);
        end.ip(&["link", "set", "dev", port, "up"]);
    }
    lower.ip(&["route", "add", "default", "via", &address(net, 1).to_string()]);
}

fn address([a, b, c]: [u8; 3], last: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, last)
}
