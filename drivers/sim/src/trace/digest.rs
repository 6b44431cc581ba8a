//! The hash of everything that happened.

use std::net::{IpAddr, SocketAddr};

use gimlet_machine::Instant;
use sha2::{Digest as _, Sha256};

use super::{DropReason, PacketRecord, Step, TraceHash};
use crate::{Fault, LinkDrop, Protocol, Refusal};

/// A rolling SHA-256.
#[derive(Clone, Debug)]
pub(super) struct Digest(Sha256);

impl Digest {
    pub(super) fn new(seed: u64) -> Self {
        Self(Sha256::new_with_prefix(seed.to_le_bytes()))
    }

    pub(super) fn hash(&self) -> TraceHash {
        TraceHash(self.0.clone().finalize().into())
    }

    pub(super) fn fault(&mut self, at: Instant, fault: &Fault) {
        self.0.update([b'F', fault.code()]);
        self.0.update(at.as_nanos().to_le_bytes());
    }

    /// Feeds one record. What cannot have changed since an earlier record with the same number is left
    /// out: the payload goes in when it is sent, addresses when they are set.
    pub(super) fn packet(&mut self, record: &PacketRecord<'_>) {
        let (code, detail) = match record.step {
            Step::Sent { by } => (b'S', by.0),
            Step::Duplicated => (b'2', 0),
            Step::Translated { by } => (b'T', by.0),
            Step::Delivered { to } => (b'D', to.0),
            Step::Dropped { why } => (b'X', drop_code(why)),
        };
        let mut header = Header { bytes: [0; HEADER_MAX], length: 0 };
        let tcp = match record.protocol {
            Protocol::Udp => 0,
            Protocol::Tcp => 0x80,
        };
        header.put(&[code | tcp, record.ecn as u8]);
        header.put(&detail.to_le_bytes());
        header.put(&record.at.as_nanos().to_le_bytes());
        header.put(&record.number.to_le_bytes());
        let (sets_addresses, sets_payload) = match record.step {
            Step::Sent { .. } => (true, true),
            Step::Translated { .. } => (true, false),
            Step::Duplicated | Step::Delivered { .. } | Step::Dropped { .. } => (false, false),
        };
        if sets_addresses {
            header.put_address(record.source);
            header.put_address(record.destination);
        }
        if sets_payload {
            header.put(&(record.bytes.len() as u32).to_le_bytes());
        }
        self.0.update(&header.bytes[..header.length]);
        if sets_payload {
            self.0.update(record.bytes);
        }
    }
}

/// A number for each reason. Committed hashes depend on them: add, do not renumber.
fn drop_code(why: DropReason) -> u32 {
    match why {
        DropReason::Link(LinkDrop::Lost) => 1,
        DropReason::Link(LinkDrop::QueueFull) => 2,
        DropReason::Link(LinkDrop::TooBig) => 3,
        DropReason::Nat(Refusal::NoMapping) => 4,
        DropReason::Nat(Refusal::Filtered) => 5,
        DropReason::Nat(Refusal::NoPort) => 6,
        DropReason::Nat(Refusal::TableFull) => 7,
        DropReason::Nat(Refusal::NoHairpin) => 8,
        DropReason::Nat(Refusal::WrongFamily) => 9,
        DropReason::NoRoute => 10,
        DropReason::NoSocket => 11,
        DropReason::NotOurAddress => 12,
        DropReason::Cut => 13,
        DropReason::HostDown => 14,
        DropReason::Nat(Refusal::Firewall) => 15,
    }
}

/// Two codes, three numbers, two IPv6 endpoints with a family byte each, a length.
const HEADER_MAX: usize = 2 + 4 + 8 + 8 + 2 * 19 + 4;

/// A record's header, gathered so that the hash is fed once.
struct Header {
    bytes: [u8; HEADER_MAX],
    length: usize,
}

impl Header {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn put_address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.put(&[4]);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put(&[6]);
                self.put(&ip.octets());
            }
        }
        self.put(&address.port().to_le_bytes());
    }
}
