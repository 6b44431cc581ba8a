//! The system calls. All unsafe code of the crate is here and below, each block with its reason; what
//! leaves these modules is safe to use in any way.

pub(crate) mod batch;
pub(crate) mod ring;
pub(crate) mod send;

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_uint};

/// A packet socket that hears nothing until it is bound.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the answer is checked.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's number for an interface.
pub(crate) fn interface_index(name: &str) -> io::Result<c_uint> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: a string that ends with a zero and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Attaches `socket` to an interface, and says what kind of hardware that is (`ARPHRD_*`).
pub(crate) fn bind(socket: &OwnedFd, interface: c_uint) -> io::Result<u16> {
    // SAFETY: a plain structure for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    let mut length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives through the call and its true length is given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: the kernel writes at most `length` bytes into the address.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address.sll_hatype)
}

/// Hears frames for other stations' addresses too, until the socket is closed.
pub(crate) fn be_promiscuous(socket: &OwnedFd, interface: c_uint) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Sets a socket option.
pub(crate) fn set<T>(socket: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call and its true size is given; the kernel only reads it.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) })
        .map(drop)
}

/// How many frames the kernel had no room for since it was asked last.
pub(crate) fn dropped(socket: &OwnedFd) -> io::Result<u64> {
    // SAFETY: a plain structure for which all zeros is a value. It is the longer of the two that the kernel may
    // answer with, and the other is its beginning.
    let mut statistics: libc::tpacket_stats_v3 = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the structure.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    })?;
    Ok(u64::from(statistics.tp_drops))
}

/// What went wrong on `socket` since it was asked last, if anything did.
pub(crate) fn take_error(socket: &OwnedFd) -> io::Result<()> {
    let mut error: c_int = 0;
    let mut length = mem::size_of_val(&error) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ERROR);
    // SAFETY: the kernel writes at most `length` bytes into the number.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut error).cast(), &raw mut length)
    })?;
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Nanoseconds of the monotone clock, which all processes since the machine was started share.
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure. It has this clock, so it does not fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Asks to be woken on time: a thread may by default be woken 50 µs late, so that the processor sleeps longer.
pub(crate) fn be_punctual() {
    // SAFETY: no pointers. A kernel that refuses leaves things as they are.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

/// Waits until one of three descriptors has something to read, at most `limit`; for ever without one. Says which.
pub(crate) fn wait(fds: [BorrowedFd<'_>; 3], limit: Option<Duration>) -> io::Result<[bool; 3]> {
    let mut entries = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().min(1 << 30).cast_signed(),
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: three entries, and a limit that is null or outlives the call.
    match check(unsafe { libc::ppoll(entries.as_mut_ptr(), 3, limit, std::ptr::null()) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; 3]),
        Err(error) => Err(error),
        Ok(_) => Ok(entries.map(|entry| entry.revents != 0)),
    }
}

/// Waits until `fd` takes more, at most `limit`.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, limit: Duration) {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry that outlives the call. Whatever comes of it, the caller tries again and sees.
    unsafe { libc::poll(&raw mut entry, 1, limit.as_millis().min(1_000) as c_int) };
}

/// A bell that any thread may ring.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the answer is checked.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn ring(&self) {
        // SAFETY: no pointers. It fails only when it has rung 2^64 times already, and then it rings.
        unsafe { libc::eventfd_write(self.0.as_raw_fd(), 1) };
    }

    /// Whether it has rung since it was asked last.
    pub(crate) fn rang(&self) -> bool {
        let mut times = 0;
        // SAFETY: the kernel writes one number.
        unsafe { libc::eventfd_read(self.0.as_raw_fd(), &raw mut times) == 0 }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
