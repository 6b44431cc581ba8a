//! What the NAT in front of us does, found out when somebody needs to know.
//!
//! Fresh sockets ask one server what they look like, one after the other: that shows how ports are dealt out. Our
//! usual socket asks the same server and its *witness*, another port of it, and what other servers have seen lately is
//! compared too: that shows whether the outside port depends on the destination.
//!
//! What can be known this way: two views that differ prove a *hard* NAT, whoever had them. Two that agree, seen from
//! one address, prove only that ports of the server do not matter; that addresses do not is taken for granted until
//! somebody elsewhere sees another port, be it another server or a peer whose check tells (RFC 8445 §7.2.5.3.1), or
//! until nothing works although both sides look easy (`suppose.rs`). With one view and no witness nothing is known,
//! unless it shows that there is no NAT.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_ice::{CandidateKind, OUTSIDE_MAX, Profile};
use gimlet_machine::{Answer, FourTuple, Id, Instant, Path, PeerId, Queue, SocketId};
use gimlet_stun::{ClientEvent, PortModel, RequestId};

use crate::event::{Progress, PunchProgress};
use crate::gather::can_reach;
use crate::node::Node;
use crate::peer::{Ice, Link};
use crate::punch::View;
use crate::requests::Owner;
use crate::timer::Timer;
use crate::witness::Booths;

/// Fresh sockets in one round of samples. Six tell a NAT that scatters; two more may get lost.
const SAMPLES: usize = 8;

/// Rounds of samples: what may mean two things is asked again, from other sockets.
const ROUNDS_MAX: u8 = 3;

/// So many samples without a rule behind them are asked again; with fewer, packets get lost, and would again.
const SAMPLES_WORTH_MORE: usize = 6;

/// How long all of it may take: two retransmissions of STUN fit (RFC 8489 §6.2.1). Once more if the answers got lost
/// without which nothing is known.
const PATIENCE: Duration = Duration::from_millis(1_600);

/// A younger profile is used as it is: several peers may ask at once.
const FRESH: Duration = Duration::from_secs(3);

/// How often we ask in a minute, whoever wants to know. Beyond, an older profile has to do.
pub const SAMPLINGS_PER_MINUTE_MAX: usize = 10;

/// What a server saw this long ago is compared with what another one sees.
const VIEW_LIFETIME: Duration = Duration::from_secs(60);

/// How long it counts that somebody saw another port than a server did.
const PROOF_LIFETIME: Duration = Duration::from_secs(600);

/// What is known of the NAT in front of us, what is being asked, and what we do for others who ask.
#[derive(Debug)]
pub(crate) struct Nat {
    known: Option<Known>,
    sampling: Option<Sampling>,
    /// When we began to ask, the last times.
    began: Queue<Instant>,
    /// Further ports at which public nodes answer STUN.
    witnesses: BTreeMap<PeerId, u16>,
    /// What somebody saw of our sockets that others had not, and when.
    proofs: BTreeMap<SocketAddr, (SocketAddr, Instant)>,
    pub(crate) booths: Booths,
}

/// A profile, the socket that it is about, and how old it is.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    at: Instant,
    pub(crate) base: SocketAddr,
    pub(crate) view: View,
}

/// From where, and whom, we ask.
#[derive(Clone, Copy, Debug)]
struct Observer {
    base: SocketAddr,
    server: SocketAddr,
    witness: Option<u16>,
}

/// One question to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// What our usual socket looks like.
    Base,
    /// The same, at the server's other port.
    Witness,
    /// What the nth fresh socket looks like.
    Sample(usize),
}

/// Asking.
#[derive(Debug)]
struct Sampling {
    observer: Observer,
    round: u8,
    /// The fresh sockets in the order in which they ask; `None`: not bound yet.
    sockets: Vec<(SocketId, Option<SocketAddr>)>,
    asked: BTreeMap<RequestId, Question>,
    base_seen: Option<SocketAddr>,
    witness_seen: Option<SocketAddr>,
    /// Own port and outside address, by the place in the order.
    samples: BTreeMap<usize, (u16, SocketAddr)>,
    /// Outside addresses that earlier rounds showed.
    outside: Vec<IpAddr>,
    /// What must not stay unknown was asked a second time.
    insisted: bool,
}

impl Sampling {
    fn new(observer: Observer) -> Self {
        Self {
            observer,
            round: 0,
            sockets: Vec::new(),
            asked: BTreeMap::new(),
            base_seen: None,
            witness_seen: None,
            samples: BTreeMap::new(),
            outside: Vec::new(),
            insisted: false,
        }
    }

