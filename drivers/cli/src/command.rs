//! The commands, one module each: their options, and what they do.

pub(crate) mod demo;
pub(crate) mod ice_peer;
pub(crate) mod ice_step;
pub(crate) mod init;
pub(crate) mod join;
#[cfg(target_os = "linux")]
pub(crate) mod lab;
pub(crate) mod network;
pub(crate) mod peers;
pub(crate) mod pipe;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod sim;
#[cfg(target_os = "linux")]
pub(crate) mod splice;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gimlet_node::{Allow, Paths, PunchLimits, TurnServer, TurnTls, TurnTransport};

use crate::failure::{Exit, Failure};
use crate::identity::{Origin, Owned};
use crate::interfaces;
use crate::line::Line;
use crate::node::{Running, Start};
use crate::relay_uri::{Over, RelayUri};
use crate::report::Report;
use crate::sockets;
use crate::trust;

/// Options of every command that runs a node.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// The identity file, made if it is missing
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

/// Options of commands that run a peer, which is not public.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PeerArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Where to speak from; an address of all zeros stands for every address of this machine, port 0
    /// for any port. May be repeated
    #[arg(long, value_name = "ADDRESS:PORT", default_values = ["0.0.0.0:0", "[::]:0"])]
    pub(crate) listen: Vec<SocketAddr>,
    /// Seconds that connecting may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// Tell, whenever a path is found, changed or lost, what was tried, what came back, and which NATs are there
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) relay: RelayArgs,
    #[command(flatten)]
    pub(crate) paths: PathArgs,
    #[command(flatten)]
    pub(crate) punch: PunchArgs,
}

/// Which paths to a peer may be used; without them, a relay is used where there is no direct path.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct PathArgs {
    /// Never through a relay: neither the public node's, nor a TURN server, nor the peer's
    #[arg(long, conflicts_with_all = ["relay_only", "turn"])]
    direct_only: bool,
    /// Only through a relay, so that peers do not learn our addresses
    #[arg(long)]
    relay_only: bool,
}

impl PathArgs {
    fn paths(self) -> Paths {
        match (self.direct_only, self.relay_only) {
            (true, _) => Paths::DirectOnly,
            (false, true) => Paths::RelayedOnly,
            (false, false) => Paths::Any,
        }
    }
}

/// What is done about NATs that give every destination another port; without these, holes are punched where one
/// of the two NATs does.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct PunchArgs {
    /// Punch no holes through NATs that give every destination another port
    #[arg(long, conflicts_with = "punch_both")]
    no_punch: bool,
    /// Punch even if both NATs do; both sides have to say so, and it may take many ports of both NATs
    #[arg(long)]
    punch_both: bool,
}

/// The least chance for which two hard NATs are punched, in millionths. A round hits two times in three at best.
const BOTH_CHANCE_MIN: u32 = 500_000;

impl PunchArgs {
    fn limits(self) -> Option<PunchLimits> {
        let limits = PunchLimits::default();
        match (self.no_punch, self.punch_both) {
            (true, _) => None,
            (false, true) => {
                Some(PunchLimits { both_dependent: true, chance_min: BOTH_CHANCE_MIN, ..limits })
            }
            (false, false) => Some(limits),
        }
    }
}

/// A TURN server for peers that cannot be reached directly.
#[derive(clap::Args, Clone)]
pub(crate) struct RelayArgs {
    /// A TURN server (RFC 8656) for peers that cannot be reached directly; one side is enough. HOST:PORT is spoken
    /// to over UDP, turn:HOST:PORT?transport=tcp over TCP, turns:HOST:PORT over TLS: turns:relay.example:443 also
    /// works where UDP is blocked
    #[arg(long, value_name = "HOST:PORT|URI", requires_all = ["turn_user", "turn_pass"])]
    pub(crate) turn: Option<RelayUri>,
    /// The name under which the TURN server knows us
    #[arg(long, value_name = "NAME", requires = "turn")]
    pub(crate) turn_user: Option<String>,
    /// The password that goes with it; other users of this machine can see command lines
    #[arg(long, value_name = "PASSWORD", requires = "turn")]
    pub(crate) turn_pass: Option<String>,
    /// Who may have signed the certificate of a TURN server over TLS (PEM), in place of those that this machine
    /// trusts
    #[arg(long, value_name = "FILE", requires = "turn")]
    pub(crate) turn_ca: Option<PathBuf>,
}

/// The password is not shown.
impl std::fmt::Debug for RelayArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayArgs")
            .field("turn", &self.turn)
            .field("turn_user", &self.turn_user)
            .finish_non_exhaustive()
    }
}

impl RelayArgs {
    /// Looks the server up.
    pub(crate) async fn resolve(&self) -> Result<Vec<TurnServer>, Failure> {
        let (Some(name), Some(username), Some(password)) = (&self.turn, &self.turn_user, &self.turn_pass)
        else {
            return Ok(Vec::new());
        };
        let address = network::resolve(&name.host_and_port()).await.map_err(|error| {
            Failure::new(Exit::Unreachable, format_args!("cannot look up the relay {}: {error}", name.host))
                .remedy("check the name")
        })?;
        let transport = match name.over {
            Over::Udp => TurnTransport::Udp,
            Over::Tcp => TurnTransport::Tcp,
            Over::Tls => {
                let roots = Arc::new(trust::roots(self.turn_ca.as_deref())?);
                TurnTransport::Tls(TurnTls { server_name: name.host.clone(), roots })
            }
        };
        let (username, password) = (username.clone(), password.clone());
        Ok(vec![TurnServer { address, transport, username, password }])
    }
}

/// Starts a peer and tells who it is. The identity's lock is held as long as the returned value lives.
pub(crate) async fn start_peer(
    owned: Owned,
    args: &PeerArgs,
    ticket: &gimlet_node::Ticket,
    allow: Allow,
    report: &Report,
) -> Result<(Running, Owned), Failure> {
    tell_origin(&owned, report);
    let sockets = sockets::bind(&args.listen, &crate::node::loopback_for(ticket))?;
    let turn = args.relay.resolve().await?;
    let (identity, paths, punch) = (owned.identity.clone(), args.paths.paths(), args.punch.limits());
    let node = Start { identity, sockets, public: false, allow, turn, relay: None, paths, punch }.run()?;
    interfaces::follow(&node, args.listen.clone(), crate::node::loopback_for(ticket));
    tell_started(&node, &owned, report);
    Ok((node, owned))
}

/// Tells where an identity comes from, where that may surprise.
pub(crate) fn tell_origin(owned: &Owned, report: &Report) {
    let peer = owned.identity.peer_id();
    match &owned.origin {
        Origin::File(_) => {}
        Origin::Created(path) => {
            report.say(&Line::Identity { path: path.display().to_string(), peer: peer.to_string() });
        }
        Origin::Temporary => {
            report.say(&Line::notice(format_args!(
                "temporary identity {} for this run (--identity FILE for a lasting one)",
                peer.short()
            )));
        }
        Origin::InUse(path) => {
            report.say(&Line::notice(format_args!(
                "the identity {} is in use by another gimlet; temporary identity {} for this run",
                path.display(),
                peer.short()
            )));
        }
    }
}

/// Tells who a node is and where it speaks from.
pub(crate) fn tell_started(node: &Running, owned: &Owned, report: &Report) {
    let addresses = node.local_addresses().iter().map(ToString::to_string).collect();
    report.say(&Line::Started { peer: owned.identity.peer_id().to_string(), addresses });
}
