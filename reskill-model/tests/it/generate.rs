use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::{TokenSets, linear_logprob_forward};
use reskill_kernels::{Device, Tensor};
use reskill_model::constraint::Unconstrained;
use reskill_model::generate::PROMPT_ROWS;
use reskill_model::{
    Generator, Next, PackedBatch, Reply, Request, SamplingParams, TokenConstraint, TokenTrie, Transformer,
    Workspace,
};

use crate::support::{bits, config, families, model, rng, tokens};

const END: u32 = 22;
const PARAMS: SamplingParams = SamplingParams { temperature: 0.8, max_new_tokens: 9, end_token: END };

/// Commands with common beginnings, one of which begins another.
fn trie() -> TokenTrie {
    TokenTrie::new(&[&[1, 2, 3], &[1, 2, 4, 5], &[1, 2, 4], &[6, 7, 8, 9, 10], &[6, 7, 11]], END)
}

/// Prompts of odd lengths, by turns free and constrained.
fn prompts() -> Vec<Vec<u32>> {
    (0..12).map(|i| tokens(1 + (7 * i) % 17, 22, 100 + i as u64)).collect()
}

/// Replies to some of the prompts, each in a slot of its own number.
fn replies(model: &Transformer, which: &[usize], params: &SamplingParams) -> (Vec<Reply>, Generator) {
    let prompts = prompts();
    let trie = trie();
    let mut generator = Generator::new(model.config(), prompts.len(), 40).unwrap();
    let mut requests: Vec<Request<'_, ChaCha8Rng>> = which
        .iter()
        .map(|&i| Request {
            slot: i,
            tokens: &prompts[i],
            constraint: if i % 2 == 0 { &Unconstrained } else { &trie },
            rng: rng(i as u64),
        })
        .collect();
    (generator.generate(model, &mut requests, params).unwrap().0, generator)
}

/// Log-probabilities that training computes for the tokens of a reply.
fn trained_logprobs(model: &Transformer, prompt: &[u32], reply: &Reply, temperature: f32) -> Vec<f32> {
    let ids = reply.ids();
    let batch = PackedBatch::causal(&[prompt, &ids[..ids.len() - 1]].concat()).unwrap();
    let mut workspace = Workspace::new(model.config()).unwrap();
    let c = model.config().hidden_size;
    let hidden = model.forward(&mut workspace, &batch).unwrap().as_slice()[(prompt.len() - 1) * c..].to_vec();
    let n = ids.len();
    let mut allowed = TokenSets::new();
    reply.tokens.iter().for_each(|token| allowed.push(&token.allowed));
    let column = || Tensor::zeros(&[n], &Device::Cpu).unwrap();
    let (mut logprobs, mut entropy, mut lse) = (column(), column(), column());
    linear_logprob_forward(
        &mut logprobs,
        &mut entropy,
        &mut lse,
        &Tensor::from_vec(&[n, c], hidden).unwrap(),
        model.params().head(),
        &Tensor::from_vec(&[n], ids).unwrap(),
        &allowed,
        temperature,
    )
    .unwrap();
    logprobs.as_slice().to_vec()
}

fn logprobs(reply: &Reply) -> Vec<f32> {
    reply.tokens.iter().map(|token| token.logprob).collect()
}

#[test]
fn replies_do_not_depend_on_the_batch_to_the_bit() {
    for config in families() {
        let model = model(&config, 1);
        let all: Vec<usize> = (0..12).collect();
        let (together, _) = replies(&model, &all, &PARAMS);
        for (i, among_others) in together.iter().enumerate() {
            let (alone, _) = replies(&model, &[i], &PARAMS);
            assert_eq!(alone[0].ids(), among_others.ids());
            assert_eq!(bits(&logprobs(&alone[0])), bits(&logprobs(among_others)));
            let (pair, _) = replies(&model, &[(i + 5) % 12, i], &PARAMS);
            assert_eq!(&pair[1], among_others);
        }
    }
}

