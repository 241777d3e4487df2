//! Which benchmark a question comes from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of a question set, e.g. `hotpotqa`: the family of its tasks, by which results are broken down.
///
/// Spellings of the seven known sets are brought to one (`HotpotQA`, `searchR1_hotpotqa`, `hotpot_qa`: `hotpotqa`); other
/// names are kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "String", into = "String")]
pub struct Dataset(String);

/// The known sets with the spellings that occur, without `-`, `_` and blanks.
const KNOWN: [(&str, &[&str]); 7] = [
    ("nq", &["nq", "naturalquestions", "nqopen", "nqsearch"]),
    ("hotpotqa", &["hotpotqa", "hotpot"]),
    ("2wikimultihopqa", &["2wikimultihopqa", "2wikimultihop", "2wiki", "2wikimqa", "2wikiqa"]),
    ("musique", &["musique", "musiqueans"]),
    ("bamboogle", &["bamboogle"]),
    ("popqa", &["popqa"]),
    ("triviaqa", &["triviaqa", "trivia", "tqa"]),
];

impl Dataset {
    /// The set of a name.
    #[must_use]
    pub fn new(name: &str) -> Dataset {
        let name = name.trim().to_lowercase();
        let name = name.strip_prefix("searchr1_").unwrap_or(&name);
        let bare: String = name.chars().filter(|c| !['-', '_', ' '].contains(c)).collect();
        let known = KNOWN.iter().find(|(_, spellings)| spellings.contains(&bare.as_str()));
        Dataset(known.map_or(name, |(known, _)| known).to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Dataset {
    fn from(name: String) -> Dataset {
        Dataset::new(&name)
    }
}

impl From<Dataset> for String {
    fn from(dataset: Dataset) -> String {
        dataset.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_set_are_one_name() {
        for (name, expected) in [
            ("HotpotQA", "hotpotqa"),
            ("searchR1_hotpotqa", "hotpotqa"),
            ("2WikiMultiHopQA", "2wikimultihopqa"),
            ("nq_search", "nq"),
            ("My-Set", "my-set"),
        ] {
            assert_eq!(Dataset::new(name).as_str(), expected);
        }
    }
}
