//! Single requests: each is sent once and answered at most once.

use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_machine::{FourTuple, Rng};

use crate::header::{Class, Method, TransactionId};
use crate::message::ChangeRequest;
use crate::writer::MessageWriter;

/// The most requests of one step: the rounds times what the largest round sends.
pub(super) const PROBES_MAX: usize = 256;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To learn what a server sees: the place of its [`View`](super::evidence::View).
    View(usize),
    /// To learn the port of a fresh socket.
    Sample,
    /// To hear from the server's other address and port.
    Both,
    /// To hear from the server's other port.
    Port,
    /// To know that the way to the server is open.
    Near,
    /// To know that the way from where silence is expected is open.
    Far,
    /// To come back in.
    Hairpin,
}

/// A request that was sent once, or is about to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) purpose: Purpose,
    pub(super) round: u32,
    pub(super) path: FourTuple,
    /// From where the answer has to come.
    pub(super) answers_from: SocketAddr,
    change: Option<ChangeRequest>,
    pub(super) transaction: TransactionId,
    pub(super) is_answered: bool,
}

impl Probe {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut writer = MessageWriter::new(out, Class::Request, Method::BINDING, self.transaction);
        if let Some(change) = self.change {
            writer = writer.change_request(change);
        }
        writer.fingerprint();
    }
}

/// The requests of one step, in the order in which they leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    all: Vec<Probe>,
    /// How many have left.
    left: usize,
}

impl Probes {
    /// Plans a request, and says whether there was room for it.
    pub(super) fn ask(&mut self, rng: &mut Rng, round: u32, purpose: Purpose, path: FourTuple) -> bool {
        self.ask_to_change(rng, round, purpose, path, path.remote)
    }

    /// Plans a request that is to be answered from `answers_from`.
    pub(super) fn ask_to_change(
        &mut self,
        rng: &mut Rng,
        round: u32,
        purpose: Purpose,
        path: FourTuple,
        answers_from: SocketAddr,
    ) -> bool {
        if self.all.len() >= PROBES_MAX {
            return false;
        }
        let change = ChangeRequest {
            address: answers_from.ip() != path.remote.ip(),
            port: answers_from.port() != path.remote.port(),
        };
        let change = (change != ChangeRequest::default()).then_some(change);
        let transaction = TransactionId::random(rng);
        self.all.push(Probe { purpose, round, path, answers_from, change, transaction, is_answered: false });
        true
    }

    /// The next that leaves.
    pub(super) fn next(&mut self) -> Option<&Probe> {
        let probe = self.all.get(self.left)?;
        self.left += 1;
        Some(probe)
    }

    /// The request that `transaction` names, if it has left.
    pub(super) fn find(&mut self, transaction: TransactionId) -> Option<&mut Probe> {
        self.all[..self.left].iter_mut().find(|probe| probe.transaction == transaction)
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.left = 0;
    }
}
