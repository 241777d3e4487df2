//! The stages in order, for one request.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::Serialize;
use serde_json::json;
use tracing::{info, warn};

use crate::assertion::{AssertionReport, MAX_ASSERTIONS};
use crate::bank::Operation;
use crate::creator::CreatorContext;
use crate::creator::artefacts::{
    Artefacts, Change, Diagnosis, Insight, Proposal, Recommendation, VerifyReport,
};
use crate::creator::llm::chat::{Message, Role};
use crate::creator::llm::schema::Schema;
use crate::creator::llm::stages::author::Gate;
use crate::creator::llm::stages::{
    Advice, AuthorInput, AuthoredSkill, ContrastInput, ContrastInsight, DiagnoseInput, DiagnoseOutput,
    RecommendInput, RecommendOutput,
};
use crate::creator::llm::{LlmCreator, brief};
use crate::error::SkillError;
use crate::skill::SkillContent;
use crate::store::write_atomically;
use crate::transcript::format_group;

/// Findings that the author is shown.
const AUTHOR_INSIGHTS: usize = 6;

/// One request to one creator.
pub(super) struct Pipeline<'a> {
    pub(super) creator: &'a LlmCreator,
    pub(super) context: &'a CreatorContext<'a>,
}

/// A finding with the kind of task it is about.
struct Finding {
    family: String,
    insight: ContrastInsight,
}

/// What is stored of a stage.
#[derive(Serialize)]
struct Stage<I, O> {
    input: I,
    output: O,
}

