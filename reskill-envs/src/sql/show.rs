//! `SHOW` and `DESC`, which SQLite does not have, answered as MySQL does.

use rusqlite::types::ValueRef;

use super::database::{Database, Table};
use super::python::tuple;

/// The rows that a statement of MySQL's asks for; `None` if it is none of these, an error if a name is wrong.
///
/// - `SHOW TABLES`, with `FROM db` and `LIKE 'pattern'` tolerated
/// - `SHOW DATABASES`
/// - `DESC t`, `DESCRIBE t`, `EXPLAIN t`, `SHOW [FULL] COLUMNS FROM t`: name, type, whether it may be null, key, default, ""
/// - `SHOW CREATE TABLE t`
pub(super) fn answer(database: &Database, sql: &str) -> Option<Result<Vec<String>, String>> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    let table = |word: &str| {
        let name = unquoted(word);
        let name = name.rsplit_once('.').map_or(name, |(_, table)| unquoted(table));
        database.table(name).ok_or_else(|| format!("no such table: {name}"))
    };
    let rows = match upper.as_slice() {
        ["SHOW", "TABLES", rest @ ..] => show_tables(database, rest, words.last().copied()),
        ["SHOW", "DATABASES"] => Ok(vec![row(&[Some(&database.name)])]),
        ["SHOW", "CREATE", "TABLE", _] => table(words[3])
            .map(|table| vec![row(&[Some(table.name.as_str()), Some(table.statement.as_str())])]),
        ["DESC" | "DESCRIBE", _] => table(words[1]).map(describe),
        // EXPLAIN QUERY PLAN and EXPLAIN SELECT have more words.
        ["EXPLAIN", _] => table(words[1]).map(describe),
        ["SHOW", "COLUMNS" | "FIELDS", "FROM" | "IN", _] => table(words[3]).map(describe),
        ["SHOW", "FULL", "COLUMNS" | "FIELDS", "FROM" | "IN", _] => table(words[4]).map(describe),
        ["SHOW" | "DESC" | "DESCRIBE", ..] => Err(format!("near \"{}\": syntax error", words[0])),
        _ => return None,
    };
    Some(rows)
}

fn show_tables(database: &Database, rest: &[&str], last: Option<&str>) -> Result<Vec<String>, String> {
    let pattern = match rest {
        [] | ["FROM" | "IN", _] => None,
        ["LIKE", _] | ["FROM" | "IN", _, "LIKE", _] => last.map(unquoted),
        _ => return Err("near \"TABLES\": syntax error".to_owned()),
    };
    let wanted =
        |table: &&Table| pattern.is_none_or(|pattern| is_like(table.name.as_bytes(), pattern.as_bytes()));
    Ok(database.tables.iter().filter(wanted).map(|table| row(&[Some(table.name.as_str())])).collect())
}

fn describe(table: &Table) -> Vec<String> {
    let of_column = |column: &super::database::Column| {
        let nullable = if column.nullable { "YES" } else { "NO" };
        let default = column.default.as_deref().map(unquoted);
        row(&[
            Some(column.name.as_str()),
            Some(column.kind.as_str()),
            Some(nullable),
            Some(column.key),
            default,
            Some(""),
        ])
    };
    table.columns.iter().map(of_column).collect()
}

/// A row of texts and nulls.
fn row(values: &[Option<&str>]) -> String {
    let values: Vec<ValueRef<'_>> = values
        .iter()
        .map(|value| value.map_or(ValueRef::Null, |value| ValueRef::Text(value.as_bytes())))
        .collect();
    // Text of Rust is UTF-8.
    tuple(&values).unwrap_or_default()
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['`', '"', '\'', '[', ']'])
}

/// MySQL's `LIKE`: `%` for anything, `_` for one byte; case does not matter.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    // Where the last `%` was, and how far it reaches so far.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some(b'%') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(&wanted) if wanted == b'_' || wanted.eq_ignore_ascii_case(&text[at]) => {
                at += 1;
                in_pattern += 1;
            }
            _ => {
                let Some((place, reach)) = star else { return false };
                star = Some((place, reach + 1));
                at = reach + 1;
                in_pattern = place + 1;
            }
        }
    }
    pattern[in_pattern..].iter().all(|&byte| byte == b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_any_text_and_any_letter() {
        for (text, pattern, expected) in [
            ("City", "c%", true),
            ("city", "%t_", true),
            ("city", "_ty", false),
            ("", "%", true),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%a%a%c", false),
        ] {
            assert_eq!(is_like(text.as_bytes(), pattern.as_bytes()), expected, "{text} {pattern}");
        }
    }
}
