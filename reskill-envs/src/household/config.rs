//! What to generate.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::words;
use crate::error::EnvError;

/// More games than this in a split are refused.
const MAX_GAMES: usize = 1_000_000;

/// A kind of task. The names are ALFWorld's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Put an object in or on a receptacle.
    PickAndPlaceSimple,
    /// Put two objects of a kind in or on one receptacle.
    PickTwoObjAndPlace,
    /// Hold an object where a lamp is lit.
    LookAtObjInLight,
    /// Rinse an object, then place it.
    PickCleanThenPlaceInRecep,
    /// Heat an object, then place it.
    PickHeatThenPlaceInRecep,
    /// Cool an object, then place it.
    PickCoolThenPlaceInRecep,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 6] = [
        Family::PickAndPlaceSimple,
        Family::PickTwoObjAndPlace,
        Family::LookAtObjInLight,
        Family::PickCleanThenPlaceInRecep,
        Family::PickHeatThenPlaceInRecep,
        Family::PickCoolThenPlaceInRecep,
    ];

    /// The name, e.g. `pick_and_place_simple`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Family::PickAndPlaceSimple => "pick_and_place_simple",
            Family::PickTwoObjAndPlace => "pick_two_obj_and_place",
            Family::LookAtObjInLight => "look_at_obj_in_light",
            Family::PickCleanThenPlaceInRecep => "pick_clean_then_place_in_recep",
            Family::PickHeatThenPlaceInRecep => "pick_heat_then_place_in_recep",
            Family::PickCoolThenPlaceInRecep => "pick_cool_then_place_in_recep",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many games of what sort. Equal configurations give equal games.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HouseholdConfig {
    /// Seed of everything that is drawn. Default 0.
    pub seed: u64,
    /// Number of training games, 0..=1,000,000. Default 1000.
    pub n_train: usize,
    /// Number of `valid_seen` games, 0..=1,000,000. Default 200.
    pub n_seen: usize,
    /// Number of `valid_unseen` games, 0..=1,000,000. Default 200.
    pub n_unseen: usize,
    /// Probability that an openable receptacle starts closed, 0..=1. Default 1.
    pub closed_fraction: f64,
    /// Probability that an appliance starts idle, 0..=1. Default 1.
    pub idle_fraction: f64,
    /// The families to generate, in turn; at least one, none twice. Default: all six.
    pub families: Vec<Family>,
    /// Other words for verbs: `{ open = "start", start = "open" }` has what is closed be started, and what is idle be opened.
    /// Keys: open, close, take, put, start, rinse, heat, chill, light, examine, look, inventory; words of a-z, so that no two
    /// commands are called alike. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub verbs: BTreeMap<String, String>,
    /// Which appliance does what.
    pub appliances: Appliances,
}

/// Which appliance does what: each of `sink`, `microwave`, `fridge` one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Appliances {
    /// Where things are rinsed. Default `sink`.
    pub rinse: Appliance,
    /// Where things are heated. Default `microwave`.
    pub heat: Appliance,
    /// Where things are chilled. Default `fridge`.
    pub chill: Appliance,
}

impl Default for Appliances {
    fn default() -> Self {
        Self { rinse: Appliance::Sink, heat: Appliance::Microwave, chill: Appliance::Fridge }
    }
}

impl Appliances {
    /// The appliance that a family needs.
    pub(super) fn of(self, family: Family) -> Option<Appliance> {
        match family {
            Family::PickCleanThenPlaceInRecep => Some(self.rinse),
            Family::PickHeatThenPlaceInRecep => Some(self.heat),
            Family::PickCoolThenPlaceInRecep => Some(self.chill),
            Family::PickAndPlaceSimple | Family::PickTwoObjAndPlace | Family::LookAtObjInLight => None,
        }
    }
}

/// A receptacle that has to be started before it does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Appliance {
    /// It has no door.
    Sink,
    /// It has a door.
    Microwave,
    /// It has a door.
    Fridge,
}

impl Appliance {
    /// The name, e.g. `sink`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Appliance::Sink => "sink",
            Appliance::Microwave => "microwave",
            Appliance::Fridge => "fridge",
        }
    }
}

impl Default for HouseholdConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            n_train: 1000,
            n_seen: 200,
            n_unseen: 200,
            closed_fraction: 1.0,
            idle_fraction: 1.0,
            families: Family::ALL.to_vec(),
            verbs: BTreeMap::new(),
            appliances: Appliances::default(),
        }
    }
}

impl HouseholdConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EnvError::Config`] for the first value that is out of range.
    pub fn validate(&self) -> Result<(), EnvError> {
        let out_of_range = |key, value: String, expected| Err(EnvError::Config { key, value, expected });
        for (key, value) in [("n_train", self.n_train), ("n_seen", self.n_seen), ("n_unseen", self.n_unseen)]
        {
            if value > MAX_GAMES {
                return out_of_range(key, value.to_string(), "at most 1000000");
            }
        }
        let fractions = [("closed_fraction", self.closed_fraction), ("idle_fraction", self.idle_fraction)];
        for (key, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return out_of_range(key, value.to_string(), "in [0, 1]");
            }
        }
        let repeated =
            (1..self.families.len()).any(|index| self.families[..index].contains(&self.families[index]));
        if self.families.is_empty() || repeated {
            return out_of_range(
                "families",
                format!("{:?}", self.families),
                "at least one family, none twice",
            );
        }
        let Appliances { rinse, heat, chill } = self.appliances;
        if rinse == heat || rinse == chill || heat == chill {
            let value = format!("{rinse:?}, {heat:?}, {chill:?}").to_lowercase();
            return out_of_range("appliances", value, "an appliance of its own for rinse, heat and chill");
        }
        words::check(&self.verbs)
    }
}
