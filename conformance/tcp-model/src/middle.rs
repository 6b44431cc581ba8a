//! What stands between two hosts, as the world sees it.

use std::net::SocketAddr;

use gimlet_machine::Instant;

/// Where a frame comes from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Towards the host that opens connections.
    Client,
    /// Towards the host that is asked.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// A frame and what its network card says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The whole Ethernet frame.
    pub bytes: Vec<u8>,
    /// Only the pseudo header was summed so far.
    pub partial: bool,
    /// What it is to be cut into, in bytes of data; 0: not at all.
    pub segment: u16,
}

/// Who a connection is between: the client's address and the server's.
pub type Tuple = (SocketAddr, SocketAddr);

/// What a box says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Its handshake is over, well or badly, or will not be looked at.
    Settled,
    /// It is forgotten.
    Forgotten,
    /// Something else.
    Other,
}

/// A box with two legs.
pub trait Middle {
    /// A frame arrived from `from`. True: it goes on to the other side as it is now.
    fn input(&mut self, now: Instant, from: Side, frame: &mut Wire) -> bool;
    /// Time has passed.
    fn timeout(&mut self, now: Instant);
    /// What the box itself sends, and where to.
    fn transmit(&mut self, now: Instant) -> Option<(Side, Wire)>;
    /// When it wants [`Middle::timeout`].
    fn due(&self) -> Option<Instant>;
    /// What it tells its owner.
    fn news(&mut self) -> Option<(Option<Tuple>, News, String)>;
    /// Memory in bytes, and what it may be at most.
    fn memory(&self) -> (usize, usize);
    /// Handshakes that are not over.
    fn half_open(&self) -> usize;
    /// What it counted, for people.
    fn counted(&self) -> String {
        String::new()
    }
    /// Whether it still has something to translate of a connection.
    fn knows(&self, tuple: Tuple) -> bool;
    /// Another that takes its place, with its table or without.
    fn restart(&mut self, now: Instant, keeps_table: bool) -> Box<dyn Middle>;
}

/// Nothing but a wire: what a world without a box looks like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Straight;

impl Middle for Straight {
    fn input(&mut self, _: Instant, _: Side, _: &mut Wire) -> bool {
        true
    }
    fn timeout(&mut self, _: Instant) {}
    fn transmit(&mut self, _: Instant) -> Option<(Side, Wire)> {
        None
    }
    fn due(&self) -> Option<Instant> {
        None
    }
    fn news(&mut self) -> Option<(Option<Tuple>, News, String)> {
        None
    }
    fn memory(&self) -> (usize, usize) {
        (0, 0)
    }
    fn half_open(&self) -> usize {
        0
    }
    fn knows(&self, _: Tuple) -> bool {
        false
    }
    fn restart(&mut self, _: Instant, _: bool) -> Box<dyn Middle> {
        Box::new(Straight)
    }
}
