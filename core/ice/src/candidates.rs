//! The candidates of both sides, as the agent keeps them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use gimlet_machine::{Arena, Id, Path};

use crate::candidate::stream_of;
use crate::mdns::Names;
use crate::pair::Ends;
use crate::preference::deal;
use crate::{Candidate, CandidateError, CandidateKind, Foundation, Limits, MdnsName, candidate_priority};

/// One of our candidates.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) candidate: Candidate,
    /// Equal for equal foundations.
    pub(crate) foundation: u16,
    /// Whether it stands in pairs for its base: the preferred one of those that share it, which makes
    /// the others redundant (RFC 8445 §6.1.2.4).
    stands: bool,
    /// A socket of a punch that the peer has hit. Nobody is told of it.
    pub(crate) punched: bool,
}

impl Local {
    /// Whether the peer told us of it by its answers.
    fn is_learned(&self) -> bool {
        self.candidate.kind == CandidateKind::PeerReflexive
    }

    /// Whether the peer is to be told of it.
    pub(crate) fn is_signalled(&self) -> bool {
        !self.is_learned() && !self.punched
    }
}

/// One of the peer's candidates.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) candidate: Candidate,
    /// Equal for equal foundations.
    pub(crate) foundation: u16,
    /// Learned from a check and not signalled: paired only with the base that heard it.
    pub(crate) learned: bool,
    /// Grows with every candidate: tells the oldest.
    born: u32,
}

/// Which sides have declared the end of their candidates (RFC 8838 §13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Local,
    Remote,
    Both,
}

/// All candidates of one agent.
#[derive(Debug)]
pub(crate) struct Candidates {
    locals: Arena<Local>,
    remotes: Arena<Remote>,
    /// The peer's candidates that have no address yet.
    pub(crate) names: Names,
    end: End,
    foundations: u16,
    born: u32,
}

/// Makes room for a few more: candidates are few and large, and doubling would waste most of it.
fn grow<T>(arena: &mut Arena<T>) {
    const STEP: usize = 2;
    if arena.len() >= arena.capacity() {
        arena.reserve_exact(STEP);
    }
}

/// What became of a remote candidate that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is new.
    New(Id<Remote>),
    /// It was known as peer-reflexive and is now known as what was signalled (RFC 8445 §7.3.1.3).
    TookOver(Id<Remote>),
    /// The address was known.
    Known,
}

impl Candidates {
    pub(crate) fn new() -> Self {
        Self {
            locals: Arena::new(),
            remotes: Arena::new(),
            names: Names::default(),
            end: End::Open,
            foundations: 0,
            born: 0,
        }
    }

    pub(crate) fn end_local(&mut self) {
        self.end = match self.end {
            End::Open | End::Local => End::Local,
            End::Remote | End::Both => End::Both,
        };
    }

    pub(crate) fn end_remote(&mut self) {
        self.end = match self.end {
            End::Open | End::Remote => End::Remote,
            End::Local | End::Both => End::Both,
        };
    }

    pub(crate) fn reopen(&mut self) {
        self.end = End::Open;
    }

    pub(crate) fn reopen_local(&mut self) {
        self.end = match self.end {
            End::Open | End::Local => End::Open,
            End::Remote | End::Both => End::Remote,
        };
    }

    pub(crate) fn reopen_remote(&mut self) {
        self.end = match self.end {
            End::Open | End::Remote => End::Open,
            End::Local | End::Both => End::Local,
        };
    }

    pub(crate) fn is_local_ended(&self) -> bool {
        matches!(self.end, End::Local | End::Both)
    }

    pub(crate) fn is_remote_ended(&self) -> bool {
        matches!(self.end, End::Remote | End::Both)
    }