#[test]
fn replies_carry_the_log_probabilities_of_training_to_the_bit() {
    for config in families() {
        let model = model(&config, 1);
        let all: Vec<usize> = (0..12).collect();
        let (replies, _) = replies(&model, &all, &PARAMS);
        for (prompt, reply) in prompts().iter().zip(&replies) {
            let trained = trained_logprobs(&model, prompt, reply, PARAMS.temperature);
            assert_eq!(bits(&logprobs(reply)), bits(&trained));
        }
    }
}

#[test]
fn replies_at_temperature_zero_are_the_likeliest_tokens() {
    let model = model(&config(true), 1);
    let greedy = SamplingParams { temperature: 0.0, ..PARAMS };
    let (replies, _) = replies(&model, &[0, 2, 4], &greedy);
    for (i, reply) in [0, 2, 4].into_iter().zip(replies) {
        let reference = crate::reference::Reference::new(model.config(), model.params());
        let mut sequence = prompts()[i].clone();
        for token in reply.ids() {
            let hidden = reference.hidden(&sequence);
            let logprobs = reference.logprobs(&hidden[hidden.len() - 1], &[], 1.0);
            let best = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(logprobs[token as usize] > best - 1e-5);
            sequence.push(token);
        }
    }
}

#[test]
fn replies_under_a_trie_are_its_sequences_and_forced_tokens_carry_no_log_probability() {
    let model = model(&config(true), 1);
    let (replies, _) = replies(&model, &[1, 3, 5, 7, 9, 11], &PARAMS);
    for reply in replies {
        assert!(trie().resolve(&reply.ids()).is_some(), "{:?}", reply.ids());
        assert!(!reply.truncated);
        for token in &reply.tokens {
            assert!(token.allowed.contains(&token.token));
            assert_eq!(token.is_forced(), token.allowed.len() == 1);
            assert!(if token.is_forced() { token.logprob == 0.0 } else { token.logprob < 0.0 });
        }
        // After 1 comes 2, after 6 comes 7, without a choice.
        assert_eq!(
            reply.tokens.iter().map(|token| token.is_forced()).collect::<Vec<_>>()[..2],
            [false, true]
        );
    }
}

#[test]
fn replies_end_with_the_end_token_or_are_truncated() {
    let model = model(&config(true), 1);
    let all: Vec<usize> = (0..6).map(|i| 2 * i).collect();
    let mut n_truncated = 0;
    for max_new_tokens in [0, 1, 3, 20] {
        let (replies, _) =
            replies(&model, &all, &SamplingParams { temperature: 3.0, max_new_tokens, ..PARAMS });
        for reply in replies {
            let ended = reply.ids().last() == Some(&END);
            assert_eq!(reply.truncated, !ended);
            assert!(if ended {
                reply.tokens.len() <= max_new_tokens
            } else {
                reply.tokens.len() == max_new_tokens
            });
            assert!(!reply.ids()[..reply.tokens.len().saturating_sub(1)].contains(&END));
            n_truncated += usize::from(reply.truncated);
        }
    }
    assert!((12..24).contains(&n_truncated), "some replies end by themselves: {n_truncated}");
}

#[test]
fn slots_hold_the_request_and_the_reply_without_its_last_token() {
    /// Three tokens, the last two of them forced.
    struct Tail;
    impl TokenConstraint for Tail {
        fn next(&self, generated: &[u32]) -> Next {
            match generated.len() {
                0 => Next::OneOf(vec![3, 4]),
                n @ 1..3 => Next::OneOf(vec![n as u32]),
                _ => Next::OneOf(vec![]),
            }
        }
    }
    let model = model(&config(true), 1);
    let only = TokenTrie::new(&[&[5, 6]], END);
    let cases: [(&dyn TokenConstraint, usize); 4] =
        [(&Tail, 3), (&only, 0), (&trie(), 3), (&Unconstrained, 9)];
    for (constraint, longest) in cases {
        let mut generator = Generator::new(model.config(), 1, 40).unwrap();
        let mut requests = [Request { slot: 0, tokens: &[1, 2, 3], constraint, rng: rng(1) }];
        let (replies, n_run) = generator.generate(&model, &mut requests, &PARAMS).unwrap();
        let ids = replies[0].ids();
        assert!(ids.len() <= longest.max(4));
        let held = 3 + ids.len().saturating_sub(1);
        assert_eq!((generator.cache().len(0), n_run), (held, held));
        // And it goes on as if the whole had been run at once.
        let go_on = |generator: &mut Generator| {
            let mut requests = [Request { slot: 0, tokens: &[9], constraint: &Unconstrained, rng: rng(2) }];
            generator.generate(&model, &mut requests, &PARAMS).unwrap().0
        };
        let mut fresh = Generator::new(model.config(), 1, 40).unwrap();
        let sequence = [&[1, 2, 3], &ids[..ids.len().saturating_sub(1)]].concat();
        assert_eq!(fresh.extend(&model, &[(0, &sequence)]).unwrap(), held);
        assert_eq!(go_on(&mut generator), go_on(&mut fresh));
    }
}

