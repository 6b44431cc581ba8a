//! One UDP socket.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use gimlet_machine::{Ecn, FourTuple, Transmit};
use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::RecvBatch;
use crate::batch::Message;

/// Receive buffer we ask the kernel for, in bytes: 40 ms at 800 Mbit/s, the time a busy process may
/// be off the processor. The system's own limit (`net.core.rmem_max`) quietly applies.
pub const RECV_BUFFER: usize = 4 << 20;

/// Send buffer we ask the kernel for, in bytes: sixteen of the longest trains. More would only add
/// delay behind a slow interface.
pub const SEND_BUFFER: usize = 1 << 20;

/// Receive buffer, in bytes, of a socket that a machine asked for: 40 ms at 100 Mbit/s. It serves one
/// client or one attempt, and there may be thousands.
pub const REQUESTED_RECV_BUFFER: usize = 512 << 10;

/// Send buffer, in bytes, of a socket that a machine asked for: four of the longest trains.
pub const REQUESTED_SEND_BUFFER: usize = 256 << 10;

/// Errors that one [`Socket::recv`] call steps over before it gives the loop a turn.
const RECV_ERRORS_MAX: usize = 16;

/// How often a socket's offload state is renewed after a send was refused as invalid; past that
/// it stays degraded. Each renewal costs a dozen system calls, and a peer's nonsense address can
/// provoke one.
const RENEWALS_MAX: u8 = 16;

/// The largest train the kernel cuts for us (`UDP_MAX_SEGMENTS` in Linux's `udp.h`).
const SEGMENTS_MAX: usize = 64;

gimlet_machine::counters! {
    /// What a socket did with datagrams that did not get through.
    pub struct SocketCounters {
        /// Not sent: a port was closed where an earlier datagram went.
        send_refused,
        /// Not sent: no route to the destination, or our address left the interface.
        send_unreachable,
        /// Not sent: a local firewall, or a broadcast address.
        send_denied,
        /// Not sent: longer than the path's MTU (MTU probes end here by design).
        send_too_large,
        /// Not sent: any other refusal.
        send_failed,
        /// Times the kernel refused a train but took its parts: segmentation offload is off since.
        gso_refused,
        /// Errors reported where a datagram was expected; nothing was lost.
        recv_errors,
        /// Received and dropped: no bytes in it, which no protocol here sends.
        recv_empty,
        /// Received and dropped: sent to a group, whose address nobody can answer from.
        recv_not_unicast,
    }
}

/// The socket is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Bytes from the front that were sent. Offer the rest when the socket is writable.
    pub sent: usize,
}

/// A non-blocking UDP socket with ECN, GSO and GRO.
#[derive(Debug)]
pub struct Socket {
    io: Arc<UdpSocket>,
    offload: UdpSocketState,
    local: SocketAddr,
    segments_max: usize,
    renewals: u8,
    counters: SocketCounters,
}

