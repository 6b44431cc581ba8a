//! The bench of the TCP handshake accelerator.

use crate::namespace::{Namespace, cable, name_of};
use crate::{LabError, Process, ProcessError};

/// The client's addresses.
pub const CLIENT: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// The server's addresses.
pub const SERVER: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// In every box and line: the interface towards the client, and the one towards the server.
pub const INTERFACES: [&str; 2] = ["to-client", "to-server"];

/// One host, five places for programs in the wire, and another host:
///
/// ```text
///   client ── near ── line ── middle ── line ── far ── server
/// ```
///
/// Client and server are on one Ethernet with addresses of IPv4 and IPv6; what is between them has none, and carries
/// nothing until something runs there.
#[derive(Debug)]
pub struct Chain {
    /// Where connections begin.
    pub client: Namespace,
    /// Boxes and lines in their order: [`Place`] says which is which.
    pub places: [Namespace; 5],
    /// Where connections end.
    pub server: Namespace,
}

/// A place in the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The box at the client.
    Near,
    /// The half of the way before the middle.
    LineNear,
    /// The box half-way.
    Middle,
    /// The half of the way behind the middle.
    LineFar,
    /// The box at the server.
    Far,
}

impl Place {
    /// All, from the client to the server.
    pub const ALL: [Place; 5] = [Place::Near, Place::LineNear, Place::Middle, Place::LineFar, Place::Far];

    /// What the place is called in names of namespaces.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Near => "near",
            Place::LineNear => "line-near",
            Place::Middle => "middle",
            Place::LineFar => "line-far",
            Place::Far => "far",
        }
    }
}

impl Chain {
    /// Builds it. `name` tells it from other chains of this process.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let host = |part: &str| Namespace::new(&name_of(&format!("{name}-{part}")));
        let [client, server] = [host("client")?, host("server")?];
        let [near, line_near, middle, line_far, far] = Place::ALL.map(|place| host(place.name()));
        let places = [near?, line_near?, middle?, line_far?, far?];
        for place in &places {
            // A bump in the wire says nothing of its own, and nothing on its host answers for it.
            place.switch("ipv6/conf/default/disable_ipv6", 1)?;
        }
        for end in [&client, &server] {
            end.skip_duplicate_detection()?;
        }
        let [to_client, to_server] = INTERFACES;
        let mut before = (&client, "eth0");
        for (number, place) in (10..).step_by(2).zip(&places) {
            cable(number, before, (place, to_client))?;
            before = (place, to_server);
        }
        cable(20, before, (&server, "eth0"))?;
        for (end, [v4, v6]) in [(&client, CLIENT), (&server, SERVER)] {
            end.batch(&format!("address add {v4}/24 dev eth0\naddress add {v6}/64 dev eth0 nodad"))?;
        }
        Ok(Self { client, places, server })
    }

    /// One of the places.
    pub fn place(&self, place: Place) -> &Namespace {
        &self.places[place as usize]
    }

    /// Starts a program at `place`, with the two interfaces behind `args` as options, and waits until it says `ready`.
    pub fn start(&self, place: Place, program: &str, args: &[&str]) -> Result<Process, ProcessError> {
        let mut command = self.place(place).command(program);
        command.args(args).args(["--client", INTERFACES[0], "--server", INTERFACES[1]]);
        let mut process = Process::start(&format!("{} ({})", args.join(" "), place.name()), command)?;
        process.find(READY, "that it is ready", |line| line.contains("ready").then_some(()))?;
        Ok(process)
    }
}

/// How long a program may take to open two interfaces.
const READY: std::time::Duration = std::time::Duration::from_secs(10);
