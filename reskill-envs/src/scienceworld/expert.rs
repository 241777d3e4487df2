//! The simulator's own way to a goal, and how far an episode has come on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::jvm::lock;
use crate::action::ActionVocabulary;
use crate::suite::TaskId;

/// Ways that were asked for, by task.
#[derive(Debug, Default)]
pub(super) struct GoldPaths {
    paths: Mutex<HashMap<TaskId, Arc<[String]>>>,
}

impl GoldPaths {
    pub(super) fn get(&self, id: &TaskId) -> Option<Arc<[String]>> {
        lock(&self.paths).get(id).cloned()
    }

    pub(super) fn insert(&self, id: &TaskId, path: Vec<String>) -> Arc<[String]> {
        let path: Arc<[String]> = path.into();
        lock(&self.paths).insert(id.clone(), Arc::clone(&path));
        path
    }
}

/// A way to the goal, and how much of it is done.
#[derive(Debug, Clone)]
pub(super) struct GoldPath {
    path: Arc<[String]>,
    /// Commands done.
    n_done: usize,
    /// The command that [`GoldPath::rest`] named first, and how many are done after it.
    named: Option<(String, usize)>,
}

impl GoldPath {
    pub(super) fn new(path: Arc<[String]>) -> GoldPath {
        GoldPath { path, n_done: 0, named: None }
    }

    /// Takes note of a command of the episode.
    pub(super) fn played(&mut self, action: &str) {
        match self.named.take() {
            Some((named, n_done)) if named == action => self.n_done = n_done,
            named => {
                self.named = named;
                if self.path.get(self.n_done).is_some_and(|next| next == action) {
                    self.n_done += 1;
                    self.named = None;
                }
            }
        }
    }

    /// The commands that are left. If commands are listed, the first is the listed form of the next one that has any:
    /// the simulator's way holds commands that it does not list, e.g. to open what is open already.
    pub(super) fn rest(&mut self, listed: &[String], vocabulary: &ActionVocabulary) -> Vec<String> {
        let rest = &self.path[self.n_done..];
        if listed.is_empty() {
            return rest.to_vec();
        }
        let mut forms = rest.iter().map(|command| listed_form(command, listed, vocabulary)).enumerate();
        let Some((skipped, first)) = forms.find_map(|(index, form)| Some((index, form?))) else {
            return Vec::new();
        };
        self.named = Some((first.to_string(), self.n_done + skipped + 1));
        std::iter::once(first.to_string()).chain(rest[skipped + 1..].iter().cloned()).collect()
    }
}

/// The listed command that says the same: the command itself, or the one with the same verb whose arguments hold all words
/// of its arguments and the fewest others, `connect anode in battery to bulb` for `connect battery anode to bulb`.
fn listed_form<'a>(command: &str, listed: &'a [String], vocabulary: &ActionVocabulary) -> Option<&'a str> {
    if let Some(same) = listed.iter().find(|other| *other == command) {
        return Some(same);
    }
    let wanted = vocabulary.parse(command)?;
    let words = |text: &'_ str| text.split_whitespace().map(ToString::to_string).collect::<BTreeSet<_>>();
    let extra = |other: &'a String| {
        let parsed = vocabulary.parse(other)?;
        let fits = parsed.verb == wanted.verb
            && parsed.args.len() == wanted.args.len()
            && parsed
                .args
                .iter()
                .zip(&wanted.args)
                .all(|(got, wanted)| words(got).is_superset(&words(wanted)));
        fits.then_some((other.len(), other.as_str()))
    };
    listed.iter().filter_map(extra).min().map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scienceworld::suite::vocabulary;

    fn path(commands: &[&str]) -> GoldPath {
        GoldPath::new(commands.iter().map(ToString::to_string).collect())
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_list_the_rest_of_the_way_is_what_was_not_played() {
        let mut gold = path(&["a", "b", "b", "c"]);
        let vocabulary = vocabulary();
        for (action, n_left) in [("a", 3), ("x", 3), ("b", 2), ("a", 2), ("b", 1), ("c", 0), ("c", 0)] {
            gold.played(action);
            assert_eq!(gold.rest(&[], &vocabulary).len(), n_left, "after {action}");
        }
    }

    #[test]
    fn with_a_list_the_next_command_is_a_listed_one() {
        let mut gold = path(&["open door to hall", "connect battery anode to wire terminal 1", "wait1"]);
        let vocabulary = vocabulary();
        let listed = strings(&[
            "connect anode in battery to terminal 1 in wire",
            "connect anode in battery to wire",
            "wait1",
        ]);
        let rest = gold.rest(&listed, &vocabulary);
        assert_eq!(rest, ["connect anode in battery to terminal 1 in wire", "wait1"]);
        gold.played("look around");
        assert_eq!(gold.rest(&listed, &vocabulary), rest);
        gold.played(&rest[0]);
        assert_eq!(gold.rest(&listed, &vocabulary), ["wait1"]);
        assert!(gold.rest(&strings(&["look around"]), &vocabulary).is_empty());
    }

    #[test]
    fn another_verb_or_other_things_are_not_the_same_command() {
        let vocabulary = vocabulary();
        let listed =
            strings(&["look at red bulb in hall", "focus on red bulb", "focus on red light bulb in hall"]);
        let form = |command| listed_form(command, &listed, &vocabulary);
        assert_eq!(form("focus on light bulb"), Some("focus on red light bulb in hall"));
        assert_eq!(form("focus on bulb"), Some("focus on red bulb"));
        assert_eq!(form("look in red bulb"), None);
        assert_eq!(form("focus on blue bulb"), None);
    }
}