impl Socket {
    /// Binds to `address`; port 0 takes a free one. An IPv6 socket carries IPv6 only.
    ///
    /// # Errors
    ///
    /// The address is not ours, the port is taken or privileged, or the process is out of files; the
    /// message says which, and what to do.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::try_bind(address, RECV_BUFFER, SEND_BUFFER).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => ": choose another port, or 0 for any",
                io::ErrorKind::AddrNotAvailable => ": no interface has this address",
                io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot bind UDP {address}: {error}{remedy}"))
        })
    }

    /// Binds a socket that a machine asked for. The error is the system's own.
    pub(crate) fn bind_requested(address: SocketAddr) -> io::Result<Self> {
        Self::try_bind(address, REQUESTED_RECV_BUFFER, REQUESTED_SEND_BUFFER)
    }

    fn try_bind(address: SocketAddr, recv_buffer: usize, send_buffer: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // A system may refuse sizes beyond its limit; a smaller buffer still works.
        let _ = socket.set_recv_buffer_size(recv_buffer);
        let _ = socket.set_send_buffer_size(send_buffer);
        socket.bind(&SockAddr::from(address))?;
        Self::from_std(socket.into())
    }

    /// Takes over a bound socket: one that a service supervisor passed down, for example.
    pub fn from_std(io: UdpSocket) -> io::Result<Self> {
        let offload = UdpSocketState::new((&io).into())?;
        let segments_max = offload.max_gso_segments().clamp(1, SEGMENTS_MAX);
        let local = io.local_addr()?;
        let (io, counters) = (Arc::new(io), SocketCounters::default());
        Ok(Self { io, offload, local, segments_max, renewals: 0, counters })
    }

    /// The address it is bound to. The IP part is unspecified if it listens on every address of
    /// its family.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The socket itself, for an event loop to watch: whoever holds it keeps the port taken.
    pub fn descriptor(&self) -> Arc<UdpSocket> {
        self.io.clone()
    }

    /// The longest train worth writing; 1 where the system cuts no trains.
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// What did not get through, and why.
    pub fn counters(&self) -> &SocketCounters {
        &self.counters
    }

    /// Fills `batch` with what has arrived. Afterwards the batch is empty if nothing had, and full
    /// if there is probably more.
    ///
    /// # Errors
    ///
    /// Only what the socket cannot recover from. News of earlier sends ("port unreachable") is
    /// counted.
    pub fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<()> {
        batch.clear();
        let mut metas = [RecvMeta::default(); quinn_udp::BATCH_SIZE];
        for _ in 0..RECV_ERRORS_MAX {
            match self.offload.recv((&*self.io).into(), &mut batch.slices(), &mut metas) {
                Ok(count) => {
                    for meta in &metas[..count] {
                        batch.push(self.describe(meta));
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_news_of_a_send(error.kind()) => self.counters.recv_errors += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn describe(&mut self, meta: &RecvMeta) -> Message {
        let local = match meta.dst_ip {
            Some(ip) if self.local.ip().is_unspecified() => at_address(ip, self.local.port(), meta.addr),
            _ => self.local,
        };
        let unicast = !meta.dst_ip.is_some_and(|ip| ip.is_multicast() || is_broadcast(ip));
        self.counters.recv_not_unicast += u64::from(!unicast);
        self.counters.recv_empty += u64::from(meta.len == 0);
        Message {
            path: FourTuple::new(local, meta.addr),
            ecn: meta.ecn.map_or(Ecn::NotEct, |ecn| Ecn::from_bits(ecn as u8)),
            len: if unicast { meta.len } else { 0 },
            stride: meta.stride,
        }
    }

    /// Sends one datagram, or a train of them. A refusal by anything but a full socket loses what
    /// it concerns and moves a counter, as the network might have done without telling.
    ///
    /// # Errors
    ///
    /// [`Blocked`]: the socket is full; part of a train may be out.
    pub fn send(&mut self, transmit: &Transmit<FourTuple>, bytes: &[u8]) -> Result<(), Blocked> {
        let segment = transmit.segment.map_or(bytes.len(), usize::from).clamp(1, bytes.len().max(1));
        let mut sent = 0;
        while sent < bytes.len() {
            let train = &bytes[sent..bytes.len().min(sent + segment * self.segments_max)];
            match self.send_call(transmit, train, segment) {
                Ok(()) => sent += train.len(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Blocked { sent }),
                Err(error) if train.len() > segment && is_train_refusal(&error) => {
                    sent += self.send_first_of(transmit, train, segment).map_err(|()| Blocked { sent })?;
                }
                Err(error) => {
                    self.count(&error, train.len().div_ceil(segment));
                    sent += train.len();
                }
            }
        }
        Ok(())
    }

    /// The kernel refused a train. If it takes the first datagram alone, segmentation offload is
    /// what it cannot do here (the interface may lack it); if not, the path is at fault and all of
    /// the train is lost. Returns how many bytes are dealt with; `Err` is a full socket.
    fn send_first_of(
        &mut self,
        transmit: &Transmit<FourTuple>,
        train: &[u8],
        segment: usize,
    ) -> Result<usize, ()> {
        match self.send_call(transmit, &train[..segment], segment) {
            Ok(()) => {
                self.segments_max = 1;
                self.counters.gso_refused += 1;
                Ok(segment)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(()),
            Err(error) => {
                self.count(&error, train.len().div_ceil(segment));
                Ok(train.len())
            }
        }
    }

    fn send_call(
        &mut self,
        transmit: &Transmit<FourTuple>,
        contents: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let FourTuple { local, remote } = transmit.path;
        let names_source = self.local.ip().is_unspecified() && !local.ip().is_unspecified();
        let result = self.offload.try_send(
            (&*self.io).into(),
            &quinn_udp::Transmit {
                destination: remote,
                ecn: EcnCodepoint::from_bits(transmit.ecn as u8),
                contents,
                segment_size: Some(segment),
                src_ip: names_source.then_some(local.ip()),
            },
        );
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
            self.renew_offload();
        }
        result
    }

    /// After `EINVAL`, quinn-udp stops marking ECN on IPv4, in case the kernel is too old for it.
    /// When it reports the error all the same, the marks were not to blame.
    fn renew_offload(&mut self) {
        if self.renewals < RENEWALS_MAX
            && let Ok(offload) = UdpSocketState::new((&*self.io).into())
        {
            self.renewals += 1;
            self.offload = offload;
        }
    }

    fn count(&mut self, error: &io::Error, datagrams: usize) {
        let counter = match error.kind() {
            io::ErrorKind::ConnectionRefused => &mut self.counters.send_refused,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => &mut self.counters.send_unreachable,
            io::ErrorKind::PermissionDenied => &mut self.counters.send_denied,
            _ if error.raw_os_error() == Some(libc::EMSGSIZE) => &mut self.counters.send_too_large,
            _ => &mut self.counters.send_failed,
        };
        *counter += datagrams as u64;
    }
}

#[cfg(unix)]
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

/// `ip` with our port. A link-local address means nothing without its interface, which is the one
/// that the sender's address names (RFC 4007 §6).
fn at_address(ip: IpAddr, port: u16, sender: SocketAddr) -> SocketAddr {
    match (ip, sender) {
        (IpAddr::V6(ip), SocketAddr::V6(sender)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, sender.scope_id()).into()
        }
        _ => SocketAddr::new(ip, port),
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// ICMP errors about earlier datagrams, which some systems report on the next receive call.
fn is_news_of_a_send(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}

/// What Linux says when an interface cannot cut trains: `EIO`, on some paths `EINVAL`.
fn is_train_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

#[cfg(test)]
mod tests;
