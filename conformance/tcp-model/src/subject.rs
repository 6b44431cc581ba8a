//! Worlds with what is judged in them.

use crate::middle::{Middle, Straight};
use crate::world::{Plan, Played, Tell, Topology, World};

/// The boxes of a plan, the client's first.
pub fn boxes(plan: &Plan) -> Vec<Box<dyn Middle>> {
    match plan.topology {
        Topology::Straight => Vec::new(),
        Topology::Single | Topology::TfoUpgrade => vec![Box::new(Straight)],
        Topology::NearFar => vec![Box::new(Straight), Box::new(Straight)],
    }
}

/// Plays the world of `seed`.
pub fn play(seed: u64) -> Played {
    let plan = Plan::draw(seed);
    World::new(&plan, boxes(&plan), None).play()
}

/// Plays the world of `seed` and tells everything.
pub fn play_before(seed: u64, tell: &mut Tell<'_>) -> Played {
    let plan = Plan::draw(seed);
    World::new(&plan, boxes(&plan), Some(tell)).play()
}
