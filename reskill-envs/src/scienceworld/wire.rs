//! The text protocol of py4j gateways, as far as the simulator needs it: calls of methods, and their answers.
//!
//! A call is `c`, the object, the method, one line for each argument (a letter for its type, then the value) and `e`. An
//! answer is one line: `!y`, a letter for the type, the value; or `!x` and what went wrong. A text is escaped: `\\`, `\r`
//! and `\n`.

/// An argument of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Argument<'a> {
    Text(&'a str),
    Int(i32),
    Bool(bool),
    /// An object of the simulator, by its id.
    Object(&'a str),
}

/// What a call returns.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, or no object.
    Nothing,
    Text(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// An object that the gateway keeps until it is freed, by its id.
    Object(String),
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadAnswer {
    /// The method threw; the first line of what it says.
    Thrown(String),
    /// The line is no answer.
    Nonsense(String),
}

/// A call as it is sent. Names of objects and methods are ours and have no line ends.
pub(super) fn call(object: &str, method: &str, arguments: &[Argument<'_>]) -> String {
    let mut command = format!("c\n{object}\n{method}\n");
    for argument in arguments {
        match argument {
            Argument::Text(text) => command.push_str(&format!("s{}", escaped(text))),
            Argument::Int(number) => command.push_str(&format!("i{number}")),
            Argument::Bool(flag) => command.push_str(&format!("b{flag}")),
            Argument::Object(id) => command.push_str(&format!("r{id}")),
        }
        command.push('\n');
    }
    command.push_str("e\n");
    command
}

/// The command that makes an object of a class.
pub(super) fn create(class: &str) -> String {
    format!("i\n{class}\ne\n")
}

/// The command that frees an object.
pub(super) fn free(id: &str) -> String {
    format!("m\nd\n{id}\ne\n")
}

/// Reads an answer, without its line end.
pub(super) fn parse(line: &str) -> Result<Value, BadAnswer> {
    let nonsense = || BadAnswer::Nonsense(format!("`{}`", line.chars().take(80).collect::<String>()));
    let body = line.strip_prefix('!').ok_or_else(nonsense)?;
    if let Some(thrown) = body.strip_prefix('x') {
        let said = unescaped(thrown.strip_prefix(['s', 'r']).unwrap_or(thrown));
        return Err(BadAnswer::Thrown(said.lines().next().unwrap_or_default().trim().to_string()));
    }
    let typed = body.strip_prefix('y').ok_or_else(nonsense)?;
    let mut rest = typed.chars();
    let kind = rest.next().ok_or_else(nonsense)?;
    let value = rest.as_str();
    match kind {
        'v' | 'n' => Ok(Value::Nothing),
        's' => Ok(Value::Text(unescaped(value))),
        'i' | 'L' => value.parse().map(Value::Int).map_err(|_| nonsense()),
        'd' => value.parse().map(Value::Double).map_err(|_| nonsense()),
        'b' => match value.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(nonsense()),
        },
        'r' | 'l' | 'a' | 'h' | 't' | 'g' if !value.is_empty() => Ok(Value::Object(value.to_string())),
        _ => Err(nonsense()),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n")
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_holds_object_method_and_typed_arguments() {
        let arguments =
            [Argument::Text("a\nb\\"), Argument::Int(-3), Argument::Bool(true), Argument::Object("o7")];
        assert_eq!(call("t", "load", &arguments), "c\nt\nload\nsa\\nb\\\\\ni-3\nbtrue\nro7\ne\n");
        assert_eq!(call("t", "reset", &[]), "c\nt\nreset\ne\n");
    }

    #[test]
    fn texts_survive_the_way_there_and_back() {
        for text in ["", "a\tb", "\\n is no line end", "one\r\ntwo\n", "ends with \\", "ünï → ©"] {
            let sent = call("t", "m", &[Argument::Text(text)]);
            let line = sent.lines().nth(3).unwrap();
            assert_eq!(parse(&format!("!y{line}")), Ok(Value::Text(text.into())), "{text:?}");
        }
    }

    #[test]
    fn answers_of_every_kind_are_read() {
        for (line, value) in [
            ("!yv", Value::Nothing),
            ("!yn", Value::Nothing),
            ("!yi-7", Value::Int(-7)),
            ("!yL9000000000", Value::Int(9_000_000_000)),
            ("!yd0.25", Value::Double(0.25)),
            ("!ybtrue", Value::Bool(true)),
            ("!yro12", Value::Object("o12".into())),
            ("!ylo3", Value::Object("o3".into())),
        ] {
            assert_eq!(parse(line), Ok(value), "{line}");
        }
    }

    #[test]
    fn what_a_method_throws_is_told_by_its_first_line() {
        let thrown = parse("!xspy4j.Py4JException: no method\\n\\tat x.y");
        assert_eq!(thrown, Err(BadAnswer::Thrown("py4j.Py4JException: no method".into())));
    }

    #[test]
    fn a_line_that_is_no_answer_is_nonsense() {
        for line in ["", "!", "!y", "yv", "HTTP/1.1 400", "!yix", "!ybmaybe", "!yr", "!y?1"] {
            assert!(matches!(parse(line), Err(BadAnswer::Nonsense(_))), "{line}");
        }
    }
}
