//! Segments that nearly make sense, in any order: what neither the scripts nor a careful model would say.

use std::collections::BTreeMap;
use std::time::Duration;

use gimlet_machine::{Counters as _, Instant, Machine, Rng};
use gimlet_tcp::{Checksum, Leg, Role, Secret, Unknown};
use gimlet_wire::{TcpFlags, TcpOptionList};

use crate::lab::{
    ACK, C, CI, CLOCK, FIN, Lab, PSH, RST, S, SR, SYN, Seg, T, bytes, config, syn, syn_ack, syn_ack_options,
};

/// Handshakes at a time.
const HALF_OPEN: usize = 6;
/// Early data of all, in bytes.
const POOL: usize = 48 << 10;

/// Somebody who knows all the numbers and has no manners.
struct Chaos {
    rng: Rng,
    lab: Lab,
    /// Numbers that were said to each side, latest last.
    heard: Vec<(u32, u32)>,
    /// What the client at a port was told in the SYN-ACK: S', and T' if there was one.
    told: BTreeMap<u16, (u32, Option<u32>)>,
    /// Near, where the lab is Far.
    near: Option<Lab>,
}

impl Chaos {
    fn new(role: Role, seed: u64) -> Self {
        let mut rng = Rng::from_u64(seed).fork("chaos");
        let mut config = config(role);
        config.limits.half_open = HALF_OPEN;
        config.limits.pool = POOL;
        config.limits.early_data = [0, 100, 4_096, 16_384][rng.below(4) as usize];
        config.unknown = if rng.chance(200_000) { Unknown::Reset } else { Unknown::Pass };
        let near = (role == Role::Far).then(|| Lab::warm(Role::Near));
        Self { rng, lab: Lab::with(config), heard: vec![(SR, CI)], told: BTreeMap::new(), near }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len() as u64) as usize]
    }

    /// A number close to one that means something.
    fn number(&mut self) -> u32 {
        let last = self.heard.len() as u64;
        let (a, b) = self.heard[last.saturating_sub(1 + self.rng.below(6)) as usize % self.heard.len()];
        let base = self.pick(&[CI, SR, a, b, a, b]);
        let by = self.pick(&[0, 1, 1, 1, 2, 100, 1_448, 20_000, 0xffff_ffff, 0x8000_0000]);
        base.wrapping_add(by)
    }

    fn options(&mut self) -> TcpOptionList {
        let (clock, echo) = (self.number(), self.number());
        let plain = TcpOptionList::new();
        match self.rng.below(8) {
            0..=2 => plain.no_operation().no_operation().timestamps(CLOCK + 1, echo),
            3 => plain.timestamps(clock, echo).sack(&[(clock, echo), (echo, clock)]),
            4 => plain
                .no_operation()
                .window_scale(clock as u8)
                .maximum_segment_size(echo as u16)
                .timestamps(T, echo),
            5 => plain.raw(&bytes(self.rng.below(41) as usize)),
            _ => plain,
        }
    }

    /// What somebody may say at this point, and mean.
    fn sensible(&mut self, port: u16) -> Seg {
        let (isn, clock) = self.told.get(&port).copied().unwrap_or((SR, Some(T)));
        let at = self.pick(&[0, 0, 0, 100, 1_448, 2_896]);
        let len = self.pick(&[0, 100, 1_448, 5_000]);
        let fin = if self.rng.chance(30_000) { FIN } else { TcpFlags::NONE };
        let (client, server) = (CI.wrapping_add(1), SR.wrapping_add(1));
        match self.rng.below(20) {
            0 | 1 => syn(),
            2..=5 => {
                let window = self.pick(&[100, 1_000, 5_000, 65_160]);
                let options = match self.rng.below(12) {
                    0 => TcpOptionList::new().maximum_segment_size(536),
                    1 => syn_ack_options(14),
                    2 | 3 => syn_ack_options(7).fast_open(b"cookie!!"),
                    _ => syn_ack_options(7),
                };
                let ack = self.pick(&[client, client, client, client.wrapping_add(100)]);
                Seg { ack, ..syn_ack().options(options).window(window) }
            }
            6..=13 => {
                let seq = client.wrapping_add(at);
                let segment = Seg::of(C, ACK | fin, seq, isn.wrapping_add(1)).window(502);
                let segment = clock.map_or(segment.clone(), |clock| segment.clocks(CLOCK + 1, clock));
                let mut payload = bytes(8_000)[at as usize..][..len].to_vec();
                if self.rng.chance(50_000) {
                    for byte in &mut payload {
                        *byte ^= 1;
                    }
                }
                Seg { payload, ..segment }
            }
            14..=18 => {
                let ack = client.wrapping_add(at + len as u32);
                let window = self.pick(&[1, 8, 502]);
                Seg::of(S, ACK | fin, server.wrapping_add(at), ack).clocks(T + 9, CLOCK + 1).window(window)
            }
            _ => Seg::of(S, RST | ACK, 0, client),
        }
    }

    fn segment(&mut self) -> Seg {
        let port = self.pick(&[40_000, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005, 40_006]);
        if !self.rng.chance(200_000) {
            return self.sensible(port).port(port);
        }
        let flags =
            self.pick(&[ACK, ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN, SYN | ACK, FIN, TcpFlags::NONE]);
        let urgent = if self.rng.chance(50_000) { TcpFlags::URG } else { TcpFlags::NONE };
        let side = self.pick(&[C, S]);
        let (seq, ack, options) = (self.number(), self.number(), self.options());
        let len = self.pick(&[0, 0, 1, 100, 1_448, 5_000]);
        let segment = Seg::of(side, flags | urgent, seq, ack).options(options).window(ack as u16);
        Seg { payload: bytes(len), ..segment }.port(port)
    }

    fn step(&mut self) {
        match self.rng.below(40) {
            0 => {
                let wait = self.pick(&[1, 3, 400, 1_000, 9_000, 31_000, 130_000]);
                self.wait(Duration::from_millis(wait));
            }
            1 => {
                let (now, secret) = (self.lab.now, Secret::new(self.rng.bytes()));
                self.lab.machine.command(now, |machine| machine.rotate_secret(now, secret));
            }
            2 => {
                let now = self.lab.now;
                let server = "10.0.0.2:8080".parse().unwrap();
                self.lab.machine.command(now, |machine| machine.forget(now, server));
            }
            _ => {
                let segment = self.segment();
                let checksum = if self.rng.chance(300_000) { Checksum::Partial } else { Checksum::Complete };
                let leg = Leg { checksum, gso: self.pick(&[0, 0, 536]), ..Leg::new(segment.side) };
                let mut frame = segment.frame();
                if self.rng.chance(30_000) {
                    let at = self.rng.below(frame.len() as u64) as usize;
                    frame[at] ^= 1 << self.rng.below(8);
                }
                self.lab.hear_frame(leg, &frame);
                if segment.side == C
                    && let Some(near) = &mut self.near
                {
                    near.hear(&segment);
                }
                self.listen();
            }
        }
        let translator = self.lab.translator();
        assert!(translator.half_open() <= HALF_OPEN + 1 && translator.pooled() <= POOL + 2_048);
    }

    /// Learns every number that is said.
    fn listen(&mut self) {
        let near = self.near.as_mut().map(Lab::everything).unwrap_or_default();
        for (side, frame) in self.lab.everything().into_iter().chain(near) {
            let Ok(layout) = gimlet_wire::Layout::of(&frame) else { continue };
            let Ok(view) = layout.tcp(&frame) else { continue };
            self.heard.push((view.seq(), view.ack()));
            if side == C
                && view.flags() == SYN | ACK
                && view.seq() != SR
                && layout.transport_checksum_holds(&frame)
            {
                let said = Seg::read(C, &frame);
                self.told.insert(said.ports.0, (said.seq, said.timestamps().map(|(value, _)| value)));
            }
        }
        self.lab.events();
    }

    fn wait(&mut self, wait: Duration) {
        let until = self.lab.now + wait;
        while let Some(due) = self.lab.machine.poll_timeout().filter(|due| due.at <= until) {
            self.lab.now = self.lab.now.max(due.at);
            self.lab.machine.handle_timeout(self.lab.now);
            self.lab.drain();
            self.listen();
        }
        self.lab.now = until;
    }
}

