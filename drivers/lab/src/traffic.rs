//! An ordinary client and an ordinary server, which know nothing of what is in the wire between them.
//!
//! One exchange per connection. The client says how much it will send and wants back, in a head of [`HEAD`] bytes, and
//! sends it; the server answers with the SHA-256 of what it got, and then with what was wanted. What is sent follows
//! from a number in the head, so a byte of one connection in another is a wrong byte. A server that speaks first sends
//! [`GREETING`] as soon as it accepts.

mod client;
mod server;

pub use client::{Client, Sample};
pub use server::Server;

use gimlet_machine::Rng;

/// The greeting of a server that speaks first, as of mail servers (RFC 5321 §3.1).
pub const GREETING: &[u8] = b"220 ready\r\n";

/// Length of what a client says before its data.
pub const HEAD: usize = 24;

/// Bytes handled at once.
const CHUNK: usize = 64 << 10;

/// What a client says before its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Which bytes follow from which number.
    number: u64,
    /// Bytes that follow.
    up: u64,
    /// Bytes that are wanted.
    down: u64,
}

impl Head {
    fn write(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        for (field, place) in [self.number, self.up, self.down].iter().zip(bytes.chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    fn read(bytes: [u8; HEAD]) -> Self {
        let mut fields = bytes
            .chunks_exact(8)
            .map(|field| field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let mut next = || fields.next().unwrap_or_default();
        Self { number: next(), up: next(), down: next() }
    }
}

/// The bytes of one direction of one connection.
struct Content {
    rng: Rng,
    left: u64,
    chunk: Vec<u8>,
    /// How much of the chunk is used up. Chunks are drawn whole, so the bytes do not depend on who asks for how many.
    used: usize,
}

impl Content {
    fn up(head: Head) -> Self {
        Self::new(head.number, "up", head.up)
    }

    fn down(head: Head) -> Self {
        Self::new(head.number, "down", head.down)
    }

    fn new(number: u64, label: &str, left: u64) -> Self {
        Self { rng: Rng::from_u64(number).fork(label), left, chunk: vec![0; CHUNK], used: CHUNK }
    }

    /// The next bytes, at most `most`, perhaps fewer; none at the end.
    fn next(&mut self, most: usize) -> &[u8] {
        if self.used == CHUNK && self.left > 0 {
            self.rng.fill(&mut self.chunk);
            self.used = 0;
        }
        let count = self.left.min(most.min(CHUNK - self.used) as u64) as usize;
        self.left -= count as u64;
        self.used += count;
        &self.chunk[self.used - count..self.used]
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    fn sample(client: impl FnOnce(SocketAddr) -> Client, greets: bool) -> Sample {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), greets, None).unwrap();
        let client = client(server.address());
        std::thread::spawn(move || server.run());
        client.measure(7)
    }

    #[test]
    fn what_is_wanted_arrives_and_both_sides_agree_on_the_hash() {
        let sample = sample(|server| Client { up: 200_000, down: 300_000, ..Client::new(server) }, false);
        assert_eq!((sample.error, sample.corrupt, sample.received), (None, 0, 300_000));
        assert!(sample.connect.unwrap() <= sample.first.unwrap() && sample.first.unwrap() <= sample.total);
    }

    #[test]
    fn a_greeting_is_waited_for_by_who_expects_it() {
        let sample = sample(|server| Client { is_greeted: true, down: 10, ..Client::new(server) }, true);
        assert_eq!((sample.error, sample.corrupt, sample.received), (None, 0, 10));
    }

    /// The canary: a client that is greeted without expecting it takes the greeting for data.
    #[test]
    fn bytes_that_nobody_sent_are_counted() {
        let sample = sample(|server| Client { down: 100, ..Client::new(server) }, true);
        assert!(sample.corrupt > 0, "{sample:?}");
    }

    #[test]
    fn a_closed_port_is_an_error_with_a_name() {
        let nobody = Server::bind("127.0.0.1:0".parse().unwrap(), false, None).unwrap().address();
        let sample = Client { limit: Duration::from_secs(5), ..Client::new(nobody) }.measure(1);
        assert_eq!(sample.error.as_deref(), Some("connection refused"));
    }
}
