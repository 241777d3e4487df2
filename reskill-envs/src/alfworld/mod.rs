//! ALFWorld: plays `game.tw-pddl` files natively.
//!
//! Rules and wording come from the files themselves: the domain and the problem are PDDL (`:adl :typing
//! :action-costs`; no `:derived`, no `forall`), the texts are a grammar in TextWorld's language. Nothing about
//! ALFWorld's actions or sentences is written into this module, so games of other domains run as well.
//!
//! A game is compiled once: every action instance that can ever apply becomes an operator over numbered atoms
//! ([`Game`]). An episode ([`GameEnv`]) is two bit sets and the list of admissible commands.
//!
//! What a reader of the original might stumble over is kept: a type that nothing declares has no objects; an
//! instance that changes nothing is no move; `not_p` in a grammar means "deleted by an effect", not "absent"; two
//! variables of a grammar condition never stand for one object; lists are in the order of the ids, commands in
//! that of their text.

mod cache;
mod env;
mod facts;
mod formula;
mod game;
mod game_file;
mod goal;
mod grammar;
mod ground;
mod join;
mod names;
mod operators;
mod pddl;
mod planner;
mod rules;
mod sexpr;
mod source;
mod suite;
mod texts;

pub(crate) use cache::GameCache;
pub(crate) use grammar::put_task;

pub use env::{GameEnv, NOTHING_HAPPENS};
pub use game::Game;
pub use game_file::GameFile;
pub use rules::RulesCache;
pub use source::AlfworldOptions;
pub use suite::Alfworld;
