//! Libraries of skills as folders: validation, import, and files that are nobody's business but must not be lost.

use std::fs;
use std::path::Path;

use reskill_skills::library::{Fate, OnConflict, copy_other_files, files, import, validate};
use reskill_skills::store::{load_bank, save_bank};
use reskill_skills::{Operation, SkillError, SkillLimits, Trigger};

const THEIRS: &str =
    "---\nname: review\ndescription: Reviews changes.\nauthor: me\n---\n# Review\n\nLook twice.\n";

fn skill(library: &Path, name: &str, text: &str) {
    let home = library.join(name);
    fs::create_dir_all(home.join("scripts")).unwrap();
    fs::create_dir_all(home.join("assets/deep")).unwrap();
    fs::write(home.join("SKILL.md"), text).unwrap();
    fs::write(home.join("scripts/run.sh"), "#!/bin/sh\nexit 0\n").unwrap();
    fs::write(home.join("assets/deep/logo.bin"), [0u8, 255, 10, 13]).unwrap();
}

#[test]
fn import_brings_every_file_byte_for_byte_and_twice_is_once() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    skill(from.path(), "review", THEIRS);
    let fates = import(from.path(), into.path(), OnConflict::Refuse).unwrap();
    assert_eq!(fates, [("review".to_owned(), Fate::Added)]);
    let (old, new) = (from.path().join("review"), into.path().join("review"));
    assert_eq!(files(&old).unwrap(), files(&new).unwrap());
    for file in files(&old).unwrap() {
        assert_eq!(
            fs::read(old.join(&file)).unwrap(),
            fs::read(new.join(&file)).unwrap(),
            "{}",
            file.display()
        );
    }
    let again = import(&from.path().join("review"), into.path(), OnConflict::Refuse).unwrap();
    assert_eq!(again, [("review".to_owned(), Fate::Unchanged)]);
}

#[test]
fn a_taken_name_is_refused_replaced_or_changed() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    skill(from.path(), "review", THEIRS);
    skill(from.path(), "fresh", &THEIRS.replace("review", "fresh"));
    skill(into.path(), "review", &THEIRS.replace("twice", "once"));
    fs::write(into.path().join("review/only-here.txt"), "x").unwrap();
    let error = import(from.path(), into.path(), OnConflict::Refuse).unwrap_err();
    assert!(matches!(&error, SkillError::Conflicts { names, .. } if names == &["review"]), "{error}");
    assert!(!into.path().join("fresh").exists(), "nothing is imported if anything is refused");

    import(from.path(), into.path(), OnConflict::Rename).unwrap();
    let bank = load_bank(into.path()).unwrap();
    let names: Vec<&str> = bank.skills().iter().map(|skill| skill.name()).collect();
    assert_eq!(names, ["fresh", "review", "review-2"]);
    assert!(into.path().join("review-2/scripts/run.sh").exists());
    let renamed = fs::read_to_string(into.path().join("review-2/SKILL.md")).unwrap();
    assert!(renamed.contains("author: me\n") && renamed.contains("Look twice."), "{renamed}");

    import(from.path(), into.path(), OnConflict::Replace).unwrap();
    assert_eq!(fs::read_to_string(into.path().join("review/SKILL.md")).unwrap(), THEIRS);
    assert!(!into.path().join("review/only-here.txt").exists());
    assert!(validate(into.path()).unwrap().iter().all(|it| !it.problem.fatal));
}

#[test]
fn a_change_of_the_bank_leaves_other_files_and_unknown_keys_alone() {
    let (source, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    skill(source.path(), "review", THEIRS);
    fs::rename(source.path().join("review/SKILL.md"), source.path().join("review/skill.md")).unwrap();
    let bank = load_bank(source.path()).unwrap();
    let mut content = bank.skills()[0].content.clone();
    content.action = "Look three times.".into();
    content.trigger = Trigger::EpisodeStart;
    let modify = Operation::Modify { id: bank.skills()[0].id.clone(), content };
    let changed = bank.apply(&[modify], 5, &SkillLimits::default()).unwrap();
    // In place: the file keeps its name.
    save_bank(source.path(), &changed).unwrap();
    let text = fs::read_to_string(source.path().join("review/skill.md")).unwrap();
    assert!(text.contains("author: me\n") && text.contains("Look three times."), "{text}");
    assert!(!source.path().join("review/SKILL.md").exists());
    assert_eq!(load_bank(source.path()).unwrap().skills()[0].content, changed.skills()[0].content);
    // Into another folder: the other files can follow.
    save_bank(run.path(), &changed).unwrap();
    copy_other_files(source.path(), run.path()).unwrap();
    assert_eq!(fs::read(run.path().join("review/assets/deep/logo.bin")).unwrap(), [0u8, 255, 10, 13]);
    assert!(!run.path().join("review/skill.md").exists());
}

#[test]
fn validation_names_every_file_and_line() {
    let library = tempfile::tempdir().unwrap();
    skill(library.path(), "good", &THEIRS.replace("review", "good").replace("author: me\n", ""));
    skill(library.path(), "misnamed", THEIRS);
    skill(library.path(), "binary", "x");
    fs::write(library.path().join("binary/SKILL.md"), b"---\nname: binary\n\xff\n---\n").unwrap();
    let id = "metadata:\n  reskill-id: s0001\n---\n";
    for name in ["one", "two"] {
        skill(library.path(), name, &format!("---\nname: {name}\ndescription: d\n{id}"));
    }
    let found: Vec<(String, usize)> = validate(library.path())
        .unwrap()
        .into_iter()
        .map(|it| {
            (it.file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(), it.problem.line)
        })
        .collect();
    let expected = [("binary", 3), ("misnamed", 2), ("misnamed", 4), ("two", 5)];
    assert_eq!(found, expected.map(|(name, line)| (name.to_owned(), line)));
    assert_eq!(validate(&library.path().join("good")).unwrap(), []);
}