    /// Takes a local candidate; `None` if address and base are known already.
    pub(crate) fn add_local(
        &mut self,
        mut candidate: Candidate,
        limits: &Limits,
    ) -> Result<Option<Id<Local>>, CandidateError> {
        let known = |local: &Local| {
            local.candidate.address == candidate.address && local.candidate.shares_base_with(&candidate)
        };
        let twin =
            self.locals.iter().find(|(_, local)| known(local)).map(|(id, local)| (id, local.is_learned()));
        match twin {
            Some((_, false)) => return Ok(None),
            // What the peer told us of is as good as what a server tells us, but only the latter is signalled.
            Some((id, true)) => _ = self.locals.remove(id),
            None => {}
        }
        let kind = candidate.kind;
        let alike = |local: &Local| local.candidate.kind == kind && !local.punched;
        let same_kind = self.locals.iter().filter(|(_, local)| alike(local)).count();
        if same_kind >= limits.local_candidates_max {
            return Err(CandidateError::TooMany);
        }
        self.make_priority_unique(&mut candidate);
        let foundation = self.local_foundation(candidate.foundation);
        let stands = self.take_over_base(&candidate);
        grow(&mut self.locals);
        Ok(Some(self.locals.insert(Local { candidate, foundation, stands, punched: false })))
    }

    /// Whether `newcomer` stands for its base from here on; whoever did before steps back.
    fn take_over_base(&mut self, newcomer: &Candidate) -> bool {
        let mut sharing = self
            .locals
            .iter_mut()
            .filter(|(_, local)| local.stands && local.candidate.shares_base_with(newcomer));
        let Some((_, former)) = sharing.next() else { return true };
        former.stands = former.candidate.priority >= newcomer.priority;
        !former.stands
    }

    /// RFC 8445 §5.1.2.1: local preferences are unique within a type. The owner's is lowered if it is taken;
    /// where the owner has none, one is dealt (RFC 8421 §4). A reflexive candidate first asks for its base's, so
    /// that both rank alike.
    fn make_priority_unique(&self, candidate: &mut Candidate) {
        let base = self.locals.iter().map(|(_, local)| &local.candidate);
        let mut base =
            base.filter(|base| base.kind == CandidateKind::Host && base.shares_base_with(candidate));
        if let (CandidateKind::ServerReflexive, Some(base)) = (candidate.kind, base.next()) {
            let preference = base.local_preference().min(candidate.local_preference());
            *candidate = candidate.clone().with_local_preference(preference);
        }
        if candidate.local_preference() == u16::MAX {
            let alike = self.locals.iter().map(|(_, local)| &local.candidate);
            let alike = alike.filter(|alike| alike.kind == candidate.kind);
            let alike: Vec<_> = alike.map(|alike| (alike.base_ip(), alike.local_preference())).collect();
            let preference = deal(candidate.base_ip(), &alike);
            *candidate = candidate.clone().with_local_preference(preference);
        }
        let taken = |priority| self.locals.iter().any(|(_, local)| local.candidate.priority == priority);
        let mut preference = candidate.local_preference();
        while preference > 0 && taken(candidate_priority(candidate.kind, preference, candidate.component)) {
            preference -= 1;
        }
        if preference != candidate.local_preference() {
            *candidate = candidate.clone().with_local_preference(preference);
        }
    }

    /// Takes a signalled candidate.
    pub(crate) fn add_remote(
        &mut self,
        candidate: Candidate,
        limits: &Limits,
    ) -> Result<Added, CandidateError> {
        let foundation = self.remote_foundation(candidate.foundation);
        if let Some(id) = self.remote_at(candidate.address, candidate.transport.is_tcp())
            && let Some(remote) = self.remotes.get_mut(id)
        {
            if !remote.learned {
                return Ok(Added::Known);
            }
            remote.candidate = candidate;
            remote.foundation = foundation;
            remote.learned = false;
            return Ok(Added::TookOver(id));
        }
        let alike = |remote: &Remote| !remote.learned && remote.candidate.kind == candidate.kind;
        if self.remotes.iter().filter(|(_, remote)| alike(remote)).count() >= limits.remote_candidates_max {
            return Err(CandidateError::TooMany);
        }
        Ok(Added::New(self.insert_remote(candidate, foundation, false)))
    }

