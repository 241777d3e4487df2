//! dbg
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "x")]
#[path = "../tests/it/planted.rs"]
mod planted;
use planted::*;
use reskill_skills::*;
fn show(name: &str, world: World, config: &OfflineConfig, n: u64) {
    for seed in 0..n {
        let p = world.propose(seed, config);
        let Some(p) = p else { println!("{name} {seed}: NONE"); continue };
        let ok = p.operations.iter().filter_map(|o| o.content()).any(|c| world.is_answered_by(world.cause, c, seed));
        println!("{name} {seed}: {ok} {} | {:?}", p.operations.iter().filter_map(|o| o.content()).map(|c| format!("{} / {}", c.trigger, c.action)).collect::<Vec<_>>().join(" ;; "), p.artefacts.diagnosis.clusters.iter().map(|c| &p.artefacts.insights[c.representative].finding).collect::<Vec<_>>());
    }
}
fn main() {
    let d = OfflineConfig::default();
    show("90", World { n: 200, success: [0.99, 0.55], good: 0.8, ..World::of(Wording::Lab, Planted::TooEarly) }, &d, 10);
    show("conf", World { confounded: true, ..World::of(Wording::Lab, Planted::Repeats) }, &d, 10);
    show("10", World { n: 200, success: [0.35, 0.01], good: 0.27, ..World::of(Wording::Lab, Planted::TooEarly) }, &d, 10);
    let two = OfflineConfig { max_operations: 2, ..d.clone() };
    show("two", World { also: Planted::TooEarly, good: 0.6, n: 200, ..World::of(Wording::Lab, Planted::NeverLooks) }, &two, 10);
    show("two2", World { also: Planted::Repeats, good: 0.6, n: 200, ..World::of(Wording::Code, Planted::WrongOrder) }, &two, 10);
    show("null", World { n: 100, ..World::of(Wording::Web, Planted::Nothing) }, &d, 40);
}
