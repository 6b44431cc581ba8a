//! Hosts, the boxes before them, and the cables between.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use super::nat::{Level, Nat};
use super::net::{self, Family, Net, Side};
use super::netns::Namespace;
use super::process::Process;

/// A host in the lab, or a box before one.
#[derive(Debug)]
pub struct Host {
    /// Its address on its own network; of a box: the one that the network behind it sees.
    pub address: IpAddr,
    /// The address that the internet sees it at.
    pub seen_as: IpAddr,
    /// The boxes between it and the internet, its own router first.
    pub boxes: Vec<Host>,
    namespace: Namespace,
}

impl Host {
    /// One of the host's own sockets.
    pub fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Where the internet sees that socket, if nothing on the way changes ports.
    pub fn seen_socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.seen_as, port)
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

    /// Adds rules to the host's packet filter, in nft's own words.
    ///
    /// # Panics
    ///
    /// If nft refuses them.
    pub fn filter(&self, rules: &str) {
        self.namespace.nft(rules);
    }

    /// Lets no more than `megabits` per second leave this host, with a short queue.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn limit_rate(&self, megabits: u32) {
        let rate = format!("{megabits}mbit");
        let shaper = ["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "32kb"];
        self.namespace.tc(&[&shaper[..], &["latency", "50ms"]].concat());
    }
}

/// What makes the hosts of one lab.
pub(super) struct Builder<'a> {
    prefix: String,
    family: Family,
    internet: &'a Namespace,
    /// The number of the next end of a cable.
    ends: Cell<u32>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(prefix: String, family: Family, internet: &'a Namespace) -> Self {
        let builder = Self { prefix, family, internet, ends: Cell::new(10) };
        builder.prepare(internet);
        builder
    }

    /// The public host, and its other address.
    pub(super) fn public(&self) -> (Host, IpAddr) {
        let net = net::public(self.family);
        let host = self.on_internet("public", net);
        host.namespace.ip(&["address", "add", &net.interface(3), "dev", "eth0"]);
        (host, net.host(3))
    }

    /// A host behind `nat`.
    pub(super) fn behind(&self, name: &str, nat: Nat, side: Side) -> Host {
        let levels = nat.levels(self.family);
        let Some(innermost) = levels.first() else { return self.on_internet(name, side.wan) };
        let lan = if innermost.is_routed { side.routed } else { side.private };
        let mut boxes: Vec<Host> = Vec::new();
        // From the internet inwards: every box needs the one that it hangs on.
        for (nth, level) in levels.iter().enumerate().rev() {
            let inside = if nth == 0 { lan } else { side.between };
            let made = match boxes.first() {
                None => self.level(name, nth, level, self.internet, (side.wan, inside)),
                Some(outer) => self.level(name, nth, level, &outer.namespace, (side.between, inside)),
            };
            boxes.insert(0, made);
        }
        let namespace = self.namespace(name);
        self.link(&namespace, "eth0", (&boxes[0].namespace, "lan"), lan);
        if innermost.is_routed {
            self.internet.ip(&["route", "add", &lan.to_string(), "via", &side.wan.host(2).to_string()]);
        }
        let address = lan.host(2);
        let seen_as = if innermost.is_routed { address } else { side.wan.host(2) };
        Host { address, seen_as, boxes, namespace }
    }

    /// A host on the internet itself.
    fn on_internet(&self, name: &str, net: Net) -> Host {
        let namespace = self.namespace(name);
        self.link(&namespace, "eth0", (self.internet, name), net);
        Host { address: net.host(2), seen_as: net.host(2), boxes: Vec::new(), namespace }
    }

    /// A box with the ports `wan`, on the network of `router`, and `lan`, which has no cable yet.
    fn level(
        &self,
        name: &str,
        nth: usize,
        level: &Level,
        router: &Namespace,
        (wan, lan): (Net, Net),
    ) -> Host {
        let namespace = self.namespace(&format!("nat-{name}-{nth}"));
        namespace.forward();
        // On the internet, the cable is called after the side; on a box, it is the port `lan`.
        let port = if std::ptr::eq(router, self.internet) { name } else { "lan" };
        self.link(&namespace, "wan", (router, port), wan);
        namespace.nft(&level.rules);
        Host { address: lan.host(1), seen_as: wan.host(2), boxes: Vec::new(), namespace }
    }

    /// A cable between `lower`, which gets address 2 and a default route, and its router, which gets
    /// address 1.
    ///
    /// The kernel tells IPv6 at once that a cable is plugged in if its ends have different numbers, and up
    /// to a second later otherwise.
    fn link(&self, lower: &Namespace, lower_port: &str, (router, router_port): (&Namespace, &str), net: Net) {
        let number = self.ends.get();
        self.ends.set(number + 2);
        let cable = format!(
            "link add name {lower_port} index {number} type veth peer name {router_port} index {} netns {}",
            number + 1,
            router.name()
        );
        let end = |port: &str, last: u8| {
            format!("address add {} dev {port}\nlink set dev {port} up", net.interface(last))
        };
        lower.batch(&format!("{cable}\n{}", end(lower_port, 2)));
        router.batch(&end(router_port, 1));
        lower.ip(&["route", "add", "default", "via", &net.host(1).to_string()]);
    }

    fn namespace(&self, name: &str) -> Namespace {
        let namespace = Namespace::new(&format!("{}-{name}", self.prefix));
        self.prepare(&namespace);
        namespace
    }

    /// What a namespace needs before it gets cables.
    fn prepare(&self, namespace: &Namespace) {
        match self.family {
            Family::V4 => {}
            Family::V6 => namespace.skip_duplicate_detection(),
        }
    }
}
