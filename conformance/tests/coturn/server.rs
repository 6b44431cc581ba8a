//! Our server, coturn's client and coturn's echoing peer.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Rng, Verdict};
use gimlet_turn::{LongTerm, PeerPolicy, Server, ServerConfig, ServerCounters, ServerEvent, ServerLimits};

use crate::{coturn, free_port};

/// Our server on real sockets, in a thread of its own, until it is told to stop.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<ServerCounters>,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    socket
}

/// A socket on an even port: those on odd ones are held until it is found, so that they do not come
/// again.
fn even_socket() -> UdpSocket {
    let mut odd = Vec::new();
    loop {
        let found = socket();
        if found.local_addr().expect("an address").port().is_multiple_of(2) {
            return found;
        }
        odd.push(found);
    }
}

impl Running {
    fn start() -> Self {
        let front = socket();
        let address = front.local_addr().expect("an address");
        let alice = LongTerm::new(b"alice", b"secret").expect("short enough");
        let config = ServerConfig {
            users: vec![alice],
            peers: PeerPolicy { allow_loopback: true, denied: vec![address], ..PeerPolicy::default() },
            limits: ServerLimits { per_user_max: 64, ..ServerLimits::default() },
            ..ServerConfig::default()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&front, config, &stopped));
        Self { address, stop, thread }
    }

    fn stop(self) -> ServerCounters {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server ends well")
    }
}

/// The loop of a server that has nothing else to do.
fn serve(front: &UdpSocket, config: ServerConfig, stopped: &AtomicBool) -> ServerCounters {
    let (begun, here) = (Clock::now(), front.local_addr().expect("an address"));
    let mut server = Server::new(Rng::from_u64(7), config);
    let mut relays: BTreeMap<SocketAddr, UdpSocket> = BTreeMap::new();
    let (mut storage, mut buffer) = (Vec::new(), [0; 2048]);
    while !stopped.load(Ordering::Relaxed) {
        let now = Instant::from_micros(begun.elapsed().as_micros() as u64);
        server.handle_timeout(now);
        let mut arrived = Vec::new();
        for (local, socket) in relays.iter().map(|(local, socket)| (*local, socket)).chain([(here, front)]) {
            if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                arrived.push((FourTuple::new(local, from), buffer[..len].to_vec()));
            }
        }
        if arrived.is_empty() {
            thread::sleep(Duration::from_micros(200));
        }
        for (path, mut bytes) in arrived {
            if let Verdict::Pass { path, range } = server.handle_input(now, Input::new(path, &mut bytes)) {
                let _ = relays[&path.local].send_to(&bytes[range], path.remote);
            }
        }
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::OpenRelay { id, even, .. } => {
                    let relay = if even { even_socket() } else { socket() };
                    let local = relay.local_addr().expect("an address");
                    relays.insert(local, relay);
                    server.relay_opened(now, id, local, local);
                }
                ServerEvent::CloseRelay { local, .. } => drop(relays.remove(&local)),
                ServerEvent::Allocated { .. } | ServerEvent::Released { .. } => {}
            }
        }
        while let Some(transmit) = server.poll_transmit(now, &mut Buf::new(&mut storage)) {
            let _ = front.send_to(&storage, transmit.path.remote);
        }
    }
    *server.counters()
}

/// coturn's peer, which echoes. Dropping it ends it.
struct Echo(Child);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets coturn's client send 20 messages of 170 bytes through our server to coturn's peer, twice over,
/// and returns what the client said and what the server counted.
fn relayed(extra: &[&str]) -> Option<(String, ServerCounters)> {
    let (uclient, peer) = (coturn("turnutils_uclient")?, coturn("turnutils_peer")?);
    let port = free_port();
    let mut command = Command::new(peer);
    command.args(["-L", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let _echo = Echo(command.spawn().expect("turnutils_peer starts"));
    let server = Running::start();
    let mut command = Command::new(uclient);
    command.args(["-u", "alice", "-w", "secret", "-e", "127.0.0.1", "-r", &port.to_string()]);
    command.args(["-p", &server.address.port().to_string(), "-c", "-m", "2", "-n", "20", "-l", "170"]);
    let output = command.args(extra).arg("127.0.0.1").output().expect("turnutils_uclient runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Some((said, server.stop()))
}

/// As Send indications (`-s`), because coturn's client draws its channel numbers from the range of
/// RFC 5766, three quarters of which RFC 8656 §12 has taken back.
#[test]
fn case_67_coturns_client_relays_through_our_server() {
    let Some((said, counters)) = relayed(&["-s"]) else { return };
    assert!(said.contains("tot_send_msgs=40, tot_recv_msgs=40"), "{said}\n{counters:?}");
    assert!(counters.to_peers >= 40 && counters.to_clients >= 40, "{counters:?}");
    assert_eq!((counters.incomplete, counters.unpermitted, counters.refused), (0, 0, 0));
}

#[test]
fn two_of_coturns_clients_meet_at_our_server() {
    let Some((said, counters)) = relayed(&["-s", "-y"]) else { return };
    assert!(said.contains("tot_send_msgs=40, tot_recv_msgs=40"), "{said}\n{counters:?}");
    assert!(counters.to_peers >= 40 && counters.to_clients >= 40, "{counters:?}");
}
