//! Sentence embeddings, as this crate needs them; the model behind them is somebody else's.

use crate::error::EnvError;

/// Turns texts into unit vectors whose inner product says how alike they are.
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// Length of a vector.
    fn dimensions(&self) -> usize;

    /// What tells this model from others, e.g. a digest of its weights. An index remembers it: vectors of two models do
    /// not compare.
    fn identity(&self) -> &str;

    /// One unit vector a text, in their order.
    ///
    /// # Errors
    /// [`EnvError::Embedding`].
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EnvError>;
}
