//! What is in a house: kinds of rooms, receptacles and objects, and what goes where.

use super::config::Family;

/// A kind of receptacle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReceptacleKind {
    pub(super) name: &'static str,
    pub(super) openable: bool,
    /// It has to be started before it rinses, heats or chills.
    pub(super) appliance: bool,
    /// A lamp may stand on it.
    pub(super) surface: bool,
    /// At most this many in one house.
    pub(super) most: usize,
    pub(super) rooms: &'static [&'static str],
}

/// A kind of object that can be picked up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ObjectKind {
    pub(super) name: &'static str,
    /// Where it is usually found.
    pub(super) rooms: &'static [&'static str],
    /// Where it may be put, and is usually found.
    pub(super) places: &'static [&'static str],
    pub(super) rinsable: bool,
    pub(super) heatable: bool,
    pub(super) coolable: bool,
    /// A task may ask to look at it under a lamp.
    pub(super) readable: bool,
}

pub(super) const ROOMS: [&str; 5] = ["kitchen", "bathroom", "bedroom", "livingroom", "office"];

pub(super) const RECEPTACLES: [ReceptacleKind; 17] = [
    closed("drawer", 3, &["kitchen", "bathroom", "bedroom", "office"]),
    closed("cabinet", 3, &["kitchen", "bathroom", "livingroom", "office"]),
    ReceptacleKind { appliance: true, ..closed("fridge", 1, &["kitchen"]) },
    ReceptacleKind { appliance: true, ..closed("microwave", 1, &["kitchen"]) },
    closed("safe", 1, &["bedroom", "livingroom", "office"]),
    closed("chest", 1, &["bedroom", "livingroom"]),
    closed("wardrobe", 1, &["bedroom"]),
    surface("table", 2, &["kitchen", "livingroom"]),
    surface("counter", 2, &["kitchen", "bathroom"]),
    surface("desk", 2, &["bedroom", "office"]),
    surface("shelf", 3, &["kitchen", "bathroom", "bedroom", "livingroom", "office"]),
    open("bed", 1, &["bedroom"]),
    open("sofa", 2, &["livingroom"]),
    open("bin", 1, &["kitchen", "bathroom", "office"]),
    ReceptacleKind { appliance: true, ..open("sink", 1, &["kitchen", "bathroom"]) },
    open("armchair", 2, &["bedroom", "livingroom", "office"]),
    surface("dresser", 1, &["bedroom"]),
];

const KITCHEN: &[&str] = &["kitchen"];
const DISH_ROOMS: &[&str] = &["kitchen", "livingroom"];
const DESK_ROOMS: &[&str] = &["bedroom", "office"];
const DRY_ROOMS: &[&str] = &["bedroom", "livingroom", "office"];
const BATH_ROOMS: &[&str] = &["bathroom"];

const FOOD: &[&str] =
    &["fridge", "microwave", "table", "counter", "bin", "sink", "cabinet", "shelf", "desk", "safe", "drawer"];
const DISHES: &[&str] =
    &["cabinet", "shelf", "table", "counter", "sink", "desk", "fridge", "microwave", "drawer", "dresser"];
const COOKWARE: &[&str] = &["cabinet", "counter", "table", "shelf", "sink", "fridge"];
const CUTLERY: &[&str] = &["drawer", "counter", "table", "sink", "cabinet", "shelf"];
const SMALL: &[&str] = &[
    "desk", "drawer", "dresser", "safe", "shelf", "bed", "sofa", "table", "armchair", "chest", "wardrobe",
    "bin", "cabinet",
];
const DECOR: &[&str] = &["shelf", "table", "desk", "dresser", "cabinet", "safe", "chest", "counter"];
const BATH: &[&str] = &["cabinet", "drawer", "counter", "sink", "shelf", "bin", "wardrobe"];
const SOFT: &[&str] = &["bed", "sofa", "armchair", "chest", "wardrobe"];

