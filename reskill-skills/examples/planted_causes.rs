//! How often the statistical creator finds a planted cause of failure, and how often it sees one where there is none.
//!
//! `cargo run --release -p reskill-skills --example planted_causes -- 200` (seeds a cell)
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people")]

#[path = "../tests/it/planted.rs"]
mod planted;

use std::time::Instant;

use planted::{CAUSES, Planted, WORDINGS, World, answered, proposed, without_cause};
use reskill_skills::creator::{Creator, CreatorInput};
use reskill_skills::{OfflineConfig, OfflineCreator};

/// Name of a setting, and what it changes.
type Setting = (&'static str, fn(World) -> World);

fn main() {
    let n: u64 = std::env::args().nth(1).map_or(100, |text| text.parse().unwrap());
    let (start, mut calls) = (Instant::now(), 0);
    let settings: [Setting; 9] = [
        ("150 episodes, success .85/.20", |world| world),
        ("100 episodes", |world| World { n: 100, ..world }),
        ("200 episodes, 4 a task", |world| World { n: 200, per_task: 4, ..world }),
        ("200 episodes, 2 a task", |world| World { n: 200, per_task: 2, ..world }),
        ("10% success (.35/.01)", |world| World { n: 200, success: [0.35, 0.01], good: 0.27, ..world }),
        ("10% success (.90/.02)", |world| World { n: 200, success: [0.9, 0.02], good: 0.09, ..world }),
        ("90% success (.99/.55)", |world| World { n: 200, success: [0.99, 0.55], good: 0.8, ..world }),
        ("30% avoid it", |world| World { good: 0.3, ..world }),
        ("confounded families", |world| World { confounded: true, ..world }),
    ];
    println!("share of {n} seeds whose first skill answers the planted cause");
    println!(
        "{:<31}{:<8}{}",
        "",
        "",
        CAUSES.map(|cause| format!("{cause:?}")).map(|it| format!("{it:>11}")).concat()
    );
    for (name, change) in settings {
        for wording in WORDINGS {
            let cells = CAUSES.map(|cause| {
                let rate = answered(change(World::of(wording, cause)), n);
                calls += n;
                format!("{:>11.3}", rate as f64 / n as f64)
            });
            println!("{name:<31}{:<8}{}", format!("{wording:?}"), cells.concat());
        }
    }
    println!("\nshare of seeds with any proposal where outcomes do not depend on actions");
    for (name, change) in settings {
        let cells = WORDINGS.map(|wording| {
            let rate = proposed(change(World::of(wording, Planted::Nothing)), n);
            calls += n;
            format!("{:>11.3}", rate as f64 / n as f64)
        });
        println!("{name:<31}{}", cells.concat());
    }
    for cause in CAUSES {
        let cells = WORDINGS.map(|wording| {
            let world = World::of(wording, cause);
            let vocabulary = wording.vocabulary();
            let hits = (0..n).filter(|seed| {
                let episodes = without_cause(world, *seed);
                let input = CreatorInput::new(&episodes, &vocabulary);
                OfflineCreator::default().propose(&input.context()).unwrap().is_some()
            });
            format!("{:>11.3}", hits.count() as f64 / n as f64)
        });
        println!("{:<31}{}", format!("{cause:?}, outcomes shuffled"), cells.concat());
    }
    println!("\ntwo causes at once: share of seeds in which both are answered with max_operations = 2");
    let config = OfflineConfig { max_operations: 2, ..OfflineConfig::default() };
    for (cause, also) in [
        (Planted::Missing, Planted::Trap),
        (Planted::WrongOrder, Planted::Repeats),
        (Planted::NeverLooks, Planted::TooEarly),
    ] {
        let cells = WORDINGS.map(|wording| {
            let world = World { also, good: 0.6, n: 200, ..World::of(wording, cause) };
            let hits = (0..n).filter(|seed| {
                let Some(proposal) = world.propose(*seed, &config) else { return false };
                [cause, also].iter().all(|cause| {
                    let contents = proposal.operations.iter().filter_map(|it| it.content());
                    contents.into_iter().any(|content| world.is_answered_by(*cause, content, *seed))
                })
            });
            format!("{:>11.3}", hits.count() as f64 / n as f64)
        });
        println!("{:<31}{}", format!("{cause:?} and {also:?}"), cells.concat());
    }
    println!("\n{calls} calls in the first two tables, {:.0} s in all", start.elapsed().as_secs_f64());
}
