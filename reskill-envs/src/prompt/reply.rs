//! How a free-text reply is read.

use super::manner::{ActionTag, Manner};

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedReply {
    /// The command; `None` if none can be read.
    pub action: Option<String>,
    /// Whether it stood between its tags and is admissible. Only then is the turn valid.
    pub valid: bool,
}

/// [`Manner::parse_reply`] of a text game.
#[must_use]
pub fn parse_reply(reply: &str, admissible: &[String]) -> ParsedReply {
    Manner::default().parse_reply(reply, admissible)
}

/// The command inside the last `<action>...</action>` of a reply, with blanks collapsed. Blanks inside the tags are
/// tolerated; without tags, or with nothing between them, there is no action.
#[must_use]
pub fn tagged_action(reply: &str) -> Option<String> {
    closed(&Manner::default(), reply)
}

/// [`Manner::parse_reply`].
pub(super) fn parse(manner: &Manner, reply: &str, admissible: &[String]) -> ParsedReply {
    if let Some(action) = closed(manner, reply).or_else(|| fenced(manner, reply)) {
        let valid = admissible.is_empty() || admissible.contains(&action);
        return ParsedReply { action: Some(action), valid };
    }
    let named = || {
        let reply = reply.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = |command: &&String| Some((find_last(&reply, command)? + command.len(), command.len()));
        admissible.iter().filter(|command| end(command).is_some()).max_by_key(end).cloned()
    };
    ParsedReply { action: unclosed(manner, reply).or_else(named), valid: false }
}

/// The command in the tag that closes last.
fn closed(manner: &Manner, reply: &str) -> Option<String> {
    let ends = manner.tags.iter().filter_map(|tag| Some((marks(reply, &tag.name, true).pop()?.0, tag)));
    let (end, tag) = ends.max_by_key(|&(end, _)| end)?;
    let (_, start) = marks(&reply[..end], &tag.name, false).pop()?;
    command(manner, tag, &reply[start..end])
}

/// The command that the first fenced block stands for, if such blocks are actions.
fn fenced(manner: &Manner, reply: &str) -> Option<String> {
    let fence = manner.fence.as_ref()?;
    command(manner, fence, fenced_code(reply, &fence.name)?)
}

/// The content of the first fenced block, without the name of the language if it begins with it; `None` if there is none.
pub(crate) fn fenced_code<'a>(text: &'a str, language: &str) -> Option<&'a str> {
    const FENCE: &str = "```";
    let (_, after) = text.split_once(FENCE)?;
    let (inside, _) = after.split_once(FENCE)?;
    let is_named = inside.get(..language.len()).is_some_and(|name| name.eq_ignore_ascii_case(language));
    let code = if is_named { &inside[language.len()..] } else { inside };
    (!code.trim().is_empty()).then_some(code)
}

/// The command behind the last tag that is not closed.
fn unclosed(manner: &Manner, reply: &str) -> Option<String> {
    let starts = manner.tags.iter().filter_map(|tag| Some((marks(reply, &tag.name, false).pop()?.1, tag)));
    let (start, tag) = starts.max_by_key(|&(start, _)| start)?;
    let line = reply[start..].trim_start().lines().next().unwrap_or_default();
    let end = if manner.keeps_blanks { line.len() } else { line.find('<').unwrap_or(line.len()) };
    command(manner, tag, &line[..end])
}

