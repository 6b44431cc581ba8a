//! Frames sent many in one call (`sendmmsg`).

use std::io;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use super::batch::BATCH_MAX;
use crate::frame::{ADDRESSES_LEN, TAG_LEN, TPID_8021Q};
use crate::offload::{OFFLOAD_LEN, Offload};

/// How long a full socket is waited for, once per call. A queue that stays full longer loses frames, as a switch
/// would.
const FULL_WAIT_MAX: Duration = Duration::from_millis(5);

/// What stands before the untouched rest of a frame: the header of offloads and, if a tag goes in, both addresses and
/// the tag.
const PRELUDE_MAX: usize = OFFLOAD_LEN + ADDRESSES_LEN + TAG_LEN;

/// A frame that leaves, with what the kernel has to know beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving<'a> {
    pub(crate) offload: Offload,
    pub(crate) tag: Option<u16>,
    pub(crate) bytes: &'a [u8],
}

gimlet_machine::counters! {
    /// What became of frames that were to leave.
    pub struct SendCounters {
        /// Taken by the kernel.
        sent,
        /// Bytes in them.
        sent_bytes,
        /// Not sent: the socket or the interface's queue stayed full.
        full,
        /// Not sent: longer than the interface takes, and not to be cut.
        too_long,
        /// Not sent: the interface is down or gone.
        down,
        /// Not sent: any other refusal.
        refused,
    }
}

/// Sends `frames`, at most [`BATCH_MAX`], in their order. What the kernel refuses is counted and skipped.
pub(crate) fn send(socket: &OwnedFd, frames: &[Leaving<'_>], counters: &mut SendCounters) {
    assert!(frames.len() <= BATCH_MAX, "a batch is sent in one call");
    let mut preludes = [[0; PRELUDE_MAX]; BATCH_MAX];
    // SAFETY: plain structures for which all zeros is a value.
    let mut vectors: [[libc::iovec; 2]; BATCH_MAX] = unsafe { mem::zeroed() };
    // SAFETY: likewise.
    let mut entries: [libc::mmsghdr; BATCH_MAX] = unsafe { mem::zeroed() };
    for (nth, frame) in frames.iter().enumerate() {
        let (prelude, rest) = prelude(frame, &mut preludes[nth]);
        vectors[nth] = [prelude, rest].map(|part| libc::iovec {
            // The kernel only reads what is sent.
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        entries[nth].msg_hdr.msg_iov = vectors[nth].as_mut_ptr();
        entries[nth].msg_hdr.msg_iovlen = 2;
    }
    let (mut first, mut may_wait) = (0, true);
    while first < frames.len() {
        let rest = &mut entries[first..frames.len()];
        // SAFETY: every entry points to two parts of the lengths that it says; all of them outlive the call.
        let count = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT as _)
        };
        if let Ok(count) = usize::try_from(count) {
            counters.sent += count as u64;
            counters.sent_bytes +=
                frames[first..first + count].iter().map(|frame| frame.bytes.len() as u64).sum::<u64>();
            first += count;
            continue;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN) if may_wait => {
                super::wait_writable(socket.as_fd(), FULL_WAIT_MAX);
                may_wait = false;
                continue;
            }
            Some(libc::EAGAIN | libc::ENOBUFS) => counters.full += 1,
            Some(libc::EMSGSIZE) => counters.too_long += 1,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => counters.down += 1,
            _ => counters.refused += 1,
        }
        first += 1;
    }
}

/// The two parts that a frame is sent in.
fn prelude<'a>(frame: &Leaving<'a>, storage: &'a mut [u8; PRELUDE_MAX]) -> (&'a [u8], &'a [u8]) {
    let Some((tag, (addresses, rest))) = frame.tag.zip(frame.bytes.split_at_checked(ADDRESSES_LEN)) else {
        storage[..OFFLOAD_LEN].copy_from_slice(&frame.offload.write());
        return (&storage[..OFFLOAD_LEN], frame.bytes);
    };
    let (head, tail) = storage.split_at_mut(OFFLOAD_LEN);
    head.copy_from_slice(&frame.offload.pushed_back(TAG_LEN as u16).write());
    tail[..ADDRESSES_LEN].copy_from_slice(addresses);
    tail[ADDRESSES_LEN..][..2].copy_from_slice(&TPID_8021Q.to_be_bytes());
    tail[ADDRESSES_LEN + 2..].copy_from_slice(&tag.to_be_bytes());
    (&storage[..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_between_the_addresses_and_the_rest() {
        let bytes: Vec<u8> = (0..20).collect();
        let frame = Leaving { offload: Offload::default(), tag: Some(0x2042), bytes: &bytes };
        let mut storage = [0; PRELUDE_MAX];
        let (prelude, rest) = prelude(&frame, &mut storage);
        assert_eq!(
            [&prelude[OFFLOAD_LEN..], rest].concat(),
            [&bytes[..12], &[0x81, 0, 0x20, 0x42], &bytes[12..]].concat()
        );
    }
}
