//! The stages that a language model thinks for, each with the type of its input and of its output.
//!
//! The fields of an input are the placeholders of the stage's prompt. Inputs and outputs are stored in the run directory.

pub mod contrast;
pub mod diagnose;
pub mod recommend;
pub mod author;

pub use author::{AuthorInput, AuthoredSkill};
pub use contrast::{ContrastInput, ContrastInsight};
pub use diagnose::{DiagnoseInput, DiagnoseOutput};
pub use recommend::{Advice, RecommendInput, RecommendOutput};
