//! How a free-text reply is read.

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedReply {
    /// The command; `None` if none can be read.
    pub action: Option<String>,
    /// Whether it stood between its tags and is admissible. Only then is the turn valid.
    pub valid: bool,
}

/// Reads the command of a reply. In this order:
///
/// 1. what stands in the last `<action>...</action>`;
/// 2. what follows a last `<action>` that is not closed, up to the end of its line;
/// 3. without tags, the admissible command that is named last, the longest if several end there.
///
/// Blanks are collapsed. A turn is valid only by the first rule and if the command is admissible, or if nothing is
/// listed as admissible; what the other rules find is played, and flagged.
#[must_use]
pub fn parse_reply(reply: &str, admissible: &[String]) -> ParsedReply {
    if let Some(action) = tagged_action(reply) {
        let valid = admissible.is_empty() || admissible.contains(&action);
        return ParsedReply { action: Some(action), valid };
    }
    let unclosed = normalised(reply).rsplit_once("<action>").and_then(|(_, rest)| {
        let line = rest.trim_start().lines().next().unwrap_or_default();
        non_empty(line.split('<').next().unwrap_or_default())
    });
    let named = || {
        let reply = reply.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = |command: &&String| Some((find_last(&reply, command)? + command.len(), command.len()));
        admissible.iter().filter(|command| end(command).is_some()).max_by_key(end).cloned()
    };
    ParsedReply { action: unclosed.or_else(named), valid: false }
}

/// The command inside the last `<action>...</action>` of a reply, with blanks collapsed. Blanks inside the tags are
/// tolerated; without tags, or with nothing between them, there is no action.
#[must_use]
pub fn tagged_action(reply: &str) -> Option<String> {
    let reply = normalised(reply);
    let (before_end, _) = reply.rsplit_once("</action>")?;
    let (_, inside) = before_end.rsplit_once("<action>")?;
    non_empty(inside)
}

/// The reply without blanks inside of brackets.
fn normalised(reply: &str) -> String {
    reply.replace("< ", "<").replace("</ ", "</").replace(" >", ">")
}

fn non_empty(action: &str) -> Option<String> {
    let action = action.split_whitespace().collect::<Vec<_>>().join(" ");
    (!action.is_empty()).then_some(action)
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
}
