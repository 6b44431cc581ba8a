//! The TCP translator, per segment, through its machine; beside one that parses, changes and writes with
//! etherparse.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use etherparse::{SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use gimlet_machine::{Buf, Input, Instant, Machine, Rng, Verdict};
use gimlet_peers::Table;
use gimlet_tcp::{Allow, Block, Config, FlowState, Leg, Rate, Role, Side, Slot, Translator, slots_for};
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};

/// Segments that are sent in turn, again and again.
const RING: usize = 1024;
/// Segments of one round where each is of another flow.
const ROUND: u64 = 8_000;
/// Segments that are foreseen together.
const BATCH: usize = 16;
const NOW: Instant = Instant::from_millis(1_000);
const PORT: u16 = 8080;

fn main() {
    let mut table = Table::new("The TCP translator, per segment");
    for (work, flows) in [
        ("an acknowledgement, 1 flow", 1),
        ("an acknowledgement, 1,000 flows in turn", 1_000),
        ("an acknowledgement, 100,000 flows in turn", 100_000),
    ] {
        beside(&mut table, work, flows, 0, false);
    }
    beside(&mut table, "an acknowledgement, IPv6, 1,000 flows in turn", 1_000, 0, true);
    beside(&mut table, "1,448 bytes of data, 1,000 flows in turn", 1_000, 1_448, false);
    beside(&mut table, "45,000 bytes in one train, 1,000 flows in turn", 1_000, 45_000, false);
    many(&mut table);
    handshake(&mut table);
    table.run();
}

/// Made when it is first asked for: whoever counts the instructions of one row does not want all the others'
/// preparations.
struct Later<T>(Option<T>, Box<dyn Fn() -> T>);

impl<T> Later<T> {
    fn new(make: impl Fn() -> T + 'static) -> Self {
        Self(None, Box::new(make))
    }

    fn get_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(&self.1)
    }
}

/// One end of flow number `n`.
#[derive(Clone, Copy)]
struct End {
    n: u32,
    v6: bool,
}

impl End {
    fn client(self) -> IpAddr {
        let host = 0x0a00_0000 | (self.n >> 12);
        if self.v6 {
            Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(host)).into()
        } else {
            Ipv4Addr::from_bits(host).into()
        }
    }

    fn port(self) -> u16 {
        1_024 + (self.n & 0xfff) as u16
    }

    fn server(self) -> IpAddr {
        if self.v6 {
            Ipv6Addr::from_bits(0xfd01 << 112 | 1).into()
        } else {
            Ipv4Addr::new(10, 200, 0, 1).into()
        }
    }

    fn frame(self, side: Side, segment: Segment<'_>) -> Vec<u8> {
        let envelope = Envelope::new([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], self.client(), self.server());
        let ports = Segment { source_port: self.port(), destination_port: PORT, ..segment };
        let mut frame = Vec::new();
        match side {
            Side::Client => envelope.write(&mut frame, &ports),
            Side::Server => {
                let ports = Segment { source_port: PORT, destination_port: self.port(), ..ports };
                envelope.reversed().write(&mut frame, &ports);
            }
        }
        frame
    }
}

fn segment(flags: TcpFlags, seq: u32, ack: u32, options: TcpOptionList, payload: &[u8]) -> Segment<'_> {
    Segment { source_port: 0, destination_port: 0, seq, ack, flags, window: 502, options, payload }
}

fn stamps() -> TcpOptionList {
    TcpOptionList::new().no_operation().no_operation().timestamps(7, 9)
}

fn syn_options() -> TcpOptionList {
    TcpOptionList::new().maximum_segment_size(1_460).sack_permitted().timestamps(7, 0).window_scale(7)
}

/// A translator and what it said last.
struct Box_ {
    translator: Translator,
    out: Vec<u8>,
}