    /// Whether nothing is awaited in this round.
    fn is_settled(&self) -> bool {
        self.asked.is_empty() && self.sockets.iter().all(|(_, local)| local.is_some())
    }

    fn ports(&self) -> Vec<(u16, u16)> {
        self.samples.values().map(|(local, mapped)| (*local, mapped.port())).collect()
    }

    /// Whether other sockets may show what these did not.
    fn is_worth_another_round(&self) -> bool {
        let ports = self.ports();
        let translated = self.base_seen != Some(self.observer.base);
        let unclear = ports.len() >= SAMPLES_WORTH_MORE && PortModel::of_samples(&ports).is_none();
        self.round < ROUNDS_MAX && translated && unclear
    }
}

impl Nat {
    pub(crate) fn new() -> Self {
        Self {
            known: None,
            sampling: None,
            began: Queue::new(SAMPLINGS_PER_MINUTE_MAX),
            witnesses: BTreeMap::new(),
            proofs: BTreeMap::new(),
            booths: Booths::default(),
        }
    }

    /// What was found out last.
    pub(crate) fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// The link to a public node is gone.
    pub(crate) fn forget_witness(&mut self, peer: PeerId) {
        self.witnesses.remove(&peer);
    }

    /// Whether we may ask; notes that we do.
    fn may_ask(&mut self, now: Instant) -> bool {
        let minute = Duration::from_secs(60);
        while self.began.iter().next().is_some_and(|at| now.since(*at) >= minute) {
            self.began.pop();
        }
        self.began.push(now).is_ok()
    }
}

impl Node {
    /// Finds out what our NAT does; [`Node::on_profile`] follows, at once if it is known.
    pub(crate) fn learn_nat(&mut self, now: Instant) {
        if self.children.nat.sampling.is_some() {
            return;
        }
        let local = |known: &Known| self.config.local_addresses.contains(&known.base);
        self.children.nat.known = self.children.nat.known.take().filter(local);
        let fresh = self.children.nat.known.as_ref().is_some_and(|known| now.since(known.at) < FRESH);
        if fresh {
            return self.on_profile(now);
        }
        let observer = self.observer();
        let Some(observer) = observer.filter(|_| self.children.nat.may_ask(now)) else {
            return self.on_profile(now);
        };
        let mut sampling = Sampling::new(observer);
        // Ahead of the samples: the last of them is to be the newest mapping.
        self.ask_of_base(now, &mut sampling);
        self.timers.set(Timer::Sample, now + PATIENCE);
        self.begin_round(now, sampling);
    }

    /// Asks what our usual socket looks like, as far as that is not known.
    fn ask_of_base(&mut self, now: Instant, sampling: &mut Sampling) {
        let Observer { base, server, witness } = sampling.observer;
        let witness = witness.filter(|_| sampling.witness_seen.is_none());
        let witness = witness.map(|port| (Question::Witness, SocketAddr::new(server.ip(), port)));
        let server = sampling.base_seen.is_none().then_some((Question::Base, server));
        for (question, server) in server.into_iter().chain(witness) {
            if let Ok(id) = self.children.stun.binding(now, FourTuple::new(base, server)) {
                sampling.asked.insert(id, question);
            }
        }
    }

    /// Time is up. Without an answer that got lost nothing would be known: that is asked for once more.
    pub(crate) fn on_sample_timer(&mut self, now: Instant) {
        let Some(mut sampling) = self.children.nat.sampling.take() else { return };
        let Observer { witness, base, .. } = sampling.observer;
        let shown = sampling.base_seen == Some(base)
            || (sampling.base_seen.is_some() && (witness.is_none() || sampling.witness_seen.is_some()));
        if shown || sampling.insisted {
            self.children.nat.sampling = Some(sampling);
            return self.end_sampling(now);
        }
        sampling.insisted = true;
        let of_base = |question: &Question| matches!(question, Question::Base | Question::Witness);
        let stun = &mut self.children.stun;
        sampling.asked.retain(|id, question| {
            let again = of_base(question);
            if again {
                stun.cancel(*id);
            }
            !again
        });
        self.ask_of_base(now, &mut sampling);
        self.children.nat.sampling = Some(sampling);
        self.timers.set(Timer::Sample, now + PATIENCE);
    }

