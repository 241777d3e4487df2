//! The actions of InterCode-SQL and how they are read.

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
    if let Some(sql) = bracketed(action).or_else(|| fenced(action)) {
        let sql = sql.split(';').next().unwrap_or_default().trim();
        return SqlAction::Execute(sql.to_owned());
    }
    match first_word(action) {
        "submit" => SqlAction::Submit,
        "skip" => SqlAction::Skip,
        _ => SqlAction::Unreadable,
    }
}

/// The action in a free reply that has no tags: an `execute[...]`, a fenced block, or a line that says `submit` or `skip`.
#[must_use]
pub fn action_in_reply(reply: &str) -> Option<String> {
    if let Some(sql) = bracketed(reply).or_else(|| fenced(reply)) {
        return Some(format!("execute[{}]", sql.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    let last = reply.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let last = last.rsplit_once(':').map_or(last, |(_, after)| after.trim());
    let word = last.trim_matches(|c: char| !c.is_alphanumeric());
    matches!(word, "submit" | "skip").then(|| word.to_owned())
}

/// What stands between the first `execute[` and the last `]`.
fn bracketed(text: &str) -> Option<&str> {
    const OPEN: &str = "execute[";
    let start = text.find(OPEN)? + OPEN.len();
    let end = text.rfind(']').filter(|&end| end >= start)?;
    Some(&text[start..end])
}

/// The content of the first fenced block, without the name of its language.
fn fenced(text: &str) -> Option<&str> {
    const FENCE: &str = "```";
    let (_, after) = text.split_once(FENCE)?;
    let (inside, _) = after.split_once(FENCE)?;
    let language = inside.get(..3).filter(|name| name.eq_ignore_ascii_case("sql"));
    let inside = if language.is_some() { &inside[3..] } else { inside };
    (!inside.trim().is_empty()).then_some(inside)
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

    #[test]
    fn a_reply_without_tags_is_searched() {
        let found = |reply: &str| action_in_reply(reply);
        assert_eq!(found("Action 1: execute[SELECT\n 1]").as_deref(), Some("execute[SELECT 1]"));
        assert_eq!(found("I try\n```sql\nSHOW TABLES\n```").as_deref(), Some("execute[SHOW TABLES]"));
        assert_eq!(found("That is it.\nAction 2: submit").as_deref(), Some("submit"));
        assert_eq!(found("I would rather not submit this yet"), None);
        assert_eq!(found(""), None);
    }
}