    /// Learns the peer's candidate from a check of its (RFC 8445 §7.3.1.3): the priority is the check's, the
    /// foundation is unlike all others.
    pub(crate) fn add_peer_reflexive(
        &mut self,
        address: SocketAddr,
        is_tcp: bool,
        priority: u32,
    ) -> Id<Remote> {
        let is_known =
            |foundation| self.remotes.iter().any(|(_, remote)| remote.candidate.foundation == foundation);
        let mut number = u64::from(self.born);
        while is_known(Foundation::from_number(number)) {
            number += 1;
        }
        let candidate = Candidate::peer_reflexive(address, is_tcp, priority, Foundation::from_number(number));
        let foundation = self.fresh_foundation();
        self.insert_remote(candidate, foundation, true)
    }

    fn insert_remote(&mut self, candidate: Candidate, foundation: u16, learned: bool) -> Id<Remote> {
        self.born = self.born.wrapping_add(1);
        grow(&mut self.remotes);
        self.remotes.insert(Remote { candidate, foundation, learned, born: self.born })
    }

    pub(crate) fn remove_remote(&mut self, id: Id<Remote>) {
        self.remotes.remove(id);
    }

    /// The oldest learned candidate that `may_go`.
    pub(crate) fn oldest_learned(&self, mut may_go: impl FnMut(Id<Remote>) -> bool) -> Option<Id<Remote>> {
        let learned = self.remotes.iter().filter(|(_, remote)| remote.learned);
        learned.filter(|(id, _)| may_go(*id)).min_by_key(|(_, remote)| remote.born).map(|(id, _)| id)
    }

    pub(crate) fn count_learned(&self) -> usize {
        self.remotes.iter().filter(|(_, remote)| remote.learned).count()
    }

    /// Removes the local candidate at `address`, with everything that was sent through it if it is a
    /// socket's. Returns whose pairs are void, each with who stands for the same base now.
    pub(crate) fn remove_local(&mut self, address: SocketAddr) -> Vec<(Id<Local>, Option<Id<Local>>)> {
        let at = |local: &Local| local.candidate.address == address && !local.is_learned();
        let named: Vec<_> = self.locals.iter().filter(|(_, local)| at(local)).map(|(id, _)| id).collect();
        let mut void = Vec::new();
        for id in named {
            let Some(local) = self.locals.get(id) else { continue };
            let (is_socket, candidate) =
                (local.candidate.kind == CandidateKind::Host, local.candidate.clone());
            let shares = |other: &Local| other.candidate.shares_base_with(&candidate);
            let goes = |other: Id<Local>, local: &Local| other == id || (is_socket && shares(local));
            let going: Vec<_> =
                self.locals.iter().filter(|(other, local)| goes(*other, local)).map(|(id, _)| id).collect();
            let mut stood = None;
            for id in going {
                stood = stood.or(self.locals.remove(id).is_some_and(|local| local.stands).then_some(id));
            }
            let Some(stood) = stood else { continue };
            let heirs = self.locals.iter().filter(|(_, local)| shares(local) && !local.is_learned());
            let heir = heirs.max_by_key(|(_, local)| local.candidate.priority).map(|(id, _)| id);
            if let Some(heir) = heir.and_then(|heir| self.locals.get_mut(heir)) {
                heir.stands = true;
            }
            void.push((stood, heir));
        }
        void
    }

    /// A new generation: its candidates are still to be declared, and the peer's are unknown but for
    /// `keep`, over which data flows. Whoever signals that address again takes it over.
    pub(crate) fn restart(&mut self, keep: Option<Id<Remote>>) {
        self.end = End::Open;
        self.names.clear();
        let gone: Box<[_]> = self.remotes.iter().map(|(id, _)| id).filter(|id| Some(*id) != keep).collect();
        for id in gone {
            self.remotes.remove(id);
        }
        if let Some(kept) = keep.and_then(|id| self.remotes.get_mut(id)) {
            kept.learned = true;
            kept.candidate.ufrag = None;
        }
    }

