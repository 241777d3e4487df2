//! Interned names, and the names that players read.

use std::collections::HashMap;

use super::sexpr::syntax;
use crate::error::EnvError;

/// Names with small dense numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    list: Vec<String>,
    index: HashMap<String, u16>,
}

impl Names {
    /// The number of a name, new if it was not known.
    pub(super) fn intern(&mut self, name: &str) -> Result<u16, EnvError> {
        if let Some(&known) = self.index.get(name) {
            return Ok(known);
        }
        // The last number is kept free: tables use it for "none".
        let number = u16::try_from(self.list.len()).ok().filter(|&number| number < u16::MAX);
        let number = number.ok_or_else(|| syntax("domain", format!("more than {} names", u16::MAX)))?;
        self.list.push(name.to_owned());
        self.index.insert(name.to_owned(), number);
        Ok(number)
    }

    pub(super) fn get(&self, name: &str) -> Option<u16> {
        self.index.get(name).copied()
    }

    pub(super) fn name(&self, number: u16) -> &str {
        self.list.get(usize::from(number)).map_or("", String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(String::as_str)
    }
}

/// The player-visible name of each id, in the order of `ids`, which must be sorted.
///
/// An id `kind_bar_...` becomes `kind n`, with `basin` appended to the kind if the id mentions it. Numbers count
/// downwards along the sorted ids, so the first id of a kind has the highest. An id without `_bar_` becomes itself
/// and a blank. Ids that `present` leaves out, because no initial fact mentions them, get no number.
///
/// Source: the `Demangler` of the ALFWorld package.
pub(super) fn display_names(ids: &[&str], present: &[bool]) -> Vec<String> {
    let kind = |id: &str| {
        let (kind, _) = id.split_once("_bar_")?;
        Some(if id.contains("basin") { format!("{kind}basin") } else { kind.to_owned() })
    };
    let mut remaining: HashMap<String, usize> = HashMap::new();
    for (id, _) in ids.iter().zip(present).filter(|(_, present)| **present) {
        if let Some(kind) = kind(id) {
            *remaining.entry(kind).or_default() += 1;
        }
    }
    let name = |(id, present): (&&str, &bool)| match kind(id) {
        Some(kind) if *present => {
            let left = remaining.entry(kind.clone()).or_default();
            let name = format!("{kind} {left}");
            *left = left.saturating_sub(1);
            name
        }
        // What stands for punctuation becomes it again, in ids without a number only.
        _ => {
            let marks = [("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ",")];
            let plain = marks.into_iter().fold((*id).to_owned(), |id, (from, to)| id.replace(from, to));
            format!("{plain} ")
        }
    };
    ids.iter().zip(present).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_down_along_sorted_ids() {
        let ids = ["a_minus_b", "agent1", "drawer_bar_1", "drawer_bar_2", "sink_bar_1_bar_sinkbasin"];
        let names = display_names(&ids, &[true; 5]);
        assert_eq!(names, ["a-b ", "agent1 ", "drawer 2", "drawer 1", "sinkbasin 1"]);
    }
}
