//! Real sockets: the same two machines, each on a mio loop of its own.
//!
//! A [`Driver`] owns a machine and its sockets. The server's driver runs on a thread, and stops when
//! it is told to from outside; the client's runs here until its question is answered.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gimlet_machine::{FourTuple, Rng};
use gimlet_mio::Driver;
use gimlet_stun::{Client, ClientConfig, ClientEvent, Server, ServerConfig};
use gimlet_udp::{Clock, Sockets, seed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let loopback = "127.0.0.1:0".parse()?;

    let server_sockets = Sockets::bind([loopback])?;
    let server_address = server_sockets.local_addresses().next().ok_or("one socket was bound")?;
    let mut server = Driver::new(Server::new(ServerConfig::default()), server_sockets, Clock::start())?;
    let server_remote = server.remote();
    let stop = Arc::new(AtomicBool::new(false));
    let server_thread = thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                // A turn waits for a datagram, a deadline or a call, and works them off.
                server.turn(None)?;
            }
            Ok::<_, std::io::Error>(())
        }
    });

    // Entropy and time are the driver's to give: a machine can reach neither.
    let client = Client::new(Rng::from_seed(seed()?), ClientConfig::default());
    let client_sockets = Sockets::bind([loopback])?;
    let client_address = client_sockets.local_addresses().next().ok_or("one socket was bound")?;
    let mut driver = Driver::new(client, client_sockets, Clock::start())?;

    driver.with(|client, now| client.binding(now, FourTuple::new(client_address, server_address)))?;
    let event = driver.run(|_, event| ControlFlow::Break(event))?;
    let ClientEvent::Answered { mapped, rtt, .. } = event else {
        return Err(format!("no answer from {server_address}: {event:?}").into());
    };
    println!("{server_address} says that we are {mapped}, {:?} away", rtt.unwrap_or_default());
    assert_eq!(mapped, client_address, "there is no NAT on loopback");

    // A call from another thread runs between two turns, and so ends the one that waits.
    server_remote.call(move |_server, _now| stop.store(true, Ordering::Relaxed))?;
    server_thread.join().map_err(|_| "the server panicked")??;
    Ok(())
}