    /// Who can tell us what our sockets look like: a public node that we are connected to, with a witness if
    /// possible, or a configured server. IPv4 first: that is where NATs are.
    fn observer(&self) -> Option<Observer> {
        let links = self.peers.iter().filter_map(|(peer, entry)| {
            let link = entry.link.as_ref().filter(|link| link.introduces())?;
            let Path::Direct(flow) = self.children.quic.path(link.connection)? else { return None };
            let witness = self.children.nat.witnesses.get(peer).copied();
            Some(Observer { base: flow.local, server: flow.remote, witness })
        });
        let configured = self.config.stun_servers.iter().filter_map(|server| {
            let mut locals = self.config.local_addresses.iter().copied();
            let base = locals.find(|local| can_reach(*local, *server))?;
            Some(Observer { base, server: *server, witness: None })
        });
        let usable =
            |it: &Observer| self.config.local_addresses.contains(&it.base) && !it.base.ip().is_unspecified();
        let all = links.chain(configured).filter(usable);
        all.min_by_key(|it| (it.base.is_ipv6(), it.witness.is_none(), it.server))
    }

    fn begin_round(&mut self, now: Instant, mut sampling: Sampling) {
        sampling.round += 1;
        let any = SocketAddr::new(sampling.observer.base.ip(), 0);
        let bound = (0..SAMPLES).filter_map(|_| self.out.requests.bind(Owner::Sample, any));
        sampling.sockets = bound.map(|id| (id, None)).collect();
        let settled = sampling.is_settled();
        self.children.nat.sampling = Some(sampling);
        if settled {
            self.end_round(now);
        }
    }

    /// What became of a socket for a sample.
    pub(crate) fn on_sample_answer(&mut self, now: Instant, answer: &Answer<'_>) {
        let Some(sampling) = &mut self.children.nat.sampling else { return };
        match *answer {
            Answer::Bound { id, local } => {
                let socket = sampling.sockets.iter_mut().find(|(socket, _)| *socket == id);
                if let Some((_, bound)) = socket {
                    *bound = Some(local);
                }
            }
            Answer::Closed { id, .. } => sampling.sockets.retain(|(socket, _)| *socket != id),
            Answer::Connected { .. } | Answer::Received { .. } | Answer::Written { .. } => return,
        }
        if sampling.sockets.iter().any(|(_, local)| local.is_none()) {
            return;
        }
        let server = sampling.observer.server;
        for (nth, local) in sampling.sockets.iter().enumerate() {
            let Some(local) = local.1.filter(|local| can_reach(*local, server)) else { continue };
            if sampling.asked.values().any(|asked| *asked == Question::Sample(nth))
                || sampling.samples.contains_key(&nth)
            {
                continue;
            }
            if let Ok(id) = self.children.stun.binding(now, FourTuple::new(local, server)) {
                sampling.asked.insert(id, Question::Sample(nth));
            }
        }
        if sampling.is_settled() {
            self.end_round(now);
        }
    }

    /// Takes what a server said if we asked it here; says whether we did.
    pub(crate) fn on_sampled(&mut self, now: Instant, event: &ClientEvent) -> bool {
        let Some(sampling) = &mut self.children.nat.sampling else { return false };
        let (id, seen) = match *event {
            ClientEvent::Answered { id, path, mapped, .. } => (id, Some((path.local, mapped))),
            ClientEvent::Failed { id, .. } => (id, None),
        };
        let Some(question) = sampling.asked.remove(&id) else { return false };
        if let Some((local, mapped)) = seen {
            match question {
                Question::Base => sampling.base_seen = Some(mapped),
                Question::Witness => sampling.witness_seen = Some(mapped),
                Question::Sample(nth) => _ = sampling.samples.insert(nth, (local.port(), mapped)),
            }
        }
        if sampling.is_settled() {
            self.end_round(now);
        }
        true
    }

    fn end_round(&mut self, now: Instant) {
        let Some(mut sampling) = self.children.nat.sampling.take() else { return };
        if sampling.is_worth_another_round() {
            self.close_samples(&mut sampling);
            sampling.outside.extend(sampling.samples.values().map(|(_, mapped)| mapped.ip()));
            sampling.samples.clear();
            return self.begin_round(now, sampling);
        }
        self.children.nat.sampling = Some(sampling);
        self.end_sampling(now);
    }