pub(super) const OBJECTS: [ObjectKind; 31] = [
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("apple", KITCHEN, FOOD) },
    ObjectKind { heatable: true, coolable: true, ..object("bread", KITCHEN, FOOD) },
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("egg", KITCHEN, FOOD) },
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("potato", KITCHEN, FOOD) },
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("tomato", KITCHEN, FOOD) },
    ObjectKind { rinsable: true, coolable: true, ..object("lettuce", KITCHEN, FOOD) },
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("mug", DISH_ROOMS, DISHES) },
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("cup", DISH_ROOMS, DISHES) },
    ObjectKind { rinsable: true, heatable: true, coolable: true, ..object("plate", DISH_ROOMS, DISHES) },
    ObjectKind { rinsable: true, coolable: true, readable: true, ..object("bowl", DISH_ROOMS, DISHES) },
    ObjectKind { rinsable: true, coolable: true, ..object("pan", KITCHEN, COOKWARE) },
    ObjectKind { rinsable: true, coolable: true, ..object("pot", KITCHEN, COOKWARE) },
    ObjectKind { rinsable: true, ..object("knife", KITCHEN, CUTLERY) },
    ObjectKind { rinsable: true, ..object("fork", KITCHEN, CUTLERY) },
    ObjectKind { rinsable: true, ..object("spoon", KITCHEN, CUTLERY) },
    ObjectKind { readable: true, ..object("book", DRY_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("pen", DESK_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("pencil", DESK_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("keychain", DRY_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("watch", DRY_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("cd", DRY_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("pillow", DRY_ROOMS, SOFT) },
    ObjectKind { readable: true, ..object("laptop", DRY_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("phone", DRY_ROOMS, SMALL) },
    ObjectKind { readable: true, ..object("vase", DRY_ROOMS, DECOR) },
    ObjectKind { readable: true, ..object("statue", DRY_ROOMS, DECOR) },
    ObjectKind { rinsable: true, ..object("soap", BATH_ROOMS, BATH) },
    ObjectKind { rinsable: true, ..object("cloth", BATH_ROOMS, BATH) },
    object("towel", BATH_ROOMS, BATH),
    ObjectKind { readable: true, ..object("candle", &["bathroom", "bedroom", "livingroom"], DECOR) },
    ObjectKind { readable: true, ..object("newspaper", DRY_ROOMS, SMALL) },
];

impl ObjectKind {
    /// Whether tasks of a family may ask for this kind.
    pub(super) fn serves(&self, family: Family) -> bool {
        match family {
            Family::PickAndPlaceSimple | Family::PickTwoObjAndPlace => true,
            Family::LookAtObjInLight => self.readable,
            Family::PickCleanThenPlaceInRecep => self.rinsable,
            Family::PickHeatThenPlaceInRecep => self.heatable,
            Family::PickCoolThenPlaceInRecep => self.coolable,
        }
    }
}

/// The kind of a receptacle by its name.
pub(super) fn receptacle(name: &str) -> Option<&'static ReceptacleKind> {
    const KINDS: &[ReceptacleKind] = &RECEPTACLES;
    KINDS.iter().find(|kind| kind.name == name)
}

const fn open(name: &'static str, most: usize, rooms: &'static [&'static str]) -> ReceptacleKind {
    ReceptacleKind { name, openable: false, appliance: false, surface: false, most, rooms }
}

const fn closed(name: &'static str, most: usize, rooms: &'static [&'static str]) -> ReceptacleKind {
    ReceptacleKind { openable: true, ..open(name, most, rooms) }
}

const fn surface(name: &'static str, most: usize, rooms: &'static [&'static str]) -> ReceptacleKind {
    ReceptacleKind { surface: true, ..open(name, most, rooms) }
}

const fn object(
    name: &'static str,
    rooms: &'static [&'static str],
    places: &'static [&'static str],
) -> ObjectKind {
    ObjectKind { name, rooms, places, rinsable: false, heatable: false, coolable: false, readable: false }
}
