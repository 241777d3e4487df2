use reskill_model::PolicyTokenizer;
use reskill_model::tokenizer::{END, UNKNOWN};

const TEXTS: [&str; 3] = ["Go to drawer 1.", "you open the Fridge 2", "go to <action>"];

fn tokenizer() -> PolicyTokenizer {
    PolicyTokenizer::word_level(TEXTS).unwrap()
}

fn check(tokenizer: &PolicyTokenizer, text: &str, want: &str) {
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), want);
}

#[test]
fn words_and_punctuation_become_one_token_each() {
    let tokenizer = tokenizer();
    check(&tokenizer, "go to drawer 1.", "go to drawer 1 .");
    check(&tokenizer, "GO   To\nfridge", "go to fridge");
    assert_eq!(tokenizer.encode("go to drawer 1.").unwrap().len(), 5);
    assert!(tokenizer.encode("").unwrap().is_empty());
}

#[test]
fn words_outside_the_vocabulary_become_unknown() {
    check(&tokenizer(), "go to spaceship 7", &format!("go to {UNKNOWN} {UNKNOWN}"));
}

#[test]
fn ids_follow_the_alphabet_whatever_the_order_of_the_texts() {
    let forward = tokenizer();
    let backward = PolicyTokenizer::word_level(TEXTS.into_iter().rev()).unwrap();
    assert_eq!(forward.encode(TEXTS[1]).unwrap(), backward.encode(TEXTS[1]).unwrap());
    // Two special tokens, then: . 1 2 < > action drawer fridge go open the to you
    assert_eq!(forward.vocab_size(), 15);
    assert_eq!(forward.end_token(), 1);
    assert_eq!(forward.encode("you").unwrap()[..], [14]);
}

#[test]
fn segments_are_encoded_alone_and_remembered() {
    let tokenizer = tokenizer();
    let whole = tokenizer.encode("open the fridge 2").unwrap();
    let parts: Vec<u32> =
        ["open the", "fridge 2"].iter().flat_map(|part| tokenizer.encode(part).unwrap().to_vec()).collect();
    assert_eq!(whole[..], parts);
    assert_eq!(tokenizer.encode("open the fridge 2").unwrap(), whole);
}

#[test]
fn a_saved_tokenizer_is_the_same_again() {
    let tokenizer = tokenizer();
    let path = std::env::temp_dir().join(format!("reskill-tokenizer-{}.json", std::process::id()));
    std::fs::write(&path, tokenizer.to_json().unwrap()).unwrap();
    let loaded = PolicyTokenizer::load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for text in TEXTS {
        assert_eq!(loaded.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    }
    assert_eq!(loaded.to_json().unwrap(), tokenizer.to_json().unwrap());
    assert_eq!((loaded.vocab_size(), loaded.end_token()), (15, 1));
    check(&loaded, END, END);
}

#[test]
fn a_missing_file_is_named() {
    let missing =
        PolicyTokenizer::load(std::path::Path::new("no/such/tokenizer.json")).unwrap_err().to_string();
    assert!(missing.starts_with("tokenizer: no/such/tokenizer.json: "), "{missing}");
}