    /// The end, with what is known by now.
    pub(crate) fn end_sampling(&mut self, now: Instant) {
        self.timers.clear(Timer::Sample);
        let Some(mut sampling) = self.children.nat.sampling.take() else { return };
        self.close_samples(&mut sampling);
        let base = sampling.observer.base;
        let (view, proof) = self.view_of(now, &sampling);
        let profile = &view.profile;
        self.progress(
            self.peer_id(),
            Progress::Punch(PunchProgress::Nat {
                dependent: profile.dependent,
                port_model: profile.port_model,
                outside: profile.outside.first().copied(),
            }),
        );
        if view.profile.dependent == Some(true)
            && let Some(proof) = proof
        {
            // Who showed it may have nothing to say the next time.
            self.children.nat.proofs.insert(base, (proof, now));
        }
        self.children.nat.known = Some(Known { at: now, base, view });
        self.on_profile(now);
    }

    fn close_samples(&mut self, sampling: &mut Sampling) {
        for (id, _) in sampling.sockets.drain(..) {
            self.out.requests.close(id);
        }
        for (id, _) in core::mem::take(&mut sampling.asked) {
            self.children.stun.cancel(id);
        }
    }

    /// Nobody needs to know any more: the node has closed.
    pub(crate) fn stop_sampling(&mut self) {
        self.timers.clear(Timer::Sample);
        if let Some(mut sampling) = self.children.nat.sampling.take() {
            self.close_samples(&mut sampling);
        }
    }

    /// What is known, and the view that proved that the NAT is hard.
    fn view_of(&self, now: Instant, sampling: &Sampling) -> (View, Option<SocketAddr>) {
        let Observer { base, server, .. } = sampling.observer;
        let views = self.children.gathering.views(now, base, VIEW_LIFETIME);
        let (here, elsewhere): (Vec<_>, Vec<_>) = views.partition(|(other, _)| *other == server);
        // What got lost is what this server saw before.
        let seen = sampling.base_seen.or(here.first().map(|(_, mapped)| *mapped));
        let doubtful = seen != Some(base) && !elsewhere.iter().any(|(other, _)| other.ip() != server.ip());
        let elsewhere = elsewhere.into_iter().map(|(_, mapped)| mapped);
        let views: Vec<SocketAddr> = elsewhere.chain(sampling.witness_seen).collect();
        let proof = self.children.nat.proofs.get(&base);
        let proof = proof.filter(|(_, at)| now.since(*at) < PROOF_LIFETIME).map(|(mapped, _)| *mapped);
        let dependent = seen.and_then(|seen| {
            if seen == base {
                return Some(false);
            }
            let differs = views.iter().chain(&proof).any(|view| *view != seen);
            (differs || !views.is_empty()).then_some(differs)
        });
        let other = views.iter().copied().find(|view| Some(*view) != seen);
        let ports = sampling.ports();
        let all = seen.into_iter().chain(views).chain(sampling.samples.values().map(|(_, mapped)| *mapped));
        let mut outside: Vec<IpAddr> = Vec::new();
        for ip in all.map(|mapped| mapped.ip()).chain(sampling.outside.iter().copied()) {
            if ip.is_ipv4() == base.is_ipv4() && !outside.contains(&ip) && outside.len() < OUTSIDE_MAX {
                outside.push(ip);
            }
        }
        let profile = Profile {
            dependent,
            supposed: false,
            port_model: PortModel::of_samples(&ports),
            newest_port: ports.last().map(|(_, mapped)| *mapped),
            outside,
        };
        (View { profile, doubtful }, other)
    }

    /// A peer's answer showed another address of ours than any server had.
    pub(crate) fn on_seen_by_peer(&mut self, now: Instant, id: Id<Ice>, mapped: SocketAddr) {
        let Some(ice) = self.children.ice.get(id) else { return };
        let mut locals = ice.agent.local_candidates();
        let learnt = locals.find(|it| it.kind == CandidateKind::PeerReflexive && it.address == mapped);
        let base = learnt.and_then(|candidate| match candidate.path_to(mapped) {
            Path::Direct(flow) => Some(flow.local),
            Path::Relayed { .. } => None,
        });
        // Our usual sockets only: no more than there are of those.
        if let Some(base) = base.filter(|base| self.config.local_addresses.contains(base)) {
            self.children.nat.proofs.retain(|base, _| self.config.local_addresses.contains(base));
            self.children.nat.proofs.insert(base, (mapped, now));
        }
    }

    /// A public node has another port that answers STUN.
    pub(crate) fn on_witness(&mut self, from: PeerId, port: u16) {
        let introduces = self.peers.get(&from).and_then(|entry| entry.link.as_ref());
        if port != 0 && introduces.is_some_and(Link::introduces) {
            self.children.nat.witnesses.insert(from, port);
        } else {
            self.counters.unknown_control += 1;
        }
    }
}
