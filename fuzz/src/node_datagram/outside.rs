//! What nodes ask of their driver: sockets, and connections to a relay that lies.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use gimlet_machine::{Answer, Bytes, CloseReason, FourTuple, Machine as _, Request, SocketId};
use gimlet_node::{Command, TurnServer, TurnTransport};

use super::world::{Side, World};
use crate::tape::Tape;
use crate::turn::forge;

/// The most that one node may have open or asked for: what its limits allow, several times over.
const OPENED_MAX: usize = 2_048;

/// Requests that wait, while answers are held back.
#[derive(Default)]
pub(super) struct Desk {
    held: bool,
    waiting: VecDeque<(usize, Request)>,
    /// How many sockets there have been: the next one gets a port that was never used.
    bound: u16,
}

/// What is open for a node besides its first socket.
#[derive(Default)]
pub(super) struct Opened {
    sockets: BTreeMap<SocketId, SocketAddr>,
    /// With what the node wrote last.
    connections: BTreeMap<SocketId, Bytes>,
}

/// A relay over TCP. What it says is made up.
pub(super) fn stream_relay() -> TurnServer {
    TurnServer {
        address: SocketAddr::from(([192, 0, 2, 200], 3_478)),
        transport: TurnTransport::Tcp,
        username: "alice".into(),
        password: "her password".into(),
    }
}

impl Side {
    pub(super) fn owns(&self, address: SocketAddr) -> bool {
        self.address == address || self.opened.sockets.values().any(|opened| *opened == address)
    }
}

impl World {
    /// From now on requests wait, or are answered at once.
    pub(super) fn hold(&mut self, held: bool) {
        self.desk.held = held;
    }

    pub(super) fn on_request(&mut self, n: usize, request: Request) {
        let opened = &self.sides[n].opened;
        assert!(opened.sockets.len() + opened.connections.len() < OPENED_MAX, "no end of sockets");
        self.desk.waiting.push_back((n, request));
        assert!(self.desk.waiting.len() < OPENED_MAX, "no end of requests");
        while !self.desk.held && self.answer(true) {}
    }

    /// The request in front is granted, or refused where that can be. Returns whether there was one.
    pub(super) fn answer(&mut self, granted: bool) -> bool {
        let Some((n, request)) = self.desk.waiting.pop_front() else { return false };
        let answer = match request.refusal(CloseReason::TooMany) {
            Some(refusal) if !granted => Some(refusal),
            Some(_) | None => self.grant(n, request),
        };
        if let Some(answer) = answer {
            self.tell(n, answer);
        }
        true
    }

    fn grant(&mut self, n: usize, request: Request) -> Option<Answer<'static>> {
        let opened = &mut self.sides[n].opened;
        match request {
            Request::Bind { id, local } => {
                self.desk.bound = self.desk.bound.checked_add(1).expect("fewer sockets than ports");
                let local = SocketAddr::new(local.ip(), self.desk.bound);
                assert!(opened.sockets.insert(id, local).is_none(), "{id:?} twice");
                self.known.insert(local);
                Some(Answer::Bound { id, local })
            }
            Request::Connect { id, remote, .. } => {
                assert!(opened.connections.insert(id, Bytes::new()).is_none(), "{id:?} twice");
                assert_eq!(remote, stream_relay().address, "a connection to whom?");
                let local = SocketAddr::new(self.sides[n].address.ip(), 50_000);
                Some(Answer::Connected { id, flow: FourTuple::new(local, remote) })
            }
            Request::Write { id, bytes } => {
                let written = opened.connections.get_mut(&id)?;
                let len = bytes.len();
                *written = bytes;
                Some(Answer::Written { id, len })
            }
            Request::Close { id } => {
                opened.sockets.remove(&id);
                opened.connections.remove(&id);
                None
            }
        }
    }

    fn tell(&mut self, n: usize, answer: Answer<'_>) {
        let now = self.now;
        self.sides[n].node.handle_answer(now, answer);
        self.drain(n);
    }

    /// The relay says something on one of a node's connections: what the tape holds, or with it an answer to
    /// the last request.
    pub(super) fn relay_says(&mut self, n: usize, which: usize, tape: &mut Tape<'_>) {
        let connections = &self.sides[n].opened.connections;
        let Some((id, written)) = connections.iter().nth(which % connections.len().max(1)) else { return };
        let (id, written) = (*id, written.clone());
        let length = usize::from(tape.u8());
        let mut bytes =
            if length & 1 == 0 { forge::answer(&written, tape) } else { None }.unwrap_or_default();
        bytes.extend_from_slice(tape.take(length >> 1));
        if !bytes.is_empty() {
            self.tell(n, Answer::Received { id, bytes: &bytes });
        }
    }

    /// One of a node's sockets or connections breaks.
    pub(super) fn breaks(&mut self, n: usize, which: usize) {
        let opened = &mut self.sides[n].opened;
        let all: Vec<_> = opened.sockets.keys().chain(opened.connections.keys()).copied().collect();
        let Some(id) = all.get(which % all.len().max(1)).copied() else { return };
        opened.sockets.remove(&id);
        opened.connections.remove(&id);
        self.tell(n, Answer::Closed { id, why: CloseReason::Reset });
    }

    /// A node's first socket is at another address from here on.
    pub(super) fn moves(&mut self, n: usize, to: usize) {
        let address = SocketAddr::from(([198, 51, 100, n as u8 + 1 + 16 * (to as u8 & 3)], 4_433));
        let former = std::mem::replace(&mut self.sides[n].address, address);
        self.sides[n].former.insert(former);
        self.known.insert(address);
        self.apply(n, Command::SetLocalAddresses(vec![address]));
    }
}
