//! Measurements as files hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What was measured. Two measurements of one case can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) op: String,
    /// As JSON, keys in order.
    pub(super) shape: String,
    /// Of the storage; empty where the line does not say.
    pub(super) dtype: String,
    /// `hot`, `cold` or `graph`.
    pub(super) mode: String,
}

/// How long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// Relative; none where the line holds the best of all rounds alone.
    pub(super) noise: Option<f64>,
    /// From f64, where it was looked at.
    pub(super) error: Option<f64>,
}

/// A case that somebody left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) who: String,
    pub(super) op: String,
    pub(super) reason: String,
}

/// The measurements of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    /// The file.
    pub(super) name: String,
    pub(super) ours: BTreeMap<Case, Measured>,
    /// By case and program.
    pub(super) others: BTreeMap<(Case, String), Measured>,
    pub(super) left_out: Vec<LeftOut>,
    /// Devices that lines name.
    pub(super) devices: Vec<String>,
    /// Measurements of ours whose result was wrong.
    pub(super) n_wrong: usize,
}

/// All measurements of a case.
type Repeated<K> = BTreeMap<K, Vec<Measured>>;

impl Lines {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Lines> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot be read"))?;
        let lines = Lines::parse(&name, &text);
        if lines.ours.is_empty() && lines.others.is_empty() {
            bail!(
                "{name}: holds no measurements; expected lines of `bench kernels --json`, scripts/gpu-peers or `bench cpu`"
            );
        }
        Ok(lines)
    }

    /// The measurements of a text; lines that are something else are passed over.
    pub(super) fn parse(name: &str, text: &str) -> Lines {
        let mut lines = Lines { name: name.to_string(), ..Lines::default() };
        let (mut ours, mut others) = (Repeated::<(Case, String)>::new(), Repeated::<(Case, String)>::new());
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let who = line["peer"].as_str().unwrap_or("ours").to_string();
            if let Some(reason) = line["left_out"].as_str().or(line["skipped"].as_str()) {
                let op = line["op"].as_str().unwrap_or("all").to_string();
                lines.left_out.push(LeftOut { who, op, reason: reason.to_string() });
                continue;
            }
            let Some((case, measured)) = measurement(&line) else { continue };
            lines.devices.extend(device(&line).filter(|device| !lines.devices.contains(device)));
            if line["right"] == false {
                lines.n_wrong += 1;
            }
            // `bench cpu` names itself in the place of a peer.
            if line["bench"] == "kernels" || who.starts_with("reskill") {
                let multiplies = line["machine"]["gemm"].as_str().unwrap_or_default().to_string();
                ours.entry((case, multiplies)).or_default().push(measured);
            } else {
                others.entry((case, who)).or_default().push(measured);
            }
        }
        lines.others = others.into_iter().map(|(case, all)| (case, together(&all))).collect();
        lines.take_ours(ours);
        lines
    }

    /// Ours by case and by who multiplies matrices. Where a case was measured with several of them, `own` is ours (or the
    /// first, if it is not among them), and the rest stand beside it.
    fn take_ours(&mut self, ours: Repeated<(Case, String)>) {
        let is_own = |who: &str| who == "own";
        let with_own: BTreeSet<Case> =
            ours.keys().filter(|(_, who)| is_own(who)).map(|(case, _)| case.clone()).collect();
        for ((case, who), all) in ours {
            let measured = together(&all);
            if is_own(&who) || !(with_own.contains(&case) || self.ours.contains_key(&case)) {
                self.ours.insert(case, measured);
            } else {
                self.others.insert((case, format!("ours, products by {who}")), measured);
            }
        }
    }
}

/// The device without its storage: that is part of the case.
fn device(line: &Value) -> Option<String> {
    let device = line["machine"]["device"].as_str()?;
    let end = [", f32)", ", bf16)"].into_iter().find_map(|end| device.strip_suffix(end));
    Some(end.map_or_else(|| device.to_string(), |device| format!("{device})")))
}

