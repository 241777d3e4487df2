//! Keys and values of running sequences, in pages that sequences share as long as they agree.

use reskill_kernels::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::transformer::CachedWork;

/// Tokens of a page.
pub const PAGE: usize = 32;

/// A paged cache of `slots` sequences of at most `capacity` tokens.
///
/// A page belongs to one sequence or to several whose tokens agree up to its end; who writes to a shared page gets a copy
/// first. Memory is taken as pages are used, up to the limit.
#[derive(Debug, Clone)]
pub struct KvCache {
    /// Per layer: keys (pages, K D, PAGE) and values (pages, PAGE, K D), on one device in its precision.
    layers: Vec<(Tensor, Tensor)>,
    slots: Vec<Slot>,
    capacity: usize,
    /// Owners of each page in memory.
    owners: Vec<u32>,
    /// Pages in memory without owner.
    free: Vec<u32>,
    max_pages: usize,
    /// What a pass over the cache works in.
    pub(crate) work: CachedWork,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    pages: Vec<u32>,
    len: usize,
}

impl KvCache {
    /// An empty cache, with room for every slot at its longest.
    ///
    /// # Errors
    /// [`ModelError::Context`] if `capacity` exceeds the model's positions.
    pub fn new(config: &ModelConfig, slots: usize, capacity: usize) -> Result<KvCache, ModelError> {
        KvCache::on(&Device::Cpu, config, slots, capacity)
    }

    /// [`KvCache::new`] on a device, in its precision.
    ///
    /// # Errors
    /// [`ModelError::Context`] if `capacity` exceeds the model's positions.
    pub fn on(
        device: &Device,
        config: &ModelConfig,
        slots: usize,
        capacity: usize,
    ) -> Result<KvCache, ModelError> {
        KvCache::with_max_pages(device, config, slots, capacity, slots * capacity.div_ceil(PAGE))
    }

    /// An empty cache on a device, in its precision, of at most `max_pages` pages, each [`KvCache::page_bytes`] large.
    ///
    /// # Errors
    /// [`ModelError::Context`] if `capacity` exceeds the model's positions.
    pub fn with_max_pages(
        device: &Device,
        config: &ModelConfig,
        slots: usize,
        capacity: usize,
        max_pages: usize,
    ) -> Result<KvCache, ModelError> {
        if capacity > config.max_position_embeddings {
            return Err(ModelError::Context { len: capacity, capacity: config.max_position_embeddings });
        }
        let width = config.attention_shape().kv_width();
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                let rows = |shape: &[usize]| Tensor::zeros_as(shape, device, device.precision());
                Ok((rows(&[0, width, PAGE])?, rows(&[0, PAGE, width])?))
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        Ok(KvCache {
            layers,
            slots: vec![Slot::default(); slots],
            capacity,
            owners: Vec::new(),
            free: Vec::new(),
            max_pages,
            work: CachedWork::default(),
        })
    }

    /// Bytes of one page over all layers of a model, on a device of this precision.
    #[must_use]
    pub fn page_bytes(config: &ModelConfig, device: &Device) -> usize {
        let numbers = 2 * config.num_hidden_layers * config.attention_shape().kv_width() * PAGE;
        numbers * device.precision().size()
    }

    /// Pages in memory.
    pub(crate) fn held_pages(&self) -> usize {
        self.owners.len()
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Tokens that one slot can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens in `slot`.
    #[must_use]
    pub fn len(&self, slot: usize) -> usize {
        self.slots[slot].len
    }

    /// Whether no slot holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.len == 0)
    }

    /// The most pages it may take.
    #[must_use]
    pub fn max_pages(&self) -> usize {
        self.max_pages
    }

    /// Pages that no sequence owns, counting those not yet in memory.
    #[must_use]
    pub fn free_pages(&self) -> usize {
        self.max_pages - (self.owners.len() - self.free.len())
    }

    /// Pages that `n` tokens more in `slot` would take.
    #[must_use]
    pub fn pages_to_grow(&self, slot: usize, n: usize) -> usize {
        let Slot { pages, len } = &self.slots[slot];
        let new = (len + n).div_ceil(PAGE).saturating_sub(pages.len());
        let copied = n > 0 && pages.get(len / PAGE).is_some_and(|&page| self.is_shared(page));
        new + usize::from(copied)
    }

