//! Commands for policies that choose from a list: help that is declared, made of the schema and the words of the question.
//!
//! Nothing of the gold query or of the rows enters here. Queries are over one table: counts, columns, aggregates, sorting,
//! grouping, one condition. The question's words rank them, and the best ones are listed.

use super::database::{Database, Table};

/// Templates that the words of a question speak for.
const HINTS: [(&str, &[&str]); 7] = [
    ("count", &["how many", "number of", "count"]),
    ("avg", &["average", "mean"]),
    ("sum", &["total", "sum", "overall"]),
    ("max", &["maximum", "most", "highest", "largest", "biggest", "oldest", "longest", "latest", "heaviest"]),
    ("min", &["minimum", "least", "lowest", "smallest", "youngest", "shortest", "earliest", "fewest"]),
    ("distinct", &["different", "distinct", "unique"]),
    ("group", &["each", "every", "per ", "for all"]),
];

/// What a matching hint adds to the rank of a query; a full match of a name adds 100.
const HINT: u32 = 60;

/// `SHOW TABLES`, `DESC` of each table, the best `SELECT`s, `submit` and `skip`: at most `limit` commands, in this order.
pub(super) fn commands(question: &str, database: &Database, limit: usize) -> Vec<String> {
    let words = Words::of(question);
    let mut commands = vec!["execute[SHOW TABLES]".to_owned()];
    // A quarter is for looking around.
    let described = database.tables.iter().take(limit / 4);
    commands.extend(described.map(|table| format!("execute[DESC {}]", name(&table.name))));
    let mut queries: Vec<(u32, String)> = Vec::new();
    for table in &database.tables {
        of_table(table, &words, &mut queries);
    }
    queries.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    for (_, query) in queries {
        let command = format!("execute[{query}]");
        if commands.len() + 2 == limit {
            break;
        }
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands.extend(["submit", "skip"].map(str::to_owned));
    commands
}

/// What is read off a question.
struct Words {
    lower: String,
    /// Stems, in order.
    stems: Vec<String>,
    /// Numbers, quoted texts, and capitalised words that do not begin the question, as SQL literals.
    values: Vec<String>,
}

impl Words {
    fn of(question: &str) -> Words {
        let lower = question.to_lowercase();
        let stems = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(stem);
        Words { stems: stems.collect(), values: values(question), lower }
    }

    fn hint(&self, name: &str) -> u32 {
        let words = HINTS.iter().find(|(hint, _)| *hint == name).map_or(&[][..], |(_, words)| words);
        if words.iter().any(|word| self.lower.contains(word)) { HINT } else { 0 }
    }

    /// Where the question names something, and how much of the name is in it, in hundredths; `None` if nothing is.
    fn mention(&self, name: &str) -> Option<(usize, u32)> {
        let parts = parts(name);
        let places = parts.iter().filter_map(|part| self.stems.iter().position(|stem| stem == part));
        let places: Vec<usize> = places.collect();
        let first = places.iter().min()?;
        Some((*first, (places.len() * 100 / parts.len()) as u32))
    }
}

fn of_table(table: &Table, words: &Words, queries: &mut Vec<(u32, String)>) {
    let t = name(&table.name);
    let base = words.mention(&table.name).map_or(0, |(_, share)| share);
    let mut add = |rank: u32, query: String| queries.push((base + rank, query));
    add(words.hint("count") + 20, format!("SELECT count(*) FROM {t}"));
    add(5, format!("SELECT * FROM {t}"));
    // Columns in the order in which the question names them.
    let mut named: Vec<(usize, u32, String)> = table
        .columns
        .iter()
        .filter_map(|column| {
            let (place, share) = words.mention(&column.name)?;
            Some((place, share, name(&column.name)))
        })
        .collect();
    named.sort();
    for (_, share, c) in &named {
        add(*share, format!("SELECT {c} FROM {t}"));
        add(share + words.hint("distinct"), format!("SELECT DISTINCT {c} FROM {t}"));
        let counted = words.hint("distinct") + words.hint("count");
        add(share / 2 + counted, format!("SELECT count(DISTINCT {c}) FROM {t}"));
        for aggregate in ["avg", "sum", "max", "min"] {
            add(share / 2 + words.hint(aggregate), format!("SELECT {aggregate}({c}) FROM {t}"));
        }
        let grouped = words.hint("group") + words.hint("count") / 2;
        add(share / 2 + grouped, format!("SELECT {c}, count(*) FROM {t} GROUP BY {c}"));
        let commonest = words.hint("max") + share / 2;
        add(commonest, format!("SELECT {c} FROM {t} GROUP BY {c} ORDER BY count(*) DESC LIMIT 1"));
        for value in &words.values {
            add(share / 2 + HINT, format!("SELECT count(*) FROM {t} WHERE {c} = {value}"));
        }
    }
    of_pairs(&t, &named, words, &mut add);
}

/// Queries about two columns that the question names.
fn of_pairs(t: &str, named: &[(usize, u32, String)], words: &Words, add: &mut impl FnMut(u32, String)) {
    let is_sorted =
        ["order", "sort", "alphabet", "ascending", "descending"].map(|word| words.lower.contains(word));
    let sorted = if is_sorted.contains(&true) { HINT } else { 0 };
    let falling = if words.lower.contains("descending") { HINT } else { 0 };
    for (index, (_, one_share, one)) in named.iter().enumerate() {
        for (_, other_share, other) in named.iter().filter(|(_, _, other)| other != one) {
            let rank = (one_share + other_share) / 2;
            add(rank + sorted, format!("SELECT {one} FROM {t} ORDER BY {other}"));
            add(rank + sorted + falling / 2, format!("SELECT {one} FROM {t} ORDER BY {other} DESC"));
            add(rank + words.hint("max"), format!("SELECT {one} FROM {t} ORDER BY {other} DESC LIMIT 1"));
            add(rank + words.hint("min"), format!("SELECT {one} FROM {t} ORDER BY {other} LIMIT 1"));
            for value in &words.values {
                add(rank + HINT, format!("SELECT {one} FROM {t} WHERE {other} = {value}"));
                add(rank + HINT / 2, format!("SELECT {one} FROM {t} WHERE {other} > {value}"));
            }
        }
        for (_, other_share, other) in &named[index + 1..] {
            let rank = (one_share + other_share) / 2;
            add(rank + 10, format!("SELECT {one}, {other} FROM {t}"));
            let grouped = rank + words.hint("group");
            for aggregate in ["avg", "max", "min"] {
                let rank = grouped / 2 + words.hint(aggregate);
                add(rank, format!("SELECT {aggregate}({one}), {aggregate}({other}) FROM {t}"));
            }
        }
    }
    if let [(_, a, one), (_, b, two), (_, c, three), ..] = named {
        add((a + b + c) / 3 + 10, format!("SELECT {one}, {two}, {three} FROM {t}"));
    }
}

/// A word without the endings of the plural, in one form for both numbers: `countr`, `nam`.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("ies").map_or_else(|| word.to_owned(), |rest| format!("{rest}y"));
    let word = word.strip_suffix('s').filter(|rest| rest.len() > 1 && !rest.ends_with('s')).unwrap_or(&word);
    word.strip_suffix('e').filter(|rest| rest.len() > 1).unwrap_or(word).to_owned()
}

