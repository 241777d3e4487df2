//! How an environment speaks with its agent: the words of its prompts, and the tags that a free-text reply puts its
//! action in.

use super::reply::{self, ParsedReply};

/// Words and reply syntax of an environment. The default is that of a text game: commands between `<action>` and
/// `</action>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// System message of a language model that answers in free text: what it does, and how it answers.
    pub system: String,
    /// Last sentence of every prompt in plain English that asks for free text.
    pub request: String,
    /// First sentence of a prompt in the layout `paper`.
    pub paper_introduction: String,
    /// Last sentence of a prompt in the layout `paper` that asks for free text.
    pub paper_request: String,
    /// Tags that hold an action, at least one. If a reply has several, the one that closes last counts.
    pub tags: Vec<ActionTag>,
    /// What a fenced block of code stands for where no tag is closed, `name` being that of its language, which may be left
    /// out; `None` if such a block is no action.
    pub fence: Option<ActionTag>,
    /// Keeps blanks and line ends inside of an action as they are, for actions in a language of their own, e.g. SQL.
    pub keeps_blanks: bool,
}

/// A tag that holds an action, and the command that its content stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionTag {
    /// The tag's name: `action` for `<action>...</action>`.
    pub name: String,
    /// The command, with `{}` in place of the content: `{}` alone for the content itself, `search[{}]`.
    pub command: String,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            system: "You play a text game. Each turn you read what you see and answer with one short sentence and your \
                     action, as in <action>look</action>."
                .into(),
            request: "Answer with one short sentence and then <action>command</action>.".into(),
            paper_introduction: "You play a text game.".into(),
            paper_request: "Think about the goal in a few words, then give one of the commands above between <action> \
                            and </action> ."
                .into(),
            tags: vec![ActionTag { name: "action".into(), command: "{}".into() }],
            fence: None,
            keeps_blanks: false,
        }
    }
}

impl Manner {
    /// Reads the command of a reply. In this order:
    ///
    /// 1. what stands in the tag that closes last, or in the first fenced block of code where such blocks are actions;
    /// 2. what follows a last tag that is not closed, up to the end of its line;
    /// 3. without tags, the admissible command that is named last, the longest if several end there.
    ///
    /// Blanks are collapsed, unless [`Manner::keeps_blanks`]. A turn is valid only by the first rule and if the command
    /// is admissible, or if nothing is listed as admissible; what the other rules find is played, and flagged.
    #[must_use]
    pub fn parse_reply(&self, reply: &str, admissible: &[String]) -> ParsedReply {
        reply::parse(self, reply, admissible)
    }

    /// A free-text reply that plays `action`, as a demonstration shows it.
    #[must_use]
    pub fn demonstration(&self, action: &str) -> String {
        format!("Next I {action}. {}", self.tagged(action))
    }

    /// `action` in the tag whose command it is.
    #[must_use]
    pub fn tagged(&self, action: &str) -> String {
        let content = |tag: &ActionTag| {
            let (before, after) = tag.command.split_once("{}").unwrap_or((&tag.command, ""));
            action.strip_prefix(before)?.strip_suffix(after).map(ToString::to_string)
        };
        // A tag whose command says more about the action is the better fit.
        let fits = self.tags.iter().filter_map(|tag| Some((tag, content(tag)?)));
        match fits.max_by_key(|(tag, _)| tag.command.len()) {
            Some((ActionTag { name, .. }, content)) => format!("<{name}>{content}</{name}>"),
            None => action.to_string(),
        }
    }

    /// Whether a reply is complete: one of the tags is closed.
    #[must_use]
    pub fn is_complete(&self, reply: &str) -> bool {
        self.tags.iter().any(|tag| reply.contains(&format!("</{}>", tag.name)))
    }

    /// All words of its tags, for a vocabulary of words.
    #[must_use]
    pub fn tag_words(&self) -> String {
        let both = |tag: &ActionTag| format!("<{name}> </{name}>", name = tag.name);
        self.tags.iter().map(both).collect::<Vec<_>>().join(" ")
    }
}
