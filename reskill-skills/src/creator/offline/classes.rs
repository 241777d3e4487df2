//! Commands reduced to classes: what was done (`open`), and to what kind of thing (`open fridge`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use reskill_envs::action::kind_of;
use reskill_envs::{ActionTemplate, ActionVocabulary};

use crate::creator::offline::habit::verb_pattern;
use crate::episode::SkillEpisode;

/// Longest label, in characters: it must fit into a skill.
const MAX_LABEL: usize = 60;
/// Never played.
pub(crate) const NEVER: usize = usize::MAX;

/// A class of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// As it stands in a skill: `open`, `open fridge`, `take something from drawer`.
    pub(crate) label: String,
    /// The verb of the template.
    pub(crate) verb: String,
    /// The kind of the last argument, unless the class is a whole verb.
    pub(crate) kind: Option<String>,
    /// A pattern that its commands match.
    pub(crate) pattern: String,
}

/// One action of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    /// Position of the turn.
    pub(crate) turn_idx: usize,
    /// Number of the command's text: equal texts have equal numbers.
    pub(crate) command: usize,
    /// Class of the verb.
    pub(crate) verb: usize,
    /// Class of verb and kind; none without an argument.
    pub(crate) object: Option<usize>,
}

impl Move {
    /// Whether it belongs to a class.
    pub(crate) fn is(&self, class: usize) -> bool {
        self.verb == class || self.object == Some(class)
    }
}

/// An episode in classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    /// The parsed actions in order.
    pub(crate) moves: Vec<Move>,
    /// By class, the turn on which it was played first; [`NEVER`].
    pub(crate) first: Vec<usize>,
    /// By class, the turn on which it was admissible first; 0 where the environment lists nothing.
    pub(crate) chance: Vec<usize>,
    /// Turns, unparsed ones included.
    pub(crate) n_turns: usize,
    /// By class, whether the task's goal names its kind.
    pub(crate) in_goal: Vec<bool>,
}

/// All episodes in classes.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// The classes by number.
    pub(crate) classes: Vec<Class>,
    /// One per episode, in order.
    pub(crate) traces: Vec<Trace>,
}

/// The class numbers of a command's text: verb, and verb with kind.
type Known = Option<(usize, Option<usize>)>;

struct Interner<'a> {
    vocabulary: &'a ActionVocabulary,
    numbers: BTreeMap<String, usize>,
    classes: Vec<Class>,
    commands: HashMap<&'a str, (usize, Known)>,
}

impl<'a> Interner<'a> {
    fn class(&mut self, class: Class) -> usize {
        let next = self.classes.len();
        let number = *self.numbers.entry(format!("{}\0{}", class.verb, class.label)).or_insert(next);
        if number == next {
            self.classes.push(class);
        }
        number
    }

    fn command(&mut self, text: &'a str) -> (usize, Known) {
        if let Some(known) = self.commands.get(text) {
            return *known;
        }
        let known = split(self.vocabulary, text).map(|parts| {
            let verb = self.class(Class {
                label: short(parts.verb.trim_end_matches(|c: char| !c.is_alphanumeric())),
                verb: parts.verb.to_string(),
                kind: None,
                pattern: verb_pattern(&parts.verb),
            });
            let object = parts.kind.as_ref().map(|kind| {
                self.class(Class {
                    label: short(&parts.label),
                    verb: parts.verb.to_string(),
                    kind: Some(kind.to_string()),
                    pattern: object_pattern(&parts.verb, kind),
                })
            });
            (verb, object)
        });
        let entry = (self.commands.len(), known);
        self.commands.insert(text, entry);
        entry
    }
}

impl Traces {
    /// Reads the episodes. Commands that no template fits are split at their first word.
    pub(crate) fn of<'a>(episodes: &'a [SkillEpisode], vocabulary: &'a ActionVocabulary) -> Self {
        let mut interner =
            Interner { vocabulary, numbers: BTreeMap::new(), classes: Vec::new(), commands: HashMap::new() };
        let mut traces = Vec::with_capacity(episodes.len());
        for played in episodes {
            let mut trace = Trace { n_turns: played.episode.turns.len(), ..Trace::default() };
            let mut listed = false;
            for (turn_idx, turn) in played.episode.turns.iter().enumerate() {
                for text in &turn.admissible {
                    listed = true;
                    if let (_, Some((verb, object))) = interner.command(text) {
                        note(&mut trace.chance, verb, turn_idx);
                        object.into_iter().for_each(|object| note(&mut trace.chance, object, turn_idx));
                    }
                }
                let Some(text) = turn.action.as_deref() else { continue };
                if let (command, Some((verb, object))) = interner.command(text) {
                    trace.moves.push(Move { turn_idx, command, verb, object });
                    for class in std::iter::once(verb).chain(object) {
                        note(&mut trace.first, class, turn_idx);
                        note(&mut trace.chance, class, turn_idx);
                    }
                }
            }
            if !listed {
                trace.chance.clear();
                trace.chance.push(0);
            }
            traces.push((trace, listed));
        }
        let n_classes = interner.classes.len();
        let traces = traces
            .into_iter()
            .zip(episodes)
            .map(|((mut trace, listed), played)| {
                let goal = played.episode.task.goal.to_lowercase();
                let named = |class: &Class| class.kind.as_ref().is_some_and(|kind| names(&goal, kind));
                trace.in_goal = interner.classes.iter().map(named).collect();
                trace.first.resize(n_classes, NEVER);
                trace.chance.resize(n_classes, if listed { NEVER } else { 0 });
                trace
            })
            .collect();
        Self { classes: interner.classes, traces }
    }
}

