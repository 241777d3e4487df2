//! Values, rows and results as Python prints them: agents and rewards of InterCode see `str` of a list of tuples.

use rusqlite::types::ValueRef;

/// A row as Python's `repr` of a tuple: `(1, 'a', None)`, `(1,)`.
///
/// # Errors
/// The number of the column, from 0, whose text is not UTF-8.
pub(crate) fn tuple(values: &[ValueRef<'_>]) -> Result<String, usize> {
    let mut text = String::from("(");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        push(&mut text, *value).ok_or(index)?;
    }
    if values.len() == 1 {
        text.push(',');
    }
    text.push(')');
    Ok(text)
}

/// Rendered rows as Python's `str` of a list.
pub(crate) fn list(rows: &[String]) -> String {
    format!("[{}]", rows.join(", "))
}

/// Appends a value; `None` if it is text that is not UTF-8.
fn push(text: &mut String, value: ValueRef<'_>) -> Option<()> {
    match value {
        ValueRef::Null => text.push_str("None"),
        ValueRef::Integer(number) => text.push_str(&number.to_string()),
        ValueRef::Real(number) => text.push_str(&float(number)),
        ValueRef::Text(bytes) => push_str(text, std::str::from_utf8(bytes).ok()?),
        ValueRef::Blob(bytes) => push_bytes(text, bytes),
    }
    Some(())
}

/// A float: the shortest digits that read back as the same number; with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// A string, in single quotes unless it holds some and no double ones.
fn push_str(text: &mut String, value: &str) {
    let quote = if value.contains('\'') && !value.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' => text.push_str("\\\\"),
            c if c == quote => text.extend(['\\', c]),
            c if is_printable(c) => text.push(c),
            c if u32::from(c) < 0x100 => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    text.push(quote);
}

/// Whether Python prints a character as it is: all but the categories C* and Z*, the blank excepted.
///
/// The standard library has this very rule for `escape_debug`; only at the beginning of a text does it escape marks that
/// join what stands before them, hence the letter.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().count() == 2
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    text.extend(['b', char::from(quote)]);
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            byte if byte == quote => text.extend(['\\', char::from(byte)]),
            0x20..=0x7e => text.push(char::from(byte)),
            byte => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push(char::from(quote));
}
