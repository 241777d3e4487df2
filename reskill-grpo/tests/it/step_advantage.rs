use reskill_grpo::{
    AdvantageConfig, Anchor, Singleton, StdNorm, StepAdvantageConfig, StepOutcome, TokenTrajectory,
    turn_advantages, turn_advantages_with_steps,
};

use crate::support::trajectory;

fn steps(of: &[(&str, f32)]) -> Vec<StepOutcome> {
    of.iter().map(|&(anchor, reward)| StepOutcome { anchor: Anchor(anchor.into()), reward }).collect()
}

fn config(weight: f64) -> AdvantageConfig {
    AdvantageConfig {
        std_norm: StdNorm::None,
        step: Some(StepAdvantageConfig { weight, gamma: 0.5, std_norm: StdNorm::None }),
        ..AdvantageConfig::default()
    }
}

/// Two rollouts of one task that part ways in the kitchen, and one of another task that sees the same words.
fn world() -> (Vec<TokenTrajectory>, Vec<Vec<StepOutcome>>) {
    let trajectories =
        vec![trajectory(0, 1.0, 2, &[]), trajectory(0, 0.0, 3, &[]), trajectory(5, 1.0, 1, &[])];
    let all = vec![
        steps(&[("start", 0.0), ("kitchen", 1.0)]),
        steps(&[("start", 0.0), ("kitchen", 0.0), ("kitchen", 0.0)]),
        steps(&[("start", 1.0)]),
    ];
    (trajectories, all)
}

#[test]
fn turns_in_one_state_are_compared_by_what_followed() {
    let (trajectories, steps) = world();
    let advantages = turn_advantages_with_steps(&trajectories, &steps, &config(2.0)).unwrap();
    // Start: discounted 0.5 and 0, mean 0.25. Kitchen: 1, 0, 0, mean 1/3. Episodes: +-0.5. The other task stands alone.
    let third = 1.0 / 3.0;
    let want = [
        vec![0.5 + 2.0 * 0.25, 0.5 + 2.0 * 2.0 * third],
        vec![-0.5 - 2.0 * 0.25, -0.5 - 2.0 * third, -0.5 - 2.0 * third],
        vec![0.0],
    ];
    for (got, want) in advantages.concat().iter().zip(want.concat()) {
        assert!((f64::from(*got) - want).abs() < 1e-6, "{got} for {want}");
    }
}

#[test]
fn without_weight_or_without_the_option_the_episode_alone_counts() {
    let (trajectories, steps) = world();
    let plain = turn_advantages(&trajectories, &AdvantageConfig { step: None, ..config(1.0) }).unwrap();
    assert_eq!(turn_advantages_with_steps(&trajectories, &steps, &config(0.0)).unwrap(), plain);
    let none = AdvantageConfig { step: None, ..config(1.0) };
    assert_eq!(turn_advantages_with_steps(&trajectories, &[], &none).unwrap(), plain);
}

#[test]
fn a_state_met_once_follows_the_rule_of_singletons() {
    let (trajectories, steps) = world();
    let raw = AdvantageConfig { singleton: Singleton::Raw, ..config(1.0) };
    let advantages = turn_advantages_with_steps(&trajectories, &steps, &raw).unwrap();
    // Its episode is alone, too: 1, and 1 for the turn.
    assert_eq!(advantages[2], [2.0]);
}

#[test]
fn steps_that_do_not_fit_or_are_not_finite_are_refused() {
    let (trajectories, mut steps) = world();
    let refused = |steps: &[Vec<StepOutcome>]| {
        turn_advantages_with_steps(&trajectories, steps, &config(1.0)).unwrap_err().to_string()
    };
    assert_eq!(refused(&steps[..2]), "`trajectories` has 3 entries, `steps` has 2");
    steps[1][2].reward = f32::NAN;
    assert_eq!(refused(&steps), "the reward of turn 2 of trajectory 1 is NaN");
    steps[1].pop();
    assert_eq!(refused(&steps), "`turns` has 3 entries, `steps` has 2");
    let odd = StepAdvantageConfig { gamma: 1.5, ..StepAdvantageConfig::default() };
    assert_eq!(
        odd.validate().unwrap_err().to_string(),
        "`advantage.step.gamma` = 1.5, expected a number in [0, 1]"
    );
}
