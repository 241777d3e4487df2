//! A table of what was used last.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// At most `limit` values by their keys: a new one takes the place of the one that was not asked for the longest. Who
/// still holds that one keeps it.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    /// With the time of the last use.
    entries: HashMap<K, (u64, Arc<V>)>,
    now: u64,
    limit: usize,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(limit: usize) -> Recent<K, V> {
        Recent { entries: HashMap::new(), now: 0, limit }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<Arc<V>> {
        self.now += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.now;
        Some(Arc::clone(value))
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Arc<V> {
        if self.entries.len() >= self.limit {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.map(|key| self.entries.remove(&key));
        }
        self.now += 1;
        let value = Arc::new(value);
        self.entries.insert(key, (self.now, Arc::clone(&value)));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_was_not_asked_for_the_longest_is_dropped() {
        let mut recent = Recent::new(2);
        let first = recent.insert(1, "one");
        recent.insert(2, "two");
        assert_eq!(recent.get(&1).as_deref(), Some(&"one"));
        recent.insert(3, "three");
        assert_eq!(recent.get(&2), None);
        assert_eq!(recent.get(&1).as_deref(), Some(&"one"));
        recent.insert(4, "four");
        recent.insert(5, "five");
        assert_eq!(recent.get(&1), None);
        assert_eq!((Arc::strong_count(&first), recent.entries.len()), (1, 2));
    }
}
