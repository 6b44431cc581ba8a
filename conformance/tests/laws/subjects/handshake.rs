use gimlet_conformance::laws::{Side, Subject};
use gimlet_handshake::{Capabilities, Handshake, Hello, Role};
use gimlet_machine::{Counters as _, Input, Instant, Machine as _};

struct Hellos;

impl Subject for Hellos {
    type Machine = Handshake;
    /// Two hellos and an agent string.
    const HEAP_MAX: usize = 4 * 1024;

    fn build(seed: u64, side: Side) -> Handshake {
        let role = if side == Side::A { Role::Peer } else { Role::Public };
        let hello = Hello::new(role, Capabilities::all(), &format!("subject/{}", seed % 100));
        Handshake::new(Instant::ZERO, hello.expect("a short name"))
    }
    fn path(_: Side, _: u8) {}
    fn arrives(_: Side, _path: ()) -> Option<()> {
        Some(())
    }
    fn introduce(_: Instant, _: &mut Handshake, _: &mut Handshake) {}
    /// It has no commands. Its owner may hand it anything that the stream brought.
    fn command(now: Instant, machine: &mut Handshake, _: Side, which: u16) {
        machine.handle_input(now, Input::new((), &mut which.to_be_bytes()));
    }
    fn has_arrived(machine: &Handshake) -> bool {
        machine.agreed().is_some()
    }
    fn counted(machine: &Handshake) -> u64 {
        machine.counters().total()
    }
}

#[test]
fn the_handshake_keeps_the_laws() {
    super::assert_lawful::<Hellos>();
}