#[test]
fn whatever_is_said_nothing_breaks_and_nothing_is_left_in_the_end() {
    let mut reached = std::collections::BTreeMap::new();
    for seed in 0..60 {
        for role in [Role::Single, Role::Near, Role::Far, Role::TfoUpgrade] {
            let mut chaos = Chaos::new(role, seed);
            for _ in 0..250 {
                chaos.step();
            }
            chaos.wait(Duration::from_secs(3 * 3_600));
            let translator = chaos.lab.translator();
            let left = (translator.half_open(), translator.pooled(), translator.flows().count());
            assert_eq!(left, (0, 0, 0), "{role:?} {seed}");
            assert!(translator.is_idle() && chaos.lab.machine.poll_timeout().is_none(), "{role:?} {seed}");
            for (name, count) in chaos.lab.counters().each() {
                *reached.entry(name).or_insert(0) += count;
            }
        }
    }
    // What it has to have come by: otherwise it is noise, and not chaos.
    for name in [
        "spoofed",
        "established",
        "translated",
        "flushed",
        "held_again",
        "conflicting",
        "refused",
        "let_go",
        "learned",
        "reopened",
        "acknowledged_again",
        "after_abort",
        "bad_cookie",
        "fast_opened",
        "fast_open_refused",
        "syns_resent",
        "syns_made_up",
    ] {
        assert!(reached.get(name).is_some_and(|count| *count > 0), "{name} never happened: {reached:?}");
    }
}

#[test]
fn the_same_chaos_twice_says_the_same() {
    for role in [Role::Single, Role::Near, Role::Far, Role::TfoUpgrade] {
        let play = || {
            let mut chaos = Chaos::new(role, 7);
            (0..500).for_each(|_| chaos.step());
            let flows: Vec<_> = chaos.lab.translator().flows().collect();
            (chaos.heard, chaos.lab.counters(), flows, chaos.lab.now)
        };
        let (first, second) = (play(), play());
        assert!(first == second, "{role:?}");
        assert!(first.3 > Instant::ZERO);
    }
}