    /// Forgets signalled candidates that name another fragment than `ufrag`; returns them.
    pub(crate) fn remove_other_generations(&mut self, ufrag: &str) -> Box<[Id<Remote>]> {
        self.names.remove_other_generations(ufrag);
        let other = |remote: &Remote| remote.candidate.ufrag.as_deref().is_some_and(|named| named != ufrag);
        let stale: Box<[_]> =
            self.remotes.iter().filter(|(_, remote)| other(remote)).map(|(id, _)| id).collect();
        for id in &stale {
            self.remotes.remove(*id);
        }
        stale
    }

    /// Records what the peer sees of us as a local peer-reflexive candidate (RFC 8445 §7.2.5.3.1). It is
    /// never paired: its base is. Returns whether it is news; beyond the limit it is not recorded.
    pub(crate) fn add_local_peer_reflexive(
        &mut self,
        mapped: SocketAddr,
        base: Id<Local>,
        limits: &Limits,
    ) -> bool {
        let Some(base) = self.locals.get(base).map(|local| local.candidate.clone()) else { return false };
        let known = self.locals.iter().any(|(_, local)| local.candidate.address == mapped);
        let kind = CandidateKind::PeerReflexive;
        let same_kind = self.locals.iter().filter(|(_, local)| local.candidate.kind == kind).count();
        if known || same_kind >= limits.peer_reflexive_max {
            return false;
        }
        let candidate = base.seen_as(mapped);
        let foundation = self.local_foundation(candidate.foundation);
        grow(&mut self.locals);
        self.locals.insert(Local { candidate, foundation, stands: false, punched: false });
        true
    }

    /// Takes the socket `socket` of a punch, which is nobody's base, as a base of pairs.
    pub(crate) fn add_punched(&mut self, socket: SocketAddr, component: u16) -> Id<Local> {
        let mut candidate = Candidate::host(socket).with_component(component);
        self.make_priority_unique(&mut candidate);
        let foundation = self.fresh_foundation();
        grow(&mut self.locals);
        self.locals.insert(Local { candidate, foundation, stands: true, punched: true })
    }

    pub(crate) fn count_punched(&self) -> usize {
        self.locals.iter().filter(|(_, local)| local.punched).count()
    }

    /// The socket of `id`, if it belongs to a punch.
    pub(crate) fn punched_socket(&self, id: Id<Local>) -> Option<SocketAddr> {
        self.locals.get(id).filter(|local| local.punched).map(|local| local.candidate.address)
    }

    /// Removes the sockets of a punch but for `keep`, with all that was seen of them. Returns them.
    pub(crate) fn remove_punched(&mut self, keep: Option<Id<Local>>) -> Vec<Id<Local>> {
        let gone = self.locals.iter().filter(|(id, local)| local.punched && Some(*id) != keep);
        let gone: Vec<_> = gone.map(|(id, local)| (id, local.candidate.clone())).collect();
        for (_, candidate) in &gone {
            let shares = self.locals.iter().filter(|(_, local)| local.candidate.shares_base_with(candidate));
            let shares: Vec<_> = shares.map(|(id, _)| id).collect();
            for id in shares {
                self.locals.remove(id);
            }
        }
        gone.into_iter().map(|(id, _)| id).collect()
    }

    /// The name that stands for `ip`.
    pub(crate) fn name_of(&self, ip: IpAddr) -> Option<MdnsName> {
        let mut of_ip = self.locals.iter().filter(|(_, local)| local.candidate.address.ip() == ip);
        of_ip.find_map(|(_, local)| local.candidate.mdns_name().copied())
    }

    pub(crate) fn count_named(&self, name: &MdnsName) -> usize {
        self.locals.iter().filter(|(_, local)| local.candidate.mdns_name() == Some(name)).count()
    }

    /// Whether any of our addresses is to be hidden.
    pub(crate) fn is_hiding(&self) -> bool {
        self.locals.iter().any(|(_, local)| local.candidate.mdns_name().is_some())
    }

    /// Our candidates, and their foundations, that tell more than they need.
    pub(crate) fn unconcealed(&self) -> Box<[(Id<Local>, Foundation)]> {
        let revealing = self.locals.iter().filter(|(_, local)| local.candidate.is_revealing());
        revealing.map(|(id, local)| (id, local.candidate.foundation)).collect()
    }

