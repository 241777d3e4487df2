//! One record as a question: the names that the published sets use for the same things.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Part, Question};
use crate::search::dataset::Dataset;

/// What a file's name says of its questions: `nq.jsonl`, `musique_train.jsonl`.
pub(super) struct Origin {
    stem: String,
    part: Part,
}

impl Origin {
    pub(super) fn of(path: &Path) -> Origin {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.split('.').next().unwrap_or_default().to_lowercase();
        let part_of = |ending: &str| if ending == "train" { Part::Train } else { Part::HeldOut };
        // `train.parquet` in the folder of a set, `nq_train.jsonl` beside others.
        if ["train", "dev", "test", "validation"].contains(&name.as_str()) {
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            return Origin { stem: folder.to_string_lossy().into_owned(), part: part_of(&name) };
        }
        match name.rsplit_once(['_', '-']) {
            Some((stem, ending @ ("train" | "dev" | "test" | "validation"))) => {
                Origin { stem: stem.to_owned(), part: part_of(ending) }
            }
            _ => Origin { stem: name, part: Part::HeldOut },
        }
    }
}

/// Reads one record; the field at fault and what is wrong with it otherwise.
pub(super) fn question(value: &Value, origin: &Origin, number: usize) -> Result<Question, (String, String)> {
    let text =
        at(value, &[&["question"], &["Question"], &["env_kwargs", "question"], &["extra_info", "question"]]);
    let Some(text) = text.and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty()) else {
        return Err(("question".into(), "is missing, expected a text".into()));
    };
    let answers = answers(value);
    if answers.is_empty() {
        let expected = "is missing, expected a text, a list of texts or {\"target\": [...]} (also as `golden_answers`, \
                        `answer`, `possible_answers`, `reward_model.ground_truth` or `env_kwargs.ground_truth`)";
        return Err(("answers".into(), expected.into()));
    }
    let name = at(value, &[&["dataset"], &["data_source"], &["env_kwargs", "data_source"]]);
    let dataset = Dataset::new(name.and_then(Value::as_str).unwrap_or(&origin.stem));
    let id = at(value, &[&["id"], &["_id"], &["question_id"], &["qid"], &["extra_info", "index"]]);
    let part = match at(value, &[&["extra_info", "split"]]).and_then(Value::as_str) {
        Some("train") => Part::Train,
        Some(_) => Part::HeldOut,
        None => origin.part,
    };
    Ok(Question {
        dataset,
        id: id.and_then(plain).unwrap_or_else(|| number.to_string()),
        text: text.to_owned(),
        answers,
        supporting_titles: supporting_titles(value),
        answerable: answerable(value),
        part,
    })
}

/// The first path that leads to something.
fn at<'a>(value: &'a Value, paths: &[&[&str]]) -> Option<&'a Value> {
    paths.iter().find_map(|path| {
        path.iter().try_fold(value, |value, key| value.get(key)).filter(|found| !found.is_null())
    })
}

/// A text or a number as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// All gold answers, each once, in the order of the record.
fn answers(value: &Value) -> Vec<String> {
    const PATHS: [&[&str]; 9] = [
        &["answers"],
        &["golden_answers"],
        &["answer"],
        &["Answer"],
        &["possible_answers"],
        &["env_kwargs", "ground_truth"],
        &["reward_model", "ground_truth"],
        &["ground_truth"],
        &["target"],
    ];
    let mut found = Vec::new();
    // A field may be there and hold nothing.
    for path in PATHS {
        at(value, &[path]).into_iter().for_each(|gold| collect(gold, &mut found));
        if !found.is_empty() {
            break;
        }
    }
    // MuSiQue keeps further spellings beside the answer.
    value.get("answer_aliases").into_iter().for_each(|aliases| collect(aliases, &mut found));
    let mut seen = BTreeSet::new();
    found.retain(|answer| !answer.trim().is_empty() && seen.insert(answer.clone()));
    found
}

/// Gold answers in whatever they are wrapped: a text, a number, a list, PopQA's list in a text, Search-R1's
/// `{"target": [...]}`, TriviaQA's `{"value": .., "aliases": [...]}`.
fn collect(gold: &Value, found: &mut Vec<String>) {
    match gold {
        Value::String(text) => match serde_json::from_str::<Vec<String>>(text) {
            Ok(list) if text.trim_start().starts_with('[') => found.extend(list),
            _ => found.push(text.clone()),
        },
        Value::Number(_) => found.extend(plain(gold)),
        Value::Bool(yes) => found.push(if *yes { "yes" } else { "no" }.into()),
        Value::Array(list) => list.iter().for_each(|gold| collect(gold, found)),
        Value::Object(map) => {
            for key in ["target", "value", "aliases", "ground_truth"] {
                map.get(key).into_iter().for_each(|gold| collect(gold, found));
            }
        }
        Value::Null => {}
    }
}

