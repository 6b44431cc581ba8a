//! Follows the machine's interfaces: sockets come and go with addresses, and the node is told.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_udp::{SOCKETS_MAX, Socket};

use crate::node::Running;
use crate::sockets;

/// How often the system is asked. Asking is a system call that costs microseconds; being told would need another
/// interface on every system.
const EVERY: Duration = Duration::from_secs(2);

/// Keeps the sockets of `node` in step with what `listen` stands for, as long as it runs.
pub(crate) fn follow(node: &Running, listen: Vec<SocketAddr>, loopback: Vec<IpAddr>) {
    let node = node.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let Ok(wanted) = sockets::wanted(&listen, &loopback) else { continue };
            if follow_once(&node, &wanted).await.is_none() {
                return;
            }
        }
    });
}

/// `None`: the node has stopped.
async fn follow_once(node: &Running, wanted: &[SocketAddr]) -> Option<()> {
    let bound = node.local_addresses();
    let Plan { bind, drop } = plan(&bound, wanted);
    if bind.is_empty() && drop.is_empty() {
        return Some(());
    }
    for address in bind {
        // What cannot be bound yet (IPv6 looks for duplicates first) is tried again the next time.
        if let Ok(socket) = Socket::bind(address) {
            node.add_socket(socket).await.ok()?;
        }
    }
    // The best first, as they are wanted; what goes is named no more while it can still carry a goodbye.
    let mut addresses: Vec<SocketAddr> =
        node.local_addresses().into_iter().filter(|address| !drop.contains(address)).collect();
    addresses.sort_by_key(|address| wanted.iter().position(|it| it.ip() == address.ip()));
    // The node refuses when it is closing: then nothing matters any more.
    let _ = node.with(|node, now| node.set_local_addresses(now, addresses)).ok()?;
    for address in drop {
        node.remove_socket(address).await.ok()?;
    }
    Some(())
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    bind: Vec<SocketAddr>,
    drop: Vec<SocketAddr>,
}

/// An address is the same wherever it is bound: port 0 has become some port.
fn plan(bound: &[SocketAddr], wanted: &[SocketAddr]) -> Plan {
    let fits = |bound: &SocketAddr, wanted: &SocketAddr| {
        bound.ip() == wanted.ip() && (wanted.port() == 0 || wanted.port() == bound.port())
    };
    let drop: Vec<_> =
        bound.iter().filter(|it| !wanted.iter().any(|wanted| fits(it, wanted))).copied().collect();
    let missing = wanted.iter().filter(|wanted| !bound.iter().any(|it| fits(it, wanted)));
    let room = SOCKETS_MAX.saturating_sub(bound.len());
    Plan { bind: missing.take(room).copied().collect(), drop }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn sockets_come_and_go_with_addresses_and_ports_stay() {
        let bound = all(&["192.0.2.1:4433", "10.0.0.1:40000"]);
        assert_eq!(plan(&bound, &all(&["192.0.2.1:4433", "10.0.0.1:0"])), Plan::default());
        let moved = plan(&bound, &all(&["192.0.2.1:4433", "10.9.0.1:0"]));
        assert_eq!((moved.bind, moved.drop), (all(&["10.9.0.1:0"]), all(&["10.0.0.1:40000"])));
        assert_eq!(plan(&bound, &[]).drop, bound);
    }
}