/// Whether a text holds these words.
fn names(text: &str, words: &str) -> bool {
    let words = words.to_lowercase();
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(&words).any(|(at, _)| {
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + words.len()..].chars().next())
    })
}

/// Remembers the first turn of a class.
fn note(first: &mut Vec<usize>, class: usize, turn_idx: usize) {
    if first.len() <= class {
        first.resize(class + 1, NEVER);
    }
    first[class] = first[class].min(turn_idx);
}

/// A command in parts.
struct Parts<'a> {
    verb: Cow<'a, str>,
    kind: Option<Cow<'a, str>>,
    label: String,
}

/// Splits a command by the vocabulary, or else at its first word.
fn split<'a>(vocabulary: &'a ActionVocabulary, text: &'a str) -> Option<Parts<'a>> {
    if let Some(parsed) = vocabulary.parse(text).filter(|parsed| !parsed.verb.is_empty()) {
        let kind = parsed.args.last().map(|arg| Cow::Borrowed(kind_of(arg))).filter(|kind| !kind.is_empty());
        let template = vocabulary.templates.iter().find(|template| {
            template.verb() == parsed.verb && template.template.matches('{').count() == parsed.args.len()
        });
        let label = render(template, parsed.verb, kind.as_deref().unwrap_or_default());
        return Some(Parts { verb: Cow::Borrowed(parsed.verb), kind, label });
    }
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || "[(:{<=\"'`".contains(c)).unwrap_or(text.len());
    let verb = text[..end].to_lowercase();
    if verb.is_empty() {
        return None;
    }
    let rest = text[end..].trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let kind = kind_of(&rest).to_owned();
    let label = format!("{verb} {kind}");
    Some(Parts { verb: verb.into(), kind: (!kind.is_empty()).then_some(kind.into()), label })
}

/// The template with the kind in its last slot and `something` in the others.
fn render(template: Option<&ActionTemplate>, verb: &str, kind: &str) -> String {
    let Some(template) = template else { return format!("{verb} {kind}") };
    let mut out = String::new();
    let mut pieces = template.template.split('{').peekable();
    out.push_str(pieces.next().unwrap_or_default());
    while let Some(piece) = pieces.next() {
        out.push_str(if pieces.peek().is_some() { "something" } else { kind });
        out.push_str(piece.split_once('}').map_or("", |(_, after)| after));
    }
    out
}

/// Commands of a verb that name a kind after it.
fn object_pattern(verb: &str, kind: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let before = if is_word(kind.chars().next()) { r"\b" } else { "" };
    let after = if is_word(kind.chars().next_back()) { r"\b" } else { "" };
    format!("{}.*{before}{}{after}", verb_pattern(verb), regex::escape(kind))
}

fn short(label: &str) -> String {
    let one_line = label.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().take(MAX_LABEL).collect::<String>().trim_end().replace('`', "'")
}

/// The vocabulary itself if it fits at least four in five of the actions; else one of first words: `verb`, `verb {x}`.
pub(crate) fn fitting<'a>(
    vocabulary: &'a ActionVocabulary,
    episodes: &[SkillEpisode],
) -> Cow<'a, ActionVocabulary> {
    let (mut n, mut fit) = (0usize, 0usize);
    let mut verbs: BTreeMap<&str, usize> = BTreeMap::new();
    for action in episodes.iter().flat_map(|played| played.episode.actions()) {
        n += 1;
        fit += usize::from(vocabulary.parse(action).is_some_and(|parsed| !parsed.verb.is_empty()));
        let verb = action.split_whitespace().next().unwrap_or_default();
        if verb.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') && !verb.is_empty() {
            *verbs.entry(verb).or_default() += 1;
        }
    }
    if n == 0 || fit * 5 >= n * 4 {
        return Cow::Borrowed(vocabulary);
    }
    // Words that are rare are no verbs of a command language; the rest is free text.
    let templates = verbs.into_iter().filter(|(_, count)| count * 200 >= n).flat_map(|(verb, _)| {
        [verb.to_owned(), format!("{verb} {{x}}")]
            .map(|template| ActionTemplate { name: verb.to_owned(), template })
    });
    Cow::Owned(ActionVocabulary { templates: templates.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> ActionVocabulary {
        let template = |text: &str| ActionTemplate { name: text.into(), template: text.into() };
        ActionVocabulary {
            templates: ["open {r}", "take {o} from {r}", "look"].into_iter().map(template).collect(),
        }
    }

    fn check(text: &str, verb: &str, kind: Option<&str>, label: &str) {
        let vocabulary = vocabulary();
        let parts = split(&vocabulary, text).unwrap();
        assert_eq!((parts.verb.as_ref(), parts.kind.as_deref(), parts.label.trim()), (verb, kind, label));
        if let Some(kind) = kind {
            let pattern = crate::trigger::Pattern::new(&object_pattern(verb, kind)).unwrap();
            assert!(pattern.is_match(text), "{} on {text}", pattern.as_str());
        }
    }

    #[test]
    fn commands_fall_into_classes_with_and_without_a_template() {
        check("open fridge 12", "open", Some("fridge"), "open fridge");
        check("take apple 1 from side table 2", "take", Some("side table"), "take something from side table");
        check("look", "look", None, "look");
        check("Search[Marie Curie]", "search", Some("marie curie"), "search marie curie");
        check("click(button 3)", "click", Some("button"), "click button");
        check("SELECT", "select", None, "select");
        check("öffne Schrank 2", "öffne", Some("schrank"), "öffne schrank");
    }
}
