//! Which pages of the cache hold which tokens: a tree over pages, by which a new sequence finds what it shares with
//! earlier ones.

use std::collections::HashMap;

use crate::kv_cache::{KvCache, PAGE};

/// A tree of full pages. The path from the root to a node spells the tokens of a prefix; the node owns its page.
#[derive(Debug, Clone, Default)]
pub(super) struct PrefixTree {
    nodes: HashMap<u64, Node>,
    roots: Vec<u64>,
    next_id: u64,
    clock: u64,
}

#[derive(Debug, Clone)]
struct Node {
    parent: Option<u64>,
    children: Vec<u64>,
    /// `PAGE` tokens.
    tokens: Vec<u32>,
    page: u32,
    last_used: u64,
}

impl PrefixTree {
    /// The pages that hold the longest known prefix of `tokens`, and its length in tokens. The last page may agree in its
    /// first tokens only.
    pub(super) fn find(&mut self, tokens: &[u32]) -> (Vec<u32>, usize) {
        self.clock += 1;
        let (mut pages, mut len) = (Vec::new(), 0);
        let mut children = self.roots.clone();
        while len < tokens.len() {
            let rest = &tokens[len..];
            let agreement = |id: &u64| {
                let known = &self.nodes[id].tokens;
                known.iter().zip(rest).take_while(|(a, b)| a == b).count()
            };
            // The first of the best, so that the result does not depend on chance.
            let best =
                children.iter().map(|id| (agreement(id), *id)).reduce(|a, b| if b.0 > a.0 { b } else { a });
            let Some((agreed, id)) = best.filter(|(agreed, _)| *agreed > 0) else { break };
            let node = self.nodes.get_mut(&id).expect("children are in the tree");
            node.last_used = self.clock;
            pages.push(node.page);
            len += agreed;
            if agreed < PAGE {
                break;
            }
            children = node.children.clone();
        }
        (pages, len)
    }

    /// Adds the full pages of a sequence; those already known stay as they are.
    pub(super) fn add(&mut self, cache: &mut KvCache, slot: usize, tokens: &[u32]) {
        self.clock += 1;
        let pages = cache.pages(slot).to_vec();
        let mut parent = None;
        for (tokens, page) in tokens[..cache.len(slot).min(tokens.len())].chunks_exact(PAGE).zip(pages) {
            let siblings = self.children(parent);
            let known = siblings.iter().copied().find(|id| self.nodes[id].tokens == tokens);
            let id = known.unwrap_or_else(|| {
                let id = self.next_id;
                self.next_id += 1;
                cache.retain(page);
                let node = Node {
                    parent,
                    children: Vec::new(),
                    tokens: tokens.to_vec(),
                    page,
                    last_used: self.clock,
                };
                self.nodes.insert(id, node);
                self.children_mut(parent).push(id);
                id
            });
            self.nodes.get_mut(&id).expect("the node was found or added").last_used = self.clock;
            parent = Some(id);
        }
    }

    /// Gives up the pages that were not used for the longest time, and that no sequence shares, until `cache` has `needed`
    /// free ones or nothing is left to give.
    pub(super) fn evict(&mut self, cache: &mut KvCache, needed: usize) {
        while cache.free_pages() < needed {
            let leaves =
                self.nodes.iter().filter(|(_, node)| node.children.is_empty() && !cache.is_shared(node.page));
            let Some(id) = leaves.min_by_key(|(id, node)| (node.last_used, **id)).map(|(id, _)| *id) else {
                return;
            };
            let node = self.nodes.remove(&id).expect("the leaf was found");
            self.children_mut(node.parent).retain(|child| *child != id);
            cache.release(node.page);
        }
    }

    /// Gives up all pages.
    pub(super) fn clear(&mut self, cache: &mut KvCache) {
        for node in self.nodes.drain().map(|(_, node)| node) {
            cache.release(node.page);
        }
        self.roots.clear();
    }

    fn children(&self, parent: Option<u64>) -> &[u64] {
        parent.map_or(&self.roots, |id| &self.nodes[&id].children)
    }

    fn children_mut(&mut self, parent: Option<u64>) -> &mut Vec<u64> {
        match parent {
            None => &mut self.roots,
            Some(id) => &mut self.nodes.get_mut(&id).expect("parents outlive their children").children,
        }
    }
}