impl Box_ {
    fn new(flows: u32) -> Self {
        let everyone = |address: IpAddr| Block::new(address, 0).expect("a block");
        let allow = |address| Allow { servers: everyone(address), ports: PORT..=PORT, idempotent: false };
        let mut config = Config::new(Role::Single);
        config.allowed = vec![allow(Ipv4Addr::UNSPECIFIED.into()), allow(Ipv6Addr::UNSPECIFIED.into())];
        // And the two that are learned from.
        config.limits.flows = flows.max(1_000) as usize + 2;
        config.limits.rate = Rate { burst: u32::MAX, per_second: u32::MAX };
        let slots = slots(slots_for(config.limits.flows));
        let attached = Translator::attach(NOW, Rng::from_u64(1), config, slots);
        let (translator, _) = attached.expect("a configuration that can be");
        let mut box_ = Self { translator, out: Vec::new() };
        for v6 in [false, true] {
            // The first contact is learned.
            let first = End { n: u32::MAX >> 9, v6 };
            box_.hears(
                Side::Client,
                first.frame(Side::Client, segment(TcpFlags::SYN, 1, 0, syn_options(), &[])),
            );
            let answer = segment(TcpFlags::SYN | TcpFlags::ACK, 1, 2, syn_options(), &[]);
            box_.hears(Side::Server, first.frame(Side::Server, answer));
        }
        box_
    }

    fn hears(&mut self, side: Side, mut frame: Vec<u8>) -> bool {
        let verdict = self.translator.handle_input(NOW, Input::new(Leg::new(side), &mut frame));
        matches!(verdict, Verdict::Pass { .. })
    }

    /// The first frame that it says, without those behind it.
    fn says(&mut self) -> Option<u32> {
        let mut first = None;
        let (mut storage, translator) = (std::mem::take(&mut self.out), &mut self.translator);
        while translator.poll_transmit(NOW, &mut Buf::new(&mut storage)).is_some() {
            let layout = Layout::of(&storage).expect("a frame");
            first = first.or(Some(layout.tcp(&storage).expect("a segment").seq()));
        }
        self.out = storage;
        while self.translator.poll_event().is_some() {}
        first
    }

    fn connect(&mut self, end: End) {
        self.hears(Side::Client, end.frame(Side::Client, segment(TcpFlags::SYN, 100, 0, syn_options(), &[])));
        let Some(ours) = self.says() else { panic!("no answer: {:?}", self.translator.counters()) };
        let answer = segment(TcpFlags::ACK, 101, ours.wrapping_add(1), stamps(), &[]);
        self.hears(Side::Client, end.frame(Side::Client, answer));
        let accepts = segment(TcpFlags::SYN | TcpFlags::ACK, end.n, 101, syn_options(), &[]);
        self.hears(Side::Server, end.frame(Side::Server, accepts));
        self.says();
    }

    fn connected(flows: u32, v6: bool) -> Self {
        let mut box_ = Self::new(flows);
        for n in 0..flows {
            box_.connect(End { n, v6 });
        }
        let ready = box_.translator.flows().filter(|flow| flow.state == FlowState::Established).count();
        assert_eq!(ready, flows as usize);
        box_
    }
}