impl Pipeline<'_> {
    pub(super) fn run(&self) -> Result<Proposal, SkillError> {
        let context = self.context;
        let findings = self.contrast()?;
        let (diagnosis, edited) = self.diagnose(&findings)?;
        let grades = AssertionReport::of(&edited, context.episodes);
        self.store("grade", &grades)?;
        let advice = self.recommend(&findings, &diagnosis, &brief::assertions(&edited, &grades))?;
        let mut operations = Vec::new();
        let mut recommendations = Vec::new();
        let mut verified = Vec::new();
        let mut dropped: Vec<SkillError> = Vec::new();
        let mut taken: Vec<String> = Vec::new();
        for (index, (recommendation, advice)) in advice.into_iter().enumerate() {
            let operation = match (recommendation.change, recommendation.skill.clone()) {
                (Change::Delete, Some(id)) => Operation::Delete { id },
                (_, id) => {
                    match self.author(index, &recommendation, &advice, &findings, &diagnosis, &taken) {
                        Ok((content, report)) => {
                            taken.push(content.name.clone());
                            verified.push(report);
                            id.map_or(Operation::Add(content.clone()), |id| Operation::Modify { id, content })
                        }
                        Err(error) => {
                            warn!(step = context.step, %error, "a recommended skill could not be authored");
                            dropped.push(error);
                            continue;
                        }
                    }
                }
            };
            operations.push(operation);
            recommendations.push(recommendation);
        }
        if operations.is_empty() {
            // Each recommendation that failed left an error, and there was at least one.
            return Err(dropped.swap_remove(0));
        }
        // A bundle the bank cannot take is refused here, where it counts as the creator's failure.
        context.bank.apply(&operations, context.step, context.limits)?;
        let mut rationale =
            recommendations.iter().map(|advice| advice.why.as_str()).collect::<Vec<_>>().join("; ");
        if !dropped.is_empty() {
            rationale.push_str(&format!("; {} recommended skills could not be authored", dropped.len()));
        }
        let insights: Vec<Insight> = findings.iter().map(|finding| finding.insight.to_insight()).collect();
        let artefacts = Artefacts { insights, assertions: grades, diagnosis, recommendations, verified };
        Ok(Proposal { operations, rationale, artefacts })
    }

    /// One finding a task group, side by side. Single failures are survived; if all fail, the first is the error.
    fn contrast(&self) -> Result<Vec<Finding>, SkillError> {
        let (context, config) = (self.context, &self.creator.config);
        let groups = context.groups;
        let next = AtomicUsize::new(0);
        let hopeless = AtomicBool::new(false);
        type Slot = Option<Result<(ContrastInput, ContrastInsight), SkillError>>;
        let results: Mutex<Vec<Slot>> = Mutex::new((0..groups.len()).map(|_| None).collect());
        std::thread::scope(|scope| {
            for _ in 0..config.max_concurrent.min(groups.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::SeqCst);
                        if index >= groups.len() || hopeless.load(Ordering::SeqCst) {
                            return;
                        }
                        let result = self.contrast_one(index);
                        if let Err(SkillError::Chat { source, .. }) = &result
                            && source.kind.concerns_all_calls()
                        {
                            hopeless.store(true, Ordering::SeqCst);
                        }
                        if let Ok(mut results) = results.lock() {
                            results[index] = Some(result);
                        }
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_default();
        let (mut findings, mut stored, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for result in results.into_iter().flatten() {
            match result {
                Ok((input, insight)) => {
                    stored.push(Stage { input: input.clone(), output: insight.clone() });
                    findings.push(Finding { family: input.family, insight });
                }
                Err(error) => errors.push(error),
            }
        }
        self.store("contrast", &stored)?;
        if findings.is_empty() {
            let nothing = SkillError::Refused {
                skill: "contrast".into(),
                reason: "there is no task group to look at".into(),
            };
            return Err(if errors.is_empty() { nothing } else { errors.swap_remove(0) });
        }
        if let Some(error) = errors.first() {
            warn!(step = context.step, n = errors.len(), first = %error, "some task groups gave no finding");
        }
        Ok(findings)
    }

    fn contrast_one(&self, index: usize) -> Result<(ContrastInput, ContrastInsight), SkillError> {
        let context = self.context;
        let group = &context.groups[index];
        let task = group.first().map(|played| &played.episode.task);
        let input = ContrastInput {
            family: task.map_or(String::new(), |task| task.family.clone()),
            goal: task.map_or(String::new(), |task| task.goal.clone()),
            skills: brief::skills(context.bank),
            episodes: format_group(
                group,
                context.bank,
                &self.creator.config.transcript,
                self.creator.estimate.as_ref(),
            ),
            vocabulary: brief::vocabulary(context.vocabulary),
            schema: schema_text::<ContrastInsight>("contrast"),
        };
        let call = format!("contrast-{index:02}");
        let insight = self.ask(&call, "contrast", &input, &|_: &ContrastInsight| Ok(()))?;
        Ok((input, insight))
    }

    /// The diagnosis, and the assertions after its edits.
    fn diagnose(
        &self,
        findings: &[Finding],
    ) -> Result<(Diagnosis, crate::assertion::AssertionSet), SkillError> {
        let context = self.context;
        let report = AssertionReport::of(context.assertions, context.episodes);
        let insights: Vec<String> = findings
            .iter()
            .enumerate()
            .map(|(index, finding)| finding.insight.brief(index, &finding.family))
            .collect();
        let input = DiagnoseInput {
            outcomes: brief::outcomes(context.episodes),
            insights: insights.join("\n"),
            assertions: brief::assertions(context.assertions, &report),
            max_assertions: MAX_ASSERTIONS.to_string(),
            clusters: DiagnoseOutput::clusters_wanted(findings.len()),
            vocabulary: brief::vocabulary(context.vocabulary),
            schema: schema_text::<DiagnoseOutput>("diagnose"),
        };
        let fits =
            |output: &DiagnoseOutput| output.to_diagnosis(findings.len(), context.assertions).map(drop);
        let output = self.ask("diagnose", "diagnose", &input, &fits)?;
        let diagnosis = output.to_diagnosis(findings.len(), context.assertions).unwrap_or_default();
        self.store("diagnose", &Stage { input, output })?;
        let edited = context.assertions.apply(&diagnosis.assertion_edits)?;
        Ok((diagnosis, edited))
    }

    fn recommend(
        &self,
        findings: &[Finding],
        diagnosis: &Diagnosis,
        assertions: &str,
    ) -> Result<Vec<(Recommendation, Advice)>, SkillError> {
        let context = self.context;
        let clusters = diagnosis.clusters.iter().map(|cluster| {
            let shown = findings.get(cluster.representative).map_or(String::new(), |finding| {
                finding.insight.brief(cluster.representative, &finding.family)
            });
            format!("## {} ({} findings)\n{shown}", cluster.name, cluster.insights.len())
        });
        let input = RecommendInput {
            outcomes: brief::outcomes(context.episodes),
            summary: diagnosis.summary.clone(),
            clusters: clusters.collect::<Vec<_>>().join("\n"),
            assertions: assertions.to_owned(),
            bank: brief::bank(context.bank, context.episodes, context.step, context.vocabulary),
            versions: brief::versions(context.history),
            vocabulary: brief::vocabulary(context.vocabulary),
            actions: brief::actions(context.episodes),
            room: brief::room(context.bank, context.limits),
            max_operations: context.limits.max_operations.to_string(),
            note: self.creator.config.note.clone(),
            schema: schema_text::<RecommendOutput>("recommend"),
        };
        let fits =
            |output: &RecommendOutput| output.to_recommendations(context.bank, context.limits).map(drop);
        let output = self.ask("recommend", "recommend", &input, &fits)?;
        let advice = output.to_recommendations(context.bank, context.limits).unwrap_or_default();
        let advice =
            advice.into_iter().map(|(recommendation, advice)| (recommendation, advice.clone())).collect();
        self.store("recommend", &Stage { input, output })?;
        Ok(advice)
    }

    /// One skill, tried until it passes the gate: each further try is told what was measured.
    fn author(
        &self,
        index: usize,
        recommendation: &Recommendation,
        advice: &Advice,
        findings: &[Finding],
        diagnosis: &Diagnosis,
        taken: &[String],
    ) -> Result<(SkillContent, VerifyReport), SkillError> {
        let (context, config) = (self.context, &self.creator.config);
        let id = recommendation.skill.as_ref();
        let gate = Gate {
            episodes: context.episodes,
            bank: context.bank,
            taken,
            replaces: id,
            verify: context.verify,
            limits: context.limits,
            lexicon: self.creator.lexicon.as_ref().map(|(lexicon, _)| lexicon.as_ref()),
        };
        let others = context.bank.skills().iter().filter(|skill| Some(&skill.id) != id);
        let mut input = AuthorInput {
            recommendation: format!("{:?}: {}\nwhy: {}", recommendation.change, advice.what, advice.why),
            insights: behind(advice, findings, diagnosis),
            old_skill: id.and_then(|id| context.bank.get(id)).map_or("(none)".into(), brief::skill_line),
            bank: others.map(brief::skill_line).collect::<Vec<_>>().join("\n"),
            vocabulary: brief::vocabulary(context.vocabulary),
            actions: brief::actions(context.episodes),
            limits: brief::limits(context.limits),
            gate: brief::gate(context.verify),
            lexicon: self.creator.lexicon.as_ref().map_or(String::new(), |(_, hint)| hint.clone()),
            note: config.note.clone(),
            rejected: String::new(),
            schema: schema_text::<AuthoredSkill>("author"),
        };
        let mut problems = Vec::new();
        let mut tries = Vec::new();
        let mut last = String::new();
        for number in 1..=config.author_tries {
            let call = format!("author-{index}-try-{number}");
            let authored: AuthoredSkill = self.ask(&call, "author", &input, &|_| Ok(()))?;
            last.clone_from(&authored.name);
            let examined = gate.examine(&authored);
            problems = match &examined {
                Ok((_, report)) => report.problems.clone(),
                Err(problems) => problems.clone(),
            };
            let text = json!(authored).to_string();
            tries.push(json!({"output": authored, "problems": problems}));
            if let (Ok((content, report)), true) = (examined, problems.is_empty()) {
                self.store(&format!("author-{index}"), &json!({"input": input, "tries": tries}))?;
                return Ok((content, report));
            }
            if input.rejected.is_empty() {
                input.rejected = "Earlier tries, and why they did not pass:\n".into();
            }
            input.rejected.push_str(&format!("- <<<{text}>>>\n  {}\n", problems.join("\n  ")));
            info!(
                step = context.step,
                number,
                problems = problems.join("; "),
                "a skill is sent back to its author"
            );
        }
        self.store(&format!("author-{index}"), &json!({"input": input, "tries": tries}))?;
        let reason = format!("after {} tries of the author: {}", config.author_tries, problems.join("; "));
        Err(SkillError::Refused { skill: last.chars().take(80).collect(), reason })
    }

    fn ask<T: serde::de::DeserializeOwned + schemars::JsonSchema>(
        &self,
        call: &str,
        stage: &'static str,
        input: &impl Serialize,
        check: &dyn Fn(&T) -> Result<(), String>,
    ) -> Result<T, SkillError> {
        let prompts = &self.creator.prompts;
        let messages = vec![
            Message::new(Role::System, prompts.text("system")),
            Message::new(Role::User, prompts.render(stage, input)),
        ];
        self.creator.caller.ask(self.context.step, call, stage, messages, check)
    }

    /// Writes the artefact of a stage.
    fn store(&self, stage: &str, artefact: &impl Serialize) -> Result<(), SkillError> {
        let Some(folder) = &self.creator.artefacts else { return Ok(()) };
        let folder: PathBuf = folder.join(format!("step-{:06}", self.context.step));
        std::fs::create_dir_all(&folder).map_err(|source| SkillError::Io {
            path: folder.clone(),
            verb: "made",
            source,
        })?;
        let path = folder.join(format!("{stage}.json"));
        let json = serde_json::to_vec_pretty(artefact).map_err(|source| SkillError::Json {
            path: path.clone(),
            line: 1,
            source,
        })?;
        write_atomically(&path, &json)
    }
}

/// The findings of the clusters that a piece of advice names, or of all, the representatives first.
fn behind(advice: &Advice, findings: &[Finding], diagnosis: &Diagnosis) -> String {
    let named: Vec<_> =
        diagnosis.clusters.iter().filter(|cluster| advice.clusters.contains(&cluster.name)).collect();
    let clusters = if named.is_empty() { diagnosis.clusters.iter().collect() } else { named };
    let representatives = clusters.iter().map(|cluster| cluster.representative);
    let members = clusters.iter().flat_map(|cluster| cluster.insights.iter().copied());
    let mut order: Vec<usize> = Vec::new();
    for index in representatives.chain(members) {
        if !order.contains(&index) && order.len() < AUTHOR_INSIGHTS {
            order.push(index);
        }
    }
    let texts = order
        .into_iter()
        .filter_map(|index| findings.get(index).map(|finding| finding.insight.brief(index, &finding.family)));
    texts.collect::<Vec<_>>().join("\n")
}

fn schema_text<T: schemars::JsonSchema>(name: &'static str) -> String {
    Schema::of::<T>(name).value().to_string()
}
