//! What a pretrained language model adds to a policy: its chat template, its end of a turn, and replies in free text.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use reskill_envs::plain_prompt;
use reskill_envs::prompt::{ActionFormat, Manner};
use reskill_model::{Next, PolicyTokenizer, Pretrained, TokenConstraint};

/// The marks around what a policy reads, and the tokens that end what it says.
#[derive(Debug)]
pub struct Language {
    /// The checkpoint it came from.
    pub checkpoint: Pretrained,
    /// System message and opening of the user's turn: the beginning of the trunk.
    pub before: String,
    /// Closing of the user's turn and opening of the assistant's: the end of each branch.
    pub after: String,
    /// Tokens that end a reply.
    pub end_tokens: Arc<[u32]>,
}

impl Language {
    /// Reads chat template and end tokens; the system message is that of the environment. A model without template gets the system message as its first lines.
    ///
    /// # Errors
    /// If the template cannot be used, or no token ends a reply.
    pub fn new(checkpoint: Pretrained, format: ActionFormat, manner: &Manner) -> Result<Language> {
        let system = plain_prompt::system(format, manner);
        let (before, after) = match checkpoint.chat_template()? {
            Some(template) => template.around_user_message(system)?,
            None => (format!("{system}\n\n"), "\n".to_string()),
        };
        let end_tokens: Arc<[u32]> = checkpoint.end_tokens().into();
        let vocab_size = checkpoint.config().vocab_size;
        if end_tokens.is_empty() || end_tokens.iter().any(|&token| token as usize >= vocab_size) {
            bail!(
                "the model names no token of its vocabulary that ends a reply; add `eos_token_id` to its config.json"
            );
        }
        Ok(Language { checkpoint, before, after, end_tokens })
    }

    /// The tokenizer; its ids must be rows of the embedding.
    ///
    /// # Errors
    /// If it cannot be read, or knows more tokens than the model.
    pub fn tokenizer(&self) -> Result<PolicyTokenizer> {
        let tokenizer = self.checkpoint.tokenizer().context("a policy needs the model's tokenizer")?;
        let (known, rows) = (tokenizer.vocab_size(), self.checkpoint.config().vocab_size);
        if known > rows {
            bail!("the tokenizer knows {known} tokens, the model {rows}: they do not belong together");
        }
        Ok(tokenizer)
    }
}

/// Free text that ends behind the action's closing tag, or with a token that ends a turn.
#[derive(Debug, Clone)]
pub struct TaggedReply {
    /// To read what was said so far.
    pub tokenizer: Arc<PolicyTokenizer>,
    /// Tokens that end a reply.
    pub end_tokens: Arc<[u32]>,
    /// The tags.
    pub manner: Arc<Manner>,
}

impl TokenConstraint for TaggedReply {
    fn next(&self, generated: &[u32]) -> Next {
        let Some(last) = generated.last() else { return Next::Any };
        if self.end_tokens.contains(last) {
            return Next::Done;
        }
        // Only a token with `>` can complete the tag.
        let may_close = self.tokenizer.token_text(*last).is_some_and(|text| text.contains('>'));
        let is_closed =
            || self.tokenizer.decode_plain(generated).is_ok_and(|text| self.manner.is_complete(&text));
        if may_close && is_closed() { Next::Done } else { Next::Any }
    }
}
