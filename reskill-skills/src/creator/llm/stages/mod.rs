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

use crate::assertion::AssertionSet;
use crate::bank::SkillBank;
use crate::creator::llm::calls::read;
use crate::creator::llm::chat::{Reply, Usage};
use crate::creator::llm::schema::Schema;
use crate::skill::SkillLimits;

/// Reads a text as the reply of each stage, with the checks that need no episodes; returns how many accept it. For fuzzing.
#[must_use]
pub fn examine_reply(text: &str) -> usize {
    let reply = Reply { text: text.to_owned(), usage: Usage::default() };
    let (bank, limits, assertions) = (SkillBank::default(), SkillLimits::default(), AssertionSet::default());
    let contrast = read::<ContrastInsight>(&reply, &Schema::of::<ContrastInsight>("contrast"), &|_| Ok(()));
    let diagnose = read(&reply, &Schema::of::<DiagnoseOutput>("diagnose"), &|output: &DiagnoseOutput| {
        output.to_diagnosis(4, &assertions).map(drop)
    });
    let recommend = read(&reply, &Schema::of::<RecommendOutput>("recommend"), &|output: &RecommendOutput| {
        output.to_recommendations(&bank, &limits).map(drop)
    });
    let author = read(&reply, &Schema::of::<AuthoredSkill>("author"), &|output: &AuthoredSkill| {
        let content = output.to_content()?;
        limits.check(&content).map_err(|error| error.to_string())
    });
    [contrast.is_ok(), diagnose.is_ok(), recommend.is_ok(), author.is_ok()]
        .into_iter()
        .filter(|ok| *ok)
        .count()
}
