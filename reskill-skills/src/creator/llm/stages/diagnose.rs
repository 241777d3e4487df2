//! Diagnose: clusters of findings, their weight, and better assertions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::assertion::{Assertion, AssertionEdit, AssertionSet, Check};
use crate::creator::artefacts::{Cluster, Diagnosis};
use crate::trigger::Pattern;

/// Fewest clusters, where there are so many findings.
const MIN_CLUSTERS: usize = 3;
/// Most clusters.
const MAX_CLUSTERS: usize = 8;

/// What the model is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnoseInput {
    /// Successes by kind of task.
    pub outcomes: String,
    /// The findings, numbered from 0.
    pub insights: String,
    /// The live assertions with pass rates.
    pub assertions: String,
    /// Most live assertions.
    pub max_assertions: String,
    /// How many clusters there may be.
    pub clusters: String,
    /// The commands of the environment.
    pub vocabulary: String,
    /// Schema of the answer.
    pub schema: String,
}

/// What the model answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiagnoseOutput {
    /// Two or three sentences with the main numbers.
    #[schemars(length(min = 1, max = 1500))]
    pub summary: String,
    /// The main causes, the weightiest first.
    #[schemars(length(min = 1, max = 8))]
    pub causes: Vec<Cause>,
    /// Findings with the same cause and remedy.
    #[schemars(length(min = 1, max = 8))]
    pub clusters: Vec<ClusterOutput>,
    /// Changes of the assertions.
    #[schemars(length(max = 5))]
    pub assertion_edits: Vec<EditOutput>,
}

/// A cause and its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// The cause.
    #[schemars(length(min = 1, max = 400))]
    pub cause: String,
    /// Findings that show it.
    pub findings: u32,
    /// Share of the failures it accounts for, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share_of_failures: f64,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterOutput {
    /// What its findings say.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Numbers of the findings.
    #[schemars(length(min = 1, max = 64))]
    pub findings: Vec<u32>,
    /// The one that shows it best.
    pub representative: u32,
}

/// What is done to an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EditKind {
    /// Added or replaced.
    Put,
    /// Taken away.
    Remove,
}

/// Kinds of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as the kinds of `Check`")]
pub enum CheckKind {
    ActionExists,
    ActionNotExists,
    ActionBefore,
    NoConsecutiveRepeat,
    FinalAction,
    MinSteps,
    MaxSteps,
    ActionCount,
    ObservationContains,
}

/// A change of one assertion, flat: easier to write than one shape for each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditOutput {
    /// What is done.
    pub edit: EditKind,
    /// Name of the assertion.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// What it checks, in words; null to remove.
    #[schemars(length(max = 300))]
    pub description: Option<String>,
    /// Kind of check; null to remove.
    pub kind: Option<CheckKind>,
    /// The first pattern.
    #[schemars(length(max = 300))]
    pub pattern: Option<String>,
    /// The second pattern.
    #[schemars(length(max = 300))]
    pub second: Option<String>,
    /// Least.
    pub min: Option<u32>,
    /// Most.
    pub max: Option<u32>,
}

