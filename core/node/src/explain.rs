//! Why is it not direct? What is known about the way to a peer, gathered for people.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_ice::{Agent, Candidate, CandidateKind, PairReport, PairState};
use gimlet_machine::{Path, PeerId};

use crate::error::Error;
use crate::node::Node;
use crate::peer::Peer;

/// How a NAT maps, as far as it showed (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MappingSeen {
    /// Nobody has told us enough.
    Unknown,
    /// There is none: the address is public.
    NoNat,
    /// Whoever asked saw the same address.
    EndpointIndependent,
    /// Whoever asked saw another address.
    DestinationDependent,
}

impl fmt::Display for MappingSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MappingSeen::Unknown => "unknown mapping (fewer than two servers, or no answer)",
            MappingSeen::NoNat => "no NAT",
            MappingSeen::EndpointIndependent => "endpoint-independent mapping (a \"cone\" NAT)",
            MappingSeen::DestinationDependent => {
                "address or address and port-dependent mapping (a \"symmetric\" NAT)"
            }
        })
    }
}

/// Why data takes the way that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes straight.
    Direct,
    /// Nobody has tried.
    Untried,
    /// The two sides have no direct addresses that could be paired: of one family, for example.
    NothingToPair,
    /// Direct paths are being checked.
    Searching,
    /// Both NATs use another address for each destination, so neither side can name its own.
    HardNats,
    /// The NAT on our side does, and the other one lets nobody in whom it does not know.
    HardNatHere,
    /// The NAT on the peer's side does, and ours lets nobody in whom it does not know.
    HardNatThere,
    /// Direct paths were checked, and nothing came back: a firewall, or a NAT that filters, is in the way.
    Unanswered,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Direct => "the path is direct",
            Verdict::Untried => "no direct path has been tried",
            Verdict::NothingToPair => "the two sides have no direct addresses of one family",
            Verdict::Searching => "direct paths are being checked",
            Verdict::HardNats => "both NATs use another address for each destination",
            Verdict::HardNatHere => {
                "the NAT here uses another address for each destination, and the other one filters"
            }
            Verdict::HardNatThere => {
                "the peer's NAT uses another address for each destination, and the one here filters"
            }
            Verdict::Unanswered => "no direct check came back: a firewall or a NAT drops them",
        })
    }
}

/// What is known about the way to a peer: [`Node::explain`]. Its `Display` is a page for people.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// Whom it is about.
    pub peer: PeerId,
    /// Where data goes, if the peer is connected.
    pub path: Option<Path>,
    /// The smoothed round-trip time there.
    pub rtt: Option<Duration>,
    /// Why there is no connection, if there was one or was to be one.
    pub ended: Option<Error>,
    /// Why it is direct or not.
    pub verdict: Verdict,
    /// The NAT on our side.
    pub mapping_here: MappingSeen,
    /// The NAT on the peer's side.
    pub mapping_there: MappingSeen,
    /// Our sockets, who was asked, and what it saw.
    pub mapped: Vec<(SocketAddr, SocketAddr, SocketAddr)>,
    /// Our candidates.
    pub local: Vec<&'a Candidate>,
    /// The peer's, those included that its checks showed.
    pub remote: Vec<&'a Candidate>,
    /// What was tried, and what came of it; the best first.
    pub pairs: Vec<PairReport<'a>>,
}

impl Node {
    /// What was tried on the way to `peer`, and what came back: why the path is direct, or not. `None` if nothing
    /// is known of the peer.
    pub fn explain(&self, peer: PeerId) -> Option<Explanation<'_>> {
        let entry = self.peers.get(&peer)?;
        let agent = self.agent_towards(peer, entry);
        let path = self.path(peer);
        let local: Vec<&Candidate> = agent.into_iter().flat_map(Agent::local_candidates).collect();
        let remote: Vec<&Candidate> = agent.into_iter().flat_map(Agent::remote_candidates).collect();
        let pairs: Vec<PairReport<'_>> = agent.into_iter().flat_map(Agent::pairs).collect();
        let mapped: Vec<_> = self.reflexive_addresses().collect();
        let (mapping_here, mapping_there) = (mapping_of(&mapped), mapping_from(&remote, &pairs));
        let verdict = match path {
            Some(_) if !self.is_relayed(peer) => Verdict::Direct,
            Some(_) | None => judge(&pairs, agent.is_some(), mapping_here, mapping_there),
        };
        let (rtt, ended) = (path.and_then(|_| self.rtt(peer)), entry.ended.clone());
        Some(Explanation {
            peer,
            path,
            rtt,
            ended,
            verdict,
            mapping_here,
            mapping_there,
            mapped,
            local,
            remote,
            pairs,
        })
    }

    /// The agent that knows most: of the link, else of the attempt, else of the last one.
    fn agent_towards<'a>(&'a self, peer: PeerId, entry: &'a Peer) -> Option<&'a Agent> {
        let of_link = entry.link.as_ref().and_then(|link| self.children.ice.get(link.ice?));
        let living = || self.children.ice.iter().map(|(_, ice)| ice).find(|ice| ice.peer == peer);
        of_link.or_else(living).map(|ice| &ice.agent).or(entry.last_agent.as_deref())
    }
}

