//! ScienceWorld: science tasks in a simulated house, played by the original simulator.
//!
//! The simulator is a Java program, `scienceworld.jar` of the Python package `scienceworld` 1.2.3 (Apache-2.0; no Python
//! is needed to run it, `scripts/get-scienceworld DIR` fetches it). One Java machine hosts several simulators, each with a
//! class loader of its own since they keep their world in static fields; this crate talks to them in the text protocol of
//! py4j over the loopback interface. A machine that dies or hangs costs the episodes that meet it
//! ([`EnvError::Fault`](crate::EnvError::Fault)) and is replaced.
//!
//! ```no_run
//! use std::path::Path;
//! use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions};
//! use reskill_envs::{Suite, TaskId};
//!
//! let suite = ScienceWorld::open_path(Path::new("DIR"), &ScienceWorldOptions::default())?;
//! let mut env = suite.open(&TaskId("power-component/0".into()))?;
//! println!("{}", env.reset()?.text);
//! for command in env.expert()? {
//!     let step = env.step(&command)?;
//!     println!("> {command}\n{}\n{:.0} of 100", step.observation.text, 100.0 * step.score);
//! }
//! # Ok::<(), reskill_envs::EnvError>(())
//! ```

mod config;
mod wire;
mod gateway;
mod jvm;
mod pool;
mod tasks;
mod expert;
mod env;
mod suite;
mod survey;

pub use config::ScienceWorldOptions;
pub use suite::ScienceWorld;
pub use survey::Survey;
pub use tasks::TaskFamily;
