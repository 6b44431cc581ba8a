//! NAT behaviour discovery (RFC 5780), both ways round. On the loopback interface there is no NAT, and
//! both sides have to say so.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant as Clock};

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Rng};
use gimlet_stun::{Discovery, DiscoveryConfig, DiscoveryEvent, Faces, Server, ServerConfig};

use crate::{Coturn, SOON, coturn, free_port};

/// Moves datagrams between `sockets` and `machine`, and time along with them, until `until` has its
/// value.
fn drive<M: Machine<Path = FourTuple>, T>(
    machine: &mut M,
    sockets: &[UdpSocket],
    origin: Clock,
    mut until: impl FnMut(&mut M) -> Option<T>,
) -> T {
    let address = |socket: &UdpSocket| socket.local_addr().expect("an address");
    let (mut heard, mut storage) = ([0; 2048], Vec::new());
    while origin.elapsed() < SOON {
        let now = Instant::from_nanos(origin.elapsed().as_nanos() as u64);
        for socket in sockets {
            while let Ok((len, from)) = socket.recv_from(&mut heard) {
                let path = FourTuple::new(address(socket), from);
                machine.handle_input(now, Input::new(path, &mut heard[..len]));
            }
        }
        machine.handle_timeout(now);
        while let Some(transmit) = machine.poll_transmit(now, &mut Buf::new(&mut storage)) {
            let from = sockets.iter().find(|socket| address(socket) == transmit.path.local);
            let from = from.expect("the answer leaves from a socket of ours");
            from.send_to(&storage, transmit.path.remote).expect("loopback takes it");
        }
        if let Some(value) = until(machine) {
            return value;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it takes longer than {SOON:?}");
}

fn bind(address: impl Into<SocketAddr>) -> Option<UdpSocket> {
    let socket = UdpSocket::bind(address.into()).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

#[test]
fn our_discovery_believes_coturn_with_two_addresses() {
    let Some(coturn) = Coturn::start(&["--listening-ip=127.0.0.2", "--lt-cred-mech", "--user=a:b"]) else {
        return;
    };
    let sockets: Vec<UdpSocket> = (0..9).filter_map(|_| bind(([127, 0, 0, 1], 0))).collect();
    let locals: Vec<SocketAddr> = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let (origin, config) = (Clock::now(), DiscoveryConfig::default());
    let mut discovery =
        Discovery::new(Instant::ZERO, Rng::from_u64(1), config, &locals, &[coturn.address]).expect("fresh");
    let seen = drive(&mut discovery, &sockets, origin, |discovery| {
        std::iter::from_fn(|| discovery.poll_event()).find_map(|event| match event {
            DiscoveryEvent::Finished(behaviour) => Some(behaviour),
            DiscoveryEvent::Learnt { .. } => None,
        })
    });
    let counters = discovery.counters();
    assert_eq!(
        seen.to_string(),
        "no NAT, endpoint-independent filtering (open Internet)",
        "{seen:?} {counters:?}"
    );
}

#[test]
fn coturns_discovery_believes_our_server_with_four_faces() {
    let Some(natdiscovery) = coturn("turnutils_natdiscovery") else { return };
    // Two ports that are free at both addresses.
    let (faces, sockets) = std::iter::repeat_with(|| (free_port(), free_port()))
        .take(100)
        .find_map(|(port, other)| {
            let faces = Faces::new(([127, 0, 0, 1], port).into(), ([127, 0, 0, 2], other).into())?;
            let sockets: Option<Vec<UdpSocket>> = faces.addresses().into_iter().map(bind).collect();
            Some((faces, sockets?))
        })
        .expect("four free sockets");
    let mut client = Command::new(natdiscovery);
    client.args(["-m", "-f", "-p", &faces.addresses()[0].port().to_string(), "127.0.0.1"]);
    client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("it starts");
    let mut server = Server::with_faces(ServerConfig::default(), faces);
    drive(&mut server, &sockets, Clock::now(), |_| client.try_wait().expect("it ends"));
    let told = client.wait_with_output().expect("it ends").stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("Endpoint Independent Filtering"), "{told}");
    assert!(told.contains("Endpoint Independent Mapping"), "{told}");
    assert!(told.contains(&faces.addresses()[3].to_string()), "{told}");
}
