//! Frames received in memory that the kernel shares with us (`TPACKET_V3`): no call and no copy per frame.
//!
//! The kernel fills blocks one after the other and hands each over when it is full, or when its oldest frame has waited
//! for [`RETIRE_MS`]. That makes rings the choice for many small frames, and not for the shortest delay.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::batch::{Arrived, FRAME_MAX, tag_of};
use crate::frame::ADDRESSES_LEN;
use crate::offload::{OFFLOAD_LEN, Offload};

/// One block, bytes: three of the longest frames, or two thousand short ones.
const BLOCK: usize = 1 << 18;
/// Blocks in a ring: 16 MiB, which is 40 ms at 3 Gbit/s.
const BLOCKS: usize = 64;
/// How long a block waits to be filled, ms: the least that can be asked for.
const RETIRE_MS: u32 = 1;
/// What the kernel thinks a frame takes; it only has to divide a block.
const FRAME_HINT: usize = 1 << 11;

/// A ring, and the block of it that is being read.
pub(crate) struct Ring {
    memory: NonNull<u8>,
    block: usize,
    arrived: Vec<Arrived>,
    /// Frames that were cut short or had no header.
    pub(crate) misfits: u64,
}

// SAFETY: the memory belongs to this value alone, and the kernel does not mind which thread reads it.
unsafe impl Send for Ring {}

impl Ring {
    /// Makes the ring of `socket`, which is not bound yet.
    pub(crate) fn new(socket: &OwnedFd) -> io::Result<Self> {
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        super::set(socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: FRAME_HINT as u32,
            tp_frame_nr: (BLOCK / FRAME_HINT * BLOCKS) as u32,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        super::set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of the length that the ring was made with; no memory of ours is replaced.
        let memory = unsafe {
            let fd = socket.as_raw_fd();
            libc::mmap(std::ptr::null_mut(), BLOCK * BLOCKS, protection, libc::MAP_SHARED, fd, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, block: 0, arrived: Vec::new(), misfits: 0 })
    }

    /// Takes the next block, if the kernel has handed it over, and says how many frames are in it.
    pub(crate) fn receive(&mut self) -> usize {
        self.arrived.clear();
        // Acquire: what the kernel wrote before it handed the block over is seen after.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return 0;
        }
        // SAFETY: the block is ours until it is released, and begins with this structure, aligned.
        let header = unsafe { self.start().cast::<libc::tpacket_block_desc>().as_ref().hdr.bh1 };
        let mut at = header.offset_to_first_pkt as usize;
        for _ in 0..header.num_pkts {
            if at + mem::size_of::<libc::tpacket3_hdr>() > BLOCK {
                break;
            }
            // SAFETY: the structure lies in the block, which is ours, perhaps unaligned.
            let packet = unsafe { self.start().add(at).cast::<libc::tpacket3_hdr>().read_unaligned() };
            self.note(at, &packet);
            at += packet.tp_next_offset as usize;
        }
        if self.arrived.is_empty() {
            self.release();
        }
        self.arrived.len()
    }

    fn note(&mut self, at: usize, packet: &libc::tpacket3_hdr) {
        let (start, len) = (at + usize::from(packet.tp_mac), packet.tp_snaplen as usize);
        let fits = (ADDRESSES_LEN + 2..=FRAME_MAX).contains(&len) && start + len <= BLOCK;
        if !fits || packet.tp_snaplen != packet.tp_len || usize::from(packet.tp_mac) < OFFLOAD_LEN {
            self.misfits += 1;
            return;
        }
        let memory = self.block_mut();
        let mut header = [0; OFFLOAD_LEN];
        header.copy_from_slice(&memory[start - OFFLOAD_LEN..start]);
        let frame = Arrived { at: start, len, offload: Offload::read(header), tag: None };
        let tag = tag_of(packet.tp_status, packet.hv1.tp_vlan_tci as u16, packet.hv1.tp_vlan_tpid);
        let frame = match tag {
            Some((tci, tpid)) => frame.with_tag(tci, tpid, memory),
            None => frame,
        };
        self.arrived.push(frame);
    }

    /// Gives the block back. Its frames are gone.
    pub(crate) fn release(&mut self) {
        self.arrived.clear();
        // Release: nothing of the block is read after the kernel has it.
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % BLOCKS;
    }

    pub(crate) fn arrived(&self, nth: usize) -> Arrived {
        self.arrived[nth]
    }

    pub(crate) fn frame(&self, nth: usize) -> &[u8] {
        let Arrived { at, len, .. } = self.arrived[nth];
        // SAFETY: the frame was found to lie in the block that is ours, and the kernel does not write there.
        unsafe { std::slice::from_raw_parts(self.start().add(at).as_ptr(), len) }
    }

    pub(crate) fn frame_mut(&mut self, nth: usize) -> &mut [u8] {
        let Arrived { at, len, .. } = self.arrived[nth];
        &mut self.block_mut()[at..at + len]
    }

    /// The block that is ours.
    fn block_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block lies in the mapping, the kernel does not write there until it is released, and nobody
        // else of ours looks while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), BLOCK) }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: the block's number is below the number of blocks in the mapping.
        unsafe { self.memory.add(self.block * BLOCK) }
    }

    fn status(&self) -> &AtomicU32 {
        let at = mem::offset_of!(libc::tpacket_block_desc, hdr);
        // SAFETY: the status is the first field of the header, aligned, and shared with the kernel, which is what
        // atomics are for.
        unsafe { AtomicU32::from_ptr(self.start().add(at).cast().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}