/// Memory for a table, in huge pages if the kernel has some: with small ones, half of the time of a segment whose
/// flow is in no cache goes to finding the page.
fn slots(count: usize) -> Vec<Slot> {
    const PAGE: usize = 4_096;
    let mut slots = Vec::<Slot>::with_capacity(count);
    let start = slots.as_ptr().addr().next_multiple_of(PAGE);
    let end = (slots.as_ptr().addr() + slots.capacity() * size_of::<Slot>()) / PAGE * PAGE;
    if start < end {
        // SAFETY: advice about pages that lie within one allocation of ours. Whether it is taken changes nothing but
        // time, so nobody looks at the answer.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
    slots.resize(count, Slot::EMPTY);
    slots
}

/// Segments of some of the flows, from the client: acknowledgements, or with data.
fn ring(flows: u32, payload: usize, v6: bool) -> Vec<Vec<u8>> {
    let (mut rng, payload) = (Rng::from_u64(2), vec![7; payload]);
    let pick = |_| {
        let n = rng.below(u64::from(flows)) as u32;
        End { n, v6 }.frame(Side::Client, segment(TcpFlags::ACK, 1_000, 2_000, stamps(), &payload))
    };
    (0..if payload.len() > 10_000 { 32 } else { RING }).map(pick).collect()
}

fn beside(table: &mut Table, work: &'static str, flows: u32, payload: usize, v6: bool) {
    let units = ring(1, payload, v6).len() as u64;
    let mut ours = Later::new(move || (Box_::connected(flows, v6).translator, ring(flows, payload, v6)));
    table.row(work, "gimlet", units, move || {
        let (translator, ring) = ours.get_mut();
        let leg = Leg::new(Side::Client);
        ring.iter_mut()
            .all(|frame| matches!(translator.handle_input(NOW, Input::new(leg, frame)), Verdict::Pass { .. }))
    });
    let mut theirs = Later::new(move || (Rewriter::of(flows, v6), ring(flows, payload, v6)));
    table.row(work, "etherparse", units, move || {
        let (rewriter, ring) = theirs.get_mut();
        ring.iter_mut().all(|frame| rewriter.rewrite(frame))
    });
}

/// A million flows: too many to be connected under valgrind, where a segment costs what it costs with fewer.
fn many(table: &mut Table) {
    const FLOWS: u32 = 1_000_000;
    let leg = Leg::new(Side::Client);
    let shared = Rc::new(RefCell::new(Later::new(|| Box_::connected(FLOWS, false).translator)));
    let mut frames = Later::new(|| ring(FLOWS, 0, false));
    let translator = Rc::clone(&shared);
    table.timed_row(
        "an acknowledgement, 1,000,000 flows, the same ones in turn",
        "gimlet",
        RING as u64,
        move || {
            let mut translator = translator.borrow_mut();
            let translator = translator.get_mut();
            frames.get_mut().iter_mut().all(|frame| {
                matches!(translator.handle_input(NOW, Input::new(leg, frame)), Verdict::Pass { .. })
            })
        },
    );
    let (translator, mut next) = (Rc::clone(&shared), Picker::new(FLOWS));
    let mut frame = ring(1, 0, false).swap_remove(0);
    table.timed_row("an acknowledgement, 1,000,000 flows, each time another", "gimlet", ROUND, move || {
        let mut translator = translator.borrow_mut();
        let translator = translator.get_mut();
        (0..ROUND).all(|_| {
            readdress(&mut frame, next.pick());
            matches!(translator.handle_input(NOW, Input::new(leg, &mut frame)), Verdict::Pass { .. })
        })
    });
    let (translator, mut next) = (Rc::clone(&shared), Picker::new(FLOWS));
    let mut batch = vec![ring(1, 0, false).swap_remove(0); BATCH];
    table.timed_row("the same, in batches of 16 that are foreseen", "gimlet", ROUND, move || {
        let mut translator = translator.borrow_mut();
        let translator = translator.get_mut();
        (0..ROUND / BATCH as u64).all(|_| {
            for frame in &mut batch {
                readdress(frame, next.pick());
            }
            for frame in &batch {
                translator.foresee(leg, frame);
            }
            batch.iter_mut().all(|frame| {
                matches!(translator.handle_input(NOW, Input::new(leg, frame)), Verdict::Pass { .. })
            })
        })
    });
    let mut next = Picker::new(FLOWS * 2);
    let mut memory = Later::new(|| slots(2 * FLOWS as usize));
    table.timed_row(
        "one read from as much memory, each where the last one says",
        "this machine",
        ROUND,
        move || {
            let memory = memory.get_mut();
            for _ in 0..ROUND {
                let place = next.pick() as usize;
                next.0 ^= memory[place].words()[6];
            }
            next.0
        },
    );
}

/// Numbers of flows, in no order that a cache could foresee (xorshift64).
struct Picker(u64, u32);

impl Picker {
    fn new(flows: u32) -> Self {
        Self(0x9e37_79b9_7f4a_7c15, flows)
    }

    fn pick(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) * u64::from(self.1) >> 32) as u32
    }
}

