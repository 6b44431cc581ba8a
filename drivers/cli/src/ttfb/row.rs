//! The rows of the table: what stands in the wire, and what follows from it.

use gimlet_lab::{CLIENT, Chain, INTERFACES, LabError, Place, SERVER};

/// The port of the server that waits for a request.
pub(super) const PORT: u16 = 8080;
/// The port of the server that speaks first.
pub(super) const PORT_GREETING: u16 = 8081;

/// A way to the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// Three programs that pass everything.
    Plain,
    /// One box beside the client: it makes `connect` return at once, and nothing else.
    SingleAtClient,
    /// One box half-way.
    SingleHalfWay,
    /// Near and Far.
    Pair,
    /// One box beside the client, and a server that speaks Fast Open.
    TfoUpgrade,
    /// The same without us: client and server speak Fast Open.
    KernelTfo,
    /// The kernel's own box, beside the client.
    SynProxy,
}

impl Row {
    pub(super) const ALL: [Row; 7] = [
        Row::Plain,
        Row::SingleAtClient,
        Row::SingleHalfWay,
        Row::Pair,
        Row::TfoUpgrade,
        Row::KernelTfo,
        Row::SynProxy,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Row::Plain => "plain",
            Row::SingleAtClient => "one box at the client",
            Row::SingleHalfWay => "one box half-way",
            Row::Pair => "two boxes",
            Row::TfoUpgrade => "box that adds Fast Open",
            Row::KernelTfo => "kernel's Fast Open",
            Row::SynProxy => "kernel's SYNPROXY",
        }
    }

    /// Round trips to the first byte when the client speaks first. With a to the box that answers the SYN and b from the
    /// box that holds data: R + max(a, b), of which plain TCP is the case of no box.
    pub(super) const fn round_trips(self) -> f64 {
        match self {
            Row::Plain | Row::SingleAtClient | Row::SynProxy => 2.0,
            Row::SingleHalfWay => 1.5,
            Row::Pair | Row::TfoUpgrade | Row::KernelTfo => 1.0,
        }
    }

    /// The same when the server speaks first; `None`: the client has nothing to put into its SYN.
    pub(super) const fn round_trips_greeted(self) -> Option<f64> {
        match self {
            Row::KernelTfo => None,
            // Nothing to put into the SYN either, but the client does not know.
            Row::TfoUpgrade => Some(2.0),
            Row::Plain | Row::SingleAtClient | Row::SingleHalfWay | Row::Pair | Row::SynProxy => {
                Some(self.round_trips())
            }
        }
    }

    /// What `gimlet splice` does beside the client, half-way and beside the server; nothing where the kernel does it.
    pub(super) const fn boxes(self) -> [Option<&'static str>; 3] {
        const FORWARD: Option<&str> = Some("forward");
        match self {
            Row::Plain | Row::KernelTfo => [FORWARD; 3],
            Row::SingleAtClient => [Some("single"), FORWARD, FORWARD],
            Row::SingleHalfWay => [FORWARD, Some("single"), FORWARD],
            Row::Pair => [Some("near"), FORWARD, Some("far")],
            Row::TfoUpgrade => [Some("single --fast-open"), FORWARD, FORWARD],
            Row::SynProxy => [None, FORWARD, FORWARD],
        }
    }
}

/// Makes the box beside the client a router with the kernel's SYNPROXY. It answers ARP for both ends, so neither of
/// them notices.
pub(super) fn synproxy(chain: &Chain) -> Result<(), LabError> {
    let proxy = chain.place(Place::Near);
    let [to_client, to_server] = INTERFACES;
    for port in INTERFACES {
        proxy.switch(&format!("ipv4/conf/{port}/proxy_arp"), 1)?;
    }
    proxy.ip(&["address", "add", "10.77.0.254/32", "dev", "lo"])?;
    proxy.ip(&["route", "add", CLIENT[0], "dev", to_client])?;
    proxy.ip(&["route", "add", SERVER[0], "dev", to_server])?;
    proxy.forward()?;
    proxy.nft(&format!(
        "table ip proxy {{\n\
         chain before {{\n type filter hook prerouting priority raw\n\
         iifname \"{to_client}\" tcp dport {PORT}-{PORT_GREETING} tcp flags & (fin | syn | rst | ack) == syn notrack\n }}\n\
         chain between {{\n type filter hook forward priority filter\n\
         tcp dport {PORT}-{PORT_GREETING} ct state {{ invalid, untracked }} synproxy mss 1460 wscale 10 timestamp sack-perm\n\
         tcp dport {PORT}-{PORT_GREETING} ct state invalid drop\n }}\n}}\n"
    ))?;
    // Conntrack's switches appear with the first rule that needs it.
    proxy.switch("netfilter/nf_conntrack_tcp_loose", 0)?;
    proxy.switch("ipv4/tcp_syncookies", 1)
}
