//! The inner syntax of a grammar: right-hand sides with symbols, expressions and lists.

use super::twl2::head;
use crate::alfworld::sexpr::syntax;
use crate::error::EnvError;

/// One piece of a right-hand side, before names are resolved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text as it is.
    Literal(&'a str),
    /// `#symbol#`
    Symbol(&'a str),
    /// `{expression | condition}`, or with `list` `[{expression | condition}]`.
    Each { expression: ExpressionText<'a>, given: Option<&'a str>, list: bool },
}

/// What stands in braces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpressionText<'a> {
    /// `#symbol#`
    Symbol(&'a str),
    /// `a or b`, where each is a sum of operands.
    Choice(Vec<Vec<Operand<'a>>>),
}

/// A part of a sum.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operand<'a> {
    /// `'text'`
    Text(&'a str),
    /// `variable` or `variable.attribute`
    Attribute(&'a str, Option<&'a str>),
}

/// Splits a right-hand side as the original parser does:
///
/// - blanks at its very start are no part of it, nor are tabs at the start of any piece, nor lines that begin with `//`
///   there;
/// - quotes around a piece of text are no part of it;
/// - it ends before the first `;`, `|`, `<` or `>` outside of braces, and before a quote without its other one.
///
/// Brackets and `#` without their other one, which end a text there too, are refused here.
pub(super) fn pieces(rhs: &str) -> Result<Vec<Piece<'_>>, EnvError> {
    let mut pieces = Vec::new();
    let mut rest = start(rhs);
    loop {
        rest = rest.trim_start_matches('\t');
        let (piece, after) = match rest.as_bytes().first() {
            None | Some(b';' | b'|' | b'<' | b'>') => return Ok(pieces),
            Some(b'#') => {
                let (symbol, after) = until(&rest[1..], "#", rhs)?;
                (Piece::Symbol(symbol), after)
            }
            Some(b'{') => {
                let (body, after) = until(&rest[1..], "}", rhs)?;
                (each(body, false, rhs)?, after)
            }
            Some(b'[') => {
                let (body, after) = until(&rest[1..], "]", rhs)?;
                let inner = body.trim().strip_prefix('{').and_then(|body| body.strip_suffix('}'));
                let inner = inner.ok_or_else(|| wrong("a list that is not `[{...}]`", rhs))?;
                (each(inner, true, rhs)?, after)
            }
            Some(b'}' | b']') => return Err(wrong("a closing bracket without its opening one", rhs)),
            Some(b'"') => match rest[1..].split_once('"') {
                Some((literal, after)) if !literal.contains(ENDS) => (Piece::Literal(literal), after),
                _ => return Ok(pieces),
            },
            Some(_) => {
                let (literal, after) = rest.split_at(rest.find(ENDS).unwrap_or(rest.len()));
                (Piece::Literal(literal), after)
            }
        };
        pieces.push(piece);
        rest = after;
    }
}

/// What a piece of text cannot hold.
const ENDS: [char; 10] = [';', '|', '"', '<', '>', '[', ']', '#', '{', '}'];

/// A right-hand side without blanks, and lines of comment, at its start.
fn start(rhs: &str) -> &str {
    let mut rest = rhs;
    let mut is_line_start = true;
    loop {
        if is_line_start && rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let is_blank = |c: char| c.is_whitespace() || matches!(c, '\x1c'..='\x1f');
        let trimmed = rest.trim_start_matches(is_blank);
        if trimmed.len() == rest.len() {
            return rest;
        }
        is_line_start = rest[..rest.len() - trimmed.len()].ends_with('\n');
        rest = trimmed;
    }
}

/// The text of a right-hand side without symbols and expressions; `None` if it has any.
pub(super) fn plain(rhs: &str) -> Option<String> {
    let text = |piece: Piece<'_>| match piece {
        Piece::Literal(text) => Some(text.to_owned()),
        Piece::Symbol(_) | Piece::Each { .. } => None,
    };
    pieces(rhs).ok()?.into_iter().map(text).collect()
}

