use reskill_model::decode::{DecodeOptions, Ending, reply};
use reskill_model::{Engine, EngineConfig, Pretrained};

use crate::pretrained::fixture;
use crate::support::rng;

#[test]
fn replies_end_at_stop_texts_which_are_never_shown() {
    let pretrained = Pretrained::open(&fixture("tiny-qwen3.gguf")).unwrap();
    let (model, tokenizer) = (pretrained.model().unwrap(), pretrained.tokenizer().unwrap());
    let prompt = tokenizer.encode_text("the").unwrap();
    let say = |options: &DecodeOptions| {
        let sizes = EngineConfig { max_len: 64, ..EngineConfig::for_model(model.config()) };
        let mut engine = Engine::new(model.config(), sizes).unwrap();
        let mut shown = String::new();
        let said = reply(&model, &tokenizer, &mut engine, &prompt, options, rng(4), &mut |text| {
            shown.push_str(text);
        })
        .unwrap();
        assert_eq!(shown, said.text);
        said
    };
    let free = DecodeOptions { max_new_tokens: 30, ..DecodeOptions::default() };
    let whole = say(&free);
    assert_eq!((whole.ending, whole.tokens.len()), (Ending::Length, 30));
    // A stop text out of the middle of what is said, over the border of tokens.
    let middle: Vec<char> = whole.text.chars().collect();
    let stop: String = middle[middle.len() / 2..middle.len() / 2 + 4].iter().collect();
    let cut = say(&DecodeOptions { stop: vec![stop.clone()], ..free.clone() });
    assert_eq!(cut.ending, Ending::Stop);
    assert_eq!(cut.text, whole.text[..whole.text.find(&stop).unwrap()]);
    let ended = say(&DecodeOptions { end_tokens: vec![whole.ids()[5]], ..free });
    assert_eq!(ended.ending, Ending::EndToken);
    assert!(ended.tokens.len() <= 5 && ended.tokens[..] == whole.tokens[..ended.tokens.len()]);
}
