//! Faults strike.

use std::net::SocketAddr;

use gimlet_machine::{FourTuple, Instant, Machine};

use super::World;
use crate::agenda::Due;
use crate::fault::Fault;
use crate::host::{Alarm, HostId, Seat};
use crate::net::NatId;

impl<M: Machine<Path = FourTuple>> World<M> {
    /// Lets `fault` strike at `at`, or as soon as possible if that has passed.
    pub fn schedule(&mut self, at: Instant, fault: Fault) {
        let nth = u32::try_from(self.faults.len()).expect("fewer than 2^32 faults");
        self.faults.push(fault);
        self.agenda.plan(at.max(self.now), Due::Fault(nth));
    }

    /// Lets `fault` strike now.
    pub fn inject(&mut self, fault: &Fault) {
        self.trace.fault(self.now, fault);
        match fault {
            Fault::Cut { from, to } => self.cut(from, to),
            Fault::Partition(these, those) => {
                self.cut(these, those);
                self.cut(those, these);
            }
            Fault::Heal => self.net.heal(),
            Fault::Stop(host) => self.stop(*host),
            Fault::Start(host) => self.start(*host),
            Fault::Restart(host) => {
                self.stop(*host);
                self.start(*host);
            }
            Fault::RebootNat(nat) => {
                let gateway = &mut self.net.gateways[nat.index()];
                gateway.nat.reboot(self.now);
                gateway.tcp.reboot(self.now);
            }
            Fault::Firewall(nat, rules) => {
                let gateway = &mut self.net.gateways[nat.index()];
                gateway.nat.set_egress(rules.udp.clone());
                gateway.tcp.set_egress(rules.tcp.clone());
            }
            Fault::Relink(host, config) => {
                let host = self.host_mut(*host);
                host.uplink.reconfigure(*config);
                host.downlink.reconfigure(*config);
            }
            Fault::Move { host, sockets, behind } => self.move_host(*host, sockets, *behind),
        }
    }

    fn move_host(&mut self, id: HostId, sockets: &[SocketAddr], behind: Option<NatId>) {
        let host = &mut self.hosts[id.index()];
        assert!(!sockets.is_empty(), "host `{}` needs a socket", host.name);
        self.net.detach(id.0, host.sockets.given(), host.realms);
        host.sockets.give(sockets.to_vec());
        host.realms = self.net.attach(id.0, sockets, behind);
    }

    fn cut(&mut self, from: &[HostId], to: &[HostId]) {
        for from in from {
            for to in to {
                self.net.cut(from.0, to.0);
            }
        }
    }

    fn stop(&mut self, id: HostId) {
        let host = self.host_mut(id);
        (host.machine, host.alarm) = (None, Alarm::default());
        host.sockets.reset();
        host.connections.reset();
    }

    pub(super) fn start(&mut self, id: HostId) {
        let now = self.now;
        let rng = self.rng.fork_nth("host", u64::from(id.0));
        let host = self.host_mut(id);
        assert!(host.machine.is_none(), "host `{}` is already running", host.name);
        let Some(factory) = &mut host.factory else {
            panic!("host `{}` has no factory to start again from: add it with `add_host_with`", host.name);
        };
        let rng = rng.fork_nth("machine", host.incarnation);
        host.machine = Some(factory(Seat { host: id, now, incarnation: host.incarnation, rng }));
        host.incarnation += 1;
        self.drain(id);
    }
}