/// What the answers of several servers say about our NAT.
fn mapping_of(mapped: &[(SocketAddr, SocketAddr, SocketAddr)]) -> MappingSeen {
    let mut seen: BTreeMap<SocketAddr, (BTreeSet<SocketAddr>, usize)> = BTreeMap::new();
    for (local, _, address) in mapped {
        let (addresses, servers) = seen.entry(*local).or_default();
        addresses.insert(*address);
        *servers += 1;
    }
    let natted = seen.iter().any(|(local, (addresses, _))| addresses.iter().any(|it| it != local));
    if seen.values().any(|(addresses, _)| addresses.len() > 1) {
        MappingSeen::DestinationDependent
    } else if !natted && !seen.is_empty() {
        MappingSeen::NoNat
    } else if seen.values().any(|(_, servers)| *servers > 1) {
        MappingSeen::EndpointIndependent
    } else {
        MappingSeen::Unknown
    }
}

/// What the peer's candidates, and where its checks came from, say about its NAT.
fn mapping_from(remote: &[&Candidate], pairs: &[PairReport<'_>]) -> MappingSeen {
    let of_kind = |kind| remote.iter().filter(move |it| it.kind == kind);
    let signalled = || of_kind(CandidateKind::ServerReflexive);
    let other_port = |learned: &&&Candidate| {
        signalled().any(|it| it.address.ip() == learned.address.ip() && it.address != learned.address)
    };
    let works = |pair: &PairReport<'_>| {
        pair.state == PairState::Succeeded
            && pair.local.kind != CandidateKind::Relayed
            && pair.remote.kind == CandidateKind::ServerReflexive
    };
    if of_kind(CandidateKind::PeerReflexive).any(|it| other_port(&it)) {
        MappingSeen::DestinationDependent
    } else if pairs.iter().any(works) {
        MappingSeen::EndpointIndependent
    } else {
        MappingSeen::Unknown
    }
}

fn judge(pairs: &[PairReport<'_>], tried: bool, here: MappingSeen, there: MappingSeen) -> Verdict {
    use MappingSeen::DestinationDependent as Hard;
    let relayed = CandidateKind::Relayed;
    let direct = || pairs.iter().filter(|pair| pair.local.kind != relayed && pair.remote.kind != relayed);
    if !tried {
        Verdict::Untried
    } else if direct().next().is_none() {
        Verdict::NothingToPair
    } else if direct().any(|pair| pair.state.is_open() && pair.checks <= FIRST_CHECKS) {
        Verdict::Searching
    } else {
        match (here, there) {
            (Hard, Hard) => Verdict::HardNats,
            (Hard, _) => Verdict::HardNatHere,
            (_, Hard) => Verdict::HardNatThere,
            (_, _) => Verdict::Unanswered,
        }
    }
}

/// With so many checks sent and no answer, a pair is not likely to work: 1.5 seconds have passed.
const FIRST_CHECKS: u16 = 2;

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path, &self.ended) {
            (Some(path), _) => {
                write!(f, "to {}: {path}", self.peer.short())?;
                self.rtt.map_or(Ok(()), |rtt| write!(f, ", rtt {rtt:.1?}"))?;
            }
            (None, Some(why)) => write!(f, "to {}: {why}", self.peer.short())?,
            (None, None) => write!(f, "to {}: not connected", self.peer.short())?,
        }
        write!(f, "\n  {}", self.verdict)?;
        write!(f, "\n  here: {}", self.mapping_here)?;
        for (local, server, mapped) in &self.mapped {
            write!(f, "\n    {local} is {mapped} to {server}")?;
        }
        write!(f, "\n  there: {}", self.mapping_there)?;
        for (whose, candidates) in [("our", &self.local), ("the peer's", &self.remote)] {
            for candidate in candidates {
                write!(f, "\n    {whose} candidate: {} {}", candidate.kind, candidate.address)?;
            }
        }
        for pair in &self.pairs {
            write!(f, "\n    tried: {pair}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(all: &[(&str, &str, &str)]) -> MappingSeen {
        let parse = |text: &str| text.parse().unwrap();
        let all: Vec<_> = all.iter().map(|(a, b, c)| (parse(a), parse(b), parse(c))).collect();
        mapping_of(&all)
    }

    #[test]
    fn a_mapping_is_told_by_two_servers_or_not_at_all() {
        let (home, one, other) = ("10.0.0.2:5000", "198.51.100.1:1", "198.51.100.2:1");
        assert_eq!(mapped(&[]), MappingSeen::Unknown);
        assert_eq!(mapped(&[(home, one, "203.0.113.1:7")]), MappingSeen::Unknown);
        let same = [(home, one, "203.0.113.1:7"), (home, other, "203.0.113.1:7")];
        assert_eq!(mapped(&same), MappingSeen::EndpointIndependent);
        let differs = [(home, one, "203.0.113.1:7"), (home, other, "203.0.113.1:8")];
        assert_eq!(mapped(&differs), MappingSeen::DestinationDependent);
        assert_eq!(mapped(&[(home, one, home)]), MappingSeen::NoNat);
    }
}
