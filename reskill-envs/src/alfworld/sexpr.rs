//! Bracketed lists of words, the surface syntax of PDDL.

use crate::error::{EnvError, Position};

/// Deeper nesting than this is refused: no real file comes near it, and recursion over the tree stays shallow.
const MAX_DEPTH: usize = 128;

/// Longer texts than this, in bytes, are refused. ALFWorld's largest has 120 KB.
pub(super) const MAX_TEXT_BYTES: usize = 16 << 20;

/// A word, or a list of words and lists, with where it begins. Words are slices of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sexpr<'a> {
    pub(super) at: Position,
    content: Content<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content<'a> {
    Word(&'a str),
    List(Vec<Sexpr<'a>>),
}

/// The text in lower case: PDDL does not tell cases apart.
///
/// # Errors
/// [`EnvError::Syntax`] if it is longer than any real one by far.
pub(super) fn lower_case(text: &str, part: &'static str) -> Result<String, EnvError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(syntax(part, format!("{} bytes of text, at most {MAX_TEXT_BYTES}", text.len())));
    }
    Ok(if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() })
}

impl<'a> Sexpr<'a> {
    /// Reads a whole text, in lower case. `;` starts a comment that ends with the line.
    pub(super) fn parse_all(text: &'a str, part: &'static str) -> Result<Vec<Sexpr<'a>>, EnvError> {
        let mut open: Vec<Position> = Vec::new();
        let mut stack: Vec<Vec<Sexpr<'a>>> = vec![Vec::new()];
        for (line, number) in text.lines().zip(1u32..) {
            let code = line.split_once(';').map_or(line, |(code, _)| code);
            for (word, column) in words(code) {
                let at = Position { line: number, column };
                match word {
                    "(" if open.len() >= MAX_DEPTH => {
                        let reason = format!("nested deeper than {MAX_DEPTH} brackets");
                        return Err(syntax_at(part, at, reason));
                    }
                    "(" => {
                        open.push(at);
                        stack.push(Vec::new());
                    }
                    ")" => {
                        let list = stack.pop().unwrap_or_default();
                        match (stack.last_mut(), open.pop()) {
                            (Some(parent), Some(at)) => {
                                parent.push(Sexpr { at, content: Content::List(list) });
                            }
                            _ => return Err(syntax_at(part, at, "a `)` without its `(`")),
                        }
                    }
                    word => {
                        if let Some(list) = stack.last_mut() {
                            list.push(Sexpr { at, content: Content::Word(word) });
                        }
                    }
                }
            }
        }
        match open.last() {
            Some(&at) => {
                Err(syntax_at(part, at, format!("{} `(` without their `)`, the last one here", open.len())))
            }
            None => Ok(stack.pop().unwrap_or_default()),
        }
    }

    /// `()`, for what a file leaves out.
    pub(super) fn nothing() -> Sexpr<'static> {
        Sexpr { at: Position { line: 1, column: 1 }, content: Content::List(Vec::new()) }
    }

    /// The word, if this is one.
    pub(super) fn word(&self) -> Option<&'a str> {
        match self.content {
            Content::Word(word) => Some(word),
            Content::List(_) => None,
        }
    }

    /// The items, if this is a list.
    pub(super) fn list(&self) -> Option<&[Sexpr<'a>]> {
        match &self.content {
            Content::Word(_) => None,
            Content::List(list) => Some(list),
        }
    }

    /// The items, if this is a list.
    pub(super) fn into_list(self) -> Option<Vec<Sexpr<'a>>> {
        match self.content {
            Content::Word(_) => None,
            Content::List(list) => Some(list),
        }
    }

    /// The first word and the other items, if this is a list that starts with a word.
    pub(super) fn headed(&self) -> Option<(&'a str, &[Sexpr<'a>])> {
        let (head, rest) = self.list()?.split_first()?;
        Some((head.word()?, rest))
    }

    /// A short form for error messages.
    pub(super) fn excerpt(&self) -> String {
        match &self.content {
            Content::Word(word) => (*word).to_owned(),
            Content::List(list) => {
                let head = list.first().map_or("", |first| first.word().unwrap_or("("));
                format!("({head} ...)")
            }
        }
    }

    /// The error with this place, unless it names one already.
    pub(super) fn locate(&self, error: EnvError) -> EnvError {
        match error {
            EnvError::Syntax { part, at: None, reason } => syntax_at(part, self.at, reason),
            other => other,
        }
    }
}

/// An error of a whole part of a file.
pub(super) fn syntax(part: &'static str, reason: impl Into<String>) -> EnvError {
    EnvError::Syntax { part, at: None, reason: reason.into() }
}

/// An error at a place of a part of a file.
pub(super) fn syntax_at(part: &'static str, at: Position, reason: impl Into<String>) -> EnvError {
    EnvError::Syntax { part, at: Some(at), reason: reason.into() }
}

/// Brackets and blank-separated words, in order, with the columns they begin at, counted in bytes from 1.
fn words(code: &str) -> impl Iterator<Item = (&str, u32)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = &code[from..];
        let start = from + (rest.len() - rest.trim_start().len());
        let rest = &code[start..];
        let end = match rest.as_bytes().first()? {
            b'(' | b')' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(rest.len()),
        };
        from = start + end;
        Some((&rest[..end], start as u32 + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_lists_nest_and_comments_vanish() {
        let text = lower_case("(a B;c)\n (d))", "domain").unwrap();
        let parsed = Sexpr::parse_all(&text, "domain").unwrap();
        let [whole] = parsed.as_slice() else { panic!("{parsed:?}") };
        let items = whole.list().unwrap();
        assert_eq!((items[0].word(), items[1].word()), (Some("a"), Some("b")));
        assert_eq!(items[2].list().unwrap()[0].word(), Some("d"));
        assert_eq!(items[2].at, Position { line: 2, column: 2 });
    }

    #[test]
    fn unbalanced_brackets_are_refused_with_their_place() {
        let refused = |text: &str| Sexpr::parse_all(text, "domain").unwrap_err().to_string();
        assert_eq!(
            refused("(a\n (b"),
            "domain: line 2, column 2: 2 `(` without their `)`, the last one here"
        );
        assert_eq!(refused("a)"), "domain: line 1, column 2: a `)` without its `(`");
        assert_eq!(
            refused(&"(".repeat(100_000)),
            "domain: line 1, column 129: nested deeper than 128 brackets"
        );
    }
}
