//! One interface, and the socket that hears and says whole frames on it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use gimlet_machine::Instant;

use crate::clock::Clock;
use crate::sys::batch::{Arrived, Batch};
use crate::sys::ring::Ring;
use crate::sys::send::{self, Leaving, SendCounters};
use crate::sys::{self};

/// What the kernel may hold for us, bytes: 40 ms of bulk traffic at 6 Gbit/s. Its own limit does not apply, because
/// whoever opens a packet socket may go over it.
pub const RECV_BUFFER: i32 = 32 << 20;
/// What may wait to leave, bytes.
pub const SEND_BUFFER: i32 = 16 << 20;

/// How often an interface that is down is looked for. The kernel reports that one goes down, which also happens when it
/// is removed, and then reports nothing more: whether it is gone a moment later only asking tells.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// How frames are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receive {
    /// Copied, many in one call, at once: the shortest delay.
    #[default]
    Batch,
    /// In memory shared with the kernel (`TPACKET_V3`), a block at a time: the most frames, up to a few milliseconds
    /// later.
    Ring,
}

/// Why an interface could not be opened.
#[derive(Debug)]
pub enum PortError {
    /// There is no such interface in this network namespace.
    NoSuchInterface(String),
    /// This process may not hear whole frames.
    NotPermitted(String),
    /// The interface does not carry Ethernet frames.
    NotEthernet(String),
    /// The kernel refused a step.
    Refused {
        /// On which interface.
        interface: String,
        /// What was asked of it.
        step: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::NoSuchInterface(name) => {
                write!(f, "there is no interface {name} here: `ip link` lists those that are")
            }
            PortError::NotPermitted(name) => {
                write!(f, "hearing whole frames on {name} needs root, or the capability CAP_NET_RAW")
            }
            PortError::NotEthernet(name) => {
                write!(f, "{name} does not carry Ethernet frames: choose one that does")
            }
            PortError::Refused { interface, step, error } => write!(f, "{interface}: cannot {step}: {error}"),
        }
    }
}

impl std::error::Error for PortError {}

gimlet_machine::counters! {
    /// What became of the frames of one interface.
    pub struct PortCounters {
        /// Heard.
        received,
        /// Bytes in them.
        received_bytes,
        /// Lost before we looked: the kernel's buffer was full.
        overrun,
        /// Heard and dropped: longer than [`crate::FRAME_MAX`], or shorter than an Ethernet header.
        misfit,
        /// Said.
        sent,
        /// Bytes in them.
        sent_bytes,
        /// Not said: the socket or the interface's queue stayed full.
        send_full,
        /// Not said: longer than the interface takes.
        send_too_long,
        /// Not said: the interface is down or gone.
        send_down,
        /// Not said: any other refusal.
        send_refused,
    }
}

/// An interface whose every frame is heard, and whose kernel hears none of ours.
pub struct Port {
    name: String,
    index: u32,
    socket: OwnedFd,
    storage: Storage,
    sent: SendCounters,
    received: u64,
    received_bytes: u64,
    overrun: u64,
    /// While it is down: when it is looked for next.
    look: Option<Instant>,
}