/// The case of a line and its time, if it is a measurement that can be compared.
fn measurement(line: &Value) -> Option<(Case, Measured)> {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
    if line["seconds_best"].is_f64() && line["case"].is_string() {
        // A line of `bench cpu`.
        let shape = serde_json::json!({ "batch": line["batch"], "tokens": line["tokens"] }).to_string();
        let case = Case { op: text("case"), shape, dtype: String::new(), mode: "hot".to_string() };
        let seconds = line["seconds_best"].as_f64()?;
        return Some((case, Measured { seconds, noise: None, error: None }));
    }
    if line["bench"] != "kernels" && line["bench"] != "peers" {
        return None;
    }
    let seconds = |key: &str| line["seconds"][key].as_f64();
    let median = seconds("median").filter(|median| *median > 0.0)?;
    let mode = line["mode"].as_str().unwrap_or("hot").to_string();
    let case = Case { op: text("op"), shape: line["shape"].to_string(), dtype: text("dtype"), mode };
    // Half of the distance of the outer rounds, where the line does not tell halves of the rounds apart.
    let spread = || Some((seconds("p90")? - seconds("p10")?) / (2.0 * median));
    let noise = seconds("noise").or_else(spread);
    Some((case, Measured { seconds: median, noise, error: line["error"].as_f64() }))
}

/// Repeated measurements as one: their median, and as noise also how far they are apart.
fn together(all: &[Measured]) -> Measured {
    let mut sorted: Vec<f64> = all.iter().map(|one| one.seconds).collect();
    sorted.sort_by(f64::total_cmp);
    let seconds = sorted[sorted.len() / 2];
    let apart = (sorted[sorted.len() - 1] - sorted[0]) / seconds;
    let most = |of: fn(&Measured) -> Option<f64>| all.iter().filter_map(of).reduce(f64::max);
    let noise = most(|one| one.noise);
    let noise = if all.len() > 1 { Some(noise.unwrap_or(0.0).max(apart)) } else { noise };
    Measured { seconds, noise, error: most(|one| one.error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"bench":"kernels","op":"rms_norm_forward","shape":{"N":8,"C":4},"dtype":"f32","mode":"hot","seconds":{"median":2.0,"p10":1.9,"p90":2.1,"rounds":5,"noise":0.01},"error":1e-7,"right":true,"machine":{"device":"cuda:0 (X, 80.0 GiB, bf16)"}}"#;

    #[test]
    fn repeated_measurements_are_one_with_their_distance_as_noise() {
        let text = format!("{OURS}\nno json\n{}\n", OURS.replace("2.0", "2.4"));
        let lines = Lines::parse("file", &text);
        assert_eq!((lines.ours.len(), lines.others.len(), lines.n_wrong), (1, 0, 0));
        assert_eq!(lines.devices, ["cuda:0 (X, 80.0 GiB)"]);
        let measured = lines.ours.values().next().unwrap();
        assert_eq!(measured.seconds, 2.4);
        assert!((measured.noise.unwrap() - 0.4 / 2.4).abs() < 1e-12, "{measured:?}");
    }

    #[test]
    fn who_multiplies_is_not_repetition() {
        let by = |who: &str, median: &str| {
            OURS.replace("bf16)", &format!("bf16)\",\"gemm\":\"{who}")).replace("2.0", median)
        };
        let lines =
            Lines::parse("file", &[by("auto", "1.0"), by("own", "2.0"), by("cublaslt", "1.5")].join("\n"));
        assert_eq!(lines.ours.values().map(|measured| measured.seconds).collect::<Vec<_>>(), [2.0]);
        let beside: Vec<_> = lines.others.iter().map(|((_, who), of)| (who.as_str(), of.seconds)).collect();
        assert_eq!(beside, [("ours, products by auto", 1.0), ("ours, products by cublaslt", 1.5)]);
        // With one alone there is nothing to choose.
        assert_eq!(Lines::parse("file", &by("auto", "1.0")).ours.len(), 1);
    }

    #[test]
    fn peers_and_what_they_leave_out_are_told_apart() {
        let text = r#"{"bench":"peers","peer":"liger","op":"rms_norm_forward","shape":{"C":4,"N":8},"dtype":"f32","seconds":{"median":3.0,"p10":2.7,"p90":3.3,"rounds":2},"error":null}
{"bench":"peers","peer":"liger","op":"adamw","left_out":"not installed"}
{"peer":"llama.cpp","case":"decode","batch":8,"tokens":256,"seconds_best":1.5,"tokens_per_second":170.0}
{"peer":"reskill f32","case":"decode","batch":8,"tokens":256,"seconds_best":1.2,"tokens_per_second":213.0}"#;
        let lines = Lines::parse("file", text);
        assert_eq!((lines.ours.len(), lines.others.len(), lines.left_out.len()), (1, 2, 1));
        let (_, liger) = lines.others.iter().find(|((_, who), _)| who == "liger").unwrap();
        assert!((liger.noise.unwrap() - 0.1).abs() < 1e-12 && liger.error.is_none());
        let ours = Lines::parse("ours", OURS);
        // Keys of a shape in another order are the same shape.
        assert!(lines.others.keys().any(|(case, _)| ours.ours.contains_key(case)));
    }
}
