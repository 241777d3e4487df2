//! Environments in other programs: any command that speaks one JSON object a line.
//!
//! The command is started with pipes; it reads a request from standard input and writes one answer to standard output,
//! each a JSON object on a line of its own, in UTF-8. Standard error is passed on. A process plays one episode at a time;
//! several are started for several episodes at once. It should exit at the end of its input.
//!
//! | request | answer |
//! |---|---|
//! | `{"op": "hello", "protocol": 1}` | `Hello`: `{"protocol": 1, "name": "shop", "tasks": [{"id": "t1", "split": "train", "family": "buy", "goal": "buy a pen"}, ...], "vocabulary": ["take {item}", "pay"]}`; optional `"expert": true`, `"full_score"`, `"instructions"` |
//! | `{"op": "reset", "task": "t1"}` | `{"observation": "..."}`; optional `"admissible": [...]`, `"objects": [...]` |
//! | `{"op": "step", "action": "pay"}` | the same and `"score"` (at most 1), `"done"`, `"won"` |
//! | `{"op": "expert"}` (only if it has one) | `{"commands": [...]}`: what solves the task from here |
//!
//! Splits are `train`, `valid_seen`, `valid_unseen` and `valid_train`. Instead of an answer, `{"error": "why"}` gives the
//! episode up. So does a process that ends, answers too late, at too great a length, or something else: it is killed,
//! and the next episode gets a new one.
//!
//! `examples/external_env.py` is such a program.

mod config;
mod protocol;
mod process;
mod env;
mod suite;

pub use config::ExternalOptions;
pub use protocol::PROTOCOL;
pub use suite::External;