/// The titles of supporting articles, each once: our own `gold_titles`, the `supporting_facts` of HotpotQA and 2Wiki in
/// both of their shapes, MuSiQue's supporting paragraphs, PopQA's subject.
fn supporting_titles(value: &Value) -> Vec<String> {
    let mut titles: Vec<String> = Vec::new();
    let mut add = |title: &Value| {
        if let Some(title) = title.as_str().filter(|title| !titles.iter().any(|known| known == title)) {
            titles.push(title.to_owned());
        }
    };
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    list(value.get("gold_titles")).iter().for_each(&mut add);
    let facts = at(value, &[&["supporting_facts"], &["metadata", "supporting_facts"]]);
    list(facts.and_then(|facts| facts.get("title"))).iter().for_each(&mut add);
    for fact in list(facts) {
        fact.get(0).into_iter().for_each(&mut add);
    }
    for paragraph in list(value.get("paragraphs")) {
        if paragraph.get("is_supporting").and_then(Value::as_bool) == Some(true) {
            paragraph.get("title").into_iter().for_each(&mut add);
        }
    }
    value.get("s_wiki_title").into_iter().for_each(&mut add);
    titles
}

/// Whether a record says that its corpus answers the question: the supporting paragraphs are there, or a search finds the
/// answer. MuSiQue marks questions that nothing answers.
fn answerable(value: &Value) -> Option<bool> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    match (flag("gold_in_corpus"), flag("answer_in_top20")) {
        (None, None) => flag("answerable"),
        (gold, top) => Some(gold == Some(true) || top == Some(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Question, (String, String)> {
        question(value, &Origin::of(Path::new("data/hotpotqa_train.jsonl")), 7)
    }

    #[test]
    fn published_shapes_of_gold_answers_are_read() {
        for (record, expected) in [
            (json!({"question": "q", "answers": ["x", "y", "x"]}), vec!["x", "y"]),
            (json!({"question": "q", "golden_answers": ["x"]}), vec!["x"]),
            (json!({"question": "q", "reward_model": {"ground_truth": {"target": ["x"]}}}), vec!["x"]),
            (json!({"question": "q", "env_kwargs": {"ground_truth": ["x"]}}), vec!["x"]),
            (json!({"question": "q", "env_kwargs": {"ground_truth": {"target": ["x"]}}}), vec!["x"]),
            (json!({"Question": "q", "Answer": "x"}), vec!["x"]),
            (json!({"question": "q", "possible_answers": "[\"x\", \"y\"]"}), vec!["x", "y"]),
            (json!({"question": "q", "answer": {"value": "x", "aliases": ["y"]}}), vec!["x", "y"]),
            (json!({"question": "q", "answer": "x", "answer_aliases": ["y"]}), vec!["x", "y"]),
            (json!({"question": "q", "answers": [], "answer": 1999}), vec!["1999"]),
            (json!({"question": "q", "answer": "[sic"}), vec!["[sic"]),
        ] {
            assert_eq!(read(&record).unwrap().answers, expected, "{record}");
        }
    }

    #[test]
    fn supporting_titles_are_read_in_each_shape() {
        for (extra, expected) in [
            (json!({"supporting_facts": [["A", 0], ["B", 1], ["A", 2]]}), vec!["A", "B"]),
            (json!({"supporting_facts": {"title": ["A", "B", "A"], "sent_id": [0, 1, 2]}}), vec!["A", "B"]),
            (json!({"gold_titles": ["A"]}), vec!["A"]),
            (
                json!({"paragraphs": [{"title": "A", "is_supporting": true}, {"title": "B", "is_supporting": false}]}),
                vec!["A"],
            ),
            (json!({"s_wiki_title": "A"}), vec!["A"]),
            (json!({}), vec![]),
        ] {
            let mut record = json!({"question": "q", "answer": "x"});
            record.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            assert_eq!(read(&record).unwrap().supporting_titles, expected, "{record}");
        }
    }

    #[test]
    fn a_record_without_question_or_answer_names_the_field() {
        assert_eq!(read(&json!({"answers": ["x"]})).unwrap_err().0, "question");
        assert_eq!(read(&json!({"question": "q", "answers": [" "]})).unwrap_err().0, "answers");
    }

    #[test]
    fn set_and_part_come_from_the_record_or_the_file() {
        let plain = read(&json!({"question": "q", "answer": "x"})).unwrap();
        assert_eq!((plain.dataset.as_str(), plain.part, plain.id.as_str()), ("hotpotqa", Part::Train, "7"));
        let told = json!({"question": "q", "answer": "x", "data_source": "searchR1_nq", "extra_info": {"split": "test"}});
        let told = read(&told).unwrap();
        assert_eq!((told.dataset.as_str(), told.part), ("nq", Part::HeldOut));
        let origin = Origin::of(Path::new("nq_search/train.parquet"));
        let record = json!({"question": "q", "answer": "x"});
        assert_eq!(question(&record, &origin, 1).unwrap().dataset.as_str(), "nq");
    }

    #[test]
    fn what_the_corpus_answers_is_taken_from_its_flags() {
        let read = |gold: Value, top: Value| {
            read(&json!({"question": "q", "answer": "x", "gold_in_corpus": gold, "answer_in_top20": top}))
                .unwrap()
                .answerable
        };
        assert_eq!(read(json!(true), json!(null)), Some(true));
        assert_eq!(read(json!(false), json!(true)), Some(true));
        assert_eq!(read(json!(false), json!(null)), Some(false));
        assert_eq!(read(json!(null), json!(null)), None);
    }
}