#[test]
fn generation_refuses_to_outgrow_the_context_and_leaves_the_slots_as_they_were() {
    let model = model(&config(true), 1);
    let mut generator = Generator::new(model.config(), 2, 10).unwrap();
    generator.extend(&model, &[(0, &[1, 2, 3]), (1, &[1; 8])]).unwrap();
    let refused = generator.extend(&model, &[(0, &[4, 5]), (1, &[6, 7, 8])]).unwrap_err();
    assert_eq!(refused.to_string(), "a sequence of 11 tokens does not fit the context of 10");
    assert_eq!((generator.cache().len(0), generator.cache().len(1)), (3, 8));
    let refused = generator.extend(&model, &[(0, &[4, 99])]).unwrap_err();
    assert_eq!(refused.to_string(), "embedding_forward: `tokens` = 99, expected < 23");
    assert_eq!(generator.cache().len(0), 3);
    assert_eq!(
        Generator::new(model.config(), 1, 65).unwrap_err().to_string(),
        "a sequence of 65 tokens does not fit the context of 64"
    );
}

#[test]
fn generation_refuses_a_request_without_tokens() {
    let model = model(&config(true), 1);
    let mut generator = Generator::new(model.config(), 2, 10).unwrap();
    let mut requests = [
        Request { slot: 0, tokens: &[1], constraint: &Unconstrained, rng: rng(1) },
        Request { slot: 1, tokens: &[], constraint: &Unconstrained, rng: rng(2) },
    ];
    let refused = generator.generate(&model, &mut requests, &PARAMS).unwrap_err();
    assert_eq!(refused.to_string(), "slot 1 was given no token to run");
    assert_eq!(generator.extend(&model, &[(0, &[])]).unwrap(), 0);
}

#[test]
fn prompts_beyond_one_pass_give_the_replies_of_each_alone() {
    let model = model(&config(true), 3);
    let n = PROMPT_ROWS / 38 + 2;
    let prompts: Vec<Vec<u32>> = (0..n).map(|i| tokens(38, 22, i as u64)).collect();
    let run = |which: &[usize]| {
        let mut generator = Generator::new(model.config(), n, 40).unwrap();
        let mut requests: Vec<Request<'_, ChaCha8Rng>> = which
            .iter()
            .map(|&i| Request {
                slot: i,
                tokens: &prompts[i],
                constraint: &Unconstrained,
                rng: rng(i as u64),
            })
            .collect();
        let params = SamplingParams { max_new_tokens: 2, ..PARAMS };
        generator.generate(&model, &mut requests, &params)
    };
    let (all, n_run) = run(&(0..n).collect::<Vec<_>>()).unwrap();
    assert!(n_run > PROMPT_ROWS);
    for which in [0, 1, n / 2, n - 2, n - 1] {
        assert_eq!(run(&[which]).unwrap().0[0], all[which], "slot {which}");
    }
}

#[test]
fn a_prompt_that_fails_in_a_later_pass_leaves_all_slots_as_they_were() {
    let model = model(&config(true), 3);
    let n = PROMPT_ROWS / 38 + 2;
    let mut prompts: Vec<Vec<u32>> = (0..n).map(|i| tokens(38, 22, i as u64)).collect();
    prompts[n - 1] = vec![23];
    let mut generator = Generator::new(model.config(), n, 40).unwrap();
    let slots: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    let message = generator.extend(&model, &slots).unwrap_err().to_string();
    assert!(message.contains("`tokens` = 23, expected < 23"), "{message}");
    assert!(generator.cache().is_empty());
}
