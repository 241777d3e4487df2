//! The course of each version test: the posterior of both arms, and which is likely the better one.

use reskill_skills::version_test::Beta;

use crate::report::axis::Axis;
use crate::report::beta::central_interval;
use crate::report::chart::Chart;
use crate::report::data::RunData;
use crate::report::format::percent;
use crate::report::html::{legend, text};
use crate::report::trials::{Looked, Trial};

/// Share of the posterior inside a band.
const BAND: f64 = 0.9;

/// One arm of a test at one step.
type ArmOf = fn(&Looked) -> Beta;

/// The posterior over the steps of each test, all to one scale.
pub(super) fn courses(data: &RunData, trials: &[Trial<'_>]) -> String {
    let courses: Vec<(&Trial<'_>, Vec<Looked>)> = trials
        .iter()
        .map(|trial| (trial, trial.course(&data.steps)))
        .filter(|(_, course)| !course.is_empty())
        .collect();
    if courses.is_empty() {
        return String::new();
    }
    let bands = courses.iter().flat_map(|(_, course)| course).flat_map(|looked| [looked.old, looked.new]);
    let (low, high) = bands
        .map(|arm| central_interval(arm, BAND))
        .fold((1.0_f64, 0.0_f64), |(low, high), band| (low.min(band.0), high.max(band.1)));
    let longest = courses
        .iter()
        .flat_map(|(trial, course)| course.iter().map(|looked| looked.step.saturating_sub(trial.started())))
        .max()
        .unwrap_or(1);
    let figures: String = courses
        .iter()
        .map(|(trial, course)| {
            format!(
                "<figure><figcaption><b>{}</b> {} <small>after step {}</small></figcaption>{}{}</figure>\n",
                text(&trial.title()),
                trial.badge(),
                trial.started(),
                posterior_chart(trial, course, &Axis::shares_between(low, high), longest),
                probability_chart(trial, course, longest),
            )
        })
        .collect();
    let legend = legend(&[
        ("swatch old", "old version"),
        ("swatch new", "new version: posterior mean of success and 90% band"),
        ("swatch probability", "below: P(new better)"),
        ("swatch share", "below: share of the step\u{2019}s episodes that played the new version"),
    ]);
    format!(
        "<h3>Course of the tests <small>by step of the test</small></h3>\n{legend}<div class=\"grid\">{figures}</div>\n"
    )
}

/// Both arms: mean and band.
fn posterior_chart(trial: &Trial<'_>, course: &[Looked], y: &Axis, longest: u64) -> String {
    // The chart below has the labels of the steps.
    let x = Axis { ticks: Vec::new(), ..Axis::counting(1, longest) };
    let mut chart = Chart::new(320.0, 140.0, x, y.clone());
    let arms: [(&str, ArmOf, f64); 2] =
        [("old", |looked| looked.old, -2.5), ("new", |looked| looked.new, 2.5)];
    for (class, arm, shift) in arms {
        let interval = |looked: &Looked| central_interval(arm(looked), BAND);
        let band: Vec<(f64, f64, f64)> =
            course.iter().map(|looked| (at(trial, looked), interval(looked).0, interval(looked).1)).collect();
        chart.band(class, &band);
        if let [only] = course {
            chart.whisker(class, at(trial, only), interval(only), shift);
        }
    }
    for (class, arm, _) in arms {
        let mean = |looked: &Looked| arm(looked).mean();
        let line: Vec<(f64, Option<f64>)> =
            course.iter().map(|looked| (at(trial, looked), Some(mean(looked)))).collect();
        chart.line(class, &line);
        for looked in course {
            let (low, high) = central_interval(arm(looked), BAND);
            let hover = format!(
                "step {}, {class} version: mean {}, 90% band {} to {}",
                looked.step,
                percent(mean(looked)),
                percent(low),
                percent(high)
            );
            chart.dot(class, (at(trial, looked), mean(looked)), 2.6, &hover);
        }
    }
    chart.finish("posterior of success of the old and the new version by step of the test")
}

fn probability_chart(trial: &Trial<'_>, course: &[Looked], longest: u64) -> String {
    let y = Axis { low: 0.0, high: 1.0, ticks: vec![0.0, 0.5, 1.0], label: |p| format!("{p:.1}") };
    let mut chart = Chart::new(320.0, 84.0, Axis::counting(1, longest), y);
    let line: Vec<(f64, Option<f64>)> =
        course.iter().map(|looked| (at(trial, looked), Some(looked.p_new_better))).collect();
    let shares: Vec<(f64, Option<f64>)> =
        course.iter().map(|looked| (at(trial, looked), looked.share)).collect();
    chart.horizontal("even", 0.5);
    chart.line("share", &shares);
    chart.line("probability", &line);
    for looked in course {
        let share = looked
            .share
            .map_or(String::new(), |share| format!(", {} played the new version", percent(share)));
        let hover = format!("step {}: P(new better) {:.3}{share}", looked.step, looked.p_new_better);
        chart.dot("probability", (at(trial, looked), looked.p_new_better), 2.6, &hover);
    }
    chart.finish("probability that the new version is better, and share of episodes that played it, by step of the test")
}

/// Step of the test, from 1.
fn at(trial: &Trial<'_>, looked: &Looked) -> f64 {
    looked.step.saturating_sub(trial.started()) as f64
}