/// The stems of a name's words: `CountryName` and `country_name` are both `country`, `nam`.
fn parts(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut previous_is_lower = false;
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (c.is_uppercase() && previous_is_lower);
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        previous_is_lower = c.is_lowercase();
    }
    words.iter().filter(|word| !word.is_empty()).map(|word| stem(word)).collect()
}

fn values(question: &str) -> Vec<String> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut found: Vec<String> = Vec::new();
    for quote in ['"', '\''] {
        // A quote within a word is an apostrophe.
        let pieces: Vec<&str> = question.split(quote).collect();
        let quoted = pieces.windows(3).step_by(2).map(|three| three[1]);
        found.extend(quoted.filter(|text| !text.is_empty() && text.len() <= 40).map(literal));
    }
    let words = question.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let mut span: Vec<&str> = Vec::new();
    for word in words.skip(1).chain(["end"]) {
        if word.starts_with(char::is_uppercase) {
            span.push(word);
            continue;
        }
        if !span.is_empty() {
            found.push(literal(&span.join(" ")));
            span.clear();
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok() {
            found.push(word.to_owned());
        }
    }
    let mut distinct: Vec<String> = Vec::new();
    for value in found {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct.truncate(4);
    distinct
}

/// A name as SQL writes it.
fn name(name: &str) -> String {
    let is_plain = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !["order", "group", "index", "table", "select", "from", "where", "to", "transaction"]
            .contains(&name.to_lowercase().as_str());
    if is_plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}
