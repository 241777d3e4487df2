//! Bracketed lists of words, the surface syntax of PDDL.

use crate::error::EnvError;

/// Deeper nesting than this is refused: no real file comes near it, and recursion over the tree stays shallow.
const MAX_DEPTH: usize = 128;

/// A word, or a list of words and lists. Words are lower case: PDDL does not tell cases apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sexpr {
    Word(String),
    List(Vec<Sexpr>),
}

impl Sexpr {
    /// Reads a whole text. `;` starts a comment that ends with the line.
    pub(super) fn parse_all(text: &str, part: &'static str) -> Result<Vec<Sexpr>, EnvError> {
        let mut stack: Vec<Vec<Sexpr>> = vec![Vec::new()];
        for line in text.lines() {
            let code = line.split(';').next().unwrap_or_default();
            for word in words(code) {
                match word {
                    "(" if stack.len() > MAX_DEPTH => {
                        return Err(syntax(part, format!("nested deeper than {MAX_DEPTH} brackets")));
                    }
                    "(" => stack.push(Vec::new()),
                    ")" => {
                        let list = stack.pop().unwrap_or_default();
                        match stack.last_mut() {
                            Some(parent) => parent.push(Sexpr::List(list)),
                            None => return Err(syntax(part, "a `)` without its `(`")),
                        }
                    }
                    word => {
                        if let Some(list) = stack.last_mut() {
                            list.push(Sexpr::Word(word.to_lowercase()));
                        }
                    }
                }
            }
        }
        if stack.len() > 1 {
            return Err(syntax(part, format!("{} unclosed `(` at the end", stack.len() - 1)));
        }
        Ok(stack.pop().unwrap_or_default())
    }

    /// The word, if this is one.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Sexpr::Word(word) => Some(word),
            Sexpr::List(_) => None,
        }
    }

    /// The items, if this is a list.
    pub(super) fn list(&self) -> Option<&[Sexpr]> {
        match self {
            Sexpr::Word(_) => None,
            Sexpr::List(list) => Some(list),
        }
    }

    /// The first word and the other items, if this is a list that starts with a word.
    pub(super) fn headed(&self) -> Option<(&str, &[Sexpr])> {
        let (head, rest) = self.list()?.split_first()?;
        Some((head.word()?, rest))
    }

    /// A short form for error messages.
    pub(super) fn excerpt(&self) -> String {
        match self {
            Sexpr::Word(word) => word.clone(),
            Sexpr::List(list) => {
                let head = list.first().map_or("", |first| first.word().unwrap_or("("));
                format!("({head} ...)")
            }
        }
    }
}

/// Shorthand for [`EnvError::Syntax`].
pub(super) fn syntax(part: &'static str, reason: impl Into<String>) -> EnvError {
    EnvError::Syntax { part, reason: reason.into() }
}

/// Brackets and blank-separated words, in order.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split_whitespace().flat_map(|chunk| chunk.split_inclusive(['(', ')'])).flat_map(|piece| {
        let cut = piece.len() - usize::from(piece.ends_with(['(', ')']));
        let (word, bracket) = piece.split_at(cut);
        [word, bracket].into_iter().filter(|token| !token.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_lists_nest_and_comments_vanish() {
        let parsed = Sexpr::parse_all("(a B;c)\n (d))", "domain").unwrap();
        let word = |text: &str| Sexpr::Word(text.into());
        assert_eq!(parsed, [Sexpr::List(vec![word("a"), word("b"), Sexpr::List(vec![word("d")])])]);
    }

    #[test]
    fn unbalanced_brackets_are_refused() {
        assert!(Sexpr::parse_all("(a", "domain").is_err());
        assert!(Sexpr::parse_all("a)", "domain").is_err());
        assert!(Sexpr::parse_all(&"(".repeat(100_000), "domain").is_err());
    }
}
