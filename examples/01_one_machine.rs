//! A machine is a value. Here is one driven by hand: no socket, no clock, no thread.
//!
//! It is a STUN client, which asks a server "where do I come from?". We are its driver: we carry its
//! datagrams and tell it the time. The first datagram we lose, on purpose.

use std::time::Duration;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Rng};
use gimlet_stun::{Client, ClientConfig, ClientEvent, Server, ServerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One flow, as each end sees it. The NAT in between has given the client another address.
    let clients_view = FourTuple::new("192.168.1.20:5000".parse()?, "192.0.2.1:3478".parse()?);
    let servers_view = FourTuple::new("192.0.2.1:3478".parse()?, "198.51.100.7:61000".parse()?);

    let mut client = Client::new(Rng::from_u64(1), ClientConfig::default());
    let mut server = Server::new(ServerConfig::default());
    let mut datagram = Vec::new();
    let mut now = Instant::ZERO;

    // A command is a verb. It never returns bytes: those we poll for.
    client.binding(now, clients_view)?;
    let request = client.poll_transmit(now, &mut Buf::new(&mut datagram)).ok_or("the client has to ask")?;
    println!("{now} s  the client sends {} bytes on {}, and we lose them", datagram.len(), request.path);

    // It has nothing more to say until its deadline. Time is ours, so we go there at once.
    assert_eq!(client.poll_transmit(now, &mut Buf::new(&mut datagram)), None);
    let deadline = client.poll_timeout().ok_or("the client has to try again")?;
    now = deadline.at;
    println!("{now} s  its timer {:?} goes off", deadline.why);
    client.handle_timeout(now);
    client.poll_transmit(now, &mut Buf::new(&mut datagram)).ok_or("the client has to ask again")?;

    // This time we deliver it, and carry the answer back: 20 ms each way.
    now += Duration::from_millis(20);
    server.handle_input(now, Input::new(servers_view, &mut datagram));
    server.poll_transmit(now, &mut Buf::new(&mut datagram)).ok_or("the server has to answer")?;
    println!("{now} s  the server answers with {} bytes", datagram.len());
    now += Duration::from_millis(20);
    client.handle_input(now, Input::new(clients_view, &mut datagram));

    let Some(ClientEvent::Answered { mapped, .. }) = client.poll_event() else {
        return Err("the client has to know".into());
    };
    println!("{now} s  the client knows: I am {mapped}");
    assert_eq!(mapped, servers_view.remote);
    assert_eq!(client.poll_timeout(), None);
    Ok(())
}