/// Makes the IPv4 `frame` one of flow number `n`. Its checksums are those of another: nobody looks.
fn readdress(frame: &mut [u8], n: u32) {
    let end = End { n, v6: false };
    let (IpAddr::V4(client), IpAddr::V4(server)) = (end.client(), end.server()) else { unreachable!("IPv4") };
    let addresses = u64::from(client.to_bits()) << 32 | u64::from(server.to_bits());
    frame[26..34].copy_from_slice(&addresses.to_be_bytes());
    frame[34..38].copy_from_slice(&(u32::from(end.port()) << 16 | u32::from(PORT)).to_be_bytes());
}

/// A SYN that is new, answered, and forgotten by the client's reset.
fn handshake(table: &mut Table) {
    let syn = End { n: 1, v6: false }.frame(Side::Client, segment(TcpFlags::SYN, 100, 0, syn_options(), &[]));
    let mut box_ = Later::new(|| Box_::new(1));
    let mut frame = syn.clone();
    table.row("a SYN that comes again gets the same SYN-ACK", "gimlet", 1, move || {
        frame.copy_from_slice(&syn);
        let box_ = box_.get_mut();
        box_.translator.handle_input(NOW, Input::new(Leg::new(Side::Client), &mut frame));
        let mut said = 0;
        while box_.translator.poll_transmit(NOW, &mut Buf::new(&mut box_.out)).is_some() {
            said += 1;
        }
        assert_eq!(said, 1);
        while box_.translator.poll_event().is_some() {}
    });
}

/// What etherparse makes easy: slices are read, a header is taken out, changed, and written back with a
/// checksum that is computed anew. It has no update in place, and none by difference.
struct Rewriter(HashMap<(IpAddr, u16, IpAddr, u16), (u32, u32)>);

impl Rewriter {
    fn of(flows: u32, v6: bool) -> Self {
        let entry = |n| {
            let end = End { n, v6 };
            ((end.client(), end.port(), end.server(), PORT), (n, !n))
        };
        Self((0..flows).map(entry).collect())
    }

    fn rewrite(&self, frame: &mut [u8]) -> bool {
        let (at, header) = {
            let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return false };
            let (Some(net), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
                return false;
            };
            let (source, destination): (IpAddr, IpAddr) = match net {
                etherparse::NetSlice::Ipv4(ip) => {
                    (ip.header().source_addr().into(), ip.header().destination_addr().into())
                }
                etherparse::NetSlice::Ipv6(ip) => {
                    (ip.header().source_addr().into(), ip.header().destination_addr().into())
                }
                etherparse::NetSlice::Arp(_) => return false,
            };
            let key = (source, tcp.source_port(), destination, tcp.destination_port());
            let Some((delta, clock)) = self.0.get(&key) else { return false };
            let mut header = tcp.to_header();
            header.acknowledgment_number = header.acknowledgment_number.wrapping_sub(*delta);
            shift_echo(&mut header, *clock);
            let checksum = match (source, destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), tcp.payload())
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), tcp.payload())
                }
                _ => return false,
            };
            let Ok(checksum) = checksum else { return false };
            header.checksum = checksum;
            (tcp.slice().as_ptr() as usize - frame.as_ptr() as usize, header)
        };
        header.write(&mut &mut frame[at..]).is_ok()
    }
}

fn shift_echo(header: &mut TcpHeader, clock: u32) {
    let mut elements = [const { TcpOptionElement::Noop }; 40];
    let mut count = 0;
    for (slot, element) in elements.iter_mut().zip(header.options_iterator().flatten()) {
        *slot = match element {
            TcpOptionElement::Timestamp(value, echo) => {
                TcpOptionElement::Timestamp(value, echo.wrapping_sub(clock))
            }
            other => other,
        };
        count += 1;
    }
    header.set_options(&elements[..count]).expect("as long as before");
}
