//! Three hosts in a row, or five.

use std::io;
use std::path::PathBuf;

use gimlet_lab::{CLIENT, INTERFACES, LabError, Namespace, Process, ProcessError, SERVER, cable, name_of};

/// Ethernet addresses, so that frames can be written by hand.
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 1];
pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 2];
pub(crate) const MIDDLE_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 3];
pub(crate) const FLOODER_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 4];
/// Nobody's: frames to it are carried, and dropped where they arrive.
pub(crate) const NOBODY_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 0xff];

/// Where the client's connections may begin.
const CLIENT_PORTS: &str = "1024 65535";
/// What a flood may pretend to be: a quarter of all IPv4 addresses. The server's own firewall drops it, so that what is
/// measured is what stands in the middle and not how many SYNs a server stands.
pub(crate) const FLOOD_SOURCES: (u32, u32) = (0x4000_0000, 0xc000_0000);

/// An interface of a generator's host that leads nowhere: our driver stands between two.
pub(crate) const SPARE: &str = "spare";

/// A client, a middle and a server:
///
/// ```text
///   client ──────────────────── middle ── server
///   client ── street ── middle ── server          with a flooder
///   flooder ─────┘
/// ```
#[derive(Debug)]
pub struct Bench {
    /// Where connections begin.
    pub client: Namespace,
    /// Where something stands between two interfaces ([`INTERFACES`]).
    pub middle: Namespace,
    /// Where connections end.
    pub server: Namespace,
    /// The host that is beside the client, and the switch that both are on.
    pub beside: Option<[Namespace; 2]>,
    program: PathBuf,
}

impl Bench {
    /// Builds it around `program`, which is `splice-bench`. `name` tells it from others of this process.
    pub fn new(name: &str, program: PathBuf) -> Result<Self, LabError> {
        let host = |part: &str| Namespace::new(&name_of(&format!("{name}-{part}")));
        let bench = Self {
            client: host("client")?,
            middle: host("middle")?,
            server: host("server")?,
            beside: None,
            program,
        };
        bench.middle.switch("ipv6/conf/default/disable_ipv6", 1)?;
        cable(10, (&bench.client, "eth0"), (&bench.middle, INTERFACES[0]))?;
        add_spare(&bench.client)?;
        bench.finish()
    }

    /// The same with a flooder beside the client.
    pub fn with_flooder(name: &str, program: PathBuf) -> Result<Self, LabError> {
        let host = |part: &str| Namespace::new(&name_of(&format!("{name}-{part}")));
        let (flooder, street) = (host("flooder")?, host("street")?);
        let [client, middle, server] = [host("client")?, host("middle")?, host("server")?];
        for silent in [&middle, &street, &flooder] {
            silent.switch("ipv6/conf/default/disable_ipv6", 1)?;
        }
        cable(10, (&client, "eth0"), (&street, "client"))?;
        cable(20, (&flooder, "eth0"), (&street, "flooder"))?;
        cable(30, (&street, "middle"), (&middle, INTERFACES[0]))?;
        street.batch(
            "link add name switch type bridge\n\
             link set dev client master switch\n\
             link set dev flooder master switch\n\
             link set dev middle master switch\n\
             link set dev switch up",
        )?;
        set_mac(&flooder, "eth0", FLOODER_MAC)?;
        add_spare(&flooder)?;
        let beside = Some([flooder, street]);
        Self { client, middle, server, beside, program }.finish()
    }

    fn finish(self) -> Result<Self, LabError> {
        cable(40, (&self.middle, INTERFACES[1]), (&self.server, "eth0"))?;
        for end in [&self.client, &self.server] {
            end.skip_duplicate_detection()?;
        }
        set_mac(&self.client, "eth0", CLIENT_MAC)?;
        set_mac(&self.server, "eth0", SERVER_MAC)?;
        set_mac(&self.middle, INTERFACES[0], MIDDLE_MAC)?;
        let neighbour = |address: &str, mac| format!("neigh add {address} lladdr {} dev eth0", written(mac));
        self.client.batch(&format!(
            "address add {}/24 dev eth0\n{}",
            CLIENT[0],
            neighbour(SERVER[0], SERVER_MAC)
        ))?;
        self.server.batch(&format!(
            "address add {}/24 dev eth0\n{}",
            SERVER[0],
            neighbour(CLIENT[0], CLIENT_MAC)
        ))?;
        self.client.switch("ipv4/ip_local_port_range", format_args!("'{CLIENT_PORTS}'"))?;
        let (network, mask) = FLOOD_SOURCES;
        let (network, bits) = (std::net::Ipv4Addr::from(network), mask.count_ones());
        self.server.nft(&format!(
            "table ip firewall {{\n\
             chain early {{ type filter hook prerouting priority raw; policy accept; ip saddr {network}/{bits} drop; }}\n\
             }}"
        ))?;
        Ok(self)
    }

    /// Starts one of our programs on `host` and waits until it says that it is ready, if it ever does.
    pub fn start(
        &self,
        host: &Namespace,
        pinned: Option<u32>,
        args: &[String],
    ) -> Result<Process, ProcessError> {
        let mut command = match pinned {
            Some(core) => {
                let mut command = host.command("taskset");
                command.args(["-c", &core.to_string()]).arg(&self.program);
                command
            }
            None => host.command(&self.program),
        };
        command.args(args);
        let mut process = Process::start(&args.join(" "), command)?;
        process.find(SOON, "that it is ready", |line| line.contains("\"ready\"").then_some(()))?;
        Ok(process)
    }

    /// How many frames have arrived at the server.
    pub fn arrived(&self) -> io::Result<u64> {
        let output = self.server.command("cat").arg("/sys/class/net/eth0/statistics/rx_packets").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(|_| io::Error::other("the kernel does not count"))
    }
}

/// How long a program may take that only opens something.
pub(crate) const SOON: std::time::Duration = std::time::Duration::from_secs(10);

fn add_spare(host: &Namespace) -> Result<(), LabError> {
    host.batch(&format!(
        "link add name {SPARE} type veth peer name nowhere\nlink set dev {SPARE} up\nlink set dev nowhere up"
    ))
}

fn set_mac(host: &Namespace, interface: &str, mac: [u8; 6]) -> Result<(), LabError> {
    host.ip(&["link", "set", "dev", interface, "address", &written(mac)])
}

/// An Ethernet address as people write it.
pub(crate) fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
