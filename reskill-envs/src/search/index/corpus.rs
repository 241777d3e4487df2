//! Files of passages: JSON lines or tab-separated values, also packed.

use std::io::BufRead;
use std::path::Path;

use serde_json::Value;

use crate::error::EnvError;
use crate::search::questions::{Packed, line_reader};
use crate::search::retriever::Passage;

/// One passage of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusPassage {
    /// Title of its article.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// Calls `take` with every passage of a file, in their order. The file is read line by line.
///
/// - `.jsonl` (or `.json` with an object a line): `{"title", "text"}`, or `{"contents": "title\ntext"}` as Search-R1 has it;
/// - `.tsv`: a first line of names, of which `text` is needed and `title` used, then one passage a line; values may be
///   quoted (`"a ""b"""`), as in the passages of DPR;
/// - either with `.gz` or `.zst`.
///
/// # Errors
/// [`EnvError::Read`], [`EnvError::Record`], [`EnvError::NoGames`] if there is no passage, and what `take` returns.
pub fn for_each_passage(
    path: &Path,
    take: &mut dyn FnMut(CorpusPassage) -> Result<(), EnvError>,
) -> Result<u64, EnvError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (_, bare) = Packed::of(&name);
    let mut table = match bare.rsplit_once('.') {
        Some((_, "jsonl" | "json")) => None,
        Some((_, "tsv")) => Some(Columns::default()),
        _ => {
            return Err(EnvError::NoGames {
                path: path.to_path_buf(),
                expected: "passages as .jsonl or .tsv, also with .gz or .zst",
            });
        }
    };
    let failed = |source| EnvError::Read { path: path.to_path_buf(), source };
    let mut n_passages = 0;
    for (line, number) in line_reader(path)?.lines().zip(1..) {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let broken = |(field, reason): (&str, String)| EnvError::Record {
            path: path.to_path_buf(),
            number,
            field: field.into(),
            reason,
        };
        let passage = match &mut table {
            None => from_json(&line).map_err(broken)?,
            Some(columns) if number == 1 => {
                *columns = Columns::of(&line).map_err(broken)?;
                continue;
            }
            Some(columns) => columns.passage(&line).map_err(broken)?,
        };
        take(passage)?;
        n_passages += 1;
    }
    if n_passages == 0 {
        return Err(EnvError::NoGames { path: path.to_path_buf(), expected: "at least one passage" });
    }
    Ok(n_passages)
}

type Broken = (&'static str, String);

fn from_json(line: &str) -> Result<CorpusPassage, Broken> {
    let value: Value = serde_json::from_str(line).map_err(|error| ("", format!("is no JSON: {error}")))?;
    let field = |key: &str| value.get(key).and_then(Value::as_str);
    if let Some(text) = field("text") {
        return Ok(CorpusPassage { title: field("title").unwrap_or_default().into(), text: text.into() });
    }
    let Some(contents) = field("contents") else {
        return Err(("text", "is missing, expected a text (or `contents`: title, line break, text)".into()));
    };
    let Passage { title, text, .. } = Passage::from_contents(contents, 0.0);
    Ok(CorpusPassage { title, text })
}

/// Where the columns of a table are.
#[derive(Default)]
struct Columns {
    title: Option<usize>,
    text: usize,
}

impl Columns {
    fn of(header: &str) -> Result<Columns, Broken> {
        let names: Vec<String> =
            header.split('\t').map(|name| unquoted(name).trim().to_lowercase()).collect();
        let find = |wanted: &str| names.iter().position(|name| name == wanted);
        let text = find("text")
            .ok_or_else(|| ("text", format!("is no column; the first line names {}", names.join(", "))))?;
        Ok(Columns { title: find("title"), text })
    }

    fn passage(&self, line: &str) -> Result<CorpusPassage, Broken> {
        let values: Vec<&str> = line.split('\t').collect();
        let value = |column: usize, name| {
            let value = values.get(column).map(|value| unquoted(value));
            value.ok_or_else(|| (name, format!("is missing: the line has {} values", values.len())))
        };
        let title = self.title.map(|column| value(column, "title")).transpose()?.unwrap_or_default();
        Ok(CorpusPassage { title, text: value(self.text, "text")? })
    }
}

/// A value without its quotes.
fn unquoted(value: &str) -> String {
    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inside.map_or_else(|| value.to_owned(), |inside| inside.replace("\"\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        let read = for_each_passage(&path, &mut |passage| {
            found.push((passage.title, passage.text));
            Ok(())
        });
        match read {
            Ok(n) => {
                assert_eq!(n as usize, found.len());
                Ok(found)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    const LINES: &str = "{\"id\":0,\"title\":\"A\",\"text\":\"one\"}\n\n{\"contents\":\"B\\ntwo\"}\n";

    #[test]
    fn the_same_passages_come_from_every_kind_of_file() {
        let expected = Ok(vec![("A".to_string(), "one".to_string()), ("B".to_string(), "two".to_string())]);
        assert_eq!(read("corpus.jsonl", LINES.as_bytes()), expected);
        assert_eq!(read("corpus.tsv", b"id\ttext\ttitle\n1\tone\tA\n2\ttwo\tB\n"), expected);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(LINES.as_bytes()).unwrap();
        assert_eq!(read("corpus.jsonl.gz", &gz.finish().unwrap()), expected);
        assert_eq!(read("corpus.jsonl.zst", &zstd::encode_all(LINES.as_bytes(), 1).unwrap()), expected);
    }

    #[test]
    fn quoted_values_of_a_table_lose_their_quotes() {
        let table = "id\ttext\ttitle\n1\t\"Aaron (\"\"the Elder\"\") spoke\"\tAaron\n";
        assert_eq!(read("psgs.tsv", table.as_bytes()).unwrap()[0].1, "Aaron (\"the Elder\") spoke");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (name, bytes, fragments) in [
            ("c.jsonl", "{\"text\":\"x\"}\n{\"title\":\"x\"}", vec!["c.jsonl", "record 2", "`text`"]),
            ("c.jsonl", "{", vec!["record 1", "no JSON"]),
            ("c.tsv", "id\ttitle\n1\tx", vec!["`text`", "id, title"]),
            ("c.tsv", "title\ttext\nx", vec!["record 2", "1 values"]),
            ("c.jsonl", "\n", vec!["at least one passage"]),
            ("c.csv", "text\nx", vec![".jsonl or .tsv"]),
            ("c.jsonl.gz", "{\"text\":\"x\"}", vec!["c.jsonl.gz", "cannot be read"]),
        ] {
            let error = read(name, bytes.as_bytes()).unwrap_err();
            for fragment in fragments {
                assert!(error.contains(fragment), "`{fragment}` is not in: {error}");
            }
        }
    }
}
