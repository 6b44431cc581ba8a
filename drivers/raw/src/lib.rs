//! Whole Ethernet frames from and to Linux interfaces, around any machine that stands between two sides.
//!
//! A [`Port`] is an interface whose every frame is heard (`AF_PACKET`, promiscuous) and whose own kernel hears none
//! of what we say on it. A [`Bump`] is two of them, clients on one side and servers on the other, and a loop that
//! carries every frame through a [`Machine`](gimlet_machine::Machine) whose path is a [`Leg`]. What the machine
//! passes leaves from the memory that it arrived in, in its order; what it makes itself follows before the next
//! frame is looked at. Nothing else sees the frames: the interfaces need no address, and a host that has none on them
//! answers nothing.
//!
//! * **Offloads stay on.** With `PACKET_VNET_HDR` the kernel says beside each frame that its checksum is only begun, or
//!   that it is a train of up to 64 kB for somebody else to cut. Both are on the [`Leg`], and said again when the
//!   frame leaves.
//! * **VLAN tags come back.** The kernel takes the outer tag out of a frame. An ordinary one is on the leg and put
//!   back when the frame leaves; a provider's (IEEE 802.1ad) is put back into the bytes at once.
//! * **Two ways to receive.** [`Receive::Batch`] copies, many frames in one call, and at once. [`Receive::Ring`] reads
//!   frames in memory shared with the kernel (`TPACKET_V3`): more frames per second, some milliseconds later.
//! * **Time survives a restart.** [`Clock`] has one origin for all processes until the computer is started again.
//! * **A life can be recorded** ([`Recorder`]) and lived again ([`replay()`]): every frame, timer and command in a
//!   pcapng file, with what the machine made of it. The file holds the machine's seed and configuration, and with
//!   them its secrets.
//! * **Flows survive a restart, too.** A [`Table`] is memory for a translator in a file, mapped: whoever opens it next finds
//!   what was there when the last process ended, however it ended.
//! * [`Forwarder`] is the machine that does nothing: a cable with a program in it.
//!
//! # What it deliberately does not do
//!
//! * It does not look into frames further than to find the transport header, and only of frames that a machine made
//!   and that want an offload. What frames mean is the machine's.
//! * It does not use `AF_XDP`. Where both ends are virtual there is no zero-copy mode, and frames arrive without a word
//!   about checksums that nobody has computed.
//! * It does not wait for a slow interface. A queue that stays full loses frames, as a switch would, and counts them.
//! * It does not route, and does not answer ARP or neighbour solicitations: it is not a station.
//!
//! # Example
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use gimlet_machine::Instant;
//! use gimlet_raw::{Bump, BumpCounters, Forwarder, Owner, Port, Receive};
//!
//! struct Quiet;
//! impl Owner<Forwarder> for Quiet {
//!     fn event(&mut self, _: &mut Forwarder, _: Instant, (): ()) {}
//!     fn woken(&mut self, _: &mut Forwarder, _: Instant, _: BumpCounters) -> ControlFlow<()> {
//!         ControlFlow::Break(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clients = Port::open("eth1", Receive::Batch)?;
//! let servers = Port::open("eth2", Receive::Batch)?;
//! let mut bump = Bump::new(clients, servers)?;
//! let waker = bump.waker();
//! std::thread::spawn(move || {
//!     std::thread::sleep(std::time::Duration::from_secs(60));
//!     waker.wake();
//! });
//! bump.run(&mut Forwarder, &mut Quiet)?;
//! # Ok(())
//! # }
//! ```
#![cfg(target_os = "linux")]
#![deny(missing_docs)]

mod bump;
mod clock;
mod forward;
mod frame;
mod offload;
mod port;
mod record;
mod sys;
mod table;

pub use bump::{Bump, BumpCounters, Owner, Waker};
pub use clock::Clock;
pub use forward::Forwarder;
pub use gimlet_tcp::{Checksum, Leg, Side};
pub use port::{Port, PortCounters, PortError, RECV_BUFFER, Receive, SEND_BUFFER};
pub use record::{
    Difference, End, Entry, Heading, Part, Reader, RecordError, Recordable, Recorded, Recorder, Recording,
    Replayed, Stopped, Tape, What, replay, slots_from_bytes, slots_to_bytes,
};
pub use sys::batch::FRAME_MAX;
pub use table::{Table, TableError};
