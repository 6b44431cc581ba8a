//! What the owner has the task do with the sockets.

use std::io;
use std::net::SocketAddr;

use gimlet_udp::Socket;
use tokio::sync::oneshot;

use crate::driven::Driven;
use crate::network::Network;
use crate::shared::Shared;

/// An order, and whom to tell how it went. Whoever gave it may be gone by then.
pub(crate) enum Order {
    Add(Socket, oneshot::Sender<io::Result<()>>),
    Remove(SocketAddr, oneshot::Sender<bool>),
}

impl Order {
    pub(crate) fn carry_out<M: Driven>(self, network: &mut Network, shared: &Shared<M>) {
        match self {
            Order::Add(socket, told) => {
                let local = socket.local_address();
                let added = network.add(socket);
                if added.is_ok() {
                    shared.enter(|state| state.local_addresses.push(local));
                }
                let _ = told.send(added);
            }
            Order::Remove(local, told) => {
                let removed = network.remove(local);
                if removed {
                    shared.enter(|state| state.local_addresses.retain(|known| *known != local));
                }
                let _ = told.send(removed);
            }
        }
    }
}
