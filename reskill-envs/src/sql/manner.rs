//! The words of the prompts, and how a reply names its action.

use crate::prompt::{ActionTag, Manner};

/// Actions stand in tags, a query also in a fenced block; blanks are kept, as they count in a query's texts.
pub(super) fn manner() -> Manner {
    Manner {
        system: "You answer questions about a database by running SQL. You do not know its tables: look at them first. Each \
                 turn you read what the last action showed and answer with one short sentence and your action: \
                 <action>execute[SHOW TABLES]</action> runs one query (SHOW TABLES, DESC and SELECT are possible), \
                 <action>submit</action> hands in the rows of the last query as your answer, <action>skip</action> gives up. \
                 The rows are compared with the right ones, their order too."
            .into(),
        request: "Answer with one short sentence and then <action>execute[SQL]</action>, or <action>submit</action> if the \
                  last rows are the answer."
            .into(),
        paper_introduction: "You answer a question about a database by running SQL.".into(),
        paper_request: "Think about the question in a few words, then give your action between <action> and </action> : \
                        execute[SQL], submit or skip ."
            .into(),
        tags: vec![ActionTag { name: "action".into(), command: "{}".into() }],
        fence: Some(ActionTag { name: "sql".into(), command: "execute[{}]".into() }),
        keeps_blanks: true,
    }
}
