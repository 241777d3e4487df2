//! The words of the prompts.

use crate::prompt::Manner;

pub(super) fn manner() -> Manner {
    Manner {
        system: "You choose the product that fits a shopper's query best. You do not see the products: look up the name, \
                 class, description or features of an option, then choose. Each turn you read what the last action showed \
                 and answer with one short sentence and your action, as in <action>look up name of option 1</action> or \
                 <action>choose option 2</action>."
            .into(),
        request: "Answer with one short sentence and then <action>look up ... of option ...</action> or <action>choose \
                  ...</action>."
            .into(),
        paper_introduction: "You choose the product that fits a query best.".into(),
        ..Manner::default()
    }
}
