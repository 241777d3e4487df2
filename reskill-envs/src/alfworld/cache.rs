//! Compiled games by task: shared while anyone plays them, and for a while after.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::game::Game;
use crate::error::EnvError;
use crate::suite::TaskId;

/// Holds the last games that were opened, and knows all that are still played.
#[derive(Debug)]
pub(crate) struct GameCache {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<TaskId, Weak<Game>>,
    recent: VecDeque<Arc<Game>>,
}

impl GameCache {
    pub(crate) fn new(capacity: usize) -> GameCache {
        GameCache { capacity, inner: Mutex::default() }
    }

    /// The game of a task, compiled now if it is not known.
    pub(crate) fn get(
        &self,
        id: &TaskId,
        compile: impl FnOnce() -> Result<Game, EnvError>,
    ) -> Result<Arc<Game>, EnvError> {
        // A panic elsewhere leaves at worst a missing entry.
        let lock = || self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(game) = lock().known.get(id).and_then(Weak::upgrade) {
            return Ok(game);
        }
        let game = Arc::new(compile()?);
        let mut inner = lock();
        inner.known.insert(id.clone(), Arc::downgrade(&game));
        inner.recent.push_back(Arc::clone(&game));
        if inner.recent.len() > self.capacity {
            inner.recent.pop_front();
        }
        Ok(game)
    }
}
