//! Who decides, and how two agents that both want to, or both do not, find out.

use core::fmt;

use gimlet_machine::Rng;

/// Whether this agent nominates (RFC 8445 §6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Role {
    /// This agent chooses the path.
    #[default]
    Controlling,
    /// The peer does.
    Controlled,
}

impl Role {
    /// The other role.
    #[must_use]
    pub const fn other(self) -> Role {
        match self {
            Role::Controlling => Role::Controlled,
            Role::Controlled => Role::Controlling,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Controlling => "controlling",
            Role::Controlled => "controlled",
        })
    }
}

/// The role that a peer's request claims, with its tiebreaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) role: Role,
    pub(crate) tiebreaker: u64,
}

/// What a claim leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// The roles fit.
    Fits,
    /// We change ours and process the request.
    Switch,
    /// We keep ours and answer 487.
    Refuse,
}

/// Our role and what defends it.
#[derive(Debug)]
pub(crate) struct Tiebreak {
    role: Role,
    tiebreaker: u64,
    /// Counts the changes: tells checks of earlier roles from those of this one.
    epoch: u16,
    /// What further tiebreakers come from: a seed, a tenth the size of a generator.
    seed: [u8; 32],
}

impl Tiebreak {
    pub(crate) fn new(role: Role, tiebreaker: Option<u64>, mut rng: Rng) -> Self {
        let drawn = rng.u64();
        Self { role, tiebreaker: tiebreaker.unwrap_or(drawn), epoch: 0, seed: rng.bytes() }
    }

    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    pub(crate) const fn tiebreaker(&self) -> u64 {
        self.tiebreaker
    }

    /// Marks what belongs to this role. A mark comes again after 256 changes, of which each takes a round trip, and
    /// then costs a retransmission that claims another role than the first one did.
    pub(crate) const fn epoch(&self) -> u8 {
        self.epoch as u8
    }

    /// The table of RFC 8445 §7.3.1.1. In both conflicts the larger tiebreaker, or an equal one, makes
    /// its owner controlling.
    pub(crate) const fn judge(&self, claim: Claim) -> Ruling {
        let ours_wins = self.tiebreaker >= claim.tiebreaker;
        match (self.role, claim.role) {
            (Role::Controlling, Role::Controlled) | (Role::Controlled, Role::Controlling) => Ruling::Fits,
            (Role::Controlling, Role::Controlling) => {
                if ours_wins {
                    Ruling::Refuse
                } else {
                    Ruling::Switch
                }
            }
            (Role::Controlled, Role::Controlled) => {
                if ours_wins {
                    Ruling::Switch
                } else {
                    Ruling::Refuse
                }
            }
        }
    }

    /// Takes the other role.
    pub(crate) fn switch(&mut self) {
        self.role = self.role.other();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Takes the other role after a 487 and draws a new tiebreaker (RFC 8445 §7.2.5.1): without it two
    /// agents with equal ones would change places for ever.
    pub(crate) fn yield_to_conflict(&mut self) {
        self.switch();
        self.tiebreaker = Rng::from_seed(self.seed).fork_nth("tiebreaker", self.epoch.into()).u64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_34_role_conflict_table() {
        use Role::{Controlled, Controlling};
        use Ruling::{Fits, Refuse, Switch};
        let rows = [
            (Controlling, Controlling, [Switch, Refuse, Refuse]),
            (Controlled, Controlled, [Refuse, Switch, Switch]),
            (Controlling, Controlled, [Fits; 3]),
            (Controlled, Controlling, [Fits; 3]),
        ];
        for (ours, theirs, rulings) in rows {
            // Ours is less than, equal to and greater than theirs.
            for (tiebreaker, ruling) in [9, 10, 11].into_iter().zip(rulings) {
                let tiebreak = Tiebreak::new(ours, Some(tiebreaker), Rng::from_u64(0));
                let claim = Claim { role: theirs, tiebreaker: 10 };
                assert_eq!(tiebreak.judge(claim), ruling, "{ours} {tiebreaker} against {theirs} 10");
            }
        }
    }

    #[test]
    fn a_conflict_draws_a_new_tiebreaker_and_a_plain_switch_keeps_it() {
        let mut tiebreak = Tiebreak::new(Role::Controlling, None, Rng::from_u64(0));
        let first = tiebreak.tiebreaker();
        tiebreak.switch();
        assert_eq!((tiebreak.role(), tiebreak.tiebreaker(), tiebreak.epoch()), (Role::Controlled, first, 1));
        tiebreak.yield_to_conflict();
        assert_eq!((tiebreak.role(), tiebreak.epoch()), (Role::Controlling, 2));
        assert_ne!(tiebreak.tiebreaker(), first);
    }
}
