//! Which measurements are set beside each other, and what their ratio says.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Case, Lines, Measured};

/// Two measurements of a case.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) case: Case,
    pub(super) ours: Measured,
    /// The other program, or the file with ours of before.
    pub(super) who: String,
    pub(super) other: Measured,
}

/// What a ratio says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Quicker,
    Slower,
    /// Inside twice the noise.
    Inconclusive,
    /// Nothing is known of the noise.
    Unknown,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Quicker => "quicker",
            Verdict::Slower => "slower",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Unknown => "noise unknown",
        }
    }
}

impl Pair {
    /// How many times as long the other took.
    pub(super) fn ratio(&self) -> f64 {
        self.other.seconds / self.ours.seconds
    }

    /// The larger noise of both.
    pub(super) fn noise(&self) -> Option<f64> {
        [self.ours.noise, self.other.noise].into_iter().flatten().reduce(f64::max)
    }

    pub(super) fn verdict(&self) -> Verdict {
        let Some(noise) = self.noise() else { return Verdict::Unknown };
        // As a part of the quicker of both, so that exchanging them changes nothing.
        let apart = self.ratio().max(1.0 / self.ratio()) - 1.0;
        match (apart <= 2.0 * noise, self.ratio() > 1.0) {
            (true, _) => Verdict::Inconclusive,
            (false, true) => Verdict::Quicker,
            (false, false) => Verdict::Slower,
        }
    }

    pub(super) fn json(&self) -> Value {
        let shape: Value = serde_json::from_str(&self.case.shape).unwrap_or_default();
        json!({
            "bench": "compare", "op": self.case.op, "shape": shape, "dtype": self.case.dtype,
            "mode": self.case.mode, "other": self.who, "ours_seconds": self.ours.seconds,
            "other_seconds": self.other.seconds, "ratio": self.ratio(), "noise": self.noise(),
            "verdict": self.verdict().name(), "ours_error": self.ours.error, "other_error": self.other.error,
        })
    }
}

/// Ours of the last file that has any, beside ours of the file before it and beside all others'.
pub(super) fn pairs(files: &[Lines]) -> Result<Vec<Pair>> {
    let own: Vec<&Lines> = files.iter().filter(|file| !file.ours.is_empty()).collect();
    let (before, after) = match own[..] {
        [] => bail!("no file has lines of ours; give the lines of `bench kernels --json` too"),
        [after] => (None, after),
        [before, after] => (Some(before), after),
        _ => bail!("{} files have lines of ours; give two at most: before and after", own.len()),
    };
    if before.is_none() && files.iter().all(|file| file.others.is_empty()) {
        bail!(
            "{}: all lines are ours; give a second file, of before or of other programs (scripts/gpu-peers)",
            after.name
        );
    }
    let mut found = Vec::new();
    for (case, &ours) in &after.ours {
        let mut beside = |who: &str, ours: Measured, other: Measured| {
            found.push(Pair { case: case.clone(), ours, who: who.to_string(), other });
        };
        if let Some((before, other)) = before.and_then(|file| Some((file, file.ours.get(case)?))) {
            beside(&before.name, ours, *other);
        }
        for ((_, who), other) in files.iter().flat_map(|file| &file.others).filter(|((of, _), _)| of == case)
        {
            if !who.ends_with(BOTH_PASSES) {
                beside(who, ours, *other);
            } else if let Some(both) = with_forward(case, ours, after) {
                beside(who, both, *other);
            }
        }
    }
    Ok(found)
}

/// How the name of a program ends whose passes cannot be taken apart.
const BOTH_PASSES: &str = "(forward and backward)";

/// Ours of a gradient and of the pass before it; none where the latter was not measured.
fn with_forward(case: &Case, backward: Measured, file: &Lines) -> Option<Measured> {
    let op = format!("{}_forward", case.op.strip_suffix("_backward")?);
    let forward = file.ours.get(&Case { op, ..case.clone() })?;
    let most = |a: Option<f64>, b: Option<f64>| [a, b].into_iter().flatten().reduce(f64::max);
    Some(Measured {
        seconds: forward.seconds + backward.seconds,
        noise: most(forward.noise, backward.noise),
        error: most(forward.error, backward.error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ours: f64, other: f64, noise: Option<f64>) -> Pair {
        let measured = |seconds, noise| Measured { seconds, noise, error: None };
        let [op, shape, dtype, mode] = ["a", "{}", "f32", "hot"].map(str::to_string);
        let case = Case { op, shape, dtype, mode };
        Pair { case, ours: measured(ours, noise), who: "b".into(), other: measured(other, None) }
    }

    #[test]
    fn a_program_that_does_both_passes_is_set_beside_both_of_ours() {
        let line = |op: &str, rest: &str, median: f64| {
            format!(
                r#"{{{rest},"op":"{op}","shape":{{"N":8}},"dtype":"f32","seconds":{{"median":{median},"noise":0.01}}}}"#
            )
        };
        let ours = |op, median| line(op, r#""bench":"kernels","mode":"hot""#, median);
        let peer = line("head_backward", r#""bench":"peers","peer":"torch (forward and backward)""#, 5.0);
        let together = [ours("head_forward", 1.0), ours("head_backward", 3.0), peer.clone()].join("\n");
        let found = pairs(&[Lines::parse("file", &together)]).unwrap();
        assert_eq!((found.len(), found[0].ours.seconds, found[0].ratio()), (1, 4.0, 1.25));
        let alone = [ours("head_backward", 3.0), peer].join("\n");
        assert!(pairs(&[Lines::parse("file", &alone)]).unwrap().is_empty());
    }

    #[test]
    fn what_is_inside_twice_the_noise_is_inconclusive_either_way() {
        assert_eq!(pair(1.0, 1.09, Some(0.05)).verdict(), Verdict::Inconclusive);
        assert_eq!(pair(1.09, 1.0, Some(0.05)).verdict(), Verdict::Inconclusive);
        assert_eq!(pair(1.0, 1.11, Some(0.05)).verdict(), Verdict::Quicker);
        assert_eq!(pair(1.11, 1.0, Some(0.05)).verdict(), Verdict::Slower);
        assert_eq!(pair(1.0, 2.0, None).verdict(), Verdict::Unknown);
    }
}
