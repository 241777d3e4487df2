use reskill_grpo::{Packing, TokenTrajectory, TokenTurn};

use crate::support::{random_trajectories, token};

fn turn(trunk: &[u32], branch: &[u32], reply: &[(u32, &[u32])]) -> TokenTurn {
    let reply = reply.iter().map(|(id, allowed)| token(*id, -0.5, allowed)).collect();
    TokenTurn { trunk: trunk.to_vec(), branch: branch.to_vec(), reply, invalid: false }
}

fn of_turns(turns: Vec<TokenTurn>) -> TokenTrajectory {
    TokenTrajectory { group: 0, stratum: 0, turns, return_: 0.0 }
}

/// Each trained token sits after the row that predicts it: that row ends the branch or the reply so far, at the position
/// it had in its own prompt.
fn check(trajectories: &[TokenTrajectory]) {
    let members: Vec<&TokenTrajectory> = trajectories.iter().collect();
    let packing = Packing::new(&members).unwrap();
    let mut trained = 0;
    for (index, trajectory) in trajectories.iter().enumerate() {
        let mut trunk_len = 0;
        for (turn_idx, turn) in trajectory.turns.iter().enumerate() {
            trunk_len += turn.trunk.len();
            let ids: Vec<u32> = turn.reply.iter().map(|token| token.token).collect();
            for (offset, reply_token) in turn.reply.iter().enumerate() {
                if reply_token.is_forced() {
                    continue;
                }
                let row = packing.rows.as_slice()[trained] as usize;
                let before = [&turn.branch[..], &ids[..offset]].concat();
                assert_eq!(packing.batch.tokens.as_slice()[row], before[before.len() - 1]);
                let position = packing.batch.positions.as_slice()[row] as usize;
                assert_eq!(position, trunk_len + before.len() - 1);
                assert_eq!(packing.targets.as_slice()[trained], reply_token.token);
                assert_eq!(packing.allowed.row(trained), reply_token.allowed);
                assert_eq!(packing.old_logprobs.as_slice()[trained], reply_token.logprob);
                assert_eq!(packing.origins[trained], (index, turn_idx));
                trained += 1;
            }
        }
    }
    assert_eq!(packing.rows.len(), trained);
}

#[test]
fn packing_matches_a_hand_made_episode() {
    let trajectory = of_turns(vec![
        turn(&[10, 11], &[20], &[(30, &[]), (31, &[31]), (32, &[32, 40])]),
        turn(&[12], &[21, 22], &[(33, &[])]),
    ]);
    let packing = Packing::new(&[&trajectory]).unwrap();
    // Trunk, then branch and reply without its last token.
    assert_eq!(packing.batch.tokens.as_slice(), &[10, 11, 12, 20, 30, 31, 21, 22]);
    assert_eq!(packing.batch.positions.as_slice(), &[0, 1, 2, 2, 3, 4, 3, 4]);
    // 30 after 20, 32 after 31 (31 was forced), 33 after 22.
    assert_eq!(packing.rows.as_slice(), &[3, 5, 7]);
    assert_eq!(packing.targets.as_slice(), &[30, 32, 33]);
    let seen: Vec<(usize, usize)> = packing.batch.segments.iter().map(|s| (s.prefix_len, s.len)).collect();
    assert_eq!(seen, [(0, 3), (2, 3), (3, 2)]);
    check(&[trajectory]);
}

#[test]
fn packing_predicts_each_token_from_the_row_before_it() {
    check(&random_trajectories(11, 1));
    check(&[of_turns(vec![turn(&[], &[1], &[(2, &[])]), turn(&[], &[3], &[(4, &[])])])]);
    check(&[of_turns(vec![turn(&[1], &[2], &[]), turn(&[], &[3], &[(4, &[4])])])]);
}

#[test]
fn packing_refuses_a_turn_without_a_branch() {
    let good = of_turns(vec![turn(&[1], &[2], &[(3, &[])])]);
    let bad = of_turns(vec![turn(&[1], &[2], &[(3, &[])]), turn(&[1], &[], &[(3, &[])])]);
    assert_eq!(
        Packing::new(&[&good, &bad]).unwrap_err().to_string(),
        "turn 1 of trajectory 1 has an empty branch"
    );
}

#[test]
fn split_keeps_order_and_respects_the_limit() {
    let trajectories = random_trajectories(20, 2);
    let members: Vec<&TokenTrajectory> = trajectories.iter().collect();
    for max_tokens in [1, 30, 64, 10_000] {
        let packs = Packing::split(&members, max_tokens);
        for pack in &packs {
            let tokens: usize = pack.iter().map(|trajectory| trajectory.packed_len()).sum();
            assert!(tokens <= max_tokens || pack.len() == 1);
            assert!(Packing::new(pack).unwrap().batch.len() <= tokens);
        }
        assert_eq!(packs.concat(), members);
    }
    assert_eq!(Packing::split(&members, 10_000).len(), 1);
    assert_eq!(Packing::split(&members, 1).len(), 20);
}