fn each<'a>(body: &'a str, list: bool, rhs: &str) -> Result<Piece<'a>, EnvError> {
    let (expression, given) = match body.split_once('|') {
        Some((expression, given)) => (expression.trim(), Some(given.trim())),
        None => (body.trim(), None),
    };
    let symbol = expression.strip_prefix('#').and_then(|symbol| symbol.strip_suffix('#'));
    let expression = match symbol {
        Some(symbol) => ExpressionText::Symbol(symbol),
        None => choice(expression).ok_or_else(|| wrong("an expression that is not understood", rhs))?,
    };
    Ok(Piece::Each { expression, given, list })
}

/// `a.b + ' ' + c or d`
fn choice(expression: &str) -> Option<ExpressionText<'_>> {
    let mut choices = vec![Vec::new()];
    let mut rest = expression;
    loop {
        let operand;
        (operand, rest) = operand_and_rest(rest.trim_start())?;
        choices.last_mut()?.push(operand);
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(ExpressionText::Choice(choices));
        }
        rest = match rest.strip_prefix('+') {
            Some(after) => after,
            None => {
                choices.push(Vec::new());
                rest.strip_prefix("or ")?
            }
        };
    }
}

fn operand_and_rest(text: &str) -> Option<(Operand<'_>, &str)> {
    if let Some(quote) = text.chars().next().filter(|&first| first == '\'' || first == '"') {
        let (literal, rest) = text[1..].split_once(quote)?;
        return Some((Operand::Text(literal), rest));
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let operand = match path.split_once('.') {
        Some((variable, attribute)) => Operand::Attribute(variable, Some(attribute)),
        None => Operand::Attribute(path, None),
    };
    (!path.is_empty()).then_some((operand, rest))
}

fn until<'a>(text: &'a str, end: &str, rhs: &str) -> Result<(&'a str, &'a str), EnvError> {
    text.split_once(end).ok_or_else(|| wrong(&format!("no closing `{end}`"), rhs))
}

fn wrong(what: &str, rhs: &str) -> EnvError {
    syntax("grammar", format!("{what} in {:?}", head(rhs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_feedback_line() {
        let name = |variable| Operand::Attribute(variable, Some("name"));
        let sum = vec![Operand::Attribute("o", Some("indefinite")), Operand::Text(" "), name("o")];
        assert_eq!(
            pieces("\nOn the {r.name or r}, you see [{o.indefinite + ' ' + o.name | in(o:o, r:r)}].#x#")
                .unwrap(),
            [
                Piece::Literal("On the "),
                Piece::Each {
                    expression: ExpressionText::Choice(vec![
                        vec![name("r")],
                        vec![Operand::Attribute("r", None)]
                    ]),
                    given: None,
                    list: false
                },
                Piece::Literal(", you see "),
                Piece::Each {
                    expression: ExpressionText::Choice(vec![sum]),
                    given: Some("in(o:o, r:r)"),
                    list: true
                },
                Piece::Literal("."),
                Piece::Symbol("x"),
            ]
        );
    }

    #[test]
    fn texts_begin_and_end_where_the_original_lets_them() {
        // Recorded from the original parser.
        let cases = [
            ("; ", ""),
            ("Taken; {o.name}", "Taken"),
            ("a | b", "a "),
            ("\"quoted; text\" more", ""),
            ("\"quoted text\" more", "quoted text more"),
            ("x \"mid quoted\" y", "x mid quoted y"),
            ("\tfoo", "foo"),
            ("//c\n  foo", "foo"),
            (" // c", "// c"),
            ("a > b #x#", "a "),
            ("he said \"hi", "he said "),
            ("\"a\"\t\"b\"\tc", "abc"),
            ("\u{a0}x", "x"),
            ("\u{1c}x", "x"),
            ("", ""),
        ];
        for (rhs, expected) in cases {
            assert_eq!(plain(rhs).as_deref(), Some(expected), "{rhs:?}");
        }
        assert_eq!(pieces("#a#\tfoo").unwrap(), [Piece::Symbol("a"), Piece::Literal("foo")]);
        assert_eq!(pieces("#a#\n foo").unwrap(), [Piece::Symbol("a"), Piece::Literal("\n foo")]);
    }

    #[test]
    fn broken_pieces_are_refused() {
        for rhs in ["{a", "#a", "[a]", "a}", "{a b}", "{}", "{'a}"] {
            assert!(pieces(rhs).is_err(), "{rhs}");
        }
    }
}