    /// Shows `id` with this foundation. Its number, which pairs are made of, stays.
    pub(crate) fn conceal(&mut self, id: Id<Local>, foundation: Foundation) {
        if let Some(local) = self.locals.get_mut(id) {
            local.candidate = local.candidate.clone().concealed(foundation);
        }
    }

    /// Whether the peer's candidate is known by its name.
    pub(crate) fn has_namesake_of(&self, candidate: &Candidate) -> bool {
        self.remotes.iter().any(|(_, remote)| remote.candidate.is_namesake_of(candidate))
    }

    fn local_foundation(&mut self, foundation: Foundation) -> u16 {
        let same = self.locals.iter().find(|(_, local)| local.candidate.foundation == foundation);
        let same = same.map(|(_, local)| local.foundation);
        same.unwrap_or_else(|| self.fresh_foundation())
    }

    fn remote_foundation(&mut self, foundation: Foundation) -> u16 {
        let same = self.remotes.iter().find(|(_, remote)| remote.candidate.foundation == foundation);
        let same = same.map(|(_, remote)| remote.foundation);
        same.unwrap_or_else(|| self.fresh_foundation())
    }

    /// A number that no foundation has at the moment.
    fn fresh_foundation(&mut self) -> u16 {
        loop {
            self.foundations = self.foundations.wrapping_add(1);
            let taken = self.locals.iter().any(|(_, local)| local.foundation == self.foundations)
                || self.remotes.iter().any(|(_, remote)| remote.foundation == self.foundations);
            if !taken {
                return self.foundations;
            }
        }
    }

    pub(crate) fn ends(&self, local: Id<Local>, remote: Id<Remote>) -> Option<Ends<'_>> {
        Some(Ends { local: (local, self.locals.get(local)?), remote: (remote, self.remotes.get(remote)?) })
    }

    pub(crate) fn path(&self, local: Id<Local>, remote: Id<Remote>) -> Option<Path> {
        Some(self.locals.get(local)?.candidate.path_to(self.remotes.get(remote)?.candidate.address))
    }

    /// The candidate that stands in pairs for the base of `path`.
    pub(crate) fn base_of(&self, path: &Path) -> Option<Id<Local>> {
        self.representatives().find(|(_, local)| local.candidate.is_base_of(path)).map(|(id, _)| id)
    }

    /// The candidates that stand in pairs for our bases.
    pub(crate) fn representatives(&self) -> impl Iterator<Item = (Id<Local>, &Local)> {
        self.locals.iter().filter(|(_, local)| local.stands)
    }

    /// Whether `id` stands for its base.
    pub(crate) fn is_representative(&self, id: Id<Local>) -> bool {
        self.locals.get(id).is_some_and(|local| local.stands)
    }

    /// The peer's candidate at `address`: one address may be a socket's and a listener's.
    pub(crate) fn remote_at(&self, address: SocketAddr, is_tcp: bool) -> Option<Id<Remote>> {
        let is_there = |remote: &Remote| {
            remote.candidate.address == address && remote.candidate.transport.is_tcp() == is_tcp
        };
        self.remotes.iter().find(|(_, remote)| is_there(remote)).map(|(id, _)| id)
    }

    /// The peer's candidate at the far end of `path`.
    pub(crate) fn remote_of(&self, path: &Path) -> Option<Id<Remote>> {
        self.remote_at(path.peer_address(), stream_of(path).is_some())
    }

    pub(crate) fn local(&self, id: Id<Local>) -> Option<&Local> {
        self.locals.get(id)
    }

    pub(crate) fn remote(&self, id: Id<Remote>) -> Option<&Remote> {
        self.remotes.get(id)
    }

    pub(crate) fn locals(&self) -> impl Iterator<Item = (Id<Local>, &Local)> {
        self.locals.iter()
    }

    pub(crate) fn remotes(&self) -> impl Iterator<Item = (Id<Remote>, &Remote)> {
        self.remotes.iter()
    }
}
