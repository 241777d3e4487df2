//! Questions are read from every shape of file, and what is wrong with one is said with its place.

use std::path::{Path, PathBuf};

use reskill_envs::EnvError;
use reskill_envs::search::{Part, Question, read_questions};

fn parquet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/search/parquet").join(name)
}

#[test]
fn parquet_files_of_each_shape_are_read() {
    let search_r1 = read_questions(&parquet("nq_search")).unwrap();
    assert_eq!(search_r1.len(), 2);
    let Question { dataset, id, text, answers, part, .. } = &search_r1[0];
    assert_eq!((dataset.as_str(), id.as_str(), *part), ("nq", "test_0", Part::HeldOut));
    assert_eq!(text, "who wrote the first program");
    assert_eq!(*answers, ["Ada Lovelace", "Lovelace"]);
    assert_eq!(search_r1[1].answers, ["Zoë 🙂"]);

    let verl = &read_questions(&parquet("verl/train.parquet")).unwrap()[0];
    assert_eq!((verl.dataset.as_str(), verl.part), ("hotpotqa", Part::Train));
    assert_eq!((verl.text.as_str(), verl.id.as_str()), ("which band", "5"));
    assert_eq!(verl.answers, ["Rush"]);

    let popqa = &read_questions(&parquet("popqa.parquet")).unwrap()[0];
    assert_eq!((popqa.dataset.as_str(), popqa.id.as_str()), ("popqa", "7"));
    assert_eq!(popqa.answers, ["politician", "pol."]);
    assert_eq!(popqa.supporting_titles, ["X"]);

    let plain = read_questions(&parquet("plain.parquet")).unwrap();
    let texts: Vec<&str> = plain.iter().map(|question| question.text.as_str()).collect();
    assert_eq!(texts, ["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9"]);
}

#[test]
fn parquet_without_a_column_names_it() {
    for (name, field) in [("no_answers.parquet", "`answers`"), ("no_question.parquet", "`question`")] {
        let error = read_questions(&parquet(name)).unwrap_err();
        assert!(matches!(&error, EnvError::Record { number: 1, .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(field), "{message}");
    }
}

#[test]
fn what_is_no_parquet_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(parquet("plain.parquet")).unwrap();
    // From nothing to all but one byte; the last of them has lost its closing mark.
    for length in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
        let path = dir.path().join("cut.parquet");
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("cut.parquet") && message.contains("Parquet"), "{length}: {message}");
    }
}

#[test]
fn lines_arrays_and_packed_files_hold_the_same_questions() {
    let dir = tempfile::tempdir().unwrap();
    let records = [
        "{\"id\":\"1\",\"question\":\"q\",\"answer\":\"x\"}",
        "{\"id\":\"2\",\"question\":\"r\",\"answer\":\"y\"}",
    ];
    let lines = records.join("\n");
    std::fs::write(dir.path().join("nq.jsonl"), &lines).unwrap();
    std::fs::write(dir.path().join("nq.json"), format!("[{}]", records.join(","))).unwrap();
    std::fs::write(dir.path().join("nq.jsonl.zst"), zstd::encode_all(lines.as_bytes(), 1).unwrap()).unwrap();
    let expected = read_questions(&dir.path().join("nq.jsonl")).unwrap();
    assert_eq!(expected.len(), 2);
    for name in ["nq.json", "nq.jsonl.zst"] {
        assert_eq!(read_questions(&dir.path().join(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_broken_record_is_named_by_file_and_number() {
    let dir = tempfile::tempdir().unwrap();
    for (text, fragments) in [
        (
            "{\"question\":\"q\",\"answer\":\"x\"}\n\n{\"question\":\"\",\"answer\":\"x\"}",
            ["record 3", "`question`"],
        ),
        ("{\"question\":\"q\"}", ["record 1", "`answers`"]),
        ("not json", ["record 1", "no JSON"]),
    ] {
        let path = dir.path().join("nq.jsonl");
        std::fs::write(&path, text).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        for fragment in fragments.into_iter().chain(["nq.jsonl"]) {
            assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
        }
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(read_questions(empty.path()).unwrap_err(), EnvError::NoGames { .. }));
    assert!(matches!(read_questions(Path::new("/nowhere")).unwrap_err(), EnvError::Read { .. }));
}
