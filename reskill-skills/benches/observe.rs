//! Speed of taking in experience and of one proposal: `cargo bench -p reskill-skills --bench observe`.
//!
//! `observe`: 10,000 episodes of up to 14 turns in steps of 128, while nothing is tested; `assertions`: 15 of them over a
//! full reservoir; `propose`: the statistical creator on a full reservoir, where nothing is planted and where something
//! is. One JSON line each: best and median milliseconds of seven runs. The aim for `observe` is 100 ms.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its result and may stop")]
#![expect(dead_code, reason = "the worlds of the tests hold more than is measured here")]

#[path = "../tests/it/planted.rs"]
mod planted;
#[path = "../tests/it/world.rs"]
mod world;

use std::time::Instant;

use planted::{Planted, Wording, World};
use reskill_skills::assertion::{Assertion, AssertionEdit, AssertionReport, AssertionSet, Check};
use reskill_skills::{Lifecycle, LifecycleConfig, OfflineConfig, SkillBank};

fn report(name: &str, mut work: impl FnMut()) {
    let mut millis: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    println!(r#"{{"bench":"{name}","best_ms":{:.2},"median_ms":{:.2}}}"#, millis[0], millis[3]);
}

fn main() {
    let episodes = world::batch(0, 1250, 8, world::FORGETFUL, 5);
    assert_eq!(episodes.len(), 10_000);
    report("observe 10000 episodes", || {
        let mut lifecycle = Lifecycle::new(LifecycleConfig::default(), SkillBank::default()).unwrap();
        for (step, part) in episodes.chunks(128).enumerate() {
            lifecycle.observe(step.try_into().unwrap(), part).unwrap();
        }
    });
    let put = |index: usize| {
        let pattern = format!("^(go to|open|take) .*{index}").try_into().unwrap();
        let check = Check::ActionCount { pattern, min: 1, max: Some(3) };
        AssertionEdit::Put(Assertion { name: format!("a{index}"), description: String::new(), check })
    };
    let set = AssertionSet::default().apply(&(0..15).map(put).collect::<Vec<_>>()).unwrap();
    report("15 assertions over 200 episodes", || {
        std::hint::black_box(AssertionReport::of(&set, &episodes[..200]));
    });
    for cause in [Planted::Nothing, Planted::Missing] {
        let world = World { n: 200, ..World::of(Wording::Lab, cause) };
        report(&format!("propose from 200 episodes, planted: {cause:?}"), || {
            std::hint::black_box(world.propose(1, &OfflineConfig::default()));
        });
    }
}
