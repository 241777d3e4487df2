use reskill_model::{ModelConfig, PackedBatch, Transformer, Workspace};

use crate::reference::Reference;
use crate::support::{bits, config, families, model, tokens};

fn hidden(model: &Transformer, batch: &PackedBatch) -> Vec<f32> {
    let mut workspace = Workspace::new(model.config()).unwrap();
    model.forward(&mut workspace, batch).unwrap().as_slice().to_vec()
}

fn check(config: &ModelConfig, n: usize) {
    let model = model(config, 1);
    let tokens = tokens(n, config.vocab_size, 2);
    let got = hidden(&model, &PackedBatch::causal(&tokens).unwrap());
    let want = Reference::new(config, model.params()).hidden(&tokens).concat();
    for (got, want) in got.iter().zip(&want) {
        // Hidden states have size 1 after the last norm; two blocks of sums of some 30 terms in f32.
        assert!((f64::from(*got) - want).abs() < 2e-5, "{got} for {want}");
    }
}

#[test]
fn forward_equals_the_f64_version() {
    for n in [1, 2, 37] {
        families().iter().for_each(|config| check(config, n));
    }
    check(&ModelConfig { vocab_size: 40, ..ModelConfig::tiny() }, 33);
}

#[test]
fn forward_of_a_branch_equals_its_whole_prompt_to_the_bit() {
    families().iter().for_each(check_branches);
}

fn check_branches(config: &ModelConfig) {
    let model = model(config, 1);
    let (trunk, branches) = (tokens(9, 23, 2), [tokens(4, 23, 3), tokens(1, 23, 4), tokens(7, 23, 5)]);
    let mut batch = PackedBatch::causal(&tokens(5, 23, 6)).unwrap();
    let trunk_start = batch.push_trunk(&trunk).unwrap();
    // The last branch sees nothing of the trunk.
    let visible = [6, 9, 0];
    let starts: Vec<usize> = branches
        .iter()
        .zip(visible)
        .map(|(branch, visible)| batch.push_branch(branch, trunk_start, visible).unwrap())
        .collect();
    let packed = hidden(&model, &batch);
    for ((branch, visible), start) in branches.iter().zip(visible).zip(starts) {
        let prompt = [&trunk[..visible], branch].concat();
        let alone = hidden(&model, &PackedBatch::causal(&prompt).unwrap());
        let rows = start * 20..(start + branch.len()) * 20;
        assert_eq!(bits(&packed[rows]), bits(&alone[visible * 20..]));
    }
}

#[test]
fn forward_does_not_depend_on_what_the_workspace_held_before() {
    let config = config(false);
    let model = model(&config, 1);
    let (short, long) = (tokens(3, 23, 2), tokens(30, 23, 3));
    let short = PackedBatch::causal(&short).unwrap();
    let mut workspace = Workspace::new(&config).unwrap();
    model.forward(&mut workspace, &PackedBatch::causal(&long).unwrap()).unwrap();
    let after_long = model.forward(&mut workspace, &short).unwrap().as_slice().to_vec();
    assert_eq!(bits(&after_long), bits(&hidden(&model, &short)));
    assert_eq!(workspace.hidden().shape(), &[3, 20]);
}

#[test]
fn forward_refuses_tokens_and_positions_out_of_range() {
    let config = config(true);
    let model = model(&config, 1);
    let mut workspace = Workspace::new(&config).unwrap();
    let mut refused = |tokens: &[u32]| {
        model.forward(&mut workspace, &PackedBatch::causal(tokens).unwrap()).unwrap_err().to_string()
    };
    assert_eq!(refused(&[1, 23]), "embedding_forward: `tokens` = 23, expected < 23");
    assert_eq!(refused(&[0; 65]), "rope_forward: `positions` = 64, expected < 64 (max_position_embeddings)");
}

#[test]
fn config_names_the_field_that_no_model_can_have() {
    let refused = |edit: fn(&mut ModelConfig)| {
        let mut odd = config(true);
        edit(&mut odd);
        odd.validate().unwrap_err().to_string()
    };
    assert_eq!(
        refused(|c| c.num_key_value_heads = 3),
        "`num_attention_heads` = 4, expected a multiple of num_key_value_heads = 3"
    );
    assert_eq!(refused(|c| c.head_dim = 7), "`head_dim` = 7, expected an even number");
    assert_eq!(refused(|c| c.hidden_size = 0), "`hidden_size` = 0, expected a positive number");
    assert_eq!(refused(|c| c.rope_theta = f64::NAN), "`rope_theta` = NaN, expected > 0");
    assert_eq!(refused(|c| c.rms_norm_eps = -1.0), "`rms_norm_eps` = -1, expected >= 0");
}

#[test]
fn init_keeps_the_size_of_activations_and_depends_on_the_seed_alone() {
    let config = ModelConfig { vocab_size: 300, ..ModelConfig::tiny() };
    let init = |seed| Transformer::init(&config, &mut crate::support::rng(seed)).unwrap();
    let (a, b, c) = (init(1), init(1), init(2));
    assert_eq!(a.params(), b.params());
    assert_ne!(a.params(), c.params());
    let variance = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>() / x.len() as f64;
    let layer = &a.params().layers[0];
    // 28,800 and more draws: a variance is good to 1%, a bound of 5% is wide.
    for (tensor, want) in [
        (&a.params().embed, 1.0 / 96.0),
        (&layer.qkv, 1.0 / 96.0),
        (&layer.out, 1.0 / 128.0 / 6.0),
        (&layer.down, 1.0 / 256.0 / 6.0),
    ] {
        let got = variance(tensor.as_slice());
        assert!((got / want - 1.0).abs() < 0.05, "{got} for {want}");
    }
    assert!(layer.input_norm.as_slice().iter().all(|&x| x == 1.0));
}
