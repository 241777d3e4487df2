//! `reskill-cli bench env --env search`: how long a query takes, beside what every environment is measured by.

use std::time::Instant;

use anyhow::{Context, Result};
use reskill_envs::search::{SearchConfig, read_questions};

use super::env::{EnvBenchArgs, spread};
use super::report::Case;
use crate::search::open_retriever;

/// Milliseconds of single queries: the questions themselves, three passages each, on one thread. A round is the median of
/// its queries, and their 90th percentile.
pub(super) fn measure(args: &EnvBenchArgs) -> Result<Vec<Case>> {
    let data = args.data.as_deref().context("--data is missing")?;
    let config = SearchConfig::default();
    let retriever = open_retriever(&config, data)?;
    let questions = spread(&read_questions(data)?, args.games);
    let (mut medians, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let mut times = Vec::with_capacity(questions.len());
        for question in &questions {
            let start = Instant::now();
            std::hint::black_box(retriever.retrieve(&[&question.text], config.top_k)?);
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        medians.push(at(0.5));
        tails.push(at(0.9));
    }
    Ok(vec![
        Case::new("search: a query by words, median", "ms", medians),
        Case::new("search: a query by words, 90th percentile", "ms", tails),
    ])
}