enum Storage {
    Batch(Batch),
    Ring(Ring),
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Port {
    /// Opens `interface`.
    pub fn open(interface: &str, receive: Receive) -> Result<Self, PortError> {
        let refused = |step: &'static str| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::PermissionDenied => PortError::NotPermitted(interface.to_owned()),
                _ => PortError::Refused { interface: interface.to_owned(), step, error },
            }
        };
        let index =
            sys::interface_index(interface).map_err(|_| PortError::NoSuchInterface(interface.to_owned()))?;
        let socket = sys::packet_socket().map_err(refused("open a packet socket"))?;
        prepare(&socket).map_err(refused("prepare a packet socket"))?;
        let storage = match receive {
            Receive::Batch => Storage::Batch(Batch::new()),
            Receive::Ring => Storage::Ring(Ring::new(&socket).map_err(refused("make a ring of 16 MiB"))?),
        };
        let hardware = sys::bind(&socket, index).map_err(refused("listen"))?;
        if hardware != ETHERNET {
            return Err(PortError::NotEthernet(interface.to_owned()));
        }
        sys::be_promiscuous(&socket, index).map_err(refused("listen to frames for others"))?;
        let sent = SendCounters::default();
        Ok(Self {
            name: interface.to_owned(),
            index,
            socket,
            storage,
            sent,
            received: 0,
            received_bytes: 0,
            overrun: 0,
            look: None,
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What became of its frames.
    pub fn counters(&mut self) -> PortCounters {
        // Asking resets the kernel's number; a socket that cannot be asked has lost nothing that it tells.
        self.overrun += sys::dropped(&self.socket).unwrap_or(0);
        let misfit = match &self.storage {
            Storage::Batch(batch) => batch.misfits,
            Storage::Ring(ring) => ring.misfits,
        };
        let SendCounters { sent, sent_bytes, full, too_long, down, refused } = self.sent;
        PortCounters {
            received: self.received,
            received_bytes: self.received_bytes,
            overrun: self.overrun,
            misfit,
            sent,
            sent_bytes,
            send_full: full,
            send_too_long: too_long,
            send_down: down,
            send_refused: refused,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Receives some frames; none if there are none. An interface that is down is silent, and comes back; one that is
    /// gone does not.
    pub(crate) fn receive(&mut self) -> io::Result<usize> {
        let received = match &mut self.storage {
            Storage::Batch(batch) => batch.receive(&self.socket),
            Storage::Ring(ring) => match ring.receive() {
                // Nobody else looks whether this is why the socket was ready.
                0 => sys::take_error(&self.socket).map(|()| 0),
                count => Ok(count),
            },
        };
        let count = match received {
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                let now = Clock.now();
                self.look = Some(now);
                self.look(now)?;
                0
            }
            other => other?,
        };
        if count > 0 {
            self.received += count as u64;
            self.look = None;
        }
        Ok(count)
    }

    /// When it has to be looked for: never while it is up.
    pub(crate) fn looked_for(&self) -> Option<Instant> {
        self.look
    }

    /// Complains if it was down and is gone.
    pub(crate) fn look(&mut self, now: Instant) -> io::Result<()> {
        if self.look.is_none_or(|due| now < due) {
            return Ok(());
        }
        self.look = Some(now + LOOK_EVERY);
        match sys::interface_index(&self.name) {
            Ok(index) if index == self.index => Ok(()),
            Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", self.name))),
        }
    }

    /// Ends with the frames of the last [`Port::receive`].
    pub(crate) fn release(&mut self) {
        if let Storage::Ring(ring) = &mut self.storage {
            ring.release();
        }
    }

    pub(crate) fn arrived(&self, nth: usize) -> Arrived {
        match &self.storage {
            Storage::Batch(batch) => batch.arrived(nth),
            Storage::Ring(ring) => ring.arrived(nth),
        }
    }

    pub(crate) fn frame(&self, nth: usize) -> &[u8] {
        match &self.storage {
            Storage::Batch(batch) => batch.frame(nth),
            Storage::Ring(ring) => ring.frame(nth),
        }
    }

    pub(crate) fn frame_mut(&mut self, nth: usize) -> &mut [u8] {
        let frame = match &mut self.storage {
            Storage::Batch(batch) => batch.frame_mut(nth),
            Storage::Ring(ring) => ring.frame_mut(nth),
        };
        self.received_bytes += frame.len() as u64;
        frame
    }

    pub(crate) fn send(&self, frames: &[Leaving<'_>], counters: &mut SendCounters) {
        send::send(&self.socket, frames, counters);
    }

    pub(crate) fn count_sent(&mut self, more: SendCounters) {
        let all = &mut self.sent;
        all.sent += more.sent;
        all.sent_bytes += more.sent_bytes;
        all.full += more.full;
        all.too_long += more.too_long;
        all.down += more.down;
        all.refused += more.refused;
    }
}

fn prepare(socket: &OwnedFd) -> io::Result<()> {
    let packet = |name, value: i32| sys::set(socket, libc::SOL_PACKET, name, &value);
    packet(libc::PACKET_VNET_HDR, 1)?;
    packet(libc::PACKET_AUXDATA, 1)?;
    // What we send is not to come back to us.
    packet(libc::PACKET_IGNORE_OUTGOING, 1)?;
    packet(libc::PACKET_QDISC_BYPASS, 1)?;
    sys::set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECV_BUFFER)?;
    sys::set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
}