/// The command that the content of a tag stands for; `None` if there is no content.
fn command(manner: &Manner, tag: &ActionTag, content: &str) -> Option<String> {
    let content = if manner.keeps_blanks {
        content.trim().to_string()
    } else {
        content.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    (!content.is_empty()).then(|| tag.command.replacen("{}", &content, 1))
}

/// Where `<name>`, or `</name>`, stands: first byte and the byte behind. Blanks inside of the brackets are tolerated.
fn marks(text: &str, name: &str, closing: bool) -> Vec<(usize, usize)> {
    let mark = |(start, _): (usize, &str)| {
        let inside = text[start + 1..].trim_start();
        let inside = if closing { inside.strip_prefix('/')?.trim_start() } else { inside };
        let rest = inside.strip_prefix(name)?.trim_start().strip_prefix('>')?;
        Some((start, text.len() - rest.len()))
    };
    text.match_indices('<').filter_map(mark).collect()
}

/// Where a command stands last, as words of its own.
fn find_last(text: &str, command: &str) -> Option<usize> {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let stands_alone = |&(at, _): &(usize, &str)| {
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + command.len()..].chars().next())
    };
    if command.is_empty() {
        return None;
    }
    text.rmatch_indices(command).find(stands_alone).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &str, action: Option<&str>, valid: bool) {
        let admissible = ["go to bed 1", "go to bed 10", "look"].map(String::from);
        let parsed = parse_reply(reply, &admissible);
        assert_eq!((parsed.action.as_deref(), parsed.valid), (action, valid), "{reply}");
    }

    #[test]
    fn a_tagged_command_is_valid_if_it_is_admissible() {
        check("look? <action> go to  bed 1 </action>", Some("go to bed 1"), true);
        check("<action>look</action> no, <action>fly</action>", Some("fly"), false);
    }

    #[test]
    fn without_both_tags_a_command_is_found_and_flagged() {
        check("I will <action>go to bed 10\nand then rest", Some("go to bed 10"), false);
        check("first look, then\ngo to   bed 10.", Some("go to bed 10"), false);
        check("I overlook the bed", None, false);
        check("", None, false);
        check("<action></action>", None, false);
    }

    #[test]
    fn without_a_list_any_tagged_command_is_valid() {
        let parsed = parse_reply("<action>select 1</action>", &[]);
        assert_eq!(parsed, ParsedReply { action: Some("select 1".into()), valid: true });
    }

    #[test]
    fn tagged_action_takes_the_last_tag_and_tolerates_blanks() {
        assert_eq!(
            tagged_action("a <action>look</action> < action > go to  bed 1 </ action >").as_deref(),
            Some("go to bed 1")
        );
        assert_eq!(tagged_action("go to bed 1"), None);
        assert_eq!(tagged_action("<action> </action>"), None);
    }

    fn manner(tags: &[(&str, &str)], keeps_blanks: bool) -> Manner {
        let tag = |&(name, command): &(&str, &str)| ActionTag { name: name.into(), command: command.into() };
        Manner { tags: tags.iter().map(tag).collect(), keeps_blanks, ..Manner::default() }
    }

    #[test]
    fn a_fenced_block_counts_where_no_tag_does() {
        let fence = ActionTag { name: "sql".into(), command: "execute[{}]".into() };
        let manner = Manner { fence: Some(fence), ..manner(&[("action", "{}")], true) };
        let action = |reply: &str| manner.parse_reply(reply, &[]);
        let valid = |action: &str| ParsedReply { action: Some(action.into()), valid: true };
        assert_eq!(action("I look:\n```SQL\nSHOW  TABLES\n```\nthen more"), valid("execute[SHOW  TABLES]"));
        assert_eq!(action("```SELECT 1``` or ```SELECT 2```"), valid("execute[SELECT 1]"));
        assert_eq!(action("```sql SELECT 1``` <action>submit</action>"), valid("submit"));
        for reply in ["```sql```", "```sql SELECT 1", "SELECT 1"] {
            assert_eq!(action(reply).action, None, "{reply}");
        }
        let plain = Manner { fence: None, ..manner.clone() };
        assert_eq!(plain.parse_reply("```sql SELECT 1```", &[]).action, None);
    }

    #[test]
    fn of_several_tags_the_one_that_closes_last_counts() {
        let manner = manner(&[("search", "search[{}]"), ("answer", "answer[{}]")], false);
        let action = |reply: &str| manner.parse_reply(reply, &[]).action;
        assert_eq!(action("<search>who?</search>").as_deref(), Some("search[who?]"));
        assert_eq!(action("<answer>x</answer> or <search> a  b </search>").as_deref(), Some("search[a b]"));
        assert_eq!(action("<search>a</search> <answer>2").as_deref(), Some("search[a]"));
        assert_eq!(action("<answer>2 {}").as_deref(), Some("answer[2 {}]"));
        assert_eq!(manner.tagged("answer[2]"), "<answer>2</answer>");
        assert!(manner.is_complete("x</search>") && !manner.is_complete("<search>x"));
        let said = manner.demonstration("search[who?]");
        assert_eq!(
            manner.parse_reply(&said, &[]),
            ParsedReply { action: Some("search[who?]".into()), valid: true }
        );
    }

    #[test]
    fn an_action_in_its_own_language_keeps_its_blanks_and_brackets() {
        let manner = manner(&[("action", "{}")], true);
        let reply = "<action>\nselect 'a  b'\nfrom t -- c < d\nwhere x < 5 </action>";
        let action = manner.parse_reply(reply, &[]).action;
        assert_eq!(action.as_deref(), Some("select 'a  b'\nfrom t -- c < d\nwhere x < 5"));
        let action = manner.parse_reply("<action> select a < b", &[]).action;
        assert_eq!(action.as_deref(), Some("select a < b"));
    }
}
