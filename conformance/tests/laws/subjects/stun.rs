use gimlet_conformance::laws::{Side, Subject};
use gimlet_machine::{
    Buf, Counters as _, Deadline, FourTuple, Input, Instant, Machine, Rng, Transmit, Verdict,
};
use gimlet_stun::{Client, ClientConfig, ClientEvent, RequestId, Server, ServerConfig};

/// A client and a server on one socket, as every node has them.
struct Host {
    client: Client,
    server: Server,
    asked: Option<RequestId>,
    answered: bool,
}

impl Machine for Host {
    type Path = FourTuple;
    type Event = ClientEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        match self.server.handle_input(now, Input { path, ecn, bytes: &mut *bytes }) {
            Verdict::NotMine => self.client.handle_input(now, Input { path, ecn, bytes }),
            taken @ (Verdict::Consumed | Verdict::Pass { .. }) => taken,
        }
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
        self.client.handle_timeout(now);
    }
    fn poll_event(&mut self) -> Option<ClientEvent> {
        let event = self.client.poll_event();
        self.answered |= matches!(event, Some(ClientEvent::Answered { .. }));
        event
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        self.server.poll_transmit(now, out).or_else(|| self.client.poll_transmit(now, out))
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earliest([self.server.poll_timeout(), self.client.poll_timeout()])
    }
}

impl Subject for Host {
    type Machine = Self;
    /// 32 requests and 64 answers, none longer than a kilobyte.
    const HEAP_MAX: usize = 96 * 1024;

    fn build(seed: u64, _: Side) -> Self {
        Host {
            client: Client::new(Rng::from_u64(seed).fork("stun"), ClientConfig::default()),
            server: Server::new(ServerConfig::default()),
            asked: None,
            answered: false,
        }
    }
    fn path(side: Side, n: u8) -> FourTuple {
        super::flow(side, n)
    }
    fn arrives(_: Side, path: FourTuple) -> Option<FourTuple> {
        super::arrives(path)
    }
    fn introduce(now: Instant, a: &mut Self, b: &mut Self) {
        a.asked = a.client.binding(now, super::flow(Side::A, 0)).ok();
        b.asked = b.client.binding(now, super::flow(Side::B, 0)).ok();
    }
    fn command(now: Instant, machine: &mut Self, side: Side, which: u16) {
        if which.is_multiple_of(5) {
            machine.asked.take().map(|id| machine.client.cancel(id));
        } else {
            machine.asked = machine.client.binding(now, super::flow(side, which as u8 % 4)).ok();
        }
    }
    fn has_arrived(machine: &Self) -> bool {
        machine.answered
    }
    fn counted(machine: &Self) -> u64 {
        machine.client.counters().total() + machine.server.counters().total()
    }
}

#[test]
fn the_stun_client_and_server_keep_the_laws() {
    super::assert_lawful::<Host>();
}
