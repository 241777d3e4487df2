//! One house: rooms, receptacles and objects, drawn to fit a goal.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};

use super::config::{Appliances, Family, HouseholdConfig};
use super::goal::{Goal, LAMP};
use super::kinds::{OBJECTS, ObjectKind, RECEPTACLES, ROOMS, ReceptacleKind, receptacle};

/// Probability that a house has a lamp although the task needs none.
const SPARE_LAMP: f64 = 0.5;

/// A receptacle of a house.
#[derive(Debug)]
pub(super) struct Receptacle {
    pub(super) kind: &'static ReceptacleKind,
    pub(super) room: &'static str,
    pub(super) open: bool,
    pub(super) idle: bool,
}

/// A house with its objects.
#[derive(Debug)]
pub(super) struct House {
    pub(super) receptacles: Vec<Receptacle>,
    /// Kinds of the objects that can be picked up, and the receptacle each is in.
    pub(super) objects: Vec<(&'static ObjectKind, usize)>,
    /// The receptacle that a lamp stands on.
    pub(super) lamp: Option<usize>,
}

/// The rooms of a house with the kinds of receptacles in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Kinds with their rooms, sorted by name.
    receptacles: Vec<(&'static ReceptacleKind, &'static str)>,
}

impl Layout {
    /// Draws 2 or 3 rooms with 6 to 9 receptacles, among them all that the goal needs.
    pub(super) fn draw(goal: &Goal, appliances: Appliances, rng: &mut impl Rng) -> Layout {
        let mut needed: Vec<&'static ReceptacleKind> = [
            receptacle(goal.target),
            appliances.of(goal.family).and_then(|appliance| receptacle(appliance.as_str())),
        ]
        .into_iter()
        .flatten()
        .collect();
        if goal.target == LAMP {
            const KINDS: &[ReceptacleKind] = &RECEPTACLES;
            let surfaces: Vec<&'static ReceptacleKind> = KINDS.iter().filter(|kind| kind.surface).collect();
            needed.extend(surfaces.choose(rng).copied());
        }
        let rooms = draw_rooms(&needed, rng);
        let n_receptacles = rng.random_range(6..=9);
        let mut receptacles: Vec<(&'static ReceptacleKind, &'static str)> = Vec::new();
        for kind in needed {
            let fitting: Vec<&'static str> =
                rooms.iter().copied().filter(|room| kind.rooms.contains(room)).collect();
            receptacles.extend(fitting.choose(rng).map(|&room| (kind, room)));
        }
        // The rooms take turns, so that none stays empty.
        for turn in 0.. {
            if receptacles.len() >= n_receptacles {
                break;
            }
            let room = rooms[turn % rooms.len()];
            const KINDS: &[ReceptacleKind] = &RECEPTACLES;
            let fitting: Vec<&'static ReceptacleKind> = KINDS
                .iter()
                .filter(|kind| kind.rooms.contains(&room))
                .filter(|kind| receptacles.iter().filter(|(other, _)| other == kind).count() < kind.most)
                .collect();
            receptacles.extend(fitting.choose(rng).map(|&kind| (kind, room)));
        }
        receptacles.sort_by_key(|(kind, room)| (kind.name, *room));
        Layout { receptacles }
    }

    /// Whether the layout belongs to the unseen split: a fixed property of the rooms and the counts of the kinds.
    pub(super) fn is_unseen(&self, seed: u64) -> bool {
        let mut rooms: Vec<&str> = self.receptacles.iter().map(|(_, room)| *room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        let kinds = self.receptacles.iter().map(|(kind, _)| kind.name);
        // FNV-1a: must not change between versions of the compiler.
        let hash = rooms
            .into_iter()
            .chain(kinds)
            .flat_map(|word| word.bytes().chain([0]))
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        (hash ^ (hash >> 32)) % 4 == 0
    }
}

impl House {
    /// Furnishes a layout: 6 to 10 objects in their usual places, none of the goal's kind where the goal wants it.
    pub(super) fn furnish(
        layout: Layout,
        goal: &Goal,
        config: &HouseholdConfig,
        rng: &mut impl Rng,
    ) -> House {
        let state = |(kind, room): (&'static ReceptacleKind, &'static str)| Receptacle {
            kind,
            room,
            open: kind.openable && !rng.random_bool(config.closed_fraction),
            idle: kind.appliance && rng.random_bool(config.idle_fraction),
        };
        let receptacles: Vec<Receptacle> = layout.receptacles.into_iter().map(state).collect();
        const KINDS: &[ObjectKind] = &OBJECTS;
        let n_objects = rng.random_range(6..=10);
        let wanted = KINDS.iter().filter(|kind| kind.name == goal.object);
        let mut kinds: Vec<&'static ObjectKind> = wanted.cycle().take(goal.n_objects()).collect();
        while kinds.len() < n_objects {
            let at_home =
                |kind: &&ObjectKind| receptacles.iter().any(|place| kind.rooms.contains(&place.room));
            let usual: Vec<&'static ObjectKind> = KINDS.iter().filter(at_home).collect();
            kinds.extend(usual.choose(rng).copied());
        }
        let mut objects: Vec<(&'static ObjectKind, usize)> = Vec::new();
        for kind in kinds {
            let weight = |place: &Receptacle| {
                let spoils = kind.name == goal.object && place.kind.name == goal.target;
                let at_home = kind.rooms.contains(&place.room);
                let usual = kind.places.contains(&place.kind.name);
                if spoils { 0 } else { (1 + 3 * u32::from(at_home)) * (1 + 9 * u32::from(usual)) }
            };
            let weights: Vec<u32> = receptacles.iter().map(weight).collect();
            objects.push((kind, draw_weighted(&weights, rng)));
        }
        objects.shuffle(rng);
        let needs_lamp = goal.family == Family::LookAtObjInLight;
        let surfaces: Vec<usize> =
            (0..receptacles.len()).filter(|&index| receptacles[index].kind.surface).collect();
        let lamp =
            (needs_lamp || rng.random_bool(SPARE_LAMP)).then(|| surfaces.choose(rng).copied()).flatten();
        House { receptacles, objects, lamp }
    }
}

/// Two or three rooms, with one for each kind that is needed.
fn draw_rooms(needed: &[&'static ReceptacleKind], rng: &mut impl Rng) -> Vec<&'static str> {
    let mut rooms: Vec<&'static str> = Vec::new();
    for kind in needed {
        if !kind.rooms.iter().any(|room| rooms.contains(room)) {
            rooms.extend(kind.rooms.choose(rng).copied());
        }
    }
    let n_rooms = rng.random_range(2..=3).max(rooms.len());
    let mut others: Vec<&'static str> = ROOMS.into_iter().filter(|room| !rooms.contains(room)).collect();
    others.shuffle(rng);
    rooms.extend(others.into_iter().take(n_rooms - rooms.len()));
    rooms
}

/// An index with probability in proportion to its weight; 0 if all weights are 0.
fn draw_weighted(weights: &[u32], rng: &mut impl Rng) -> usize {
    let total: u32 = weights.iter().sum();
    let mut left = rng.random_range(0..total.max(1));
    for (index, &weight) in weights.iter().enumerate() {
        if left < weight {
            return index;
        }
        left -= weight;
    }
    0
}
