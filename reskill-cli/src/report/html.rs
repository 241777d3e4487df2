//! Markup. Everything that comes from a file goes through [`text`].

use std::fmt::{self, Display, Write};

/// Text from a file, escaped as it is written.
pub(super) struct Text<'a>(&'a str);

/// Text for a place in the markup, in an element or in a quoted attribute.
pub(super) fn text(raw: &str) -> Text<'_> {
    Text(raw)
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Characters that HTML does not allow, even as references.
                c if c.is_control() && !matches!(c, '\n' | '\t' | '\r') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A name or a pattern that may break after an underscore or a bar.
pub(super) fn breakable(raw: &str) -> String {
    text(raw).to_string().replace('_', "_<wbr>").replace('|', "|<wbr>")
}

/// A section with its heading.
pub(super) fn section(id: &str, title: &str, body: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}\n</section>\n")
}

/// A table of ready markup; it scrolls sideways where it does not fit.
pub(super) fn table(class: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let head: String = head.iter().map(|cell| format!("<th>{cell}</th>")).collect();
    let row = |cells: &Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table class=\"{class}\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// A figure: a caption of ready markup above a drawing.
pub(super) fn figure(caption: &str, drawing: &str) -> String {
    format!("<figure><figcaption>{caption}</figcaption>{drawing}</figure>\n")
}

/// Entries of a legend: the class of the swatch, and what it stands for.
pub(super) fn legend(entries: &[(&str, &str)]) -> String {
    let entry = |(class, name): &(&str, &str)| format!("<span><i class=\"{class}\"></i>{name}</span> ");
    format!("<p class=\"legend\">{}</p>\n", entries.iter().map(entry).collect::<String>())
}

/// A pill with a word in it.
pub(super) fn badge(class: &str, word: &str) -> String {
    format!("<span class=\"badge {class}\">{word}</span>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_open_elements_or_leave_attributes() {
        assert_eq!(
            text("<b a=\"1\" b='2'>&amp;\u{0}").to_string(),
            "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;amp;\u{fffd}"
        );
        assert_eq!(breakable("a_<b"), "a_<wbr>&lt;b");
    }
}