impl EditOutput {
    /// The edit, with its patterns compiled.
    ///
    /// # Errors
    /// What is missing or does not compile.
    pub fn to_edit(&self) -> Result<AssertionEdit, String> {
        if self.edit == EditKind::Remove {
            return Ok(AssertionEdit::Remove(self.name.clone()));
        }
        let kind = self.kind.ok_or("`kind` is null where `edit` is put")?;
        let compiled = |key: &str, source: &str| {
            Pattern::new(source).map_err(|error| format!("`{key}`: {}", one_line(&error.to_string())))
        };
        let required = |key: &str, source: &Option<String>| {
            let source =
                source.as_deref().ok_or_else(|| format!("`{key}` is null, but {kind:?} needs it"))?;
            compiled(key, source)
        };
        let bound = |key: &str, value: Option<u32>| {
            value.map(|value| value as usize).ok_or_else(|| format!("`{key}` is null, but {kind:?} needs it"))
        };
        let check = match kind {
            CheckKind::ActionExists => Check::ActionExists { pattern: required("pattern", &self.pattern)? },
            CheckKind::ActionNotExists => {
                Check::ActionNotExists { pattern: required("pattern", &self.pattern)? }
            }
            CheckKind::ActionBefore => Check::ActionBefore {
                first: required("pattern", &self.pattern)?,
                second: required("second", &self.second)?,
            },
            CheckKind::NoConsecutiveRepeat => Check::NoConsecutiveRepeat,
            CheckKind::FinalAction => Check::FinalAction { pattern: required("pattern", &self.pattern)? },
            CheckKind::MinSteps => Check::MinSteps { min: bound("min", self.min)? },
            CheckKind::MaxSteps => Check::MaxSteps { max: bound("max", self.max)? },
            CheckKind::ActionCount => {
                if self.min.is_none() && self.max.is_none() {
                    return Err("`min` and `max` are both null".into());
                }
                Check::ActionCount {
                    pattern: required("pattern", &self.pattern)?,
                    min: self.min.unwrap_or(0) as usize,
                    max: self.max.map(|max| max as usize),
                }
            }
            CheckKind::ObservationContains => Check::ObservationContains {
                pattern: required("pattern", &self.pattern)?,
                after: self.second.as_deref().map(|source| compiled("second", source)).transpose()?,
            },
        };
        let description = self.description.clone().unwrap_or_default();
        Ok(AssertionEdit::Put(Assertion { name: self.name.clone(), description, check }))
    }
}

impl DiagnoseOutput {
    /// The diagnosis that all creators share.
    ///
    /// # Errors
    /// The first thing that does not fit `n_insights` findings or the live assertions.
    pub fn to_diagnosis(&self, n_insights: usize, live: &AssertionSet) -> Result<Diagnosis, String> {
        let fewest = MIN_CLUSTERS.min(n_insights);
        if !(fewest..=MAX_CLUSTERS).contains(&self.clusters.len()) {
            return Err(format!(
                "`clusters` has {} entries, expected {fewest} to {MAX_CLUSTERS}",
                self.clusters.len()
            ));
        }
        let mut taken = vec![false; n_insights];
        for (index, cluster) in self.clusters.iter().enumerate() {
            for finding in &cluster.findings {
                let Some(slot) = taken.get_mut(*finding as usize) else {
                    return Err(format!("`clusters[{index}].findings`: there is no finding {finding}"));
                };
                if std::mem::replace(slot, true) {
                    return Err(format!("`clusters[{index}].findings`: finding {finding} is in two places"));
                }
            }
            if !cluster.findings.contains(&cluster.representative) {
                return Err(format!("`clusters[{index}].representative` is not one of its findings"));
            }
        }
        let mut assertion_edits = Vec::new();
        for (index, edit) in self.assertion_edits.iter().enumerate() {
            let edit = edit.to_edit().map_err(|what| format!("`assertion_edits[{index}]`: {what}"))?;
            assertion_edits.push(edit);
        }
        live.apply(&assertion_edits).map_err(|error| format!("`assertion_edits`: {error}"))?;
        let clusters = self.clusters.iter().map(|cluster| Cluster {
            name: cluster.name.clone(),
            insights: cluster.findings.iter().map(|finding| *finding as usize).collect(),
            representative: cluster.representative as usize,
        });
        let causes: Vec<String> = self
            .causes
            .iter()
            .map(|cause| {
                format!(
                    "{} ({} findings, {:.0}% of failures)",
                    cause.cause,
                    cause.findings,
                    cause.share_of_failures * 100.0
                )
            })
            .collect();
        let summary = format!("{} Causes: {}", self.summary, causes.join("; "));
        Ok(Diagnosis { summary, clusters: clusters.collect(), assertion_edits })
    }

    /// How many clusters are asked for.
    #[must_use]
    pub fn clusters_wanted(n_insights: usize) -> String {
        format!("{} to {MAX_CLUSTERS} groups", MIN_CLUSTERS.min(n_insights))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
