//! The system's errors in the contract's words.

use std::io;

use gimlet_machine::CloseReason;

/// Why there is no socket, or no connection, by what the system said. Every driver answers a machine in
/// these words.
pub fn close_reason(error: &io::Error) -> CloseReason {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return CloseReason::TooMany,
        // A host without IPv6 has none of its addresses.
        Some(libc::EAFNOSUPPORT) => return CloseReason::AddressUnavailable,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => CloseReason::AddressUnavailable,
        io::ErrorKind::ConnectionRefused => CloseReason::Refused,
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::TimedOut => CloseReason::Unreachable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            CloseReason::Reset
        }
        _ => CloseReason::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_system_has_one_word() {
        let word = |code| close_reason(&io::Error::from_raw_os_error(code));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(word(code), CloseReason::TooMany);
        }
        for code in [libc::EADDRINUSE, libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT] {
            assert_eq!(word(code), CloseReason::AddressUnavailable);
        }
        for code in [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN, libc::ETIMEDOUT] {
            assert_eq!(word(code), CloseReason::Unreachable);
        }
        for code in [libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE] {
            assert_eq!(word(code), CloseReason::Reset);
        }
        assert_eq!(word(libc::ECONNREFUSED), CloseReason::Refused);
        for code in [libc::EACCES, libc::EINVAL, libc::EIO] {
            assert_eq!(word(code), CloseReason::Failed);
        }
    }
}
