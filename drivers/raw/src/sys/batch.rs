//! Frames received by copy, many in one call (`recvmmsg`).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::frame::{ADDRESSES_LEN, TAG_LEN, TPID_8021Q};
use crate::offload::{OFFLOAD_LEN, Offload};

/// Frames in one call. At 64 the price of the call is a small part of each frame's.
pub(crate) const BATCH_MAX: usize = 64;

/// The longest frame, bytes: an IP packet of 65,535 behind two VLAN tags. The kernel cuts what is longer (jumbograms
/// on interfaces that were told to make them), which is seen, counted and dropped.
pub const FRAME_MAX: usize = 14 + 2 * TAG_LEN + 65_535;

/// Where a frame begins in its slot: behind its header of offloads, aligned so that headers in it are.
const FRAME_AT: usize = 18;
/// One frame and what comes before it, a multiple of the cache line.
const SLOT: usize = (FRAME_AT + FRAME_MAX).next_multiple_of(64);
/// Room for the kernel's remark on the VLAN tag (`PACKET_AUXDATA`), in words for alignment.
const REMARK_WORDS: usize = 8;

/// One received frame: where it is in memory, and what the kernel said beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) offload: Offload,
    /// A tag that is not in the bytes.
    pub(crate) tag: Option<u16>,
}

impl Arrived {
    /// Accepts what the kernel took out of the frame: an ordinary tag stays beside it, the outer tag of a provider
    /// (IEEE 802.1ad) is put back, because beside the frame there is no room for its kind. `memory` holds the frame
    /// and at least [`TAG_LEN`] bytes before it that nobody needs.
    pub(crate) fn with_tag(mut self, tci: u16, tpid: u16, memory: &mut [u8]) -> Self {
        if tpid == TPID_8021Q || self.len < ADDRESSES_LEN || self.at < TAG_LEN {
            return Self { tag: Some(tci), ..self };
        }
        memory.copy_within(self.at..self.at + ADDRESSES_LEN, self.at - TAG_LEN);
        self.at -= TAG_LEN;
        self.len += TAG_LEN;
        let tag = self.at + ADDRESSES_LEN;
        memory[tag..tag + 2].copy_from_slice(&tpid.to_be_bytes());
        memory[tag + 2..tag + 4].copy_from_slice(&tci.to_be_bytes());
        Self { offload: self.offload.pushed_back(TAG_LEN as u16), ..self }
    }
}

/// Storage for [`BATCH_MAX`] frames.
pub(crate) struct Batch {
    memory: Vec<u8>,
    remarks: Vec<[u64; REMARK_WORDS]>,
    arrived: Vec<Arrived>,
    /// Frames that were longer than [`FRAME_MAX`] or shorter than an Ethernet header.
    pub(crate) misfits: u64,
}

// Pointers into the storage are made anew for each call, so none of these outlives one.
type Entries = [libc::mmsghdr; BATCH_MAX];

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; SLOT * BATCH_MAX],
            remarks: vec![[0; REMARK_WORDS]; BATCH_MAX],
            arrived: Vec::with_capacity(BATCH_MAX),
            misfits: 0,
        }
    }

    /// Receives what is there, at most [`BATCH_MAX`] frames; none if there is nothing.
    pub(crate) fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        self.arrived.clear();
        // SAFETY: plain structures for which all zeros is a value.
        let (mut entries, mut vectors): (Entries, [libc::iovec; BATCH_MAX]) = unsafe { mem::zeroed() };
        let slots = self.memory.chunks_exact_mut(SLOT).zip(&mut self.remarks);
        for ((entry, vector), (slot, remark)) in entries.iter_mut().zip(&mut vectors).zip(slots) {
            let room = &mut slot[FRAME_AT - OFFLOAD_LEN..];
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            entry.msg_hdr.msg_iov = vector;
            entry.msg_hdr.msg_iovlen = 1;
            entry.msg_hdr.msg_control = remark.as_mut_ptr().cast();
            entry.msg_hdr.msg_controllen = mem::size_of_val(remark) as _;
        }
        // SAFETY: every entry points to storage of ours of the length that it says, each to its own, and all of it
        // outlives the call.
        let count = unsafe {
            let (first, flags) = (entries.as_mut_ptr(), libc::MSG_DONTWAIT as _);
            libc::recvmmsg(socket.as_raw_fd(), first, BATCH_MAX as u32, flags, std::ptr::null_mut())
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            let is_empty = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if is_empty { Ok(0) } else { Err(error) };
        };
        for (nth, entry) in entries[..count].iter().enumerate() {
            self.note(nth, entry);
        }
        Ok(self.arrived.len())
    }

    fn note(&mut self, nth: usize, entry: &libc::mmsghdr) {
        let whole = entry.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        let len = (entry.msg_len as usize).saturating_sub(OFFLOAD_LEN);
        if !whole || len < ADDRESSES_LEN + 2 {
            self.misfits += 1;
            return;
        }
        let at = nth * SLOT + FRAME_AT;
        let mut header = [0; OFFLOAD_LEN];
        header.copy_from_slice(&self.memory[at - OFFLOAD_LEN..at]);
        let frame = Arrived { at, len, offload: Offload::read(header), tag: None };
        self.arrived.push(match remark(&entry.msg_hdr) {
            Some((tci, tpid)) => frame.with_tag(tci, tpid, &mut self.memory),
            None => frame,
        });
    }

    /// What was said of the `nth` frame of the last call.
    pub(crate) fn arrived(&self, nth: usize) -> Arrived {
        self.arrived[nth]
    }

    pub(crate) fn frame(&self, nth: usize) -> &[u8] {
        let Arrived { at, len, .. } = self.arrived[nth];
        &self.memory[at..at + len]
    }

    pub(crate) fn frame_mut(&mut self, nth: usize) -> &mut [u8] {
        let Arrived { at, len, .. } = self.arrived[nth];
        &mut self.memory[at..at + len]
    }
}

/// The tag that the kernel took out of a frame, and its kind.
fn remark(header: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel filled the header of a call that succeeded, so its control messages are well formed and lie
    // in our storage.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref()? };
    if message.cmsg_level != libc::SOL_PACKET || message.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a message of this level and type holds this structure, perhaps unaligned.
    let remark: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned() };
    tag_of(remark.tp_status, remark.tp_vlan_tci, remark.tp_vlan_tpid)
}

/// A tag with its kind, from how the kernel writes them.
pub(super) fn tag_of(status: u32, tci: u16, tpid: u16) -> Option<(u16, u16)> {
    let is_told = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    (status & libc::TP_STATUS_VLAN_VALID != 0).then_some((tci, if is_told { tpid } else { TPID_8021Q }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_tag_stays_beside_the_frame_and_a_providers_goes_back_in() {
        let mut memory: Vec<u8> = (0..64).collect();
        let frame = Arrived { at: 10, len: 20, ..Arrived::default() };
        let beside = frame.with_tag(42, TPID_8021Q, &mut memory);
        assert_eq!((beside.at, beside.len, beside.tag), (10, 20, Some(42)));
        let inside = frame.with_tag(42, 0x88a8, &mut memory);
        assert_eq!((inside.at, inside.len, inside.tag), (6, 24, None));
        assert_eq!(memory[6..18], (10..22).collect::<Vec<u8>>());
        assert_eq!(memory[18..24], [0x88, 0xa8, 0, 42, 22, 23]);
    }
}
