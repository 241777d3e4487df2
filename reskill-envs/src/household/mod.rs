//! A generated benchmark: houses, objects and six families of tasks, as in ALFWorld but small and terse.
//!
//! The games are ordinary [`GameFile`](crate::alfworld::GameFile)s with a domain and a grammar of their own, played by
//! the engine in [`alfworld`](crate::alfworld). Every name is one word and a number, every observation one short line,
//! so that a policy of a few hundred thousand parameters can learn to read them. Two habits are needed that ALFWorld
//! hardly asks for: what is closed has to be opened, and an idle appliance has to be started before it is used.
//!
//! Verbs can be called otherwise and appliances can change places, for a policy that has to adapt to a changed household.
//!
//! The unseen split has layouts, and pairs of object and place, that no other split has.

mod config;
mod generate;
mod goal;
mod house;
mod kinds;
mod problem;
mod suite;
mod words;

pub use config::{Appliance, Appliances, Family, HouseholdConfig};
pub use suite::Household;
