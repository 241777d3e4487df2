//! What tasks ask for, and which pairs of object and place are kept for the unseen split.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::config::{Appliance, Appliances, Family};
use super::kinds::{OBJECTS, ObjectKind, receptacle};

/// Share of the pairs that only the unseen split asks for.
const HELD_OUT: f64 = 0.2;

/// The place of a task that asks to look at something.
pub(super) const LAMP: &str = "lamp";

/// What a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Goal {
    pub(super) family: Family,
    /// Kind of the object.
    pub(super) object: &'static str,
    /// Kind of the receptacle to put it in, or [`LAMP`].
    pub(super) target: &'static str,
}

impl Goal {
    /// The goal in words, e.g. `put hot potato in safe`.
    pub(super) fn words(&self) -> String {
        let inside = receptacle(self.target).is_some_and(|kind| kind.openable);
        let preposition = if inside || matches!(self.target, "bin" | "sink") { "in" } else { "on" };
        let Goal { object, target, .. } = self;
        match self.family {
            Family::LookAtObjInLight => format!("look at {object} under {target}"),
            Family::PickAndPlaceSimple => format!("put {object} {preposition} {target}"),
            Family::PickTwoObjAndPlace => format!("put two {object} {preposition} {target}"),
            Family::PickCleanThenPlaceInRecep => format!("put clean {object} {preposition} {target}"),
            Family::PickHeatThenPlaceInRecep => format!("put hot {object} {preposition} {target}"),
            Family::PickCoolThenPlaceInRecep => format!("put cool {object} {preposition} {target}"),
        }
    }

    /// How many objects of the kind the task needs.
    pub(super) fn n_objects(&self) -> usize {
        if self.family == Family::PickTwoObjAndPlace { 2 } else { 1 }
    }
}

/// All goals, divided into those of the training split and the unseen ones.
#[derive(Debug)]
pub(super) struct Goals {
    pub(super) train: Vec<Goal>,
    pub(super) unseen: Vec<Goal>,
}

impl Goals {
    /// Divides the pairs of object and place: no pair is on both sides, and every family is on both.
    pub(super) fn divide(seed: u64, appliances: Appliances) -> Goals {
        let all = all_goals(appliances);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Lamps are divided on their own, as they belong to one family only.
        let (lamps, places): (Vec<Goal>, Vec<Goal>) = all.iter().partition(|goal| goal.target == LAMP);
        loop {
            let mut held_out = HashSet::new();
            for goals in [&lamps, &places] {
                let mut pairs: Vec<(&str, &str)> =
                    goals.iter().map(|goal| (goal.object, goal.target)).collect();
                pairs.sort_unstable();
                pairs.dedup();
                pairs.shuffle(&mut rng);
                let n = (pairs.len() as f64 * HELD_OUT).round() as usize;
                held_out.extend(pairs.into_iter().take(n));
            }
            let (unseen, train): (Vec<Goal>, Vec<Goal>) =
                all.iter().partition(|goal| held_out.contains(&(goal.object, goal.target)));
            let every_family = |goals: &[Goal]| {
                Family::ALL
                    .iter()
                    .all(|&family| goals.iter().filter(|goal| goal.family == family).count() >= 2)
            };
            // Hardly ever repeated: the smallest family has more than ten pairs.
            if every_family(&train) && every_family(&unseen) {
                return Goals { train, unseen };
            }
        }
    }
}

fn all_goals(appliances: Appliances) -> Vec<Goal> {
    let goals = |object: &'static ObjectKind, family: Family| {
        let places: &[&str] = if family == Family::LookAtObjInLight { &[LAMP] } else { object.places };
        let places =
            places.iter().filter(move |&&place| Some(place) != appliances.of(family).map(Appliance::as_str));
        places.map(move |&target| Goal { family, object: object.name, target })
    };
    const KINDS: &[ObjectKind] = &OBJECTS;
    let families = Family::ALL.iter().copied();
    families
        .flat_map(|family| {
            KINDS.iter().filter(move |kind| kind.serves(family)).flat_map(move |kind| goals(kind, family))
        })
        .collect()
}
