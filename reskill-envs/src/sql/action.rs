//! The actions of InterCode-SQL and how they are read.

use crate::prompt::fenced_code;

/// What an action asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SqlAction {
    /// Run this SQL.
    Execute(String),
    /// Hand in the last observation.
    Submit,
    /// Give up.
    Skip,
    /// Nothing of the above.
    Unreadable,
}

/// Reads an action: `submit`, `skip`, `execute[SQL]`, or a fenced block with the SQL in it. Of the SQL, what follows the
/// first `;` is cut.
pub(crate) fn read(action: &str) -> SqlAction {
    let action = action.trim();
    if let Some(sql) = bracketed(action).or_else(|| fenced_code(action, "sql")) {
        let sql = sql.split(';').next().unwrap_or_default().trim();
        return SqlAction::Execute(sql.to_owned());
    }
    match first_word(action) {
        "submit" => SqlAction::Submit,
        "skip" => SqlAction::Skip,
        _ => SqlAction::Unreadable,
    }
}

/// What stands between the first `execute[` and the last `]`.
fn bracketed(text: &str) -> Option<&str> {
    const OPEN: &str = "execute[";
    let start = text.find(OPEN)? + OPEN.len();
    let end = text.rfind(']').filter(|&end| end >= start)?;
    Some(&text[start..end])
}

/// The letters at the beginning.
fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: &str, expected: SqlAction) {
        assert_eq!(read(action), expected, "{action}");
    }

    fn execute(sql: &str) -> SqlAction {
        SqlAction::Execute(sql.to_owned())
    }

    #[test]
    fn brackets_reach_to_the_last_one_and_sql_ends_at_the_first_semicolon() {
        check("execute[SELECT 1]", execute("SELECT 1"));
        check(" execute[SELECT a[1], b[2] FROM t ]", execute("SELECT a[1], b[2] FROM t"));
        check("execute[SELECT 1; DROP TABLE t]", execute("SELECT 1"));
        check("execute[]", execute(""));
        check("execute[SELECT 1", SqlAction::Unreadable);
    }

    #[test]
    fn a_fenced_block_is_sql() {
        check("```sql\nSELECT 1\n;\n```", execute("SELECT 1"));
        check("so: ```SELECT 2```", execute("SELECT 2"));
        check("``` ```", SqlAction::Unreadable);
        check("```sql SELECT 1", SqlAction::Unreadable);
    }

    #[test]
    fn submit_and_skip_are_words_of_their_own() {
        check("submit", SqlAction::Submit);
        check(" submit. ", SqlAction::Submit);
        check("skip", SqlAction::Skip);
        check("submitted", SqlAction::Unreadable);
        check("I submit", SqlAction::Unreadable);
        check("", SqlAction::Unreadable);
        check("SELECT 1", SqlAction::Unreadable);
    }
}
