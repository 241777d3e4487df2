//! Chat templates: Jinja texts that turn messages into a prompt, as Hugging Face renders them.

use std::collections::BTreeMap;

use chrono::{DateTime, Local, TimeZone};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else a template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(role: &str, content: &str) -> Message {
        Message { role: role.to_string(), content: content.to_string() }
    }
}

/// A compiled template and the texts it may insert.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// `bos_token`, `eos_token` and so on.
    special: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// - `special`: texts of `bos_token`, `eos_token` and so on, by these names
    ///
    /// # Errors
    /// [`ModelError::ChatTemplate`] if it is no Jinja, or uses what is not supported.
    pub fn new(source: &str, special: BTreeMap<String, String>) -> Result<ChatTemplate, ModelError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|source| odd(&source))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        // `generation` marks what a template attributes to the assistant; it prints nothing.
        let plain = replace_tag(&replace_tag(source, "generation", "if true"), "endgeneration", "endif");
        environment.add_template_owned("chat", plain).map_err(|source| odd(&source))?;
        Ok(ChatTemplate { environment, source: source.to_string(), special })
    }

    /// The template's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt of a conversation.
    ///
    /// - `add_generation_prompt`: whether the prompt ends where the assistant begins
    ///
    /// # Errors
    /// [`ModelError::ChatTemplate`], also if the template refuses the conversation.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ModelError> {
        self.render_values(Serde(messages).into(), add_generation_prompt, &[], Local::now())
    }

    /// The texts around a user's message, with a system message before it and the assistant's opening after it: a prompt
    /// is the first, the message, the second. So a message can be made of pieces that are encoded one by one.
    ///
    /// The system message stands at the beginning of the user's where a template refuses one by itself. Where a template
    /// prints the day, it is always the same one.
    ///
    /// # Errors
    /// [`ModelError::ChatTemplate`] if the template refuses the conversation, or does not print the message once and as
    /// it is.
    pub fn around_user_message(&self, system: &str) -> Result<(String, String), ModelError> {
        const MESSAGE: &str = "0b7e-message-a1f4";
        // The day that Llama 3.2's template prints where it is given none; noon is that day in every time zone.
        let day = Local.with_ymd_and_hms(2024, 7, 26, 12, 0, 0).single().unwrap_or_default();
        let render = |messages: &[Message]| self.render_values(Serde(messages).into(), true, &[], day);
        let user = Message::new("user", MESSAGE);
        let text = match render(&[Message::new("system", system), user.clone()]) {
            Ok(text) if text.contains(system.trim()) => text,
            first => {
                let joined = Message::new("user", &format!("{system}\n\n{MESSAGE}"));
                match (render(&[joined]), first) {
                    (Ok(text), _) => text,
                    (Err(_), Err(first)) => return Err(first),
                    (Err(error), Ok(_)) => return Err(error),
                }
            }
        };
        let mut parts = text.split(MESSAGE);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(before), Some(after), None) => Ok((before.to_string(), after.to_string())),
            _ => Err(ModelError::ChatTemplate {
                reason: "does not print the user's message once and as it is".to_string(),
            }),
        }
    }

    /// [`ChatTemplate::render`] of messages with further fields, with further variables (`tools`, `enable_thinking`), at
    /// a given time.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_values(
        &self,
        messages: Value,
        add_generation_prompt: bool,
        variables: &[(&str, Value)],
        now: DateTime<Local>,
    ) -> Result<String, ModelError> {
        let strftime = Value::from_function(move |format: String| -> Result<String, Error> {
            use std::fmt::Write;
            let mut text = String::new();
            match write!(text, "{}", now.format(&format)) {
                Ok(()) => Ok(text),
                Err(_) => Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: unknown format")),
            }
        });
        let mut context: BTreeMap<String, Value> =
            self.special.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect();
        context.insert("messages".to_string(), messages);
        context.insert("add_generation_prompt".to_string(), add_generation_prompt.into());
        context.insert("strftime_now".to_string(), strftime);
        for name in ["tools", "documents"] {
            context.insert(name.to_string(), Value::from(()));
        }
        context.extend(variables.iter().map(|(name, value)| ((*name).to_string(), value.clone())));
        let template = self.environment.get_template("chat").map_err(|source| odd(&source))?;
        template.render(context).map_err(|source| odd(&source))
    }
}

fn odd(source: &Error) -> ModelError {
    let detail = source.detail().map_or_else(|| source.kind().to_string(), ToString::to_string);
    let line = source.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    ModelError::ChatTemplate { reason: format!("{detail}{line}") }
}

/// Replaces `{% name %}`, with or without marks that trim white space, by another tag.
fn replace_tag(source: &str, name: &str, by: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}") else { break };
        let inside = &rest[start + 2..start + len];
        out.push_str(&rest[..start + 2]);
        if inside.trim_matches(['-', '+']).trim() == name {
            out.push_str(&inside.replacen(name, by, 1));
        } else {
            out.push_str(inside);
        }
        out.push_str("%}");
        rest = &rest[start + len + 2..];
    }
    out + rest
}

/// JSON as Python's `json.dumps` writes it: a space behind `,` and `:`, letters beyond ASCII as they are.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let mut out = String::new();
    write_json(&mut out, value, indent, 0)?;
    if ensure_ascii == Some(true) {
        out = out.chars().map(escaped).collect();
    }
    Ok(Value::from_safe_string(out))
}

fn escaped(c: char) -> String {
    if c.is_ascii() {
        return c.to_string();
    }
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn write_json(out: &mut String, value: &Value, indent: Option<usize>, depth: usize) -> Result<(), Error> {
    let line = |out: &mut String, depth: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        let text = serde_json::to_string(value)
            .map_err(|source| Error::new(ErrorKind::BadSerialization, source.to_string()))?;
        out.push_str(&text);
        return Ok(());
    }
    let (open, close) = if is_map { ('{', '}') } else { ('[', ']') };
    out.push(open);
    let mut empty = true;
    for item in value.try_iter()? {
        if !empty {
            out.push_str(comma);
        }
        empty = false;
        line(out, depth + 1);
        if is_map {
            write_json(out, &Value::from(item.to_string()), indent, depth + 1)?;
            out.push_str(": ");
            write_json(out, &value.get_item(&item)?, indent, depth + 1)?;
        } else {
            write_json(out, &item, indent, depth + 1)?;
        }
    }
    if !empty {
        line(out, depth);
    }
    out.push(close);
    Ok(())
}