    /// Forgets the tokens of `slot` from position `len` on.
    pub fn truncate(&mut self, slot: usize, len: usize) {
        let len = self.slots[slot].len.min(len);
        self.slots[slot].len = len;
        for page in self.slots[slot].pages.split_off(len.div_ceil(PAGE)) {
            self.release(page);
        }
    }

    /// Makes `to` hold the first `len` tokens that `from` holds, or all of them if they are fewer, on the same pages.
    pub fn copy_prefix(&mut self, from: usize, to: usize, len: usize) {
        let len = self.slots[from].len.min(len);
        if from != to {
            let pages = self.slots[from].pages[..len.div_ceil(PAGE)].to_vec();
            self.attach(to, &pages, len);
        }
    }

    /// Makes an empty `slot` hold `len` tokens that are on `pages`, which it shares from now on.
    pub(crate) fn attach(&mut self, slot: usize, pages: &[u32], len: usize) {
        self.truncate(slot, 0);
        for &page in pages {
            self.retain(page);
        }
        self.slots[slot] = Slot { pages: pages.to_vec(), len };
    }

    /// Counts one owner more of a page.
    pub(crate) fn retain(&mut self, page: u32) {
        self.owners[page as usize] += 1;
    }

    /// Makes room for `n` tokens more in `slot`, on pages of its own, and counts them.
    ///
    /// # Errors
    /// [`ModelError::Context`] if the sequence becomes too long; [`ModelError::CacheFull`] if there are not enough pages.
    /// The slot is left as it was.
    pub(crate) fn grow(&mut self, slot: usize, n: usize) -> Result<(), ModelError> {
        let old = self.slots[slot].len;
        let len = old + n;
        if len > self.capacity {
            return Err(ModelError::Context { len, capacity: self.capacity });
        }
        let needed = self.pages_to_grow(slot, n);
        if needed > self.free_pages() {
            return Err(ModelError::CacheFull { needed, free: self.free_pages() });
        }
        if n > 0
            && let Some(&page) = self.slots[slot].pages.get(old / PAGE)
        {
            let own = self.make_own(page)?;
            self.slots[slot].pages[old / PAGE] = own;
        }
        while self.slots[slot].pages.len() * PAGE < len {
            let page = self.take()?;
            self.slots[slot].pages.push(page);
        }
        self.slots[slot].len = len;
        Ok(())
    }

    /// The pages of `slot`, in order.
    pub(crate) fn pages(&self, slot: usize) -> &[u32] {
        &self.slots[slot].pages
    }

    pub(crate) fn layers(&self) -> &[(Tensor, Tensor)] {
        &self.layers
    }

    pub(crate) fn layer_mut(&mut self, layer: usize) -> (&mut Tensor, &mut Tensor) {
        let (keys, values) = &mut self.layers[layer];
        (keys, values)
    }

    /// Whether a page has more than one owner.
    pub(crate) fn is_shared(&self, page: u32) -> bool {
        self.owners[page as usize] > 1
    }

    /// A page with the contents of `page` and one owner: `page` itself, or a copy.
    fn make_own(&mut self, page: u32) -> Result<u32, ModelError> {
        if !self.is_shared(page) {
            return Ok(page);
        }
        let copy = self.take()?;
        for (keys, values) in &mut self.layers {
            for tensor in [keys, values] {
                tensor.copy_row_within(copy as usize, page as usize)?;
            }
        }
        self.release(page);
        Ok(copy)
    }

    /// A page with one owner; the caller has checked that there is one.
    fn take(&mut self) -> Result<u32, ModelError> {
        if self.free.is_empty() {
            // Memory grows by half, so that its copying stays small beside its use.
            let held = self.owners.len();
            let rows = (held + held / 2).max(held + 8).min(self.max_pages);
            for (keys, values) in &mut self.layers {
                keys.set_rows(rows)?;
                values.set_rows(rows)?;
            }
            self.owners.resize(rows, 0);
            self.free.extend((held as u32..rows as u32).rev());
        }
        let page = self.free.pop().expect("the caller has counted the free pages");
        self.owners[page as usize] = 1;
        Ok(page)
    }

    /// Counts one owner less of a page; without owner it is free.
    pub(crate) fn release(&mut self, page: u32) {
        let owners = &mut self.owners[page as usize];
        *owners -= 1;
        if *owners == 0 {
            self.free.push(page);
        }
    }
}
