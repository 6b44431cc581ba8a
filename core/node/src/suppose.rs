//! What is supposed when both NATs look easy and yet nothing works.
//!
//! A NAT that minds only addresses shows one port to everybody who asks from one address, and a public node has only
//! one. Between two easy NATs ordinary checks find a way, so when they do not, one of the NATs that nobody else has
//! seen may be a hard one after all. Nobody can say which. So each is taken for hard in turn, for one round of
//! punching, and the cheapest round comes first.

use gimlet_ice::{Plan, Profile, PunchLimits, plan};
use serde::{Deserialize, Serialize};

use crate::punch::View;

/// One of the two ends of a punch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum End {
    /// The one that asks.
    Leader,
    /// The one that is asked.
    Follower,
}

/// The ends whose NAT may be hard although both look easy, in the order in which to try.
pub(crate) fn suspects(leader: &View, follower: &View, limits: &PunchLimits) -> Vec<End> {
    let cost = |end: End| {
        let (ours, theirs) = profiles(Some(end), End::Leader, leader, follower);
        let Plan { sockets, probes, .. } = plan(&ours, &theirs, limits).ok()?;
        Some(u32::from(sockets) + u32::from(probes))
    };
    let mut suspects: Vec<(u32, End)> = [(End::Leader, leader), (End::Follower, follower)]
        .into_iter()
        .filter(|(_, view)| view.doubtful && leader.is_easy() && follower.is_easy())
        .filter_map(|(end, _)| Some((cost(end)?, end)))
        .collect();
    suspects.sort_by_key(|(cost, _)| *cost);
    suspects.into_iter().map(|(_, end)| end).collect()
}

/// What both sides plan with, each from its own point of view: `supposed` is the end that is taken for hard if both
/// look easy, and `we` are at one of the two.
pub(crate) fn profiles(supposed: Option<End>, we: End, ours: &View, theirs: &View) -> (Profile, Profile) {
    let (mut our_profile, mut their_profile) = (ours.profile.clone(), theirs.profile.clone());
    if let Some(end) = supposed.filter(|_| ours.is_easy() && theirs.is_easy()) {
        let hard = if end == we { &mut our_profile } else { &mut their_profile };
        (hard.dependent, hard.supposed) = (Some(true), true);
    }
    (our_profile, their_profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimlet_ice::Part;
    use gimlet_stun::PortModel;

    fn view(doubtful: bool, dependent: bool, model: PortModel, last: u8) -> View {
        let profile = Profile {
            dependent: Some(dependent),
            port_model: Some(model),
            newest_port: Some(40_000),
            outside: vec![[203, 0, 113, last].into()],
            supposed: false,
        };
        View { profile, doubtful }
    }

    fn seen(leader: (bool, PortModel), follower: (bool, PortModel)) -> Vec<End> {
        let [leader, follower] =
            [(leader, 1), (follower, 2)].map(|((doubtful, model), last)| view(doubtful, false, model, last));
        suspects(&leader, &follower, &PunchLimits::default())
    }

    #[test]
    fn whoever_only_one_address_has_seen_is_suspected_and_the_cheapest_guess_comes_first() {
        let (keeps, counts, random) =
            (PortModel::Preserving, PortModel::Sequential { delta: 1 }, PortModel::Random);
        let block = PortModel::Block { first: 20_480, last: 20_900 };
        assert_eq!(seen((true, random), (true, keeps)), [End::Follower, End::Leader]);
        assert_eq!(seen((true, block), (true, random)), [End::Leader, End::Follower]);
        assert_eq!(seen((true, random), (true, block)), [End::Follower, End::Leader]);
        assert_eq!(seen((true, counts), (true, keeps)), [End::Leader, End::Follower], "equally cheap");
        assert_eq!(
            seen((false, keeps), (true, random)),
            [End::Follower],
            "somebody else saw the leader, too"
        );
        assert_eq!(seen((false, random), (false, random)), []);
    }

    #[test]
    fn nobody_is_suspected_where_a_hard_nat_explains_it() {
        let (hard, easy) = (view(false, true, PortModel::Random, 1), view(true, false, PortModel::Random, 2));
        assert_eq!(suspects(&hard, &easy, &PunchLimits::default()), []);
        let (ours, theirs) = profiles(Some(End::Leader), End::Leader, &easy, &hard);
        assert_eq!((&ours, &theirs), (&easy.profile, &hard.profile), "nor can the peer talk us into it");
    }

    #[test]
    fn both_ends_suppose_the_same() {
        let (a, b) = (view(true, false, PortModel::Random, 1), view(true, false, PortModel::Random, 2));
        for end in [End::Leader, End::Follower] {
            let (leader, follower) = profiles(Some(end), End::Leader, &a, &b);
            let (ours, theirs) = profiles(Some(end), End::Follower, &b, &a);
            assert_eq!((&leader, &follower), (&theirs, &ours));
            let limits = PunchLimits::default();
            let [led, followed] =
                [plan(&leader, &follower, &limits), plan(&ours, &theirs, &limits)].map(Result::unwrap);
            let parts =
                if end == End::Leader { (Part::Open, Part::Probe) } else { (Part::Probe, Part::Open) };
            assert_eq!((led.part, followed.part), parts);
        }
    }
}
