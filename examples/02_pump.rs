//! Nobody polls by hand for long: [`pump`] is the one loop that every driver shares.
//!
//! It drains a machine into an [`Io`], which lends buffers, takes what was written into them, and
//! hears events. This `Io` keeps the datagrams in a queue. A driver's `Io` owns sockets; nothing else
//! would be different.

use std::collections::VecDeque;
use std::time::Duration;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Io, Machine, Rng, Transmit, pump};
use gimlet_stun::{Client, ClientConfig, Server, ServerConfig};

/// A wire: what was sent on it and not yet delivered.
#[derive(Default)]
struct Wire {
    storage: Vec<u8>,
    sent: VecDeque<(FourTuple, Vec<u8>)>,
}

impl<M: Machine<Path = FourTuple, Event: std::fmt::Debug>> Io<M> for Wire {
    fn buf(&mut self) -> Option<Buf<'_>> {
        Some(Buf::new(&mut self.storage))
    }

    fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        self.sent.push_back((transmit.path, self.storage.clone()));
    }

    fn event(&mut self, _machine: &mut M, now: Instant, event: M::Event) {
        println!("{now} s  {event:?}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::new(Rng::from_u64(2), ClientConfig::default());
    let mut server = Server::new(ServerConfig::default());
    let (mut from_client, mut from_server) = (Wire::default(), Wire::default());
    let (ours, theirs) = ("192.0.2.7:5000".parse()?, "192.0.2.1:3478".parse()?);
    let mut now = Instant::ZERO;

    client.binding(now, FourTuple::new(ours, theirs))?;
    for round in 0.. {
        // Drain both. What comes back is the earliest moment at which either wants to be called.
        let deadlines = [pump(&mut client, now, &mut from_client), pump(&mut server, now, &mut from_server)];
        println!("{now} s  {} datagrams on the wire", from_client.sent.len() + from_server.sent.len());

        // Lose whatever the client sends first.
        if round == 0 {
            from_client.sent.clear();
        }
        let in_flight = !from_client.sent.is_empty() || !from_server.sent.is_empty();
        let due = deadlines.into_iter().flatten().map(|deadline| deadline.at).min();
        now = match due {
            _ if in_flight => now + Duration::from_millis(20),
            Some(due) => due,
            None => break,
        };

        for (path, mut bytes) in from_client.sent.drain(..) {
            server.handle_input(now, Input::new(path.flipped(), &mut bytes));
        }
        for (path, mut bytes) in from_server.sent.drain(..) {
            client.handle_input(now, Input::new(path.flipped(), &mut bytes));
        }
    }
    assert_eq!(client.requests(), 0, "the question was answered, or given up");
    Ok(())
}
