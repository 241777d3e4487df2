use reskill_model::decode::{DecodeOptions, Ending, reply};
use reskill_model::{Generator, Pretrained};

use crate::pretrained::fixture;
use crate::support::rng;

/// Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625 of tokens 3, 0, 4, 1, 2.
fn logits() -> Vec<f32> {
    [0.25_f32, 0.0625, 0.0625, 0.5, 0.125].iter().map(|p| p.ln()).collect()
}

fn drawn(options: &DecodeOptions) -> Vec<u32> {
    let mut rng = rng(1);
    let mut seen: Vec<u32> = (0..2000).map(|_| options.pick(&logits(), &mut rng)).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn limits_leave_the_tokens_that_their_definitions_name() {
    let plain = DecodeOptions::default();
    assert_eq!(drawn(&plain), [0, 1, 2, 3, 4]);
    assert_eq!(drawn(&DecodeOptions { temperature: 0.0, ..plain.clone() }), [3]);
    assert_eq!(drawn(&DecodeOptions { top_k: 2, ..plain.clone() }), [0, 3]);
    // Half is reached by the first alone, 0.6 by two, 0.8 by three.
    assert_eq!(drawn(&DecodeOptions { top_p: 0.45, ..plain.clone() }), [3]);
    assert_eq!(drawn(&DecodeOptions { top_p: 0.6, ..plain.clone() }), [0, 3]);
    assert_eq!(drawn(&DecodeOptions { top_p: 0.8, ..plain.clone() }), [0, 3, 4]);
    assert_eq!(drawn(&DecodeOptions { min_p: 0.2, ..plain.clone() }), [0, 3, 4]);
    assert_eq!(drawn(&DecodeOptions { min_p: 1.0, ..plain }), [3]);
}

#[test]
fn draws_follow_the_probabilities() {
    let options = DecodeOptions::default();
    let mut rng = rng(2);
    let hits = (0..8000).filter(|_| options.pick(&logits(), &mut rng) == 3).count();
    // Half of 8000; four standard deviations of a binomial are 179.
    assert!(hits.abs_diff(4000) < 179, "{hits}");
}

#[test]
fn replies_end_at_stop_texts_which_are_never_shown() {
    let pretrained = Pretrained::open(&fixture("tiny-qwen3.gguf")).unwrap();
    let (model, tokenizer) = (pretrained.model().unwrap(), pretrained.tokenizer().unwrap());
    let prompt = tokenizer.encode_text("the").unwrap();
    let say = |options: &DecodeOptions| {
        let mut generator = Generator::new(model.config(), 1, 64).unwrap();
        let mut shown = String::new();
        let said =
            reply(&model, &tokenizer, (&mut generator, 0), &prompt, options, &mut rng(4), &mut |text| {
                shown.push_str(text);
            })
            .unwrap();
        assert_eq!(shown, said.text);
        said
    };
    let free = DecodeOptions { max_new_tokens: 30, ..DecodeOptions::default() };
    let whole = say(&free);
    assert_eq!((whole.ending, whole.ids.len()), (Ending::Length, 30));
    // A stop text out of the middle of what is said, over the border of tokens.
    let middle: Vec<char> = whole.text.chars().collect();
    let stop: String = middle[middle.len() / 2..middle.len() / 2 + 4].iter().collect();
    let cut = say(&DecodeOptions { stop: vec![stop.clone()], ..free.clone() });
    assert_eq!(cut.ending, Ending::Stop);
    assert_eq!(cut.text, whole.text[..whole.text.find(&stop).unwrap()]);
    let ended = say(&DecodeOptions { end_tokens: vec![whole.ids[5]], ..free });
    assert_eq!(ended.ending, Ending::EndToken);
    assert!(ended.ids.len() <= 5 && ended.ids[..] == whole.ids[..ended.ids.len()]);
}
